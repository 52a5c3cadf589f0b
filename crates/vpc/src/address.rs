//! The address that a workload without a declaration is given.

use names::NetworkId;
use slice::{Network, Purpose, Subnetwork, Topology};
use std::net::Ipv4Addr;

/// The subnetwork and address of the next `exec` session, or of the API proxy's runtime: from the
/// top of the first ordinary subnetwork (of the region, if one is named), where people seldom
/// declare addresses. Network, gateway, second-to-last and broadcast are reserved (5.1).
pub fn session_address<'n>(
    network: &'n Network,
    region: Option<&str>,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<(&'n Subnetwork, Ipv4Addr)> {
    let subnetworks = network.subnetworks.iter().filter(|subnetwork| {
        subnetwork.purpose == Purpose::Private
            && region.is_none_or(|region| region == subnetwork.region)
    });
    subnetworks.into_iter().find_map(|subnetwork| {
        let range = subnetwork.range;
        let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
        let mut all = (first.saturating_add(2)..last.saturating_sub(1)).rev().map(Ipv4Addr::from);
        Some((subnetwork, all.find(|address| !taken(*address))?))
    })
}

/// Does anything that the topology declares have this address?
pub fn is_declared(topology: &Topology, network: &NetworkId, address: Ipv4Addr) -> bool {
    let rules = &topology.load_balancing.forwarding_rules;
    let networks = topology.networks.iter().filter(|known| known.id == *network);
    rules.iter().any(|rule| rule.network == *network && rule.address == address)
        || topology.endpoints.iter().any(|e| e.network == *network && e.address == address)
        || networks.flat_map(|known| &known.instances).any(|vm| vm.address == address)
}
