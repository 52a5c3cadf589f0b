//! A decision in words: what matched at each step, what nearly matched and why it did not. For
//! people, after the fact; it may look at every rule, which `decide` never does.

use crate::compile::Backends;
use crate::decide::RuleMatch;
use crate::decide::{Decision, Evidence, Outcome, RequestHead};
use crate::group::Selector;
use crate::hosts::HostMatch;
use crate::mask::Placeholder;
use crate::misses::{NEAR_MISSES_MAX, hosts_near, rules_near};
use crate::near::nearest;
use crate::route::{Action, Rules, To};
use names::SelfLink;
use std::fmt;

/// A decision in words, step by step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// URL map, host rule, path rule, backend service, endpoint group, as far as it went.
    pub steps: Vec<Step>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What was asked: `urlMap`, `hostRule`, `pathRule`, `backendService`, `networkEndpointGroup`.
    pub kind: &'static str,
    /// The resource that holds the rule.
    pub resource: SelfLink,
    /// One sentence without its full stop: what matched, or what did not.
    pub text: String,
    /// Rules and names that nearly matched.
    pub near_misses: Vec<NearMiss>,
}

/// Something that nearly matched.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The pattern or name.
    pub candidate: String,
    /// Why it did not match.
    pub why: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{} {}: {}", step.kind, step.resource.name(), step.text)?;
            for near in &step.near_misses {
                writeln!(f, "  not `{}`: {}", near.candidate, near.why)?;
            }
        }
        Ok(())
    }
}

/// Puts a decision into words. `head` is the request that it was made for.
pub fn explain(decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> Explanation {
    let map = &decision.url_map.self_link;
    let mut steps = Vec::new();
    let mut step = |kind, resource: &SelfLink, text, near_misses| {
        steps.push(Step { kind, resource: resource.clone(), text, near_misses });
    };
    if let Outcome::Redirect(redirect) = &decision.outcome
        && redirect.reason.is_some()
    {
        let text = format!(
            "the path holds `/../`; {} to {} before any rule",
            redirect.status, redirect.location
        );
        step("urlMap", map, text, Vec::new());
        return Explanation { steps };
    }

    let host = head.host;
    let text = match (decision.host, decision.path_matcher) {
        (HostMatch::Default, _) | (_, None) => {
            format!("no host rule for `{host}`; the URL map's default applies")
        }
        (pattern, Some(matcher)) => {
            format!("host rule `{pattern}` matches `{host}`; path matcher `{}`", matcher.name)
        }
    };
    step("hostRule", map, text, hosts_near(decision, host));

    if let Some(matcher) = decision.path_matcher {
        let kind = match &matcher.rules {
            Rules::Paths(..) => "pathRule",
            Rules::Routes(_) => "routeRule",
        };
        let none = match &matcher.rules {
            Rules::Paths(paths, _) => paths.is_empty(),
            Rules::Routes(rules) => rules.rules().is_empty(),
        };
        let text = match decision.rule {
            RuleMatch::Default if none => {
                format!("path matcher `{}` has no rule; its default applies", matcher.name)
            }
            RuleMatch::Default => {
                let kind = if kind == "pathRule" { "path rule" } else { "route rule" };
                format!("no {kind} of `{}` for `{}`; its default applies", matcher.name, head.path)
            }
            RuleMatch::PathRule(pattern) => {
                format!("path rule `{pattern}` matches `{}`", head.path)
            }
            RuleMatch::RouteRule { rule, match_rule } => {
                let path = rule.match_rules.get(match_rule).map(|one| one.path.to_string());
                let description = match rule.description.as_str() {
                    "" => String::new(),
                    text => format!(" ({text})"),
                };
                format!(
                    "route rule {}{description}, match rule {} matches: {}",
                    rule.priority,
                    match_rule + 1,
                    path.unwrap_or_default()
                )
            }
        };
        step(kind, map, text, rules_near(decision, head));
    }
    for text in actions(decision, head) {
        step("routeAction", map, text, Vec::new());
    }
    if let Outcome::Redirect(redirect) = &decision.outcome {
        let text = format!("urlRedirect: {} to {}", redirect.status, redirect.location);
        step("urlMap", map, text, Vec::new());
    }
    let Some(service) = decision.backend_service else {
        return Explanation { steps };
    };
    let text = match (&service.backends, &service.group) {
        (Backends::None, _) | (_, None) => "has no backend".to_owned(),
        (_, Some(group)) => format!("leads to network endpoint group `{}`", group.name()),
    };
    let text = match &decision.outcome {
        Outcome::CloudRun { budget, .. } | Outcome::Endpoints { budget } => {
            format!("{text}; {budget}")
        }
        _ => text,
    };
    step("backendService", &service.self_link, text, Vec::new());
    let Some(group) = &service.group else {
        return Explanation { steps };
    };
    match &service.backends {
        Backends::None => {}
        Backends::Endpoints(list) => {
            let text = match list.is_empty() {
                true => "has no endpoint".to_owned(),
                false => format!("endpoints {}", list.join(", ")),
            };
            step("networkEndpointGroup", group, text, Vec::new());
        }
        Backends::Serverless(selector) => {
            let (text, near) = serverless(decision, selector, NearMisses::Find);
            step("networkEndpointGroup", group, text, near);
        }
    }
    Explanation { steps }
}

/// What the route does besides leading somewhere: weights, cross-origin, faults, rewrite, mirror,
/// headers, budget; a sentence each.
fn actions(decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> Vec<String> {
    let Some(route) = decision.route else { return Vec::new() };
    let mut all = Vec::new();
    let name = |index: u32| {
        let service = decision.snapshot.backend_services.get(index as usize);
        service.map_or("", |service| service.self_link.name())
    };
    if let To::Weighted(weighted) = &route.to {
        let share = |weight: u32| f64::from(weight) * 100.0 / weighted.sum.max(1) as f64;
        let shares: Vec<_> = weighted
            .services
            .iter()
            .map(|one| format!("{:.4}% {}", share(one.weight), name(one.service)))
            .map(|text| text.replacen(".0000%", "%", 1))
            .collect();
        let chosen = decision.weighted.and_then(|place| weighted.services.get(place));
        let chosen = chosen.map_or("", |one| name(one.service));
        all.push(format!("by chance: {}; shown is {chosen}", shares.join(", ")));
    }
    if let Some(action) = &route.action {
        of_route_action(decision, head, action, &name, &mut all);
    }
    for (what, changes) in [
        ("request", decision.headers.request().collect::<Vec<_>>()),
        ("response", decision.headers.response().collect()),
    ] {
        let mut texts = Vec::new();
        for changes in changes {
            texts.extend(changes.removed().iter().map(|name| format!("-{name}")));
            texts.extend(changes.added().iter().map(|(name, value, replace)| {
                let sign = if *replace { "=" } else { "+" };
                format!("{sign}{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            }));
        }
        if !texts.is_empty() {
            all.push(format!("headerAction on the {what}, in this order: {}", texts.join("; ")));
        }
    }
    all
}

fn of_route_action<'s>(
    decision: &Decision<'_, '_>,
    head: &RequestHead<'_>,
    action: &Action,
    name: &dyn Fn(u32) -> &'s str,
    all: &mut Vec<String>,
) {
    if action.cors.is_some() {
        all.push(match (decision.cors, &decision.outcome) {
            (_, Outcome::Preflight) => {
                "corsPolicy: a preflight request, answered 200 here".to_owned()
            }
            (Some(_), _) => "corsPolicy: the origin is allowed; the answer says so".to_owned(),
            (None, _) if head.headers.contains_key(http::header::ORIGIN) => {
                "corsPolicy: the origin is not allowed; nothing is added".to_owned()
            }
            (None, _) => "corsPolicy: no Origin, nothing is added".to_owned(),
        });
    }
    if let Some((delay, share)) = action.delay {
        let now = if decision.delay.is_some() { "this one" } else { "not this one" };
        all.push(format!("by chance: {}% are delayed by {delay:?}; {now}", share.percent()));
    }
    if let Some((status, share)) = action.abort {
        let aborted = decision.reason() == Some(names::Reason::FaultFilterAbort);
        let now = if aborted { "this one" } else { "not this one" };
        all.push(format!("by chance: {}% are aborted with {status}; {now}", share.percent()));
    }
    if let Some(host) = decision.rewrite.host {
        all.push(format!("urlRewrite: host `{}` becomes `{host}`", head.host));
    }
    if let Some(new) = &decision.rewrite.path_and_query {
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        all.push(format!("urlRewrite: `{}{query}` becomes `{new}`", head.path));
    }
    if let Some((mirror, share)) = action.mirror {
        let now = if decision.mirror.is_some() { "this one too" } else { "not this one" };
        let to = name(mirror);
        all.push(format!("by chance: {}% are mirrored to {to}; {now}", share.percent()));
    }
}

impl fmt::Display for crate::decide::Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeout {:?}; ", self.timeout)?;
        let retry = self.retry;
        if retry.default {
            return f.write_str("retried once without body on 502, 503, 504 (no retryPolicy)");
        }
        let on: Vec<_> = retry
            .conditions()
            .filter_map(|one| serde_json::to_value(one).ok()?.as_str().map(str::to_owned))
            .collect();
        write!(f, "retried up to {} times on {}", retry.retries, on.join(", "))?;
        match retry.per_try_timeout {
            Some(timeout) => write!(f, ", {timeout:?} for each try"),
            None => Ok(()),
        }
    }
}

impl Decision<'_, '_> {
    /// One sentence on a refusal, for the log: what the last step of [`explain`] says, without the
    /// search for near misses, which looks at every rule and would cost too much per request.
    pub fn detail(&self) -> Option<String> {
        if !matches!(self.outcome, Outcome::Refuse { .. }) {
            return None;
        }
        match self.backend_service.map(|service| &service.backends) {
            None => None,
            Some(Backends::None) => Some("the backend service has no backend".to_owned()),
            Some(Backends::Endpoints(_)) => Some("the group has no endpoint".to_owned()),
            Some(Backends::Serverless(selector)) => {
                Some(serverless(self, selector, NearMisses::Leave).0)
            }
        }
    }
}

/// Look for near misses, or not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NearMisses {
    Find,
    Leave,
}

fn serverless(
    decision: &Decision<'_, '_>,
    selector: &Selector,
    near_misses: NearMisses,
) -> (String, Vec<NearMiss>) {
    let catalogue = decision.snapshot.catalogues.get(selector.catalogue as usize);
    let place = catalogue
        .map(|one| format!("project `{}`, region `{}`", one.project, one.region))
        .unwrap_or_default();
    let how = match &selector.mask {
        Some(mask) => format!("URL mask `{}`", mask.as_str()),
        None => "fixed service".to_owned(),
    };
    let evidence = match &decision.outcome {
        Outcome::CloudRun { target, .. } => {
            let tag = target.tag.as_ref().map(|tag| format!(", tag `{tag}`")).unwrap_or_default();
            let name = target.service.name();
            return (format!("{how}: Cloud Run service `{name}`{tag} in {place}"), Vec::new());
        }
        Outcome::Refuse { evidence, .. } => evidence,
        Outcome::Endpoints { .. } | Outcome::Preflight | Outcome::Redirect(_) => {
            return (how, Vec::new());
        }
    };
    let similar = |word: &str, names: Vec<&str>| -> Vec<NearMiss> {
        let miss = |name: &str| NearMiss {
            candidate: name.to_owned(),
            why: format!("a {word} of this name exists, with another spelling"),
        };
        names.into_iter().map(miss).collect()
    };
    let searched = catalogue.filter(|_| near_misses == NearMisses::Find);
    let services = |name: &str| match searched {
        Some(one) => similar("service", nearest(name, one.names(), NEAR_MISSES_MAX)),
        None => Vec::new(),
    };
    match evidence {
        Evidence::None => (how, Vec::new()),
        Evidence::Mask(mismatch) => (format!("{how} does not match: {mismatch}"), Vec::new()),
        Evidence::IllegalName { placeholder, text } => {
            let near = match placeholder {
                Placeholder::Service => services(text),
                Placeholder::Tag => Vec::new(),
            };
            (format!("{how} yields `{text}` for {placeholder}, which is no legal name"), near)
        }
        Evidence::UnknownService(name) => {
            (format!("{how}: no Cloud Run service `{name}` in {place}"), services(name))
        }
        Evidence::UnknownTag { service, tag } => {
            let near = match searched {
                Some(one) => similar("tag", nearest(tag, one.tags(service), NEAR_MISSES_MAX)),
                None => Vec::new(),
            };
            (format!("{how}: Cloud Run service `{service}` has no tag `{tag}`"), near)
        }
    }
}
