//! What nearly matched: host rules, path rules, route rules. For people, after the fact; it may look
//! at every rule, which `decide` never does.

use crate::decide::{Decision, RuleMatch};
use crate::explain::NearMiss;
use crate::hosts::HostMatch;
use crate::mask::without_port;
use crate::near::{distance, slip};
use crate::paths::{PathMatch, PathTable};
use crate::predicate::{Failed, PathTest};
use crate::request::RequestHead;
use crate::route::{RouteRule, Rules};
use std::fmt;

/// The most near misses that one step lists.
pub(crate) const NEAR_MISSES_MAX: usize = 3;

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

pub(crate) fn hosts_near(decision: &Decision<'_, '_>, host: &str) -> Vec<NearMiss> {
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

/// The rules of the path matcher that nearly matched.
pub(crate) fn rules_near(decision: &Decision<'_, '_>, head: &RequestHead<'_>) -> Vec<NearMiss> {
    match (decision.path_matcher.map(|matcher| &matcher.rules), &decision.rule) {
        (None, _) => Vec::new(),
        (Some(Rules::Paths(..)), RuleMatch::PathRule(PathMatch::Exact(_))) => Vec::new(),
        (Some(Rules::Paths(paths, _)), RuleMatch::PathRule(found)) => {
            paths_near(paths, *found, head.path)
        }
        (Some(Rules::Paths(paths, _)), _) => paths_near(paths, PathMatch::Default, head.path),
        (Some(Rules::Routes(rules)), found) => routes_near(rules.rules(), found, head),
    }
}

/// Farther than this, only the nearest rule is worth a line.
const FAR: usize = 100;

/// Route rules before the one that matched, by how far each of them came: those whose path matches
/// and whose query parameter or header does not are the nearest.
fn routes_near(
    rules: &[RouteRule],
    found: &RuleMatch<'_>,
    head: &RequestHead<'_>,
) -> Vec<NearMiss> {
    let mut near = Ranked(Vec::new());
    let before = match found {
        RuleMatch::RouteRule { rule, .. } => {
            rules.partition_point(|one| one.priority < rule.priority)
        }
        _ => rules.len(),
    };
    let mut farthest: Option<(usize, &RouteRule, usize, Failed<'_>)> = None;
    for rule in &rules[..before] {
        for (n, match_rule) in rule.match_rules.iter().enumerate() {
            let Some(failed) = match_rule.failed(head) else { continue };
            let rank = match failed {
                Failed::Query(_) => 0,
                Failed::Header(_) => 1,
                Failed::Path(test) => 2 + path_distance(test, head.path),
            };
            if rank < FAR {
                near.push(rank, place(rule, n), failed.why(head));
            } else if farthest.is_none_or(|(other, ..)| rank < other) {
                farthest = Some((rank, rule, n, failed));
            }
        }
    }
    if near.0.is_empty()
        && let Some((rank, rule, n, failed)) = farthest
    {
        near.push(rank, place(rule, n), failed.why(head));
    }
    near.best()
}

fn place(rule: &RouteRule, match_rule: usize) -> String {
    format!("route rule {}, match rule {}", rule.priority, match_rule + 1)
}

/// How far a path is from what a rule says of it: edits where it looks like a slip, else beyond
/// [`FAR`], the less the more of it agrees.
fn path_distance(test: &PathTest, path: &str) -> usize {
    let text = test.as_str();
    // What a prefix is held against is the beginning of the path.
    let part = match test {
        PathTest::Prefix(..) => path.get(..text.len()).unwrap_or(path),
        _ => path,
    };
    if part.eq_ignore_ascii_case(text) {
        return 0;
    }
    distance(part, text, slip(part)).unwrap_or_else(|| {
        let agrees = part.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        FAR + part.len().saturating_sub(agrees)
    })
}

fn paths_near(paths: &PathTable, found: PathMatch<'_>, path: &str) -> Vec<NearMiss> {
    let mut near = Ranked(Vec::new());
    for pattern in paths.patterns() {
        if pattern == found {
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
