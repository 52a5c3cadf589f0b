//! What a route does besides leading somewhere, a sentence each: weights, cross-origin, faults,
//! rewrite, mirror, headers, budget. For people, after the fact.

use crate::actions::Changes;
use crate::decide::{Budget, Decision, Outcome};
use crate::request::RequestHead;
use crate::retry::name;
use crate::roll::Share;
use crate::route::{Action, To, Weighted};
use names::Reason;
use std::fmt;

/// Sentences in the order in which the actions apply. What depends on chance says so, with shares.
pub(crate) fn told(decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> Vec<String> {
    let Some(route) = decision.route else { return Vec::new() };
    let mut all = Vec::new();
    if let To::Weighted(weighted) = &route.to {
        all.push(weights(decision, weighted));
    }
    if let Some(action) = &route.action {
        of_route_action(decision, head, action, &mut all);
    }
    if matches!(decision.outcome, Outcome::CloudRun { .. } | Outcome::Endpoints { .. }) {
        for (level, action) in decision.headers.levels() {
            let directions = [("request", action.request()), ("response", action.response())];
            for (direction, changes) in directions.into_iter().filter(|(_, one)| !one.is_empty()) {
                all.push(format!("headerAction of the {level}, {direction}: {changes}"));
            }
        }
    }
    all
}

fn service<'s>(decision: &Decision<'s, '_>, index: u32) -> &'s str {
    let service = decision.snapshot.backend_services.get(index as usize);
    service.map_or("", |service| service.self_link.name())
}

fn weights(decision: &Decision<'_, '_>, weighted: &Weighted) -> String {
    let share = |weight: u32| percent(f64::from(weight) * 100.0 / weighted.sum.max(1) as f64);
    let shares: Vec<_> = weighted
        .services
        .iter()
        .map(|one| {
            format!("{} of requests to `{}`", share(one.weight), service(decision, one.service))
        })
        .collect();
    let chosen = decision.weighted.and_then(|place| weighted.services.get(place));
    let chosen = chosen.map_or("", |one| service(decision, one.service));
    format!("weightedBackendServices: {}; here `{chosen}`", shares.join(", "))
}

/// With up to four decimals.
fn percent(value: f64) -> String {
    let text = format!("{value:.4}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// "10% of requests are …; this one is not", or just "every request is …".
fn chance(share: Share, what: &str, now: bool) -> String {
    match share.percent() {
        100.0 => format!("every request is {what}"),
        0.0 => format!("no request is {what} (0%)"),
        other => {
            let now = if now { "this one is" } else { "this one is not" };
            format!("{} of requests are {what}; {now}", percent(other))
        }
    }
}

fn of_route_action(
    decision: &Decision<'_, '_>,
    head: &RequestHead<'_>,
    action: &Action,
    all: &mut Vec<String>,
) {
    if action.cors.is_some() {
        let origin = head.headers.get(http::header::ORIGIN);
        let origin = origin.map(|one| String::from_utf8_lossy(one.as_bytes()));
        all.push(match (origin, decision.cors, &decision.outcome) {
            (None, ..) => "corsPolicy: no Origin, so nothing is added".to_owned(),
            (Some(origin), Some(_), Outcome::Preflight) => {
                format!("corsPolicy: a preflight request of `{origin}` is answered here with 200")
            }
            (Some(origin), Some(_), _) => {
                format!("corsPolicy: the answer allows the origin `{origin}`")
            }
            (Some(origin), None, _) => {
                format!("corsPolicy: the origin `{origin}` is not allowed; nothing is added")
            }
        });
    }
    if matches!(decision.outcome, Outcome::Preflight) {
        return;
    }
    if let Some((delay, share)) = action.delay {
        let told = chance(share, &format!("delayed by {delay:?}"), decision.delay.is_some());
        all.push(format!("faultInjectionPolicy: {told}"));
    }
    if let Some((status, share)) = action.abort {
        let now = decision.reason() == Some(Reason::FaultFilterAbort);
        let told = chance(share, &format!("aborted with {status}"), now);
        all.push(format!("faultInjectionPolicy: {told}"));
        if now {
            return;
        }
    }
    if let Some(host) = decision.rewrite.host {
        all.push(format!("urlRewrite: host `{}` becomes `{host}`", head.host));
    }
    if let Some(new) = &decision.rewrite.path_and_query {
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        all.push(format!("urlRewrite: `{}{query}` becomes `{new}`", head.path));
    }
    if let Some((mirror, share)) = action.mirror {
        let what = format!("copied to `{}`", service(decision, mirror));
        let told = chance(share, &what, decision.mirror.is_some());
        all.push(format!("requestMirrorPolicy: {told}"));
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut next = |f: &mut fmt::Formatter<'_>| match std::mem::take(&mut first) {
            true => Ok(()),
            false => f.write_str("; "),
        };
        for name in self.removed() {
            next(f)?;
            write!(f, "remove {name}")?;
        }
        for (name, value, replace) in self.added() {
            next(f)?;
            let verb = if *replace { "set" } else { "add" };
            write!(f, "{verb} {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeout {:?}; ", self.timeout)?;
        let retry = self.retry;
        if retry.default {
            return f.write_str("retried once without body on 502, 503, 504 (no retryPolicy)");
        }
        let on: Vec<_> = retry.conditions().map(name).collect();
        match on.is_empty() {
            true => f.write_str("never retried (retryPolicy without retryConditions)")?,
            false => {
                let plural = if retry.retries == 1 { "" } else { "s" };
                let on = on.join(", ");
                write!(f, "retried up to {} time{plural} on {on}", retry.retries)?;
            }
        }
        match retry.per_try_timeout {
            Some(timeout) => write!(f, ", {timeout:?} for each try"),
            None => Ok(()),
        }
    }
}
