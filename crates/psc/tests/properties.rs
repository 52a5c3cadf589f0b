//! What holds for every file and every sequence of edits.

mod common;

use common::{World, attachment, endpoint, nat_subnet, project, rejected};
use proptest::prelude::*;
use psc::{Connection, reconcile, usable_addresses};
use slice::psc::{
    ConnectionPreference, ConnectionStatus, Consumer, Endpoint, ServiceAttachment,
    ServiceAttachmentSlice,
};
use std::collections::{HashMap, HashSet};

const PROJECTS: [&str; 4] = ["p", "q", "r", "s"];

/// One version of the files: lists, NAT subnets, flags, and which endpoints exist in which order.
#[derive(Clone, Debug)]
struct Edit {
    automatic: bool,
    reconcile: bool,
    accept: Vec<(usize, u32)>,
    reject: Vec<usize>,
    nat: Vec<usize>,
    endpoints: Vec<(usize, usize)>,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let projects: Vec<usize> = (0..PROJECTS.len()).collect();
    let all: Vec<(usize, usize)> =
        (0..PROJECTS.len()).flat_map(|p| (0..4).map(move |n| (p, n))).collect();
    (
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::sample::subsequence(projects.clone(), 0..=4).prop_shuffle(),
        prop::collection::vec(0u32..4, 4),
        prop::sample::subsequence(projects, 0..=2),
        prop::sample::subsequence(vec![0usize, 1, 2], 0..=3),
        prop::sample::subsequence(all, 0..=16).prop_shuffle(),
    )
        .prop_map(|(automatic, reconcile, accept, limits, reject, nat, endpoints)| Edit {
            automatic,
            reconcile,
            accept: accept.into_iter().zip(limits).collect(),
            reject,
            nat,
            endpoints,
        })
}

fn files(edit: &Edit) -> ServiceAttachmentSlice {
    let mut sa = attachment();
    if edit.automatic {
        sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    }
    sa.reconcile_connections = edit.reconcile;
    sa.consumer_accept_lists =
        edit.accept.iter().map(|&(p, limit)| project(PROJECTS[p], limit)).collect();
    sa.consumer_reject_lists = edit.reject.iter().map(|&p| rejected(PROJECTS[p])).collect();
    let ranges = ["10.0.2.0/29", "10.0.3.0/29", "10.0.4.0/28"];
    sa.nat_subnets = edit.nat.iter().map(|&at| nat_subnet(ranges[at])).collect();
    let one = |&(p, n): &(usize, usize)| endpoint(PROJECTS[p], &format!("e{n}"));
    let endpoints = edit.endpoints.iter().map(one).collect();
    ServiceAttachmentSlice {
        network: sa.network.clone(),
        attachments: vec![sa],
        endpoints,
        nat_subnetworks: Vec::new(),
        remote: Default::default(),
    }
}

fn is_accepted(connection: &Connection) -> bool {
    matches!(connection.status, ConnectionStatus::Accepted | ConnectionStatus::NeedsAttention)
}

fn accepted_of<'a>(connections: &'a [Connection], project: &'a str) -> usize {
    connections.iter().filter(|one| one.endpoint.project() == project && is_accepted(one)).count()
}

fn names_project(consumers: &[Consumer], project: &str) -> bool {
    consumers.contains(&Consumer::ProjectIdOrNum(project.to_owned()))
}

fn limit_of(sa: &ServiceAttachment, project: &str) -> Option<u32> {
    let consumer = Consumer::ProjectIdOrNum(project.to_owned());
    let entry = sa.consumer_accept_lists.iter().find(|entry| entry.consumer == consumer);
    entry.map(|entry| entry.connection_limit)
}

fn nat_is_right(sa: &ServiceAttachment, connections: &[Connection]) -> Result<(), TestCaseError> {
    let usable: HashSet<_> =
        sa.nat_subnets.iter().flat_map(|subnet| usable_addresses(subnet.range)).collect();
    let given: Vec<_> = connections.iter().flat_map(Connection::nat_addresses).copied().collect();
    let distinct: HashSet<_> = given.iter().copied().collect();
    prop_assert_eq!(given.len(), distinct.len(), "one address, one endpoint");
    prop_assert!(distinct.is_subset(&usable));
    for one in connections {
        let has = !one.nat_addresses().is_empty();
        prop_assert_eq!(has, one.status == ConnectionStatus::Accepted);
        if one.status == ConnectionStatus::NeedsAttention {
            prop_assert_eq!(distinct.len(), usable.len(), "needs attention only when exhausted");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn at_a_fresh_start_no_project_exceeds_its_limit(edit in any_edit()) {
        let slice = files(&edit);
        let sa = &slice.attachments[0];
        let connections = reconcile(&[], &slice, 0);
        prop_assert_eq!(connections.len(), slice.endpoints.len());
        for p in PROJECTS {
            let present = slice.endpoints.iter().filter(|one| one.project == p).count();
            // An independent statement of the rule.
            let expected = if names_project(&sa.consumer_reject_lists, p) {
                0
            } else if edit.automatic {
                present
            } else {
                present.min(limit_of(sa, p).unwrap_or(0) as usize)
            };
            prop_assert_eq!(accepted_of(&connections, p), expected, "{}", p);
        }
        nat_is_right(sa, &connections)?;
    }

    #[test]
    fn sequences_of_edits_keep_their_promises(edits in prop::collection::vec(any_edit(), 1..6)) {
        let mut world = World::new(attachment(), Vec::new());
        for edit in &edits {
            let before = std::mem::take(&mut world.connections);
            world.slice = files(edit);
            world.apply(); // asserts idempotence
            let sa = &world.slice.attachments[0];
            nat_is_right(sa, &world.connections)?;

            let now: HashMap<_, _> =
                world.connections.iter().map(|one| (&one.endpoint, one)).collect();
            let existing: HashSet<_> = world.slice.endpoints.iter().map(|one| &one.self_link).collect();
            prop_assert_eq!(now.len(), existing.len());
            for one in before.iter().filter(|one| existing.contains(&one.endpoint)) {
                let after = now[&one.endpoint];
                if !edit.reconcile {
                    // No ACCEPTED is lost, and no REJECTED freed, without reconcile.
                    if is_accepted(one) {
                        prop_assert!(is_accepted(after));
                    }
                    if one.status == ConnectionStatus::Rejected {
                        prop_assert_eq!(after.status, ConnectionStatus::Rejected);
                    }
                }
                // An address stays while its subnet and the connection do.
                let usable = |ip| sa.nat_subnets.iter().any(|s| usable_addresses(s.range).any(|u| u == ip));
                if let Some(ip) = one.nat_addresses().first().copied().filter(|ip| usable(*ip))
                    && is_accepted(after)
                {
                    prop_assert_eq!(after.nat_addresses().first(), Some(&ip));
                }
            }
            for p in PROJECTS {
                let of = |all: &[Connection]| {
                    all.iter()
                        .filter(|one| existing.contains(&one.endpoint) && is_accepted(one))
                        .filter(|one| one.endpoint.project() == p)
                        .count()
                };
                let (was, is) = (of(&before), of(&world.connections));
                let listed = !names_project(&sa.consumer_reject_lists, p);
                if edit.reconcile && (!listed || (!edit.automatic && limit_of(sa, p).is_none())) {
                    prop_assert_eq!(is, 0, "reconciled away");
                }
                // Nobody is accepted beyond the limit, but who was accepted already.
                if !edit.automatic {
                    let limit = limit_of(sa, p).filter(|_| listed).unwrap_or(0) as usize;
                    prop_assert!(is <= was.max(limit), "{p}: {was} -> {is}, limit {limit}");
                }
            }
        }
    }

    #[test]
    fn the_order_of_entries_is_of_no_meaning(edit in any_edit(), seed in any::<prop::sample::Index>()) {
        let slice = files(&edit);
        let mut turned = slice.clone();
        let sa = &mut turned.attachments[0];
        let length = sa.consumer_accept_lists.len().max(1);
        sa.consumer_accept_lists.rotate_left(seed.index(length) % length.max(1));
        sa.consumer_reject_lists.reverse();
        let statuses = |slice| {
            let all = reconcile(&[], slice, 0).into_iter();
            all.map(|one| (one.endpoint, one.status, one.nat)).collect::<Vec<_>>()
        };
        prop_assert_eq!(statuses(&slice), statuses(&turned));
    }

    /// Once endpoints exist, their place in the files is of no meaning: age is remembered.
    #[test]
    fn moving_existing_endpoints_in_the_files_changes_nothing(edit in any_edit(), next in any_edit()) {
        let mut world = World::new(attachment(), Vec::new());
        world.slice = files(&edit);
        world.apply();
        let mut slice = files(&Edit { endpoints: edit.endpoints.clone(), ..next });
        let straight = reconcile(&world.states, &slice, 0);
        slice.endpoints.reverse();
        prop_assert_eq!(reconcile(&world.states, &slice, 0), straight);
    }

    /// Whatever an old or damaged state file says, nobody is decided twice and nothing panics.
    #[test]
    fn a_history_with_duplicates_is_harmless(edit in any_edit(), next in any_edit()) {
        let mut world = World::new(attachment(), Vec::new());
        world.slice = files(&edit);
        world.apply();
        let mut doubled = world.states.clone();
        doubled.extend(world.states.clone());
        let slice = files(&next);
        prop_assert_eq!(reconcile(&doubled, &slice, 0), reconcile(&world.states, &slice, 0));
    }
}

/// 5,000 entries and 5,000 endpoints are decided by look-ups, not by walking the list for each.
#[test]
fn the_largest_list_is_no_trouble() {
    let mut sa = attachment();
    sa.nat_subnets = vec![nat_subnet("10.128.0.0/16")];
    sa.consumer_accept_lists = (0..5000).map(|n| project(&format!("project-{n}"), 1)).collect();
    let endpoints: Vec<Endpoint> =
        (0..5000).map(|n| endpoint(&format!("project-{n}"), "e")).collect();
    let world = World::new(sa, endpoints);
    assert!(world.connections.iter().all(|one| one.status == ConnectionStatus::Accepted));
}
