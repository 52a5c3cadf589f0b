//! Propagated connections (private-connectivity 1.4): an accepted endpoint of one VPC spoke of a
//! hub that clients in the hub's other spokes may use too.

use crate::connection::Evidence;
use crate::lists::{ListKind, kind};
use crate::reconcile::{Candidate, Decided, accepted, pending};
use names::SelfLink;
use slice::psc::{
    ConnectionPreference, ConnectionStatus, Consumer, Endpoint, PropagatedFrom, ServiceAttachment,
};
use std::collections::HashMap;

/// Decides about the propagated connections of one attachment, `propagated`, when its own
/// connections, `own`, are decided. They never change an endpoint's own status.
///
/// A connection that was propagated before stays when the limit is lowered; who waits comes when it
/// is raised, oldest first.
pub(crate) fn decide(
    attachment: &ServiceAttachment,
    own: &[usize],
    propagated: &[usize],
    candidates: &[Candidate<'_>],
    decided: &mut [Option<Decided>],
) {
    if propagated.is_empty() {
        return;
    }
    let status: HashMap<&SelfLink, ConnectionStatus> = own
        .iter()
        .filter_map(|&at| Some((&candidates[at].endpoint.self_link, decided[at].as_ref()?.status)))
        .collect();
    let limit = attachment.propagated_connection_limit;
    let mut counted: HashMap<Consumer, u32> = HashMap::new();
    // Those that are propagated already hold their places against older ones that wait.
    for round in [true, false] {
        for &at in propagated {
            let candidate = &candidates[at];
            let Some(from) = &candidate.endpoint.propagated_from else { continue };
            if candidate.was_accepted() != round {
                continue;
            }
            decided[at] = Some(match status.get(&from.endpoint) {
                Some(ConnectionStatus::Accepted) => {
                    let consumer = consumer(attachment, candidate.endpoint, from);
                    let taken = counted.entry(consumer.clone()).or_default();
                    if round || *taken < limit {
                        *taken += 1;
                        accepted(Evidence::Propagated)
                    } else {
                        pending(Evidence::PropagationLimit { limit, consumer })
                    }
                }
                status => pending(Evidence::EndpointNotAccepted {
                    // An endpoint that is closed while its attachment is back.
                    status: status.copied().unwrap_or(ConnectionStatus::Closed),
                }),
            });
        }
    }
}

/// Whom a propagated connection is counted for: the endpoint's network where the lists name
/// networks, else the endpoint's project.
fn consumer(
    attachment: &ServiceAttachment,
    endpoint: &Endpoint,
    from: &PropagatedFrom,
) -> Consumer {
    let manual = attachment.connection_preference == ConnectionPreference::AcceptManual;
    match kind(attachment) {
        ListKind::Networks if manual => Consumer::NetworkUrl(from.network.clone()),
        _ => Consumer::ProjectIdOrNum(endpoint.project.clone()),
    }
}
