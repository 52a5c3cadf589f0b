//! Who answers at an address, seen from a workload.

use ipnet::Ipv4Net;
use names::{FrontEnd, NetworkId, Reason, SelfLink};
use slice::{METADATA_ADDRESS, PRIVATE_VIP, PUBLIC_VIP, Purpose, RESTRICTED_VIP, Topology, psc};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Whose packet it is. The kernel vouches for the address, the address for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The network it is in.
    pub network: &'a NetworkId,
    /// Its region.
    pub region: &'a str,
}

/// What a connection to an address and port meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// An internal load balancer's forwarding rule.
    ForwardingRule {
        /// Its canonical name.
        forwarding_rule: SelfLink,
        /// The network that has it: the caller's own, or a peer.
        network: NetworkId,
    },
    /// A PSC endpoint of the caller's own network.
    Endpoint {
        /// Its canonical name.
        endpoint: SelfLink,
    },
    /// A declared VM.
    Instance {
        /// Its name.
        name: String,
        /// The network that has it: the caller's own, or a peer.
        network: NetworkId,
    },
    /// A Google front end.
    FrontEnd(FrontEnd),
    /// The metadata server and the resolver.
    Metadata,
    /// An address of the network that something without a declaration may have (an `exec` session).
    Subnetwork {
        /// The subnetwork.
        subnetwork: SelfLink,
    },
    /// Nothing: the connection times out.
    Dropped {
        /// Why.
        reason: Reason,
        /// One sentence with the names.
        detail: String,
    },
}

/// All networks of a topology.
#[derive(Clone, Debug, Default)]
pub struct Fabric {
    pub(crate) networks: HashMap<NetworkId, Map>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    pub(crate) subnetworks: Vec<(SelfLink, Ipv4Net, Purpose)>,
    pub(crate) peers: Vec<(NetworkId, bool)>,
    pub(crate) addresses: HashMap<Ipv4Addr, Vec<Owner>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Owner {
    ForwardingRule { link: SelfLink, port: u16, region: String, global: bool },
    Endpoint(Box<psc::Endpoint>),
    Instance { name: String },
}

impl Fabric {
    /// Draws the map.
    pub fn compile(topology: &Topology) -> Fabric {
        let mut networks: HashMap<NetworkId, Map> = HashMap::new();
        for network in &topology.networks {
            let map = networks.entry(network.id.clone()).or_default();
            map.subnetworks = network
                .subnetworks
                .iter()
                .map(|subnetwork| {
                    (subnetwork.self_link.clone(), subnetwork.range, subnetwork.purpose)
                })
                .collect();
            map.peers = network
                .peerings
                .iter()
                .map(|peering| (peering.peer.clone(), peering.active))
                .collect();
            for instance in &network.instances {
                let owner = Owner::Instance { name: instance.name.clone() };
                map.addresses.entry(instance.address).or_default().push(owner);
            }
        }
        for rule in &topology.load_balancing.forwarding_rules {
            let owner = Owner::ForwardingRule {
                link: rule.self_link.clone(),
                port: rule.port,
                region: rule.region.clone(),
                global: rule.allow_global_access,
            };
            if let Some(map) = networks.get_mut(&rule.network) {
                map.addresses.entry(rule.address).or_default().push(owner);
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

    /// What a TCP connection from `caller` to `to` meets.
    pub fn reach(&self, caller: Caller<'_>, to: Ipv4Addr, port: u16) -> Reach {
        if to == METADATA_ADDRESS {
            return Reach::Metadata;
        }
        if let Some(front_end) = front_end(to) {
            return match port {
                443 => Reach::FrontEnd(front_end),
                _ => dropped(
                    Reason::NoRoute,
                    format!("Google front ends answer on port 443, not {port}"),
                ),
            };
        }
        let Some(own) = self.networks.get(caller.network) else {
            return dropped(Reason::NoRoute, format!("there is no network {}", caller.network));
        };
        if let Some(subnetwork) = own.subnetwork(to) {
            return own.arrive(caller, caller.network, subnetwork, to, port);
        }
        let mut inactive = None;
        for (peer, active) in &own.peers {
            let Some(map) = self.networks.get(peer) else { continue };
            let Some(subnetwork) = map.subnetwork(to) else { continue };
            if *active {
                return map.arrive(caller, peer, subnetwork, to, port);
            }
            inactive = Some(peer);
        }
        match inactive {
            Some(peer) => dropped(
                Reason::VpcPeeringInactive,
                format!("{to} is in {peer}, whose peering with {} is INACTIVE", caller.network),
            ),
            None => dropped(
                Reason::NoRoute,
                format!(
                    "no subnetwork of {} or of an active peer contains {to}{}",
                    caller.network,
                    self.elsewhere(caller.network, to)
                ),
            ),
        }
    }

    /// Which other network has the address: said as a hint, never used to route.
    fn elsewhere(&self, but: &NetworkId, to: Ipv4Addr) -> String {
        let mut others: Vec<String> = self
            .networks
            .iter()
            .filter(|(id, map)| *id != but && map.addresses.contains_key(&to))
            .map(|(id, _)| id.to_string())
            .collect();
        others.sort();
        match others.is_empty() {
            true => String::new(),
            false => {
                format!(" (the address exists in {}, which is another network)", others.join(", "))
            }
        }
    }
}

impl Map {
    pub(crate) fn subnetwork(&self, to: Ipv4Addr) -> Option<&(SelfLink, Ipv4Net, Purpose)> {
        self.subnetworks.iter().find(|(_, range, _)| range.contains(&to))
    }

    fn arrive(
        &self,
        caller: Caller<'_>,
        network: &NetworkId,
        (subnetwork, _, purpose): &(SelfLink, Ipv4Net, Purpose),
        to: Ipv4Addr,
        port: u16,
    ) -> Reach {
        let peered = caller.network != network;
        let Some(owners) = self.addresses.get(&to) else {
            return match purpose {
                Purpose::Private => Reach::Subnetwork { subnetwork: subnetwork.clone() },
                _ => dropped(
                    Reason::UnknownInternalAddress,
                    format!("{to} is in {subnetwork}, which holds no workload"),
                ),
            };
        };
        let mut refused = None;
        for owner in owners {
            match owner.admits(caller, network, peered, to, port) {
                Ok(reach) => return reach,
                Err(reach) => refused = refused.or(Some(reach)),
            }
        }
        refused.unwrap_or_else(|| {
            dropped(Reason::UnknownInternalAddress, format!("nothing in {network} has {to}"))
        })
    }
}

impl Owner {
    fn admits(
        &self,
        caller: Caller<'_>,
        network: &NetworkId,
        peered: bool,
        to: Ipv4Addr,
        port: u16,
    ) -> Result<Reach, Reach> {
        match self {
            Owner::Instance { name } => {
                Ok(Reach::Instance { name: name.clone(), network: network.clone() })
            }
            Owner::ForwardingRule { link, port: own, region, global } => {
                if *own != port {
                    return Err(dropped(
                        Reason::ForwardingRuleMismatch,
                        format!("{link} has {to} with port {own}, not {port}"),
                    ));
                }
                if let Err(reason) = names::region_admits(region, *global, caller.region) {
                    return Err(dropped(
                        reason,
                        format!(
                            "{link} is in {region} without allowGlobalAccess, the client in {}",
                            caller.region
                        ),
                    ));
                }
                Ok(Reach::ForwardingRule {
                    forwarding_rule: link.clone(),
                    network: network.clone(),
                })
            }
            Owner::Endpoint(endpoint) => {
                let (link, region) = (&endpoint.self_link, &endpoint.region);
                if peered {
                    return Err(dropped(
                        Reason::PscEndpointAccessedFromPeeredNetwork,
                        format!(
                            "{link} is in {network}, the client in its peer {}",
                            caller.network
                        ),
                    ));
                }
                if !endpoint.ports.contains(&port) {
                    let own: Vec<String> = endpoint.ports.iter().map(ToString::to_string).collect();
                    return Err(dropped(
                        Reason::ForwardingRuleMismatch,
                        format!(
                            "the service behind {link} has port {}, not {port}",
                            own.join(", ")
                        ),
                    ));
                }
                if let Err(reason) = endpoint.admits_region(caller.region) {
                    let without = match reason {
                        Reason::PscProducerEndpointNoGlobalAccess => {
                            "with allowPscGlobalAccess, but the producer's forwarding rule has no \
                             allowGlobalAccess"
                        }
                        _ => "without allowPscGlobalAccess",
                    };
                    return Err(dropped(
                        reason,
                        format!("{link} is in {region} {without}; the client in {}", caller.region),
                    ));
                }
                Ok(Reach::Endpoint { endpoint: link.clone() })
            }
        }
    }
}

fn dropped(reason: Reason, detail: String) -> Reach {
    Reach::Dropped { reason, detail }
}

/// The Google front end that has this address (private-connectivity 4.2).
fn front_end(to: Ipv4Addr) -> Option<FrontEnd> {
    let within = |first: Ipv4Addr| u32::from(to) & !3 == u32::from(first);
    if within(RESTRICTED_VIP) {
        Some(FrontEnd::Restricted)
    } else if within(PRIVATE_VIP) {
        Some(FrontEnd::Private)
    } else if to == PUBLIC_VIP {
        Some(FrontEnd::Public)
    } else {
        None
    }
}
