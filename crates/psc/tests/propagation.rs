//! Propagated connections (private-connectivity 1.4) and what is remembered of every connection.

mod common;

use common::{World, attachment, endpoint, nat_subnet, project};
use names::{NetworkId, Reason, SelfLink};
use slice::psc::{
    Accept, ConnectionPreference, ConnectionStatus, Consumer, Endpoint, PropagatedFrom,
};
use slice::{CONNECTION_HISTORY_MAX, ConnectionChange, ConnectionState};

/// The connection of `from`, propagated to the network of `spoke`.
fn propagated(from: &Endpoint, spoke: &str) -> Endpoint {
    let link = format!("{}/propagatedConnections/{spoke}", from.self_link);
    Endpoint {
        self_link: SelfLink::new(&link),
        network: NetworkId::new(spoke, "vpc"),
        psc_connection_id: from.psc_connection_id ^ common::project_number(spoke),
        propagated_from: Some(PropagatedFrom {
            endpoint: from.self_link.clone(),
            psc_connection_id: from.psc_connection_id,
            network: from.network.clone(),
        }),
        ..from.clone()
    }
}

/// `SPOKE=letter` of the propagated connections, and the statuses of the others.
fn spokes(world: &World) -> (String, String) {
    let (mut spokes, mut own) = (Vec::new(), Vec::new());
    for one in &world.connections {
        let letter = &one.status.to_string()[..1];
        match one.propagated_from {
            Some(_) => spokes.push(format!("{}={letter}", one.consumer_network.project)),
            None => own.push(format!("{}={letter}", one.endpoint.name())),
        }
    }
    (spokes.join(" "), own.join(" "))
}

fn hub(limit: u32) -> World {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    sa.propagated_connection_limit = limit;
    let (a, b) = (endpoint("p", "a"), endpoint("p", "b"));
    let mut all = vec![a.clone(), b.clone()];
    all.extend(["x", "y"].map(|spoke| propagated(&a, spoke)));
    all.extend(["x", "y"].map(|spoke| propagated(&b, spoke)));
    World::new(sa, all)
}

#[test]
fn the_limit_counts_for_a_project_and_never_changes_the_endpoints_own_status() {
    let mut world = hub(3);
    assert_eq!(spokes(&world), ("x=A y=A x=A y=P".to_owned(), "a=A b=A".to_owned()));
    let over = world.connections.last().expect("the last");
    assert_eq!(over.reason(), Some(Reason::PscPropagatedConnectionLimitExceeded));
    assert_eq!(
        over.to_string(),
        "project `p` has the 3 propagated connections that propagatedConnectionLimit allows: write \
         propagatedConnectionLimit: 4"
    );
    // Lowering it touches no existing connection; raising it lets the waiting one in.
    world.edit(|sa| sa.propagated_connection_limit = 0);
    assert_eq!(spokes(&world).0, "x=A y=A x=A y=P");
    world.edit(|sa| sa.propagated_connection_limit = 4);
    assert_eq!(spokes(&world).0, "x=A y=A x=A y=A");
    world.edit(|sa| sa.reconcile_connections = true);
    world.edit(|sa| sa.propagated_connection_limit = 1);
    assert_eq!(spokes(&world), ("x=A y=A x=A y=A".to_owned(), "a=A b=A".to_owned()));
}

#[test]
fn lists_of_networks_count_by_the_endpoints_network() {
    let mut world = hub(2);
    // Another endpoint of the same project in another network.
    let mut c = endpoint("p", "c");
    c.network = NetworkId::new("p", "other");
    world.slice.endpoints.push(c.clone());
    world.slice.endpoints.push(propagated(&c, "x"));
    world.apply();
    assert_eq!(spokes(&world).0, "x=A y=A x=P y=P x=P", "all of one project");
    world.edit(|sa| {
        sa.connection_preference = ConnectionPreference::AcceptManual;
        let network = |name| Accept {
            consumer: Consumer::NetworkUrl(NetworkId::new("p", name)),
            connection_limit: 5,
        };
        sa.consumer_accept_lists = vec![network("vpc"), network("other")];
    });
    assert_eq!(spokes(&world), ("x=A y=A x=P y=P x=A".to_owned(), "a=A b=A c=A".to_owned()));
}

#[test]
fn only_accepted_endpoints_are_propagated_and_they_do_not_count_for_the_connection_limit() {
    let mut world = hub(250);
    world.edit(|sa| {
        sa.connection_preference = ConnectionPreference::AcceptManual;
        sa.consumer_accept_lists = vec![project("p", 2)];
    });
    world.slice.endpoints.push(endpoint("p", "c"));
    world.apply();
    assert_eq!(spokes(&world), ("x=A y=A x=A y=A".to_owned(), "a=A b=A c=P".to_owned()));
    world.edit(|sa| {
        sa.reconcile_connections = true;
        sa.consumer_accept_lists.clear();
    });
    assert_eq!(spokes(&world), ("x=P y=P x=P y=P".to_owned(), "a=P b=P c=P".to_owned()));
    assert!(world.details()[2].starts_with("the endpoint's own connection is PENDING"));
    world.slice.attachments.clear();
    world.apply();
    assert_eq!(spokes(&world), ("x=C y=C x=C y=C".to_owned(), "a=C b=C c=C".to_owned()));
}

#[test]
fn each_takes_a_nat_address_after_the_endpoints_have_theirs() {
    let mut world = hub(250);
    world.edit(|sa| {
        sa.nat_subnets = vec![nat_subnet("10.0.3.0/29")];
        sa.nat_ips_per_endpoint = 1;
    });
    // Four addresses: two endpoints, two propagated connections.
    assert_eq!(spokes(&world), ("x=A y=A x=N y=N".to_owned(), "a=A b=A".to_owned()));
    let total: usize = world.connections.iter().map(|one| one.nat_addresses().len()).sum();
    assert_eq!(total, 4);
    // The header's id is the endpoint's, whoever's network the client is in (1.5).
    for one in &world.connections {
        let of = world.slice.endpoints.iter().find(|e| e.self_link == one.endpoint).expect("it");
        let own = of.propagated_from.as_ref().map_or(of.psc_connection_id, |f| f.psc_connection_id);
        assert_eq!(one.proxy_connection_id, own);
    }
}

fn changes(state: &ConnectionState) -> String {
    let one =
        |change: &ConnectionChange| format!("{}:{}", change.time, &change.to.to_string()[..1]);
    state.history.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_change_is_remembered_with_its_time_and_cause_over_a_restart() {
    let mut sa = attachment();
    sa.reconcile_connections = true;
    let mut world = World::new(sa, vec![endpoint("p", "a")]);
    assert_eq!(changes(&world.states[0]), "1:P");
    assert_eq!(world.states[0].history[0].from, None);
    world.edit(|sa| sa.consumer_accept_lists = vec![project("p", 1)]);
    world.edit(|sa| sa.description = Some("another text changes nothing".to_owned()));
    // A restart: what is kept goes through its text.
    let text = serde_json::to_string(&world.states).expect("text");
    world.states = serde_json::from_str(&text).expect("read again");
    world.edit(|sa| sa.consumer_reject_lists = vec![common::rejected("p")]);
    world.slice.attachments.clear();
    world.apply();
    world.apply();
    assert_eq!(changes(&world.states[0]), "1:P 2:A 4:R 5:C");
    let rejected = &world.states[0].history[2];
    assert_eq!(rejected.from, Some(ConnectionStatus::Accepted));
    assert_eq!(
        rejected.why,
        "consumerRejectLists[0] names project `p` and wins over consumerAcceptLists[0]"
    );
}

#[test]
fn the_history_is_bounded_and_keeps_the_latest() {
    let mut sa = attachment();
    sa.reconcile_connections = true;
    let mut world = World::new(sa, vec![endpoint("p", "a")]);
    for _ in 0..CONNECTION_HISTORY_MAX {
        world.edit(|sa| sa.consumer_accept_lists = vec![project("p", 1)]);
        world.edit(|sa| sa.consumer_accept_lists.clear());
    }
    let history = &world.states[0].history;
    assert_eq!(history.len(), CONNECTION_HISTORY_MAX);
    assert_eq!(history.last().expect("a change").time, world.clock);
    assert!(history.windows(2).all(|two| two[0].to != two[1].to && two[1].from == Some(two[0].to)));
}
