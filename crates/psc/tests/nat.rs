//! Source addresses at the producer (private-connectivity 1.4), and what is decided about one TCP
//! connection.

mod common;

use common::{World, attachment, endpoint, four_consumers, nat_subnet, project};
use names::Reason;
use psc::{Admission, CONNECTIONS_MAX, Nat, admit, deleted_in_use};
use slice::IpProtocol;
use slice::psc::{ConnectionPreference, ConnectionStatus, ServiceAttachment};
use std::net::{Ipv4Addr, SocketAddrV4};

fn automatic(ranges: &[&str]) -> ServiceAttachment {
    let mut sa = attachment();
    sa.connection_preference = ConnectionPreference::AcceptAutomatic;
    sa.nat_subnets = ranges.iter().map(|range| nat_subnet(range)).collect();
    sa
}

/// The last bytes of each connection's addresses.
fn last_bytes(world: &World) -> Vec<Vec<u8>> {
    let bytes =
        |one: &psc::Connection| one.nat_addresses().iter().map(|ip| ip.octets()[3]).collect();
    world.connections.iter().map(bytes).collect()
}

#[test]
fn every_endpoint_has_one_nat_address_which_stays() {
    let sa = automatic(&["10.0.2.0/29", "10.0.3.0/29"]);
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::new(sa, names.map(|name| endpoint("p", name)).to_vec());
    let addresses = |world: &World| -> Vec<_> {
        world
            .connections
            .iter()
            .map(|one| one.nat_addresses().first().map(|ip| ip.to_string()))
            .collect()
    };
    let some = |texts: &[&str]| -> Vec<_> { texts.iter().map(|t| Some((*t).to_owned())).collect() };
    let all = some(&["10.0.2.2", "10.0.2.3", "10.0.2.4", "10.0.2.5", "10.0.3.2"]);
    assert_eq!(addresses(&world), all);
    // Deleting one frees its address for the next; nobody else's changes.
    world.slice.endpoints.remove(1);
    world.slice.endpoints.push(endpoint("p", "f"));
    world.apply();
    let now = some(&["10.0.2.2", "10.0.2.4", "10.0.2.5", "10.0.3.2", "10.0.2.3"]);
    assert_eq!(addresses(&world), now);
    // A subnet that is replaced takes its addresses with it.
    world.edit(|sa| sa.nat_subnets = vec![nat_subnet("10.0.3.0/28")]);
    let moved = some(&["10.0.3.3", "10.0.3.4", "10.0.3.5", "10.0.3.2", "10.0.3.6"]);
    assert_eq!(addresses(&world), moved);
}

#[test]
fn an_exhausted_nat_subnet_needs_attention_and_existing_connections_keep_working() {
    let mut sa = attachment();
    sa.consumer_accept_lists = vec![project("p", 9)];
    sa.nat_subnets = vec![nat_subnet("10.0.2.0/29")];
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut world = World::new(sa, names.map(|name| endpoint("p", name)).to_vec());
    assert_eq!(world.statuses(), "p/a=A p/b=A p/c=A p/d=A p/e=N p/f=N");
    assert_eq!(world.connections[4].reason(), Some(Reason::PscNatSubnetExhausted));
    assert_eq!(
        world.details()[4],
        "consumerAcceptLists[0] `{projectIdOrNum: p, connectionLimit: 9}` admits it; but all 4 \
         usable addresses of natSubnets [nat-10-0-2-0-29] are in use, and it has 0 of 1: add another subnet of \
         purpose PRIVATE_SERVICE_CONNECT to natSubnets"
    );
    // NEEDS_ATTENTION is an accepted state: it stays, holds its place in the limit, and recovers.
    world.edit(|sa| sa.consumer_accept_lists.clear());
    assert_eq!(world.statuses(), "p/a=A p/b=A p/c=A p/d=A p/e=N p/f=N");
    world.slice.endpoints.remove(0);
    world.apply();
    assert_eq!(world.statuses(), "p/b=A p/c=A p/d=A p/e=A p/f=N", "the oldest gets the address");
    world.edit(|sa| sa.nat_subnets.push(nat_subnet("10.0.3.0/29")));
    assert_eq!(world.statuses(), "p/b=A p/c=A p/d=A p/e=A p/f=A");
    world.edit(|sa| sa.nat_subnets.clear());
    assert_eq!(world.statuses(), "p/b=N p/c=N p/d=N p/e=N p/f=N");
    let reason = world.connections[0].reason();
    assert_eq!(reason, Some(Reason::NoNatSubnetsForPscServiceAttachment));
}

#[test]
fn only_accepted_connections_take_nat_addresses() {
    let world = four_consumers();
    let nat: Vec<_> = world.connections.iter().map(|one| one.nat.clone()).collect();
    let address = |last| Nat::Addresses(vec![Ipv4Addr::new(10, 0, 2, last)]);
    assert_eq!(nat, [address(2), Nat::Unneeded, address(3), Nat::Unneeded]);
}

#[test]
fn nat_ips_per_endpoint_are_raised_and_lowered_live() {
    let names = ["a", "b", "c"];
    let mut world =
        World::new(automatic(&["10.0.2.0/29"]), names.map(|name| endpoint("p", name)).to_vec());
    assert_eq!(last_bytes(&world), [[2], [3], [4]]);
    // Everybody keeps what he has; the oldest gets the last free one.
    world.edit(|sa| sa.nat_ips_per_endpoint = 2);
    assert_eq!(last_bytes(&world), [vec![2, 5], vec![3], vec![4]]);
    assert_eq!(world.statuses(), "p/a=A p/b=N p/c=N");
    assert!(world.details()[1].contains("and it has 1 of 2"), "{}", world.details()[1]);
    // With one of two addresses it still carries.
    let target = &world.slice.attachments[0].target;
    let admitted = admit(&world.connections[1], target, None, IpProtocol::Tcp, 443, |_| 0);
    assert!(matches!(admitted, Admission::Admitted { source, .. } if source.octets()[3] == 3));
    world.edit(|sa| sa.nat_subnets.push(nat_subnet("10.0.3.0/29")));
    assert_eq!(last_bytes(&world), [[2, 5], [3, 2], [4, 3]]);
    assert_eq!(world.statuses(), "p/a=A p/b=A p/c=A");
    world.edit(|sa| sa.nat_ips_per_endpoint = 1);
    assert_eq!(last_bytes(&world), [[2], [3], [4]]);
}

#[test]
fn the_least_used_address_is_taken_and_each_has_its_own_bound() {
    let mut sa = automatic(&["10.0.2.0/28"]);
    sa.nat_ips_per_endpoint = 2;
    let world = World::new(sa, vec![endpoint("p", "a")]);
    let target = &world.slice.attachments[0].target;
    let source = |loads: [usize; 2]| {
        let open = |ip: Ipv4Addr| loads[usize::from(ip.octets()[3] - 2)];
        match admit(&world.connections[0], target, None, IpProtocol::Tcp, 443, open) {
            Admission::Admitted { source, .. } => Ok(source.octets()[3]),
            Admission::Refused(reason) => Err(reason),
        }
    };
    assert_eq!(source([0, 0]), Ok(2));
    assert_eq!(source([1, 0]), Ok(3));
    assert_eq!(source([CONNECTIONS_MAX, CONNECTIONS_MAX - 1]), Ok(3));
    let full = [CONNECTIONS_MAX; 2];
    assert_eq!(source(full), Err(Reason::PscNatPortsExhausted));
}

#[test]
fn a_deleted_subnetwork_is_in_use_while_a_connection_that_may_go_on_has_tcp_connections() {
    let mut world = World::new(automatic(&["10.0.2.0/29"]), vec![endpoint("p", "a")]);
    let before = world.states.clone();
    let range = |text: &str| text.parse().expect("a range");
    world.edit(|sa| sa.nat_subnets = vec![nat_subnet("10.0.3.0/29")]);
    let in_use = |world: &World, open: usize| {
        deleted_in_use(&before, &world.connections, &world.slice, |_, _| open)
    };
    // Taken out of natSubnets, but still there.
    world.slice.nat_subnetworks = vec![range("10.0.2.0/29"), range("10.0.3.0/29")];
    assert_eq!(in_use(&world, 7), Vec::<Ipv4Addr>::new());
    world.slice.nat_subnetworks.remove(0);
    assert_eq!(in_use(&world, 1), [Ipv4Addr::new(10, 0, 2, 2)]);
    assert_eq!(in_use(&world, 0), Vec::<Ipv4Addr>::new());
    // With its attachment gone too, its connections are cut anyhow.
    world.slice.attachments.clear();
    world.slice.nat_subnetworks.clear();
    world.apply();
    assert_eq!(world.connections[0].status, ConnectionStatus::Closed);
    assert_eq!(in_use(&world, 1), Vec::<Ipv4Addr>::new());
}

#[test]
fn a_tcp_connection_is_admitted_by_status_address_and_port() {
    let world = four_consumers();
    let target = &world.slice.attachments[0].target;
    let port =
        |at: usize, port| admit(&world.connections[at], target, None, IpProtocol::Tcp, port, |_| 0);
    let admitted = Admission::Admitted {
        source: Ipv4Addr::new(10, 0, 2, 2),
        target: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 443),
    };
    assert_eq!(port(0, 443), admitted);
    assert_eq!(port(0, 80), Admission::Refused(Reason::ForwardingRuleMismatch));
    assert_eq!(port(1, 443), Admission::Refused(Reason::PscConnectionNotAccepted));
    assert_eq!(port(3, 443), Admission::Refused(Reason::PscConnectionNotAccepted));
    let full = |open| admit(&world.connections[0], target, None, IpProtocol::Tcp, 443, |_| open);
    assert_eq!(full(CONNECTIONS_MAX - 1), admitted);
    assert_eq!(full(CONNECTIONS_MAX), Admission::Refused(Reason::PscNatPortsExhausted));
}
