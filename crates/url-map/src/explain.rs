//! A decision in words: what matched at each step, what nearly matched and why it did not. For
//! people, after the fact; it may look at every rule, which `decide` never does.

use crate::compile::Backends;
use crate::decide::RuleMatch;
use crate::decide::{Decision, Evidence, Outcome};
use crate::group::Selector;
use crate::hosts::HostMatch;
use crate::mask::Placeholder;
use crate::misses::{NEAR_MISSES_MAX, hosts_near, rules_near};
use crate::near::nearest;
use crate::request::RequestHead;
use crate::route::Rules;
use crate::told::told;
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
    /// What was asked: `urlMap`, `hostRule`, `pathRule`, `routeRule`, `routeAction`,
    /// `backendService`, `networkEndpointGroup`.
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
                let path = path.unwrap_or_default();
                let n = match_rule + 1;
                format!(
                    "route rule {}{description}, match rule {n}: {path} matches `{}`",
                    rule.priority, head.path
                )
            }
        };
        step(kind, map, text, rules_near(decision, head));
    }
    for text in told(decision, head) {
        step("routeAction", map, text, Vec::new());
    }
    if let Outcome::Redirect(redirect) = &decision.outcome {
        let text = format!("urlRedirect: {} to {}", redirect.status, redirect.location);
        step("urlMap", map, text, Vec::new());
    }
    let Some(service) = decision.backend_service.filter(|_| !decision.is_answered_first()) else {
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

impl Decision<'_, '_> {
    /// Is the answer given before the backend service is of interest: to a preflight request, or on
    /// purpose?
    fn is_answered_first(&self) -> bool {
        matches!(self.outcome, Outcome::Preflight)
            || self.reason() == Some(names::Reason::FaultFilterAbort)
    }

    /// One sentence on a refusal, for the log: what the last step of [`explain`] says, without the
    /// search for near misses, which looks at every rule and would cost too much per request.
    pub fn detail(&self) -> Option<String> {
        if !matches!(self.outcome, Outcome::Refuse { .. }) {
            return None;
        }
        if self.is_answered_first() {
            return Some("faultInjectionPolicy aborts this request".to_owned());
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

/// What the mask found in the URL.
fn captured(decision: &Decision<'_, '_>) -> String {
    let Some(captures) = &decision.captures else { return String::new() };
    let pairs = [("<service>", &captures.service), ("<tag>", &captures.tag)];
    let found = pairs.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    let texts: Vec<_> = found.map(|(name, text)| format!("{name} is `{text}`")).collect();
    format!(", {}", texts.join(", "))
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
            let captures = captured(decision);
            return (
                format!("{how}{captures}: Cloud Run service `{name}`{tag} in {place}"),
                Vec::new(),
            );
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
