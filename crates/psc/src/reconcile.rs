//! Admission with history (private-connectivity 1.2 to 1.4).

use crate::connection::{Against, Connection, Evidence, Nat};
use crate::lists::{ListKind, Lists, Standing, kind};
use crate::{nat, propagation};
use names::SelfLink;
use slice::psc::{
    Accept, ConnectionStatus, Consumer, Endpoint, EndpointKind, ServiceAttachment,
    ServiceAttachmentSlice,
};
use slice::{CONNECTION_HISTORY_MAX, ConnectionChange, ConnectionState};
use std::collections::HashMap;

/// What makes two records the same connection. Target and address of an endpoint cannot be changed
/// in place (private-connectivity 1.6); one that has another is another endpoint of the same name.
type Identity<'a> = (&'a SelfLink, &'a SelfLink, u64);

/// The state of every connection of a producer network, oldest first.
///
/// `previous` is what this function said last (its [`Connection::state`]s, in their order), empty
/// at a fresh start; `now` is the time, in seconds since 1970, that changes are noted with. Age is
/// the order in which endpoints first appeared: those of `previous`, then new ones in the order of
/// the files.
///
/// * New and PENDING connections are decided by the lists of today, oldest first (that order is
///   (unconfirmed)); accepted ones hold their place in the limits.
/// * Without `reconcileConnections`, ACCEPTED and REJECTED ones stay as they are.
/// * With it, every status follows the lists; but a lower `connectionLimit` takes nothing from who
///   was accepted and is still listed. That this holds too for an attachment that goes from
///   `ACCEPT_AUTOMATIC` to a list with a limit is (unconfirmed).
/// * An organization policy is asked where the lists are, and wins over them. That it takes nothing
///   from who was accepted before, without `reconcileConnections`, is (unconfirmed).
/// * A connection whose attachment is gone is CLOSED for good, even when an attachment of the same
///   name comes back, for as long as its endpoint exists.
/// * Deleting an endpoint forgets it.
///
/// Applied to its own result with the same slice it changes nothing.
pub fn reconcile(
    previous: &[ConnectionState],
    slice: &ServiceAttachmentSlice,
    now: u64,
) -> Vec<Connection> {
    let attachments: HashMap<&SelfLink, usize> =
        slice.attachments.iter().enumerate().map(|(at, one)| (&one.self_link, at)).collect();
    let candidates = candidates(previous, slice);

    let mut decided: Vec<Option<Decided>> = candidates
        .iter()
        .map(|candidate| match candidate.past {
            // Its attachment is gone, or was gone for a while.
            Some(past) if past.status == ConnectionStatus::Closed => Some(CLOSED),
            Some(_) if !attachments.contains_key(&candidate.endpoint.target) => Some(CLOSED),
            _ => None,
        })
        .collect();
    let mut of_attachment: Vec<Vec<usize>> = vec![Vec::new(); slice.attachments.len()];
    for (at, candidate) in candidates.iter().enumerate() {
        if decided[at].is_none()
            && let Some(&attachment) = attachments.get(&candidate.endpoint.target)
        {
            of_attachment[attachment].push(at);
        }
    }
    for (attachment, members) in slice.attachments.iter().zip(&of_attachment) {
        let (propagated, own): (Vec<usize>, Vec<usize>) =
            members.iter().partition(|&&at| candidates[at].endpoint.propagated_from.is_some());
        decide(attachment, &own, &candidates, &mut decided);
        propagation::decide(attachment, &own, &propagated, &candidates, &mut decided);
    }
    let nat = nat::translate(slice, &of_attachment, &candidates, &decided);

    let all = candidates.iter().zip(decided).zip(nat);
    // None: an endpoint whose target never existed; there is no connection.
    all.filter_map(|((candidate, decided), nat)| Some(connection(candidate, decided?, nat, now)))
        .collect()
}

/// An endpoint, with what was said of its connection last.
pub(crate) struct Candidate<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) past: Option<&'a ConnectionState>,
}

impl Candidate<'_> {
    pub(crate) fn was_accepted(&self) -> bool {
        self.past.is_some_and(|past| past.status.carries_traffic())
    }

    fn was_rejected(&self) -> bool {
        self.past.is_some_and(|past| past.status == ConnectionStatus::Rejected)
    }
}

/// All endpoints by age.
fn candidates<'a>(
    previous: &'a [ConnectionState],
    slice: &'a ServiceAttachmentSlice,
) -> Vec<Candidate<'a>> {
    let mut endpoints: HashMap<Identity<'_>, &Endpoint> = slice
        .endpoints
        .iter()
        .map(|one| ((&one.self_link, &one.target, one.psc_connection_id), one))
        .collect();
    // Whoever is taken out of `endpoints` is not met a second time.
    let mut all = Vec::with_capacity(endpoints.len());
    for past in previous {
        let identity = (&past.endpoint, &past.service_attachment, past.psc_connection_id);
        if let Some(endpoint) = endpoints.remove(&identity) {
            all.push(Candidate { endpoint, past: Some(past) });
        }
    }
    for endpoint in &slice.endpoints {
        let identity = (&endpoint.self_link, &endpoint.target, endpoint.psc_connection_id);
        if endpoints.remove(&identity).is_some() {
            all.push(Candidate { endpoint, past: None });
        }
    }
    all
}

/// ACCEPTED stands for NEEDS_ATTENTION too, until NAT addresses are given out.
pub(crate) struct Decided {
    pub(crate) status: ConnectionStatus,
    pub(crate) evidence: Evidence,
}

const CLOSED: Decided = Decided { status: ConnectionStatus::Closed, evidence: Evidence::Closed };

fn connection(candidate: &Candidate<'_>, decided: Decided, nat: Nat, now: u64) -> Connection {
    let Candidate { endpoint, past } = candidate;
    let starved = matches!(nat, Nat::Exhausted { .. } | Nat::NoSubnet);
    let status = if starved { ConnectionStatus::NeedsAttention } else { decided.status };
    let mut connection = Connection {
        service_attachment: endpoint.target.clone(),
        endpoint: endpoint.self_link.clone(),
        consumer_project: endpoint.project.clone(),
        consumer_network: endpoint.network.clone(),
        psc_connection_id: endpoint.psc_connection_id,
        proxy_connection_id: endpoint.proxy_connection_id(),
        propagated_from: endpoint.propagated_from.as_ref().map(|from| from.endpoint.clone()),
        status,
        evidence: decided.evidence,
        nat,
        history: past.map(|past| past.history.clone()).unwrap_or_default(),
    };
    let from = past.map(|past| past.status);
    if from != Some(status) {
        let why = connection.why();
        connection.history.push(ConnectionChange { time: now, from, to: status, why });
    }
    let forgotten = connection.history.len().saturating_sub(CONNECTION_HISTORY_MAX);
    connection.history.drain(..forgotten);
    connection
}

/// Decides about all living connections of one attachment, but for propagated ones.
fn decide(
    attachment: &ServiceAttachment,
    members: &[usize],
    candidates: &[Candidate<'_>],
    decided: &mut [Option<Decided>],
) {
    let lists = Lists::new(attachment);
    // Accepted connections per entry of the accept list.
    let mut accepted = vec![0u32; attachment.consumer_accept_lists.len()];
    let reconcile = attachment.reconcile_connections;

    // Who keeps what he has comes first: he holds his place in the limits against older ones that
    // are still waiting.
    for &at in members {
        let candidate = &candidates[at];
        let endpoint = candidate.endpoint;
        let kept = if endpoint.region != attachment.region {
            Some(pending(Evidence::RegionMismatch {
                endpoint: endpoint.region.clone(),
                service_attachment: attachment.region.clone(),
            }))
        } else if candidate.was_accepted() {
            Some(keep_accepted(attachment, &lists, endpoint, reconcile))
        } else if candidate.was_rejected() && !reconcile {
            let evidence = match lists.standing(endpoint) {
                Standing::Rejected(index) => on_reject_list(attachment, &lists, endpoint, index),
                Standing::Blocked(blocked) => by_policy(blocked, endpoint),
                _ => Evidence::RejectedBefore,
            };
            Some(Decided { status: ConnectionStatus::Rejected, evidence })
        } else {
            None
        };
        if kept.as_ref().is_some_and(|kept| kept.status == ConnectionStatus::Accepted) {
            lists.accepting(endpoint).iter().for_each(|&entry| accepted[entry] += 1);
        }
        decided[at] = kept;
    }

    for &at in members {
        if decided[at].is_some() {
            continue;
        }
        let endpoint = candidates[at].endpoint;
        let now = decide_new(attachment, &lists, endpoint, &accepted);
        if now.status == ConnectionStatus::Accepted {
            lists.accepting(endpoint).iter().for_each(|&entry| accepted[entry] += 1);
        }
        decided[at] = Some(now);
    }
}

fn keep_accepted(
    attachment: &ServiceAttachment,
    lists: &Lists<'_>,
    endpoint: &Endpoint,
    reconcile: bool,
) -> Decided {
    let before = |now| accepted(Evidence::AcceptedBefore { now });
    match lists.standing(endpoint) {
        Standing::Automatic => accepted(Evidence::Automatic),
        Standing::Listed(entries) => accepted(listed(attachment, entries[0])),
        Standing::Blocked(blocked) if reconcile => rejected(by_policy(blocked, endpoint)),
        Standing::Rejected(index) if reconcile => {
            rejected(on_reject_list(attachment, lists, endpoint, index))
        }
        Standing::Unlisted if reconcile => pending(not_listed(attachment, endpoint)),
        Standing::Blocked(blocked) => before(Against::Policy(blocked)),
        Standing::Rejected(index) => {
            before(Against::RejectList(index, attachment.consumer_reject_lists[index].clone()))
        }
        Standing::Unlisted => before(Against::NotListed),
    }
}

/// private-connectivity 1.2, steps 1 to 6.
fn decide_new(
    attachment: &ServiceAttachment,
    lists: &Lists<'_>,
    endpoint: &Endpoint,
    taken: &[u32],
) -> Decided {
    match lists.standing(endpoint) {
        Standing::Blocked(blocked) => rejected(by_policy(blocked, endpoint)),
        Standing::Rejected(index) => rejected(on_reject_list(attachment, lists, endpoint, index)),
        Standing::Automatic => accepted(Evidence::Automatic),
        Standing::Listed(entries) => {
            match entries.iter().find(|&&entry| taken[entry] < lists.limit(entry)) {
                Some(&entry) => accepted(listed(attachment, entry)),
                None => {
                    let index = entries[0];
                    pending(Evidence::LimitUsedUp {
                        index,
                        entry: attachment.consumer_accept_lists[index].clone(),
                        accepted: taken[index],
                    })
                }
            }
        }
        Standing::Unlisted => pending(not_listed(attachment, endpoint)),
    }
}

pub(crate) fn pending(evidence: Evidence) -> Decided {
    Decided { status: ConnectionStatus::Pending, evidence }
}

pub(crate) fn accepted(evidence: Evidence) -> Decided {
    Decided { status: ConnectionStatus::Accepted, evidence }
}

fn rejected(evidence: Evidence) -> Decided {
    Decided { status: ConnectionStatus::Rejected, evidence }
}

fn listed(attachment: &ServiceAttachment, index: usize) -> Evidence {
    Evidence::Listed { index, entry: attachment.consumer_accept_lists[index].clone() }
}

fn by_policy(blocked: crate::policy::Blocked, endpoint: &Endpoint) -> Evidence {
    Evidence::OrganizationPolicy { blocked, project: format!("projects/{}", endpoint.project) }
}

fn on_reject_list(
    attachment: &ServiceAttachment,
    lists: &Lists<'_>,
    endpoint: &Endpoint,
    index: usize,
) -> Evidence {
    Evidence::OnRejectList {
        index,
        entry: attachment.consumer_reject_lists[index].clone(),
        accepting: lists.accepting(endpoint).first().copied(),
    }
}

/// The line that is missing, of the kind that the lists hold.
fn not_listed(attachment: &ServiceAttachment, endpoint: &Endpoint) -> Evidence {
    let held = kind(attachment);
    let consumer = match held {
        ListKind::Networks => Consumer::NetworkUrl(endpoint.network.clone()),
        ListKind::Endpoints => Consumer::EndpointUrl(endpoint.self_link.clone()),
        ListKind::Projects => Consumer::ProjectIdOrNum(endpoint.project.clone()),
    };
    Evidence::NotListed {
        apigee: endpoint.kind == EndpointKind::EndpointAttachment && held == ListKind::Projects,
        backend: endpoint.kind == EndpointKind::NetworkEndpointGroup && held == ListKind::Endpoints,
        missing: Accept { consumer, connection_limit: 1 },
        entries: attachment.consumer_accept_lists.len(),
    }
}
