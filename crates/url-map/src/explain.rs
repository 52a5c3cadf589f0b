//! A decision in words: what matched at each step, what nearly matched and why it did not. For
//! people, after the fact; it may look at every rule, which `decide` never does.

use crate::compile::Backends;
use crate::decide::{Decision, Evidence, Outcome, RequestHead};
use crate::group::Selector;
use crate::hosts::HostMatch;
use crate::mask::{Placeholder, without_port};
use crate::near::{distance, nearest, slip};
use crate::paths::PathMatch;
use names::SelfLink;
use std::fmt;

/// The most near misses that one step lists.
const NEAR_MISSES_MAX: usize = 3;

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
        let text = match decision.path {
            PathMatch::Default if matcher.paths.is_empty() => {
                format!("path matcher `{}` has no path rule; its default applies", matcher.name)
            }
            PathMatch::Default => format!(
                "no path rule of `{}` for `{}`; its default applies",
                matcher.name, head.path
            ),
            pattern => format!("path rule `{pattern}` matches `{}`", head.path),
        };
        step("pathRule", map, text, paths_near(decision, head.path));
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
    step("backendService", &service.self_link, text, Vec::new());
    let Some(group) = &service.group else {
        return Explanation { steps };
    };
    match &service.backends {
        Backends::None => {}
        Backends::Addresses(addresses) => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
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
    /// One sentence on a refusal, for the log: what the last step of [`explain`] says, without the
    /// search for near misses, which looks at every rule and would cost too much per request.
    pub fn detail(&self) -> Option<String> {
        if !matches!(self.outcome, Outcome::Refuse { .. }) {
            return None;
        }
        match self.backend_service.map(|service| &service.backends) {
            None => None,
            Some(Backends::None) => Some("the backend service has no backend".to_owned()),
            Some(Backends::Addresses(_)) => Some("the group has no endpoint".to_owned()),
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
        Outcome::Addresses { .. } | Outcome::Redirect(_) => return (how, Vec::new()),
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

/// Near misses with how far they are: 0 for a rule that misses by its meaning, else edits.
struct Ranked(Vec<(usize, NearMiss)>);

impl Ranked {
    fn push(&mut self, rank: usize, candidate: impl fmt::Display, why: String) {
        self.0.push((rank, NearMiss { candidate: candidate.to_string(), why }));
    }

    fn push_slip(&mut self, candidate: impl fmt::Display, asked: &str, pattern: &str) {
        if let Some(edits) = distance(asked, pattern, slip(asked)).filter(|edits| *edits > 0) {
            let plural = if edits == 1 { "" } else { "s" };
            self.push(edits, candidate, format!("differs in {edits} character{plural}"));
        }
    }

    fn best(mut self) -> Vec<NearMiss> {
        self.0.sort_by(|a, b| (a.0, &a.1.candidate).cmp(&(b.0, &b.1.candidate)));
        self.0.truncate(NEAR_MISSES_MAX);
        self.0.into_iter().map(|(_, near)| near).collect()
    }
}

fn hosts_near(decision: &Decision<'_, '_>, host: &str) -> Vec<NearMiss> {
    let mut near = Ranked(Vec::new());
    if !matches!(decision.host, HostMatch::Default | HostMatch::Any) {
        return Vec::new();
    }
    let host = host.to_ascii_lowercase();
    let name = without_port(&host);
    for pattern in decision.url_map.hosts.patterns() {
        match pattern {
            HostMatch::Exact(exact) if without_port(exact) == name => {
                let why = match exact == name {
                    true => "a host rule without port is not for a Host with one",
                    false => "the host rule is for another port",
                };
                near.push(0, pattern, why.to_owned());
            }
            HostMatch::Exact(exact) => near.push_slip(pattern, &host, exact),
            HostMatch::Suffix(suffix) if suffix.strip_prefix('.') == Some(name) => {
                near.push(0, pattern, "`*` stands for at least one character".to_owned());
            }
            HostMatch::Suffix(suffix) if name.ends_with(suffix) => {
                let why = "a host rule without port is not for a Host with one";
                near.push(0, pattern, why.to_owned());
            }
            HostMatch::Suffix(suffix) => {
                // Compare what stands in the suffix's place.
                let dots = suffix.matches('.').count();
                if let Some((at, _)) = host.rmatch_indices('.').nth(dots.saturating_sub(1)) {
                    near.push_slip(pattern, &host[at..], suffix);
                }
            }
            HostMatch::Any | HostMatch::Default => {}
        }
    }
    near.best()
}

fn paths_near(decision: &Decision<'_, '_>, path: &str) -> Vec<NearMiss> {
    let mut near = Ranked(Vec::new());
    let Some(matcher) = decision.path_matcher else {
        return Vec::new();
    };
    if matches!(decision.path, PathMatch::Exact(_)) {
        return Vec::new();
    }
    for pattern in matcher.paths.patterns() {
        if pattern == decision.path {
            continue;
        }
        match pattern {
            PathMatch::Prefix(prefix) if prefix.strip_suffix('/') == Some(path) => {
                let why = format!("does not match `{path}` itself, only what is below it");
                near.push(0, pattern, why);
            }
            PathMatch::Prefix(prefix) => {
                let segments = prefix.matches('/').count();
                let head = match path.match_indices('/').nth(segments - 1) {
                    Some((at, _)) => &path[..=at],
                    None => path,
                };
                if head.eq_ignore_ascii_case(prefix) && head != prefix {
                    near.push(0, pattern, "capitals count in a path".to_owned());
                } else {
                    near.push_slip(pattern, head, prefix);
                }
            }
            PathMatch::Exact(exact) if exact.eq_ignore_ascii_case(path) => {
                near.push(0, pattern, "capitals count in a path".to_owned());
            }
            PathMatch::Exact(exact)
                if path.strip_prefix(exact).is_some_and(|rest| rest.starts_with('/')) =>
            {
                let why = format!("matches this path alone; `{exact}/*` would match below it");
                near.push(0, pattern, why);
            }
            PathMatch::Exact(exact) => near.push_slip(pattern, path, exact),
            PathMatch::Default => {}
        }
    }
    near.best()
}
