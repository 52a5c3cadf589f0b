//! Traffic targets and tags (cloud-run 3.1, 3.2).

use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Service, TrafficTarget, TrafficTargetType};
use crate::model::Item;
use crate::reference::last_segment;
use slice::run;
use std::collections::HashSet;

fn error(at: Mark, what: String, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceTraffic, at, what, fix);
}

/// The targets, with percents that add to 100; no targets mean the latest ready revision.
/// `known` are the revisions that the files declare; none where they could not be read.
pub(super) fn lower(
    item: &Item<Service>,
    known: Option<&[&str]>,
    findings: &mut Findings,
) -> Vec<run::TrafficTarget> {
    let targets = &item.raw.traffic;
    if targets.is_empty() {
        return vec![run::TrafficTarget::latest()];
    }
    let mut tags = HashSet::new();
    let mut lowered = Vec::with_capacity(targets.len());
    for target in targets {
        let revision = revision(item, target, known, findings);
        let tag = target.tag.as_ref().filter(|tag| !tag.is_empty());
        if let Some(tag) = tag {
            // The tag and the service's name share one label of the host name (3.1).
            let fits = tag.len() + 3 + item.name().len() <= 63;
            if !crate::names_rules::is_rfc1035(tag, 63) || !fits {
                error(
                    tag.at,
                    format!(
                        "`{}` is no tag; lower-case letters, digits and hyphens, a letter first, and with `---` and the service's name at most 63 characters",
                        tag.value
                    ),
                    "shorten or rename the tag",
                    findings,
                );
            } else if !tags.insert(&tag.value) {
                error(
                    tag.at,
                    format!("Multiple definitions for \"{}\"", tag.value),
                    "remove one of the two",
                    findings,
                );
            }
        }
        lowered.push(run::TrafficTarget {
            revision,
            percent: target.percent.map_or(0, |percent| u32::try_from(percent.0).unwrap_or(0)),
            tag: tag.map(|tag| tag.value.clone()),
        });
    }
    let sum: u32 = lowered.iter().map(|target| target.percent).sum();
    if sum != 100 && targets.iter().all(|target| !target.faulty) {
        error(
            targets[0].at,
            format!("Traffic targets sum to {sum}, want 100"),
            "let the percents sum to 100",
            findings,
        );
    }
    lowered
}

/// The revision that a target names; none: the latest ready one.
fn revision(
    item: &Item<Service>,
    target: &TrafficTarget,
    known: Option<&[&str]>,
    findings: &mut Findings,
) -> Option<String> {
    let named = target.revision.as_ref().filter(|named| !named.is_empty());
    let by_name = match target.target_type {
        Some(TrafficTargetType::Revision) => true,
        Some(TrafficTargetType::Latest) => false,
        None => named.is_some(),
    };
    let Some(named) = named else {
        if by_name && !target.faulty {
            error(
                target.at,
                "may not set revisionName \"\" when latestRevision is false".to_owned(),
                "name the revision, or write latestRevision: true (TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST)",
                findings,
            );
        }
        return None;
    };
    if !by_name {
        error(
            named.at,
            format!("may not set revisionName \"{}\" when latestRevision is true", named.value),
            "remove one of the two",
            findings,
        );
        return None;
    }
    let name = last_segment(named);
    if !super::revisions::is_name(name, item.name()) {
        error(
            named.at,
            format!(
                "`{name}` is no revision of `{}`; their names begin with `{}-`",
                item.name(),
                item.name()
            ),
            "name a revision of this service",
            findings,
        );
    } else if known.is_some_and(|known| !known.contains(&name)) {
        findings.warning(
            Code::ServiceTraffic,
            named.at,
            format!("the files declare no revision `{name}`; traffic can go to it only if it ran here before"),
            "declare it under `revisions`, or as a Knative Revision document",
        );
    }
    Some(name.to_owned())
}
