//! The address that a workload without a declaration is given.

use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::{INSTANCE_ADDRESSES, INTERNET_CLIENTS, Network, Purpose, Subnetwork, Topology};
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
        let mut all = workloads(subnetwork.range).rev();
        Some((subnetwork, all.find(|address| !taken(*address))?))
    })
}

/// The address of the next Cloud Run instance with direct VPC egress.
pub fn egress_address(
    network: &Network,
    subnetwork: &SelfLink,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let own = network.subnetworks.iter().find(|own| own.self_link == *subnetwork)?;
    workloads(own.range).rev().find(|address| !taken(*address))
}

/// The address of the next `exec` session outside of every VPC network.
pub fn internet_address(taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    workloads(INTERNET_CLIENTS).rev().find(|address| !taken(*address))
}

/// The address at which `cloud-run` reaches the next Cloud Run instance.
pub fn instance_address(taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    workloads(INSTANCE_ADDRESSES).find(|address| !taken(*address))
}

fn workloads(range: Ipv4Net) -> impl DoubleEndedIterator<Item = Ipv4Addr> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    (first.saturating_add(2)..last.saturating_sub(1)).map(Ipv4Addr::from)
}

/// Does anything that the topology declares have this address?
pub fn is_declared(topology: &Topology, network: &NetworkId, address: Ipv4Addr) -> bool {
    let rules = &topology.load_balancing.forwarding_rules;
    let networks = topology.networks.iter().filter(|known| known.id == *network);
    rules.iter().any(|rule| rule.network == *network && rule.address == address)
        || topology
            .load_balancing
            .network_rules
            .iter()
            .any(|rule| rule.network == *network && rule.address == address)
        || topology
            .dns_policies
            .iter()
            .flat_map(|policy| &policy.inbound)
            .any(|entry| entry.network == *network && entry.address == address)
        || topology.endpoints.iter().any(|e| e.network == *network && e.address == address)
        || networks.flat_map(|known| &known.instances).any(|vm| vm.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slice::dns::{InboundEntry, ServerPolicy};

    #[test]
    fn an_inbound_entry_is_nobody_elses_address() {
        let network = NetworkId::new("p", "n");
        let address = Ipv4Addr::new(10, 0, 0, 5);
        let entry = InboundEntry {
            network: network.clone(),
            subnetwork: SelfLink::new("projects/p/regions/r/subnetworks/s"),
            region: "r".to_owned(),
            address,
        };
        let policy = ServerPolicy {
            self_link: SelfLink::new("projects/p/policies/inbound"),
            networks: vec![network.clone()],
            alternative_name_servers: Vec::new(),
            inbound: vec![entry],
            enable_logging: None,
        };
        let topology = Topology { dns_policies: vec![policy], ..Topology::default() };
        assert!(is_declared(&topology, &network, address));
        assert!(!is_declared(&topology, &network, Ipv4Addr::new(10, 0, 0, 6)));
        assert!(!is_declared(&topology, &NetworkId::new("p", "m"), address));
    }
}
