//! What `status` and `explain` are told of a deployment, in the API's words (cloud-run 2.5, 3.4).

use super::{Deployment, State, not_ready};
use crate::history::{Proof, Recorded};
use crate::revision::Revision;
use autoscaling::fleet::Counts;
use slice::{ConditionState, RevisionState, ServiceState};
use std::sync::Arc;

/// So many revisions that have retired are shown.
const RETIRED_SHOWN: usize = 10;

/// A service's state, and how many of its instances have requests.
#[derive(Clone, PartialEq)]
pub struct View {
    /// For the supervisor.
    pub state: ServiceState,
    /// Instances with a request.
    pub active: u32,
    /// Instances without.
    pub idle: u32,
}

impl Deployment {
    /// What is there now.
    pub fn view(&self) -> View {
        let state = self.lock();
        let route = self.route();
        let mut all = Counts::default();
        for revision in state.at_work.iter().chain(&state.draining) {
            let counts = revision.counts();
            all.active += counts.active;
            all.idle += counts.idle;
        }
        let mut retired = 0;
        let mut revisions: Vec<RevisionState> = Vec::new();
        for recorded in state.history.revisions().iter().rev() {
            let seen = state.seen(recorded);
            let name = recorded.revision.name.as_str();
            let routed = route.routing.revisions().iter().find(|one| *one.name == *name);
            if routed.is_none() && !seen.at_work && !revisions.is_empty() {
                retired += 1;
                if retired > RETIRED_SHOWN {
                    continue;
                }
            }
            let (ready, reason, message) = condition(recorded, &seen, routed.is_some());
            let tags = route.routing.tags().filter(|(_, one)| *one.name == *name);
            revisions.push(RevisionState {
                name: name.to_owned(),
                ready,
                reason: reason.map(str::to_owned),
                message,
                percent: routed.map_or(0, |one| one.percent),
                tags: tags.map(|(tag, _)| tag.to_owned()).collect(),
                instances: seen.counts.active + seen.counts.idle,
                starting: seen.counts.starting,
            });
        }
        revisions.reverse();
        let usual = route.routing.usual(None).map(|one| &*one.name).unwrap_or_default();
        let failed = |name: &str| {
            let found = revisions.iter().find(|one| one.name == name);
            found.is_some_and(|one| one.ready == ConditionState::ConditionFailed)
        };
        let state = ServiceState {
            service: state.service.self_link.clone(),
            instances: all.active + all.idle,
            starts: !failed(usual),
            text: text(&state, &revisions, usual),
            reconciling: revisions
                .iter()
                .any(|one| one.ready == ConditionState::ConditionReconciling),
            traffic: state.traffic.clone(),
            revisions,
        };
        View { state, active: all.active, idle: all.idle }
    }
}

/// A revision as it is at work, or not.
struct Seen {
    at_work: bool,
    tried: bool,
    fixed: bool,
    counts: Counts,
    failure: Option<String>,
}

impl State {
    fn seen(&self, recorded: &Recorded) -> Seen {
        let name = recorded.revision.name.as_str();
        let all = self.at_work.iter().chain(&self.draining);
        let mut seen = Seen {
            at_work: false,
            tried: self.is_tried(name),
            fixed: false,
            counts: Counts::default(),
            failure: None,
        };
        for one in all.filter(|one| one.name() == name) {
            let counts = one.counts();
            seen.at_work = true;
            seen.fixed |= one.is_fixed();
            seen.counts.active += counts.active;
            seen.counts.idle += counts.idle;
            seen.counts.starting += counts.starting;
            seen.failure = failure(one);
        }
        seen
    }
}

fn failure(revision: &Arc<Revision>) -> Option<String> {
    revision.never_started().then(|| not_ready(&revision.service.revision))
}

/// The condition `Ready` of a revision: its state, reason and text.
fn condition(
    recorded: &Recorded,
    seen: &Seen,
    routed: bool,
) -> (ConditionState, Option<&'static str>, String) {
    use ConditionState::*;
    let text = |text: &str| text.to_owned();
    match recorded.proof {
        Proof::Failed => {
            let failure = seen.failure.clone().unwrap_or_else(|| not_ready(&recorded.revision));
            (ConditionFailed, Some("HEALTH_CHECK_CONTAINER_ERROR"), failure)
        }
        Proof::Unproven if seen.tried => {
            (ConditionReconciling, Some("PENDING"), text("An instance is started to try it."))
        }
        Proof::Unproven => (ConditionPending, Some("PENDING"), text("It was not tried yet.")),
        _ if seen.fixed => (ConditionSucceeded, None, text("It runs elsewhere.")),
        Proof::Assumed if seen.counts.starting > 0 => {
            (ConditionReconciling, Some("PENDING"), text("Its first instance starts."))
        }
        Proof::Assumed if routed => {
            (ConditionPending, Some("PENDING"), text("Its first request starts an instance."))
        }
        Proof::Started if recorded.revision.health_check_disabled => {
            (ConditionSucceeded, Some("HEALTH_CHECK_SKIPPED"), String::new())
        }
        _ if routed => (ConditionSucceeded, None, String::new()),
        _ if seen.at_work => (ConditionSucceeded, Some("RETIRING"), text("It drains.")),
        _ => (ConditionSucceeded, Some("RETIRED"), String::new()),
    }
}

/// A few words.
fn text(state: &State, revisions: &[RevisionState], usual: &str) -> String {
    let mut text = String::new();
    let mut add = |part: String| {
        text.push_str(if text.is_empty() { "" } else { ", " });
        text.push_str(&part);
    };
    for one in revisions {
        let with = |words: &str| format!("{}{words}", one.name);
        let served = one.percent > 0;
        match one.ready {
            ConditionState::ConditionFailed => add(with(" does not start")),
            ConditionState::ConditionReconciling => add(with(" starting")),
            _ if one.name == usual && one.percent == 100 => {
                let fixed = state.at_work.iter().any(|r| r.name() == usual && r.is_fixed());
                add(with(if fixed { " (runs elsewhere)" } else { "" }));
            }
            _ if served => add(with(&format!(" {} %", one.percent))),
            _ => {}
        }
    }
    text
}
