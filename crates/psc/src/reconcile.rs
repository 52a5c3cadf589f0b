//! Admission with history (private-connectivity 1.2 to 1.4).

use crate::connection::{Connection, Evidence, Nat};
use crate::lists::{Lists, Standing};
use crate::nat;
use names::SelfLink;
use slice::ConnectionState;
use slice::psc::{
    Accept, ConnectionStatus, Consumer, Endpoint, EndpointKind, ServiceAttachment,
    ServiceAttachmentSlice,
};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// What makes two records the same connection. Target and address of an endpoint cannot be changed
/// in place (private-connectivity 1.6); one that has another is another endpoint of the same name.
type Identity<'a> = (&'a SelfLink, &'a SelfLink, u64);

/// The state of every connection of a producer network, oldest first.
///
/// `previous` is what this function said last (its [`Connection::state`]s, in their order), empty
/// at a fresh start. Age is the order in which endpoints first appeared: those of `previous`, then
/// new ones in the order of the files.
///
/// * New and PENDING connections are decided by the lists of today, oldest first (that order is
///   (unconfirmed)); accepted ones hold their place in the limits.
/// * Without `reconcileConnections`, ACCEPTED and REJECTED ones stay as they are.
/// * With it, every status follows the lists; but a lower `connectionLimit` takes nothing from who
///   was accepted and is still listed. That this holds too for an attachment that goes from
///   `ACCEPT_AUTOMATIC` to a list with a limit is (unconfirmed).
/// * A connection whose attachment is gone is CLOSED for good, even when an attachment of the same
///   name comes back, for as long as its endpoint exists.
/// * Deleting an endpoint forgets it.
///
/// Applied to its own result with the same slice it changes nothing.
pub fn reconcile(previous: &[ConnectionState], slice: &ServiceAttachmentSlice) -> Vec<Connection> {
    let attachments: HashMap<&SelfLink, usize> =
        slice.attachments.iter().enumerate().map(|(at, one)| (&one.self_link, at)).collect();
    let mut endpoints: HashMap<Identity<'_>, &Endpoint> = slice
        .endpoints
        .iter()
        .map(|one| ((&one.self_link, &one.target, one.psc_connection_id), one))
        .collect();

    // By age. Whoever is taken out of `endpoints` is not met a second time.
    let mut candidates: Vec<Candidate<'_>> = Vec::with_capacity(endpoints.len());
    for past in previous {
        let identity = (&past.endpoint, &past.service_attachment, past.psc_connection_id);
        if let Some(endpoint) = endpoints.remove(&identity) {
            candidates.push(Candidate { endpoint, past: Some(past) });
        }
    }
    for endpoint in &slice.endpoints {
        let identity = (&endpoint.self_link, &endpoint.target, endpoint.psc_connection_id);
        if endpoints.remove(&identity).is_some() {
            candidates.push(Candidate { endpoint, past: None });
        }
    }

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
        decide(attachment, members, &candidates, &mut decided);
    }
    let nat = translate(slice, &of_attachment, &candidates, &decided);

    candidates
        .iter()
        .zip(decided)
        .zip(nat)
        .filter_map(|((candidate, decided), nat)| {
            // None: an endpoint whose target never existed; there is no connection.
            let Decided { status, evidence } = decided?;
            let starved = matches!(nat, Nat::Exhausted { .. } | Nat::NoSubnet);
            Some(Connection {
                service_attachment: candidate.endpoint.target.clone(),
                endpoint: candidate.endpoint.self_link.clone(),
                consumer_project: candidate.endpoint.project.clone(),
                consumer_network: candidate.endpoint.network.clone(),
                psc_connection_id: candidate.endpoint.psc_connection_id,
                status: if starved { ConnectionStatus::NeedsAttention } else { status },
                evidence,
                nat,
            })
        })
        .collect()
}

struct Candidate<'a> {
    endpoint: &'a Endpoint,
    past: Option<&'a ConnectionState>,
}

impl Candidate<'_> {
    fn was_accepted(&self) -> bool {
        self.past.is_some_and(|past| past.status.carries_traffic())
    }

    fn was_rejected(&self) -> bool {
        self.past.is_some_and(|past| past.status == ConnectionStatus::Rejected)
    }
}

/// ACCEPTED stands for NEEDS_ATTENTION too, until NAT addresses are given out.
struct Decided {
    status: ConnectionStatus,
    evidence: Evidence,
}

const CLOSED: Decided = Decided { status: ConnectionStatus::Closed, evidence: Evidence::Closed };

/// Decides about all living connections of one attachment.
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
    let accepted = |evidence| Decided { status: ConnectionStatus::Accepted, evidence };
    match lists.standing(endpoint) {
        Standing::Automatic => accepted(Evidence::Automatic),
        Standing::Listed(entries) => accepted(listed(attachment, entries[0])),
        Standing::Rejected(index) if reconcile => Decided {
            status: ConnectionStatus::Rejected,
            evidence: on_reject_list(attachment, lists, endpoint, index),
        },
        Standing::Unlisted if reconcile => pending(not_listed(attachment, endpoint)),
        Standing::Rejected(index) => {
            let entry = attachment.consumer_reject_lists[index].clone();
            accepted(Evidence::AcceptedBefore { rejecting: Some((index, entry)) })
        }
        Standing::Unlisted => accepted(Evidence::AcceptedBefore { rejecting: None }),
    }
}

/// private-connectivity 1.2, steps 2 to 6.
fn decide_new(
    attachment: &ServiceAttachment,
    lists: &Lists<'_>,
    endpoint: &Endpoint,
    accepted: &[u32],
) -> Decided {
    match lists.standing(endpoint) {
        Standing::Rejected(index) => Decided {
            status: ConnectionStatus::Rejected,
            evidence: on_reject_list(attachment, lists, endpoint, index),
        },
        Standing::Automatic => {
            Decided { status: ConnectionStatus::Accepted, evidence: Evidence::Automatic }
        }
        Standing::Listed(entries) => {
            match entries.iter().find(|&&entry| accepted[entry] < lists.limit(entry)) {
                Some(&entry) => Decided {
                    status: ConnectionStatus::Accepted,
                    evidence: listed(attachment, entry),
                },
                None => {
                    let index = entries[0];
                    pending(Evidence::LimitUsedUp {
                        index,
                        entry: attachment.consumer_accept_lists[index].clone(),
                        accepted: accepted[index],
                    })
                }
            }
        }
        Standing::Unlisted => pending(not_listed(attachment, endpoint)),
    }
}

fn pending(evidence: Evidence) -> Decided {
    Decided { status: ConnectionStatus::Pending, evidence }
}

fn listed(attachment: &ServiceAttachment, index: usize) -> Evidence {
    Evidence::Listed { index, entry: attachment.consumer_accept_lists[index].clone() }
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

/// The line that is missing, of the kind that the lists hold: both hold one kind of value only
/// (private-connectivity 1.1).
fn not_listed(attachment: &ServiceAttachment, endpoint: &Endpoint) -> Evidence {
    let accept = attachment.consumer_accept_lists.iter().map(|entry| &entry.consumer);
    let consumer = match accept.chain(&attachment.consumer_reject_lists).next() {
        Some(Consumer::NetworkUrl(_)) => Consumer::NetworkUrl(endpoint.network.clone()),
        Some(Consumer::EndpointUrl(_)) => Consumer::EndpointUrl(endpoint.self_link.clone()),
        Some(Consumer::ProjectIdOrNum(_)) | None => {
            Consumer::ProjectIdOrNum(endpoint.project.clone())
        }
    };
    Evidence::NotListed {
        apigee: endpoint.kind == EndpointKind::EndpointAttachment
            && matches!(consumer, Consumer::ProjectIdOrNum(_)),
        missing: Accept { consumer, connection_limit: 1 },
        entries: attachment.consumer_accept_lists.len(),
    }
}

/// Gives one address to every accepted connection: the one that it has, or the lowest free one,
/// oldest connection first.
fn translate(
    slice: &ServiceAttachmentSlice,
    of_attachment: &[Vec<usize>],
    candidates: &[Candidate<'_>],
    decided: &[Option<Decided>],
) -> Vec<Nat> {
    let mut nat = vec![Nat::Unneeded; candidates.len()];
    let is_accepted = |at: usize| {
        decided[at].as_ref().is_some_and(|one| one.status == ConnectionStatus::Accepted)
    };
    // One set for the network: a NAT subnet belongs to one attachment only, but should two share
    // one, their endpoints must still differ.
    let mut used: HashSet<Ipv4Addr> = HashSet::new();
    for (attachment, members) in slice.attachments.iter().zip(of_attachment) {
        for &at in members.iter().filter(|&&at| is_accepted(at)) {
            let kept = candidates[at].past.and_then(|past| past.nat_ips.first().copied());
            let in_subnet = |address: &Ipv4Addr| {
                attachment.nat_subnets.iter().any(|one| nat::is_usable(one.range, *address))
            };
            if let Some(address) = kept.filter(in_subnet)
                && used.insert(address)
            {
                nat[at] = Nat::Address(address);
            }
        }
    }
    for (attachment, members) in slice.attachments.iter().zip(of_attachment) {
        let subnets = &attachment.nat_subnets;
        let mut cursor = (0, 0);
        for &at in members.iter().filter(|&&at| is_accepted(at)) {
            if nat[at] == Nat::Unneeded {
                nat[at] = match nat::take_free(subnets, &mut used, &mut cursor) {
                    Some(address) => Nat::Address(address),
                    None if subnets.is_empty() => Nat::NoSubnet,
                    None => Nat::Exhausted {
                        subnets: subnets
                            .iter()
                            .map(|one| one.self_link.name().to_owned())
                            .collect(),
                        usable: nat::usable_count(subnets),
                    },
                };
            }
        }
    }
    nat
}
