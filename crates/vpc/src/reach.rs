//! Who answers at an address, seen from a workload: egress rules, route, what has the address,
//! ingress rules, in the order of Connectivity Tests (private-connectivity 5.4).

use crate::fabric::{Fabric, Map, Owner, Range};
use crate::firewall::{End, Protocol, Ruling};
use ipnet::Ipv4Net;
use names::{FrontEnd, NetworkId, Reason, SelfLink};
use slice::vpc::{NextHop, StaticRoute};
use slice::{METADATA_ADDRESS, PRIVATE_VIP, Purpose, RESTRICTED_VIP};
use std::net::Ipv4Addr;

/// Whose packet it is. The kernel vouches for the address, the address for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The network it is in.
    pub network: &'a NetworkId,
    /// Its region.
    pub region: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network tags.
    pub tags: &'a [String],
    /// The email of its service account.
    pub service_account: Option<&'a str>,
    /// The address by which what goes to no private range leaves it (`Workload::outside`).
    pub outside: Option<Ipv4Addr>,
}

impl<'a> From<&'a slice::Workload> for Caller<'a> {
    fn from(workload: &'a slice::Workload) -> Caller<'a> {
        Caller {
            network: &workload.network,
            region: &workload.region,
            address: workload.address,
            tags: &workload.tags,
            service_account: workload.service_account.as_deref(),
            outside: workload.outside,
        }
    }
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// TCP, UDP or ICMP echo.
    pub protocol: Protocol,
    /// Destination.
    pub to: Ipv4Addr,
    /// Destination port; 0 for ICMP.
    pub port: u16,
}

impl Packet {
    /// TCP or UDP, as forwarding rules know them.
    fn ip_protocol(self) -> Option<slice::IpProtocol> {
        match self.protocol {
            Protocol::Tcp => Some(slice::IpProtocol::Tcp),
            Protocol::Udp => Some(slice::IpProtocol::Udp),
            Protocol::Icmp => None,
        }
    }

    /// A TCP connection.
    pub const fn tcp(to: Ipv4Addr, port: u16) -> Packet {
        Packet { protocol: Protocol::Tcp, to, port }
    }
}

/// What becomes of it, with what decided on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The egress rule of the caller's network; none towards the metadata server, which no rule
    /// concerns.
    pub egress: Option<Ruling>,
    /// The route; none where nothing leads there.
    pub taken: Option<Taken>,
    /// The ingress rule of the destination's network, where the destination is a workload.
    pub ingress: Option<Ruling>,
    /// The end.
    pub reach: Reach,
}

/// The route that a packet takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A subnetwork of the caller's own network.
    Subnet {
        /// Its canonical name.
        subnetwork: SelfLink,
        /// Its range.
        range: Ipv4Net,
    },
    /// A subnetwork of an active peer.
    PeeringSubnet {
        /// The peering's own name.
        peering: String,
        /// The peer.
        peer: NetworkId,
        /// The subnetwork.
        subnetwork: SelfLink,
        /// Its range.
        range: Ipv4Net,
    },
    /// A static route of the caller's own network.
    Static {
        /// The route.
        route: SelfLink,
        /// Its range.
        range: Ipv4Net,
    },
    /// A static route that a peer exports and the caller's network imports.
    PeeringStatic {
        /// The peering's own name.
        peering: String,
        /// The peer.
        peer: NetworkId,
        /// The route.
        route: SelfLink,
        /// Its range.
        range: Ipv4Net,
    },
    /// The default route to the internet gateway, behind which only Google's front ends are.
    DefaultInternetGateway,
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
    /// A workload: a declared VM, or (where it is known what runs) a session.
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

impl Fabric {
    /// What a packet of `caller` meets.
    pub fn reach(&self, caller: Caller<'_>, packet: Packet) -> Verdict {
        let caller = caller.towards(packet.to);
        let mut verdict =
            Verdict { egress: None, taken: None, ingress: None, reach: Reach::Metadata };
        let to = packet.to;
        if to == METADATA_ADDRESS {
            // No firewall rule concerns the metadata server and the resolver (5.3).
            verdict.reach = match (packet.protocol, packet.port) {
                (Protocol::Tcp, 53 | 80) | (Protocol::Udp, 53) | (Protocol::Icmp, _) => {
                    Reach::Metadata
                }
                (protocol, port) => dropped(
                    Reason::NoRoute,
                    format!(
                        "{to} answers on port 80 (metadata) and 53 (resolver), not {} {port}",
                        protocol.name()
                    ),
                ),
            };
            return verdict;
        }
        let Some(own) = self.networks.get(caller.network) else {
            let detail = format!("there is no network {}", caller.network);
            verdict.reach = dropped(Reason::NoRoute, detail);
            return verdict;
        };
        if to == caller.address {
            // It never leaves the workload.
            verdict.reach = match own.addresses.get(&to).into_iter().flatten().next() {
                Some(Owner::Workload { name, .. }) => {
                    Reach::Instance { name: name.clone(), network: caller.network.clone() }
                }
                _ => Reach::Instance {
                    name: "the client itself".to_owned(),
                    network: caller.network.clone(),
                },
            };
            return verdict;
        }
        let from = End {
            address: caller.address,
            tags: caller.tags,
            service_account: caller.service_account,
        };
        let egress = own.rules.leaving(from, to, packet.protocol, packet.port);
        let denied = (!egress.allowed).then(|| {
            dropped(Reason::FirewallRule, format!("{egress} of {} denies it", caller.network))
        });
        // Rules are those of VPC networks.
        verdict.egress = Some(egress).filter(|_| !caller.network.is_internet());
        if let Some(reach) = denied {
            verdict.reach = reach;
            return verdict;
        }
        match caller.network.is_internet() {
            true => verdict.reach = own.outside(caller, packet),
            false => self.follow_route(caller, own, packet, &mut verdict),
        }
        verdict
    }

    /// From the route on.
    fn follow_route(&self, caller: Caller<'_>, own: &Map, packet: Packet, verdict: &mut Verdict) {
        let to = packet.to;
        if let Some(front_end) = own.google_apis.get(&to).copied().or_else(|| front_end(to)) {
            verdict.taken = Some(Taken::DefaultInternetGateway);
            verdict.reach = at_front_end(front_end, packet);
            return;
        }
        if let Some(range) = own.subnetwork(to) {
            verdict.taken =
                Some(Taken::Subnet { subnetwork: range.subnetwork.clone(), range: range.range });
            own.arrive(caller, caller.network, range, packet, verdict);
            return;
        }
        // An endpoint of another VPC spoke, whose connection a hub propagates, has an address that
        // is in no subnetwork here (1.4).
        if let Some([owner @ Owner::Endpoint(_)]) = own.addresses.get(&to).map(Vec::as_slice) {
            let reach = owner.admits(caller, caller.network, false, packet);
            verdict.reach = reach.unwrap_or_else(|dropped| dropped);
            return;
        }
        let mut inactive = None;
        for peer in &own.peers {
            let Some(map) = self.networks.get(&peer.network) else { continue };
            let Some(range) = map.subnetwork(to) else { continue };
            if peer.active && !peer.sees(caller.network, map, &range.range) {
                continue;
            }
            if peer.active {
                verdict.taken = Some(Taken::PeeringSubnet {
                    peering: peer.name.clone(),
                    peer: peer.network.clone(),
                    subnetwork: range.subnetwork.clone(),
                    range: range.range,
                });
                let back = map.active().find(|back| back.network == *caller.network);
                let home = own.subnetwork(caller.address);
                if let (Some(back), Some(home)) = (back, home)
                    && !back.sees(&peer.network, own, &home.range)
                {
                    let detail = format!(
                        "{} does not take the route back to {}, which is a public range",
                        peer.network, home.range
                    );
                    verdict.reach = dropped(Reason::NoRoute, detail);
                    return;
                }
                map.arrive(caller, &peer.network, range, packet, verdict);
                return;
            }
            inactive = Some(&peer.network);
        }
        if let Some((taken, route)) = self.static_route(caller, own, to) {
            verdict.taken = Some(taken);
            verdict.reach = lost_behind(route, to);
            return;
        }
        verdict.reach = match inactive {
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
        };
    }

    /// The static route that wins: the longest prefix, then the network's own before a peer's, then
    /// the lowest priority. Routes with tags and routes to the internet gateway are not exchanged
    /// (private-connectivity 5.2; the rest of the order is (unconfirmed)).
    fn static_route<'m>(
        &'m self,
        caller: Caller<'_>,
        own: &'m Map,
        to: Ipv4Addr,
    ) -> Option<(Taken, &'m StaticRoute)> {
        let applies = |route: &&StaticRoute| {
            route.range.contains(&to)
                && (route.tags.is_empty() || route.tags.iter().any(|tag| caller.tags.contains(tag)))
        };
        let mine = own.routes.iter().filter(applies).map(|route| (None, route));
        let imported = own.active().filter(|peer| peer.imports).flat_map(|peer| {
            let map = self.networks.get(&peer.network);
            let exports = map.is_some_and(|map| {
                map.active().any(|back| back.network == *caller.network && back.exports)
            });
            let routes = map.filter(|_| exports).into_iter().flat_map(|map| &map.routes);
            routes
                .filter(move |route| {
                    route.range.contains(&to)
                        && route.tags.is_empty()
                        && route.next_hop != NextHop::InternetGateway
                })
                .map(move |route| (Some(peer), route))
        });
        let (peer, route) = mine.chain(imported).min_by_key(|(peer, route)| {
            (u8::MAX - route.range.prefix_len(), peer.is_some(), route.priority)
        })?;
        let (range, link) = (route.range, route.self_link.clone());
        let taken = match peer {
            None => Taken::Static { route: link, range },
            Some(peer) => Taken::PeeringStatic {
                peering: peer.name.clone(),
                peer: peer.network.clone(),
                route: link,
                range,
            },
        };
        Some((taken, route))
    }

    /// The ingress rule for a connection that a load balancer's proxy opens to a workload.
    pub fn from_proxy(
        &self,
        network: &NetworkId,
        source: Ipv4Addr,
        packet: Packet,
    ) -> Option<Ruling> {
        let map = self.networks.get(network)?;
        map.ingress(source, &[], None, packet.to, packet)
    }

    /// The ingress rule for a packet that a passthrough load balancer sends into a VM of the
    /// network as it is: source and destination stay. `caller`: the workload whose packet it is;
    /// none where it comes from a NAT address.
    pub fn passed_on(
        &self,
        network: &NetworkId,
        source: Ipv4Addr,
        caller: Option<Caller<'_>>,
        vm: Ipv4Addr,
        packet: Packet,
    ) -> Option<Ruling> {
        let (tags, account) = match caller {
            // Tags and accounts mean nothing in a peer's rules.
            Some(caller) if caller.network == network => (caller.tags, caller.service_account),
            _ => (&[][..], None),
        };
        self.networks.get(network)?.ingress(source, tags, account, vm, packet)
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

/// A packet that a static route takes: nothing outside of the topology is reachable, and no
/// workload can take packets for other addresses than its own, since it has no capability to.
fn lost_behind(route: &StaticRoute, to: Ipv4Addr) -> Reach {
    let name = route.self_link.name();
    match &route.next_hop {
        NextHop::InternetGateway => dropped(
            Reason::NoRoute,
            format!(
                "{name} leads {to} to the internet, and nothing outside of the topology is reachable"
            ),
        ),
        NextHop::Instance { name: vm, can_ip_forward: false, .. } => dropped(
            Reason::ForeignIpDisallowed,
            format!("{name} leads {to} to the instance {vm}, whose canIpForward is false"),
        ),
        NextHop::Instance { name: vm, .. } => dropped(
            Reason::NoRoute,
            format!("{name} leads {to} to the instance {vm}, and instances do not forward here"),
        ),
        NextHop::Address(hop) => {
            dropped(Reason::NoRoute, format!("{name} leads {to} to {hop}, which no instance has"))
        }
    }
}

impl Map {
    /// Outside of VPC networks there are Google's public front ends and external load balancers.
    fn outside(&self, caller: Caller<'_>, packet: Packet) -> Reach {
        let to = packet.to;
        if front_end(to) == Some(FrontEnd::Public) {
            return at_front_end(FrontEnd::Public, packet);
        }
        let owners = self.addresses.get(&to).into_iter().flatten();
        let rules = owners.filter(|owner| matches!(owner, Owner::ForwardingRule { .. }));
        let mut refused = None;
        for rule in rules {
            match rule.admits(caller, caller.network, false, packet) {
                Ok(reach) => return reach,
                Err(reach) => refused = refused.or(Some(reach)),
            }
        }
        refused.unwrap_or_else(|| {
            dropped(Reason::NoRoute, format!("nothing on the internet answers at {to}"))
        })
    }

    fn arrive(
        &self,
        caller: Caller<'_>,
        network: &NetworkId,
        range: &Range,
        packet: Packet,
        verdict: &mut Verdict,
    ) {
        let to = packet.to;
        let peered = caller.network != network;
        let Some(owners) = self.addresses.get(&to) else {
            let (subnetwork, purpose) = (&range.subnetwork, range.purpose);
            verdict.reach = match purpose {
                Purpose::Private => Reach::Subnetwork { subnetwork: subnetwork.clone() },
                _ => dropped(
                    Reason::UnknownInternalAddress,
                    format!("{to} is in {subnetwork}, which holds no workload"),
                ),
            };
            return;
        };
        let mut refused = None;
        for owner in owners {
            if let Owner::Workload { name, sealed: true, .. } = owner {
                verdict.reach = dropped(
                    Reason::CloudRunEgressOnly,
                    format!("{to} is the address by which {name} of Cloud Run calls others"),
                );
                return;
            }
            if let Owner::Workload { name, .. } = owner {
                // Tags and accounts mean nothing in a peer's rules.
                let (tags, account) =
                    if peered { (&[][..], None) } else { (caller.tags, caller.service_account) };
                let ruling = self.ingress(caller.address, tags, account, to, packet);
                verdict.reach = match &ruling {
                    Some(ruling) if !ruling.allowed => {
                        dropped(Reason::FirewallRule, format!("{ruling} of {network} denies it"))
                    }
                    _ => Reach::Instance { name: name.clone(), network: network.clone() },
                };
                verdict.ingress = ruling;
                return;
            }
            match owner.admits(caller, network, peered, packet) {
                Ok(reach) => {
                    verdict.reach = reach;
                    return;
                }
                Err(reach) => refused = refused.or(Some(reach)),
            }
        }
        verdict.reach = refused.unwrap_or_else(|| {
            dropped(Reason::UnknownInternalAddress, format!("nothing in {network} has {to}"))
        });
    }

    /// The ingress rule for a packet that goes into the workload with the address `into`; none
    /// where nothing that is known has it.
    fn ingress(
        &self,
        source: Ipv4Addr,
        tags: &[String],
        service_account: Option<&str>,
        into: Ipv4Addr,
        packet: Packet,
    ) -> Option<Ruling> {
        let owner = self.addresses.get(&into)?.iter().find_map(|owner| match owner {
            Owner::Workload { tags, service_account, .. } => Some((tags, service_account)),
            _ => None,
        });
        let (own_tags, own_account) = owner?;
        let from = End { address: source, tags, service_account };
        let to =
            End { address: packet.to, tags: own_tags, service_account: own_account.as_deref() };
        Some(self.rules.arriving(from, to, packet.protocol, packet.port))
    }
}

impl Owner {
    fn admits(
        &self,
        caller: Caller<'_>,
        network: &NetworkId,
        peered: bool,
        packet: Packet,
    ) -> Result<Reach, Reach> {
        let Packet { protocol, to, port } = packet;
        let asked = match protocol {
            Protocol::Icmp => "ICMP".to_owned(),
            Protocol::Tcp => format!("TCP {port}"),
            Protocol::Udp => format!("UDP {port}"),
        };
        match self {
            Owner::Workload { name, .. } => {
                Ok(Reach::Instance { name: name.clone(), network: network.clone() })
            }
            Owner::Resolver => match (protocol, port) {
                (Protocol::Tcp | Protocol::Udp, 53) => Ok(Reach::Metadata),
                _ => Err(dropped(
                    Reason::ForwardingRuleMismatch,
                    format!(
                        "{to} is an entry of the resolver of {network} with port 53, not {asked}"
                    ),
                )),
            },
            Owner::ForwardingRule { link, protocol: own, ports, region, global, .. } => {
                let taken = packet.ip_protocol().is_some_and(|protocol| own.takes(protocol));
                if !taken || !ports.contains(port) {
                    return Err(dropped(
                        Reason::ForwardingRuleMismatch,
                        format!("{link} has {to} with {own} {ports}, not {asked}"),
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
                // Where the target does not exist there are no ports, and that is the reason.
                let absent = endpoint.producer_network.is_none() && endpoint.ports.is_empty();
                let protocol = packet.ip_protocol();
                if !absent && !protocol.is_some_and(|protocol| endpoint.serves(protocol, port)) {
                    let own: Vec<String> = endpoint.ports.iter().map(ToString::to_string).collect();
                    return Err(dropped(
                        Reason::ForwardingRuleMismatch,
                        format!(
                            "the service behind {link} has {} {}, not {asked}",
                            endpoint.protocol,
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

/// A packet at the address of a Google front end.
fn at_front_end(front_end: FrontEnd, packet: Packet) -> Reach {
    match (packet.protocol, packet.port) {
        (Protocol::Tcp, 443 | 80) => Reach::FrontEnd(front_end),
        (protocol, port) => dropped(
            Reason::NoRoute,
            format!("Google front ends answer on ports 443 and 80, not {} {port}", protocol.name()),
        ),
    }
}

/// The Google front end that has this address (private-connectivity 4.2).
fn front_end(to: Ipv4Addr) -> Option<FrontEnd> {
    let (first, _) = slice::front_ends(false).find(|(_, address)| *address == to)?;
    Some(match first {
        RESTRICTED_VIP => FrontEnd::Restricted,
        PRIVATE_VIP => FrontEnd::Private,
        _ => FrontEnd::Public,
    })
}
