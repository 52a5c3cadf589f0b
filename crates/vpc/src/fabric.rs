//! The map itself: networks, their subnetworks, peers, rules and addresses.

use crate::firewall::Rules;
use ipnet::Ipv4Net;
use names::{FrontEnd, NetworkId, SelfLink};
use slice::load_balancer::{Ports, RuleProtocol};
use slice::vpc::StaticRoute;
use slice::{Purpose, Topology, Workload, psc};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// All networks of a topology.
#[derive(Clone, Debug, Default)]
pub struct Fabric {
    pub(crate) networks: HashMap<NetworkId, Map>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    pub(crate) subnetworks: Vec<Range>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) addresses: HashMap<Ipv4Addr, Vec<Owner>>,
    pub(crate) rules: Rules,
    pub(crate) routes: Vec<StaticRoute>,
    /// Endpoints for Google APIs; their addresses are in no subnetwork (1.6).
    pub(crate) google_apis: HashMap<Ipv4Addr, FrontEnd>,
}

#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) subnetwork: SelfLink,
    pub(crate) range: Ipv4Net,
    pub(crate) region: String,
    pub(crate) purpose: Purpose,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) network: NetworkId,
    pub(crate) active: bool,
    pub(crate) imports: bool,
    pub(crate) exports: bool,
    /// Subnet routes of public ranges: taken, and offered (5.2).
    pub(crate) imports_public: bool,
    pub(crate) exports_public: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Owner {
    ForwardingRule {
        link: SelfLink,
        protocol: RuleProtocol,
        ports: Ports,
        region: String,
        global: bool,
        /// Packets go to a VM as they are; the router itself does not answer.
        passed: bool,
    },
    Endpoint(Box<psc::Endpoint>),
    /// An inbound entry of the network's resolver.
    Resolver,
    Workload {
        name: String,
        tags: Vec<String>,
        service_account: Option<String>,
        /// A Cloud Run instance: it opens connections and takes none.
        sealed: bool,
    },
}

impl Fabric {
    /// Draws the map.
    pub fn compile(topology: &Topology) -> Fabric {
        let internet = (NetworkId::internet(), Map::default());
        let mut networks: HashMap<NetworkId, Map> = HashMap::from([internet]);
        for network in &topology.networks {
            let map = networks.entry(network.id.clone()).or_default();
            map.subnetworks = network
                .subnetworks
                .iter()
                .map(|subnetwork| Range {
                    subnetwork: subnetwork.self_link.clone(),
                    range: subnetwork.range,
                    region: subnetwork.region.clone(),
                    purpose: subnetwork.purpose,
                })
                .collect();
            map.peers = network
                .peerings
                .iter()
                .map(|peering| Peer {
                    name: peering.name.clone(),
                    network: peering.peer.clone(),
                    active: peering.active,
                    imports: peering.import_custom_routes,
                    exports: peering.export_custom_routes,
                    imports_public: peering.import_subnet_routes_with_public_ip,
                    exports_public: peering.export_subnet_routes_with_public_ip,
                })
                .collect();
            map.rules = Rules::compile(&network.firewalls);
            map.routes.clone_from(&network.routes);
            for instance in &network.instances {
                let owner = Owner::Workload {
                    name: instance.name.clone(),
                    tags: instance.tags.clone(),
                    service_account: instance.service_account.clone(),
                    sealed: false,
                };
                map.addresses.entry(instance.address).or_default().push(owner);
            }
        }
        for rule in &topology.load_balancing.forwarding_rules {
            let owner = Owner::ForwardingRule {
                link: rule.self_link.clone(),
                protocol: RuleProtocol::Tcp,
                ports: Ports::Listed(vec![rule.port]),
                region: rule.region.clone(),
                global: rule.allow_global_access || rule.network.is_internet(),
                passed: false,
            };
            if let Some(map) = networks.get_mut(&rule.network) {
                map.addresses.entry(rule.address).or_default().push(owner);
            }
        }
        for rule in &topology.load_balancing.network_rules {
            let owner = Owner::ForwardingRule {
                link: rule.self_link.clone(),
                protocol: rule.protocol,
                ports: rule.ports.clone(),
                region: rule.region.clone(),
                global: rule.allow_global_access || rule.network.is_internet(),
                passed: rule.is_passthrough(),
            };
            if let Some(map) = networks.get_mut(&rule.network) {
                map.addresses.entry(rule.address).or_default().push(owner);
            }
        }
        for entry in topology.dns_policies.iter().flat_map(|policy| &policy.inbound) {
            if let Some(map) = networks.get_mut(&entry.network) {
                map.addresses.entry(entry.address).or_default().push(Owner::Resolver);
            }
        }
        for endpoint in &topology.google_apis_endpoints {
            if let Some(map) = networks.get_mut(&endpoint.network) {
                map.google_apis.insert(endpoint.address, FrontEnd::PrivateServiceConnect);
            }
        }
        for endpoint in topology.endpoints.iter().filter(|endpoint| endpoint.listens()) {
            let owner = Owner::Endpoint(Box::new(endpoint.clone()));
            if let Some(map) = networks.get_mut(&endpoint.network) {
                map.addresses.entry(endpoint.address).or_default().push(owner);
            }
        }
        Fabric { networks }
    }

    /// Draws in what runs without a declaration: sessions, the API proxy's runtime.
    pub fn with_workloads<'w>(mut self, workloads: impl IntoIterator<Item = &'w Workload>) -> Self {
        for workload in workloads {
            let Some(map) = self.networks.get_mut(&workload.network) else { continue };
            let owners = map.addresses.entry(workload.address).or_default();
            if owners.is_empty() {
                owners.push(Owner::Workload {
                    name: workload.name.clone(),
                    tags: workload.tags.clone(),
                    service_account: workload.service_account.clone(),
                    sealed: workload.serverless,
                });
            }
        }
        self
    }
}

impl Map {
    pub(crate) fn subnetwork(&self, to: Ipv4Addr) -> Option<&Range> {
        self.subnetworks.iter().find(|range| range.range.contains(&to))
    }

    /// Active peers.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.active)
    }
}

impl Peer {
    /// Does the network on this side of an active peering have a route to a range of the other
    /// one? Subnet routes are always exchanged, those of public ranges only if one side offers and
    /// the other takes them (private-connectivity 5.2).
    pub(crate) fn sees(&self, own: &NetworkId, other: &Map, range: &Ipv4Net) -> bool {
        let back = || other.active().find(|back| back.network == *own);
        self.active
            && (is_private(range)
                || (self.imports_public && back().is_some_and(|back| back.exports_public)))
    }
}

/// Ranges that are not privately used public addresses (RFC 1918, RFC 6598 and the other special
/// ones; the list is (unconfirmed)).
fn is_private(range: &Ipv4Net) -> bool {
    let within = |first: [u8; 4], length| {
        Ipv4Net::new(first.into(), length).is_ok_and(|private| private.contains(range))
    };
    within([10, 0, 0, 0], 8)
        || within([172, 16, 0, 0], 12)
        || within([192, 168, 0, 0], 16)
        || within([100, 64, 0, 0], 10)
        || within([192, 0, 0, 0], 24)
        || within([192, 0, 2, 0], 24)
        || within([192, 88, 99, 0], 24)
        || within([198, 18, 0, 0], 15)
        || within([198, 51, 100, 0], 24)
        || within([203, 0, 113, 0], 24)
        || within([240, 0, 0, 0], 4)
}
