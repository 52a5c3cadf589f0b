//! The documented rules and examples of private-connectivity 1.1 to 1.6, and sequences of edits.

mod common;

use common::{World, attachment, endpoint, four_consumers, project, project_number, rejected};
use names::{NetworkId, Reason, SelfLink};
use psc::{enter, reach};
use slice::psc::{
    Accept, Allowed, ConnectionPreference, Consumer, ConsumerPolicy, Endpoint, EndpointKind,
};

#[test]
fn the_documented_example_of_limits() {
    let mut world = four_consumers();
    assert_eq!(world.statuses(), "project-1/a=A project-1/b=P project-2/a=A project-3/a=P");
    assert_eq!(
        world.details(),
        [
            "consumerAcceptLists[0] `{projectIdOrNum: project-1, connectionLimit: 1}` admits it",
            "consumerAcceptLists[0] names it, but 1 of 1 connections are accepted already: change \
             the entry to `- {projectIdOrNum: project-1, connectionLimit: 2}`",
            "consumerAcceptLists[1] `{projectIdOrNum: project-2, connectionLimit: 1}` admits it",
            "none of the 2 consumerAcceptLists entries names project `project-3`: add \
             `- {projectIdOrNum: project-3, connectionLimit: 1}`",
        ]
    );
    world.edit(|sa| sa.consumer_accept_lists.push(project("project-3", 1)));
    assert_eq!(world.statuses(), "project-1/a=A project-1/b=P project-2/a=A project-3/a=A");
}

#[test]
fn a_consumer_absent_from_the_accept_list_is_pending_not_rejected() {
    let world = World::new(attachment(), vec![endpoint("stranger", "a")]);
    assert_eq!(world.statuses(), "stranger/a=P");
    assert_eq!(world.connections[0].reason(), Some(Reason::PscConnectionNotAccepted));
    assert_eq!(
        world.details(),
        ["consumerAcceptLists is empty and misses project `stranger`: add \
          `- {projectIdOrNum: stranger, connectionLimit: 1}`"]
    );
}

#[test]
fn over_limit_connections_flip_to_accepted_when_the_limit_is_raised() {
    let mut world = four_consumers();
    world.edit(|sa| sa.consumer_accept_lists[0].connection_limit = 2);
    assert_eq!(world.statuses(), "project-1/a=A project-1/b=A project-2/a=A project-3/a=P");
    // Lowering it does not touch existing connections, with or without reconcileConnections.
    world.edit(|sa| sa.consumer_accept_lists[0].connection_limit = 0);
    assert_eq!(world.statuses(), "project-1/a=A project-1/b=A project-2/a=A project-3/a=P");
    world.edit(|sa| sa.reconcile_connections = true);
    assert_eq!(world.statuses(), "project-1/a=A project-1/b=A project-2/a=A project-3/a=P");
    // But who comes later finds no room.
    world.slice.endpoints.push(endpoint("project-1", "c"));
    world.apply();
    assert!(world.statuses().ends_with("project-1/c=P"));
}

#[test]
fn a_deleted_endpoint_makes_room_for_the_oldest_pending_one() {
    let mut world = four_consumers();
    world.slice.endpoints.insert(0, endpoint("project-1", "new"));
    world.apply();
    world.slice.endpoints.retain(|one| one.self_link.name() != "a");
    world.apply();
    // `new` stands first in the file, but `b` is older.
    assert_eq!(world.statuses(), "project-1/b=A project-1/new=P");
}

#[test]
fn a_recreated_endpoint_is_a_new_one() {
    let mut world = four_consumers();
    let first = world.slice.endpoints.remove(0);
    world.apply();
    world.slice.endpoints.insert(0, first);
    world.apply();
    assert_eq!(
        world.statuses(),
        "project-1/b=A project-2/a=A project-3/a=P project-1/a=P",
        "its place in the limit went to b"
    );
}

#[test]
fn the_reject_list_wins_over_the_accept_list() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("p", 9)];
    sa.consumer_reject_lists = vec![rejected("p")];
    let world = World::new(sa, vec![endpoint("p", "a")]);
    assert_eq!(world.statuses(), "p/a=R");
    assert_eq!(
        world.details(),
        ["consumerRejectLists[0] names project `p` and wins over consumerAcceptLists[0]: remove \
          consumerRejectLists[0]"]
    );
}

#[test]
fn without_reconcile_accepted_and_rejected_connections_stay() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("p", 9)];
    sa.consumer_reject_lists = vec![rejected("q")];
    let mut world = World::new(sa, vec![endpoint("p", "a"), endpoint("q", "a")]);
    assert_eq!(world.statuses(), "p/a=A q/a=R");

    world.edit(|sa| sa.consumer_accept_lists.clear());
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    assert!(world.details()[0].contains("reconcileConnections is false, so it stays accepted"));
    world.edit(|sa| sa.consumer_reject_lists = vec![rejected("p")]);
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    assert!(world.details()[0].contains("consumerRejectLists[0] names project `p` now"));
    assert!(world.details()[1].contains("reconcileConnections is false, so it stays rejected"));
    assert_eq!(world.connections[0].reason(), None);
    // A new connection of the same project meets the lists of today.
    world.slice.endpoints.push(endpoint("p", "b"));
    world.apply();
    assert_eq!(world.statuses(), "p/a=A q/a=R p/b=R");
}

#[test]
fn with_reconcile_every_status_follows_the_lists() {
    let mut sa = attachment();
    sa.reconcile_connections = true;
    sa.consumer_accept_lists = vec![project("p", 9)];
    let mut world = World::new(sa, vec![endpoint("p", "a")]);
    assert_eq!(world.statuses(), "p/a=A");
    assert_eq!(world.edit(|sa| sa.consumer_accept_lists.clear()).statuses(), "p/a=P");
    assert_eq!(world.edit(|sa| sa.consumer_reject_lists = vec![rejected("p")]).statuses(), "p/a=R");
    assert_eq!(world.edit(|sa| sa.consumer_reject_lists.clear()).statuses(), "p/a=P");
    world.edit(|sa| sa.consumer_reject_lists = vec![rejected("p")]);
    world.edit(|sa| {
        sa.consumer_reject_lists.clear();
        sa.consumer_accept_lists = vec![project("p", 1)];
    });
    assert_eq!(world.statuses(), "p/a=A", "REJECTED can come back to ACCEPTED");
}

#[test]
fn switching_reconcile_on_applies_the_lists_to_what_was_kept() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("p", 9)];
    let mut world = World::new(sa, vec![endpoint("p", "a")]);
    world.edit(|sa| sa.consumer_accept_lists.clear());
    assert_eq!(world.statuses(), "p/a=A");
    assert_eq!(world.edit(|sa| sa.reconcile_connections = true).statuses(), "p/a=P");
}

#[test]
fn accept_automatic_admits_everybody_but_the_rejected() {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    sa.consumer_reject_lists = vec![rejected("q")];
    let mut world = World::new(sa, vec![endpoint("p", "a"), endpoint("q", "a")]);
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    assert_eq!(world.details()[0], "connectionPreference ACCEPT_AUTOMATIC admits every consumer");
    // To a list without the consumer: existing ones stay, unless reconciled.
    world.edit(|sa| sa.connection_preference = ConnectionPreference::AcceptManual);
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    assert_eq!(world.edit(|sa| sa.reconcile_connections = true).statuses(), "p/a=P q/a=R");
}

#[test]
fn a_list_names_projects_by_id_or_number_networks_by_name_and_endpoints() {
    let number = project_number("p").to_string();
    let network = |project, name| Consumer::NetworkUrl(NetworkId::new(project, name));
    let table = [
        (Consumer::ProjectIdOrNum("p".to_owned()), true),
        (Consumer::ProjectIdOrNum(number), true),
        (Consumer::ProjectIdOrNum("P".to_owned()), false),
        (Consumer::ProjectIdOrNum("1".to_owned()), false),
        (network("p", "vpc"), true),
        (network("p", "vpc-2"), false),
        (network("q", "vpc"), false),
        (Consumer::EndpointUrl(endpoint("p", "a").self_link), true),
        (Consumer::EndpointUrl(endpoint("p", "b").self_link), false),
    ];
    for (consumer, admitted) in table {
        let mut sa = attachment();
        sa.consumer_accept_lists = vec![Accept { consumer: consumer.clone(), connection_limit: 1 }];
        let world = World::new(sa, vec![endpoint("p", "a")]);
        assert_eq!(world.statuses(), if admitted { "p/a=A" } else { "p/a=P" }, "{consumer:?}");

        let mut sa = attachment();
        sa.connection_preference = ConnectionPreference::AcceptAutomatic;
        sa.consumer_reject_lists = vec![consumer.clone()];
        let world = World::new(sa, vec![endpoint("p", "a")]);
        assert_eq!(world.statuses(), if admitted { "p/a=R" } else { "p/a=A" }, "{consumer:?}");
    }
}

#[test]
fn the_consumer_project_is_that_of_the_endpoint_not_of_a_shared_vpc_host() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("host", 9)];
    let mut shared = endpoint("service", "a");
    shared.network = NetworkId::new("host", "shared-vpc");
    let mut world = World::new(sa, vec![shared]);
    assert_eq!(world.statuses(), "service/a=P");
    world.edit(|sa| {
        let network = Consumer::NetworkUrl(NetworkId::new("host", "shared-vpc"));
        sa.consumer_accept_lists = vec![Accept { consumer: network, connection_limit: 1 }];
    });
    assert_eq!(world.statuses(), "service/a=A");
}

#[test]
fn the_missing_line_is_of_the_kind_that_the_list_holds() {
    let network = Consumer::NetworkUrl(NetworkId::new("q", "n"));
    let single = Consumer::EndpointUrl(endpoint("q", "a").self_link);
    for (entry, line) in [
        (network, "- {networkUrl: projects/p/global/networks/vpc, connectionLimit: 1}"),
        (
            single,
            "- {endpointUrl: projects/p/regions/europe-west1/forwardingRules/a, connectionLimit: 1}",
        ),
    ] {
        let mut sa = attachment();
        sa.consumer_accept_lists = vec![Accept { consumer: entry, connection_limit: 1 }];
        let world = World::new(sa, vec![endpoint("p", "a")]);
        assert!(world.details()[0].ends_with(&format!("add `{line}`")), "{:?}", world.details());
    }
    // A number is a text in this field.
    let mut sa = attachment();
    let number = project_number("p").to_string();
    sa.consumer_accept_lists = vec![project(&number, 0)];
    let world = World::new(sa, vec![endpoint("p", "a")]);
    let line = format!("- {{projectIdOrNum: \"{number}\", connectionLimit: 1}}");
    assert!(world.details()[0].contains(&line), "{:?}", world.details());
}

#[test]
fn an_apigee_attachment_is_told_to_list_the_tenant_project() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("customer", 1)];
    let mut apigee = endpoint("tenant-tp", "apps");
    apigee.kind = EndpointKind::EndpointAttachment;
    apigee.self_link = SelfLink::new("organizations/customer/endpointAttachments/apps");
    let world = World::new(sa, vec![apigee]);
    assert_eq!(
        world.details(),
        [
            "none of the 1 consumerAcceptLists entries names project `tenant-tp` (the organization's \
          tenant project, apigeeProjectId): add \
          `- {projectIdOrNum: tenant-tp, connectionLimit: 1}`"
        ]
    );
}

#[test]
fn switching_the_kind_of_list_in_one_update_cuts_nothing() {
    let mut sa = attachment();
    sa.reconcile_connections = true;
    sa.consumer_accept_lists = vec![project("p", 2)];
    let mut world = World::new(sa, vec![endpoint("p", "a"), endpoint("p", "b")]);
    world.edit(|sa| {
        let network = Consumer::NetworkUrl(NetworkId::new("p", "vpc"));
        sa.consumer_accept_lists = vec![Accept { consumer: network, connection_limit: 2 }];
    });
    assert_eq!(world.statuses(), "p/a=A p/b=A");
}

#[test]
fn another_region_is_never_accepted() {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    let mut far = endpoint("p", "a");
    far.region = "us-central1".to_owned();
    far.allow_psc_global_access = true;
    let world = World::new(sa, vec![far]);
    assert_eq!(world.statuses(), "p/a=P");
    assert_eq!(world.connections[0].reason(), Some(Reason::PscRegionMismatch));
    assert_eq!(
        world.details(),
        ["the endpoint is in us-central1, the service attachment in europe-west1; both must be \
          in one region: create the endpoint in europe-west1"]
    );
}

#[test]
fn closed_is_terminal_until_the_endpoint_is_recreated() {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    let mut world = World::new(sa.clone(), vec![endpoint("p", "a"), endpoint("p", "b")]);
    world.slice.attachments.clear();
    world.apply();
    assert_eq!(world.statuses(), "p/a=C p/b=C");
    assert_eq!(world.connections[0].reason(), Some(Reason::PscConnectionNotAccepted));
    // Recreating the attachment under the same name does not revive the endpoints, but takes new
    // ones.
    sa.reconcile_connections = true;
    world.slice.attachments.push(sa);
    world.slice.endpoints.push(endpoint("p", "c"));
    world.apply();
    assert_eq!(world.statuses(), "p/a=C p/b=C p/c=A");
    let again = world.slice.endpoints.remove(0);
    world.apply();
    world.slice.endpoints.push(again);
    world.apply();
    assert_eq!(world.statuses(), "p/b=C p/c=A p/a=A");
}

#[test]
fn an_endpoint_deleted_while_its_attachment_is_gone_is_forgotten() {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    let mut world = World::new(sa.clone(), vec![endpoint("p", "a")]);
    world.slice.attachments.clear();
    world.apply();
    let deleted = world.slice.endpoints.pop().expect("it is there");
    world.apply();
    assert_eq!(world.statuses(), "");
    world.slice.attachments.push(sa);
    world.slice.endpoints.push(deleted);
    world.apply();
    assert_eq!(world.statuses(), "p/a=A");
}

#[test]
fn an_endpoint_whose_target_never_existed_has_no_connection() {
    let mut lost = endpoint("p", "a");
    lost.target = SelfLink::regional("producer", "europe-west1", "serviceAttachments", "nowhere");
    assert_eq!(World::new(attachment(), vec![lost]).statuses(), "");
}

#[test]
fn an_endpoint_with_another_target_or_address_is_a_new_one() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("p", 9)];
    let mut world = World::new(sa, vec![endpoint("p", "a")]);
    world.edit(|sa| sa.consumer_accept_lists.clear());
    assert_eq!(world.statuses(), "p/a=A");
    world.slice.endpoints[0].psc_connection_id += 1;
    world.apply();
    assert_eq!(world.statuses(), "p/a=P", "the new one meets the lists of today");
}

#[test]
fn two_attachments_of_one_network_are_independent() {
    let mut second = attachment();
    second.self_link = SelfLink::regional("producer", "europe-west1", "serviceAttachments", "two");
    second.consumer_accept_lists = vec![project("p", 1)];
    let mut other = endpoint("p", "other");
    other.target = second.self_link.clone();
    let mut first = attachment();
    first.consumer_accept_lists = vec![project("p", 1)];
    let mut world = World::new(first, vec![endpoint("p", "a"), other]);
    world.slice.attachments.push(second);
    world.apply();
    assert_eq!(world.statuses(), "p/a=A p/other=A");
    assert_ne!(world.connections[0].nat, world.connections[1].nat, "they share the subnet here");
}

#[test]
fn an_endpoint_serves_its_region_or_all_with_global_access() {
    let mut one = endpoint("p", "a");
    assert_eq!(reach(&one, Some("europe-west1")), None);
    assert_eq!(reach(&one, None), None);
    assert_eq!(reach(&one, Some("us-central1")), Some(Reason::ForwardingRuleRegionMismatch));
    one.allow_psc_global_access = true;
    assert_eq!(reach(&one, Some("us-central1")), None);
    // It does not help unless the producer allows global access (1.6).
    one.producer_allows_global_access = false;
    assert_eq!(reach(&one, Some("europe-west1")), None);
    let far = reach(&one, Some("us-central1"));
    assert_eq!(far, Some(Reason::PscProducerEndpointNoGlobalAccess));
}

#[test]
fn an_organization_policy_of_the_producer_overrides_preference_and_lists() {
    let policy = |allowed: &[&str]| ConsumerPolicy {
        name: "organizations/1/policies/compute.restrictPrivateServiceConnectConsumer".to_owned(),
        allowed: Allowed::Values(allowed.iter().map(|value| (*value).to_owned()).collect()),
        denied: Vec::new(),
    };
    let below = |mut endpoint: Endpoint, organization: &str| {
        endpoint.ancestry =
            vec![format!("projects/{}", endpoint.project), format!("organizations/{organization}")];
        endpoint
    };
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    sa.consumer_policy = Some(policy(&["organizations/1"]));
    let endpoints = vec![below(endpoint("p", "a"), "1"), below(endpoint("q", "a"), "2")];
    let mut world = World::new(sa, endpoints);
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    assert_eq!(
        world.details()[1],
        "no allowed value of the organization policy \
         organizations/1/policies/compute.restrictPrivateServiceConnectConsumer covers projects/q, \
         which overrides connectionPreference and both lists: add `- under:projects/q` to \
         allowedValues of that policy"
    );
    world.edit(|sa| {
        sa.connection_preference = ConnectionPreference::AcceptManual;
        sa.consumer_accept_lists = vec![project("p", 9), project("q", 9)];
        sa.reconcile_connections = true;
    });
    assert_eq!(world.statuses(), "p/a=A q/a=R");
    world.edit(|sa| sa.consumer_policy = Some(policy(&["organizations/1", "projects/q"])));
    assert_eq!(world.statuses(), "p/a=A q/a=A");
    // Without reconcileConnections a new policy acts on new connections only.
    world.edit(|sa| {
        sa.reconcile_connections = false;
        sa.consumer_policy = Some(policy(&[]));
    });
    assert_eq!(world.statuses(), "p/a=A q/a=A");
    assert!(world.details()[0].contains("blocks the consumer now, but reconcileConnections"));
    assert_eq!(world.edit(|sa| sa.reconcile_connections = true).statuses(), "p/a=R q/a=R");
}

#[test]
fn an_entry_for_an_endpoint_never_covers_the_backend_of_a_load_balancer() {
    let mut sa = attachment();
    let mut backend = endpoint("p", "group");
    backend.kind = EndpointKind::NetworkEndpointGroup;
    let single = Consumer::EndpointUrl(backend.self_link.clone());
    sa.consumer_accept_lists = vec![Accept { consumer: single.clone(), connection_limit: 1 }];
    let mut world = World::new(sa, vec![backend]);
    assert_eq!(world.statuses(), "p/group=P");
    assert_eq!(
        world.details()[0],
        "the lists name endpoints, which never cover the network endpoint group of a load \
         balancer: list projects or networks in both lists"
    );
    world.edit(|sa| {
        sa.consumer_accept_lists.clear();
        sa.consumer_reject_lists = vec![single];
        sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    });
    assert_eq!(world.statuses(), "p/group=A");
}

#[test]
fn an_endpoint_lets_in_what_is_accepted_or_not_yet_known() {
    let world = four_consumers();
    let [accepted, pending] = [0, 1].map(|at| &world.slice.endpoints[at]);
    assert_eq!(enter(accepted, None, Some(&world.states[0])), None);
    assert_eq!(enter(accepted, None, None), None);
    let waiting = enter(pending, None, Some(&world.states[1]));
    assert_eq!(waiting, Some(Reason::PscConnectionNotAccepted));
    let far = enter(pending, Some("us-central1"), Some(&world.states[1]));
    assert_eq!(far, Some(Reason::ForwardingRuleRegionMismatch), "the first hop that says no");
    let mut lost = accepted.clone();
    lost.producer_network = None;
    assert_eq!(enter(&lost, None, None), Some(Reason::PscServiceAttachmentNotFound));
    let mut deleted = four_consumers();
    deleted.slice.attachments.clear();
    deleted.apply();
    let closed = enter(&lost, None, Some(&deleted.states[0]));
    assert_eq!(closed, Some(Reason::PscConnectionNotAccepted), "CLOSED, and known to be");
}

/// Between hosts: the identity of who dials names a network, the header a connection.
#[test]
fn a_consumer_speaks_for_endpoints_of_its_own_network_only() {
    let world = World::new(attachment(), vec![endpoint("stranger", "a")]);
    let connection = &world.connections[0];
    assert_eq!(psc::speak(connection, &connection.consumer_network), None);
    let other = NetworkId::new("someone", "else");
    assert_eq!(psc::speak(connection, &other), Some(Reason::PeerIdentityMismatch));
}
