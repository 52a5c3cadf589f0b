//! What the kernel has to know so that it says what [`Fabric::reach`] says: a plan of routes and a
//! filter per network, drawn from the same map. The supervisor carries it out and compares plans at
//! a reload.

use crate::fabric::{Fabric, Map, Owner};
use crate::filter::{Door, Filter};
use crate::firewall::Protocol;
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::load_balancer::Ports;
use slice::{DNS_FORWARDING_SOURCE, IpProtocol, METADATA_ADDRESS, Purpose};
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
    /// What may pass.
    pub filter: Option<Filter>,
    /// Does its router forward between workloads? Those outside of VPC networks meet Google's
    /// front ends and external load balancers only, which are on the router itself.
    pub forwards: bool,
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
        let internet = network.is_internet();
        let mut plan = Plan { forwards: !internet, ..Plan::default() };
        let host = |address: Ipv4Addr| Ipv4Net::from(address);
        let mut add = |to: Ipv4Net, target: Target| {
            plan.routes.insert(Route { to, target });
        };
        add(host(METADATA_ADDRESS), Target::Local);
        // From where its resolver asks name servers; never exchanged with peers.
        add(host(DNS_FORWARDING_SOURCE), Target::Local);
        let Some(map) = self.networks.get(network) else { return plan };
        for (_, address) in slice::front_ends(internet) {
            add(host(address), Target::Local);
        }
        for address in map.google_apis.keys() {
            add(host(*address), Target::Local);
        }
        for (address, owners) in &map.addresses {
            for owner in owners {
                match owner {
                    // What is passed on has a route to VMs, which follows their health.
                    Owner::ForwardingRule { passed: true, .. } => {}
                    Owner::ForwardingRule { .. } => add(host(*address), Target::Local),
                    Owner::Endpoint(endpoint) => {
                        let accepted = accepts(&endpoint.self_link);
                        let target = if accepted { Target::Local } else { Target::Blackhole };
                        add(host(*address), target);
                    }
                    Owner::Resolver => add(host(*address), Target::Local),
                    // A workload has a leaf namespace; its route comes with the leaf.
                    Owner::Workload { .. } => {}
                }
            }
        }
        let mut proxy_address = None;
        for range in &map.subnetworks {
            match range.purpose {
                Purpose::Private => {}
                // NAT addresses are sources of the service attachment.
                Purpose::PrivateServiceConnect => add(range.range, Target::Local),
                Purpose::RegionalManagedProxy => {
                    // The first address that is not the network's or the gateway's.
                    let address = range.range.hosts().nth(1);
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
        for peer in map.active() {
            let Some(other) = self.networks.get(&peer.network) else { continue };
            peers.insert(peer.network.clone());
            for range in &other.subnetworks {
                // Subnet routes are always exchanged (5.2); NAT addresses are no destination.
                if range.purpose != Purpose::PrivateServiceConnect
                    && peer.sees(network, other, &range.range)
                {
                    add(range.range, Target::Peer(peer.network.clone()));
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
        let doors = self.doors(map, internet);
        plan.filter = Some(Filter { rules: map.rules.clone(), doors, vpc: !internet });
        plan
    }

    /// Where programs of the network answer, and whom.
    fn doors(&self, map: &Map, internet: bool) -> BTreeSet<Door> {
        let tcp = Protocol::Tcp.number();
        let everywhere = Ipv4Net::default();
        let udp = Protocol::Udp.number();
        let google = slice::front_ends(internet).map(|(_, address)| address);
        let google = google.chain(map.google_apis.keys().copied());
        let ports = [(80, 80), (443, 443)];
        let mut doors: BTreeSet<Door> =
            google.flat_map(|address| ports.map(|port| (everywhere, address, tcp, port))).collect();
        // Workloads, and the proxies of load balancers, by region.
        let of = |map: &Map, region: Option<&str>| -> Vec<Ipv4Net> {
            let inside = map.subnetworks.iter().filter(|range| {
                range.purpose != Purpose::PrivateServiceConnect
                    && region.is_none_or(|region| range.region == region)
            });
            inside.map(|range| range.range).collect()
        };
        for (address, owners) in &map.addresses {
            for owner in owners {
                let (sources, protocols, ports) = match owner {
                    Owner::Workload { .. } | Owner::ForwardingRule { passed: true, .. } => continue,
                    Owner::Resolver => (vec![everywhere], vec![tcp, udp], vec![(53, 53)]),
                    Owner::ForwardingRule { protocol, ports, region, global, .. } => {
                        let peers = map.active().filter_map(|p| self.networks.get(&p.network));
                        let maps = std::iter::once(map).chain(peers);
                        let sources = match global {
                            true => vec![everywhere],
                            false => maps.flat_map(|map| of(map, Some(region))).collect(),
                        };
                        let protocols = [(IpProtocol::Tcp, tcp), (IpProtocol::Udp, udp)];
                        let taken = protocols.into_iter().filter(|(one, _)| protocol.takes(*one));
                        (sources, taken.map(|(_, number)| number).collect(), ranges(ports))
                    }
                    Owner::Endpoint(endpoint) => {
                        let inside = map.subnetworks.iter().filter(|range| {
                            range.purpose != Purpose::PrivateServiceConnect
                                && endpoint.admits_region(&range.region).is_ok()
                        });
                        let ports = match endpoint.all_ports {
                            true => ranges(&Ports::All),
                            false => endpoint.ports.iter().map(|port| (*port, *port)).collect(),
                        };
                        let protocol = Protocol::from(endpoint.protocol).number();
                        (inside.map(|range| range.range).collect(), vec![protocol], ports)
                    }
                };
                for source in sources {
                    for protocol in &protocols {
                        doors.extend(
                            ports.iter().map(|range| (source, *address, *protocol, *range)),
                        );
                    }
                }
            }
        }
        doors
    }
}

fn ranges(ports: &Ports) -> Vec<(u16, u16)> {
    match ports {
        Ports::Listed(ports) => ports.iter().map(|port| (*port, *port)).collect(),
        Ports::Range(first, last) => vec![(*first, *last)],
        Ports::All => vec![(0, u16::MAX)],
    }
}
