//! What the kernel has to know so that it says what [`Fabric::reach`] says: a plan of routes per
//! network, drawn from the same map. The supervisor carries it out and compares plans at a reload.

use crate::reach::{Fabric, Owner};
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::{
    DNS_FORWARDING_SOURCE, METADATA_ADDRESS, PRIVATE_VIP, PUBLIC_VIP, Purpose, RESTRICTED_VIP,
};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The routes of one network's router. Everything else falls into the default route, which is a
/// black hole: silence, as in the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Routes, in order.
    pub routes: BTreeSet<Route>,
    /// Networks that a veth pair leads to.
    pub peers: BTreeSet<NetworkId>,
    /// The address from which the router's own programs dial workloads: one of the proxy-only
    /// subnetwork where there is one (private-connectivity 2.1 "backends see proxy-only addresses").
    pub proxy_address: Option<Ipv4Addr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination.
    pub to: Ipv4Net,
    /// What is there.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The router itself: a program listens there.
    Local,
    /// Nowhere, silently.
    Blackhole,
    /// Over the veth pair to this network.
    Peer(NetworkId),
}

impl Fabric {
    /// The plan of one network. `accepts` says of an endpoint whether its connection carries
    /// traffic; where it does not, connecting times out.
    pub fn plan(&self, network: &NetworkId, accepts: impl Fn(&SelfLink) -> bool) -> Plan {
        let mut plan = Plan::default();
        let host = |address: Ipv4Addr| Ipv4Net::from(address);
        let mut add = |to: Ipv4Net, target: Target| {
            plan.routes.insert(Route { to, target });
        };
        add(host(METADATA_ADDRESS), Target::Local);
        // From where its resolver asks name servers; never exchanged with peers.
        add(host(DNS_FORWARDING_SOURCE), Target::Local);
        let Some(map) = self.networks.get(network) else { return plan };
        for first in [RESTRICTED_VIP, PRIVATE_VIP] {
            if let Ok(four) = Ipv4Net::new(first, 30) {
                add(four, Target::Local);
            }
        }
        add(host(PUBLIC_VIP), Target::Local);
        for (address, owners) in &map.addresses {
            for owner in owners {
                match owner {
                    Owner::ForwardingRule { .. } => add(host(*address), Target::Local),
                    Owner::Endpoint(endpoint) => {
                        let accepted = accepts(&endpoint.self_link);
                        let target = if accepted { Target::Local } else { Target::Blackhole };
                        add(host(*address), target);
                    }
                    // A VM has a leaf namespace; its route comes with the leaf.
                    Owner::Instance { .. } => {}
                }
            }
        }
        let mut proxy_address = None;
        for (_, range, purpose) in &map.subnetworks {
            match purpose {
                Purpose::Private => {}
                // NAT addresses are sources of the service attachment.
                Purpose::PrivateServiceConnect => add(*range, Target::Local),
                Purpose::RegionalManagedProxy => {
                    // The first address that is not the network's or the gateway's.
                    let address = range.hosts().nth(1);
                    // Every region's is a source of its load balancers (2.1); the router's own
                    // connections come from the first one.
                    if let Some(address) = address {
                        add(host(address), Target::Local);
                        proxy_address = proxy_address.or(Some(address));
                    }
                }
            }
        }
        let mut peers = BTreeSet::new();
        for (peer, active) in &map.peers {
            let Some(other) = self.networks.get(peer).filter(|_| *active) else { continue };
            peers.insert(peer.clone());
            for (_, range, purpose) in &other.subnetworks {
                // Subnet routes are always exchanged (5.2); NAT addresses are no destination.
                if *purpose != Purpose::PrivateServiceConnect {
                    add(*range, Target::Peer(peer.clone()));
                }
            }
            for (address, owners) in &other.addresses {
                // PSC endpoints are not reachable over VPC peering (1.6).
                if owners.iter().any(|owner| matches!(owner, Owner::Endpoint(_))) {
                    add(host(*address), Target::Blackhole);
                }
            }
        }
        (plan.proxy_address, plan.peers) = (proxy_address, peers);
        plan
    }
}
