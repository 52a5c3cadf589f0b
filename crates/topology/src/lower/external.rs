//! External Application Load Balancers: addresses, and what stands behind them (cloud-run 6.1).

use super::Lowering;
use super::addresses::{Addresses, Placed};
use super::rules::Rule;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::network::{Address, AddressType};
use crate::fields::psc::{ForwardingRule, LoadBalancingScheme};
use crate::model::{Item, Model};
use crate::reference::Place;
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::load_balancer as lb;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

/// Where external addresses are given out of (TEST-NET-3).
const GIVEN: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);

/// Is this the front end of an external load balancer?
pub(crate) fn is_external(item: &Item<ForwardingRule>) -> bool {
    let scheme = item.raw.load_balancing_scheme.as_ref().map(|scheme| scheme.value);
    scheme == Some(LoadBalancingScheme::ExternalManaged)
}

/// An external address that is reserved.
pub(crate) fn is_external_address(item: &Item<Address>) -> bool {
    let raw = &item.raw;
    raw.purpose.is_none()
        && match raw.address_type {
            Some(kind) => kind == AddressType::External,
            // A global one is external unless it says otherwise.
            None => item.place == Place::Global,
        }
}

/// Places the external forwarding rules: written addresses first, then given ones.
pub(crate) fn place(
    model: &Model,
    rules: &[Rule<'_>],
    addresses: &mut Addresses,
    findings: &mut Findings,
) {
    let mut book = Book::default();
    let mut waiting = Vec::new();
    for item in model.addresses.items.iter().filter(|item| is_external_address(item)) {
        match &item.raw.address {
            Some(address) => {
                if book.fits(address.value, address.at, findings) {
                    book.reserve(item, address.value, address.at, findings);
                }
            }
            None => waiting.push(item),
        }
    }
    for item in waiting {
        if let Some(address) = book.give(item.raw.at, findings) {
            book.reserved.insert(item.link.clone(), address);
        }
    }
    let mut later = Vec::new();
    for rule in rules {
        let Rule::LoadBalancer { item, port, .. } = rule else { continue };
        if !is_external(item) {
            continue;
        }
        let Some(text) = &item.raw.ip_address else {
            later.push((*item, *port));
            continue;
        };
        let address = match text.parse::<Ipv4Addr>() {
            Ok(address) => book.fits(address, text.at, findings).then_some(address),
            Err(_) => {
                let found = model.find(&model.addresses, text, &item.scope(), findings);
                let Some(found) = found else { continue };
                let address = book.reserved.get(&found.link).copied();
                if address.is_none() && !is_external_address(found) {
                    findings.error(
                        Code::NetworkMismatch,
                        text.at,
                        format!(
                            "the address `{}` is internal, the forwarding rule external",
                            text.value
                        ),
                        "name an address with addressType: EXTERNAL",
                    );
                }
                address
            }
        };
        let Some(address) = address else { continue };
        book.take(item, address, *port, text.at, addresses, findings);
    }
    for (item, port) in later {
        if let Some(address) = book.give(item.raw.at, findings) {
            book.take(item, address, port, item.raw.at, addresses, findings);
        }
    }
}

/// Who holds which external address.
#[derive(Default)]
struct Book {
    reserved: HashMap<SelfLink, Ipv4Addr>,
    /// Where each reserved address is written.
    written: HashMap<Ipv4Addr, Mark>,
    held: HashSet<Ipv4Addr>,
    ports: HashMap<(Ipv4Addr, u16), Mark>,
}

impl Book {
    /// Is this an address that a load balancer can have on the internet here?
    fn fits(&self, address: Ipv4Addr, at: Mark, findings: &mut Findings) -> bool {
        let others = [
            (slice::INTERNET_CLIENTS, "clients on the internet have"),
            (Ipv4Net::from(slice::PUBLIC_VIP), "the front end of run.app has"),
            (Ipv4Net::new_assert(slice::PRIVATE_VIP, 30), "private.googleapis.com has"),
            (Ipv4Net::new_assert(slice::RESTRICTED_VIP, 30), "restricted.googleapis.com has"),
        ];
        let other = others.iter().find(|(range, _)| range.contains(&address));
        let private = address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast()
            || address.octets()[0] == 0;
        let why = match (private, other) {
            (true, _) => format!("{address} is no address of the internet"),
            (false, Some((range, whose))) => format!("{address} is one that {whose} ({range})"),
            (false, None) => return true,
        };
        findings.error(Code::InvalidValue, at, why, "write a public address, such as 203.0.113.10");
        false
    }

    fn reserve(
        &mut self,
        item: &Item<Address>,
        address: Ipv4Addr,
        at: Mark,
        findings: &mut Findings,
    ) {
        if let Some(first) = self.written.insert(address, at) {
            let first = findings.position(first);
            findings.error(
                Code::AddressInUse,
                at,
                format!("{address} is reserved at {first} already"),
                "choose a free address",
            );
        }
        self.held.insert(address);
        self.reserved.insert(item.link.clone(), address);
    }

    fn give(&mut self, at: Mark, findings: &mut Findings) -> Option<Ipv4Addr> {
        let free = GIVEN.hosts().skip(1).find(|address| !self.held.contains(address));
        match free {
            Some(address) => drop(self.held.insert(address)),
            None => findings.error(
                Code::AddressExhausted,
                at,
                format!("{GIVEN} has no free address left"),
                "write an address",
            ),
        }
        free
    }

    fn take(
        &mut self,
        item: &Item<ForwardingRule>,
        address: Ipv4Addr,
        port: u16,
        at: Mark,
        addresses: &mut Addresses,
        findings: &mut Findings,
    ) {
        self.held.insert(address);
        if let Some(first) = self.ports.insert((address, port), at) {
            let first = findings.position(first);
            findings.error(
                Code::AddressInUse,
                at,
                format!("port {port} of {address} is in use at {first}"),
                "choose another address or port",
            );
        }
        let network = NetworkId::internet();
        addresses.placed.insert(item.link.clone(), Placed { network, address });
    }
}

impl Lowering<'_> {
    /// What an external forwarding rule says that it should not, and where it is published.
    pub(crate) fn external(
        &self,
        item: &Item<ForwardingRule>,
        address: Ipv4Addr,
        port: u16,
        target: lb::TargetProxy,
        published: &mut BTreeSet<SocketAddr>,
        findings: &mut Findings,
    ) -> lb::ForwardingRule {
        let raw = &item.raw;
        let conflicts = [
            (raw.subnetwork.as_ref().map(|text| text.at), "subnetwork"),
            (raw.allow_global_access.filter(|on| *on).map(|_| raw.at), "allowGlobalAccess"),
        ];
        for (at, what) in conflicts {
            if let Some(at) = at {
                findings.error(
                    Code::ConflictingFields,
                    at,
                    format!("`{what}` is for internal forwarding rules"),
                    format!("remove `{what}`"),
                );
            }
        }
        match (&raw.network, &item.place) {
            (Some(network), Place::Global) => findings.error(
                Code::ConflictingFields,
                network.at,
                "a global external forwarding rule is in no network",
                "remove `network`",
            ),
            (None, Place::Region(region)) => findings.error(
                Code::MissingField,
                raw.at,
                format!("the regional external forwarding rule `{}` does not say in which network its proxies are", item.name()),
                format!("add network: NAME, of a network with a proxy-only subnetwork in {region}"),
            ),
            _ => {}
        }
        self.schemes_fit(item, &target, LoadBalancingScheme::ExternalManaged, findings);
        lb::ForwardingRule {
            self_link: item.link.clone(),
            network: NetworkId::internet(),
            region: item.place.region().unwrap_or("global").to_owned(),
            address,
            port,
            allow_global_access: true,
            proxy_address: None,
            northbound: publish(item, port, published, findings),
            target,
        }
    }

    /// A forwarding rule and the backend services behind it have one scheme.
    pub(crate) fn schemes_fit(
        &self,
        rule: &Item<ForwardingRule>,
        target: &lb::TargetProxy,
        wanted: LoadBalancingScheme,
        findings: &mut Findings,
    ) {
        let maps = &self.topology.load_balancing.url_maps;
        let map = maps.iter().find(|map| map.self_link == target.url_map);
        let links: BTreeSet<&SelfLink> = map.into_iter().flat_map(crate::cut::targets).collect();
        let services = self.model.backend_services.items.iter();
        for service in services.filter(|service| links.contains(&service.link)) {
            let scheme = service.raw.load_balancing_scheme.as_ref();
            let Some(scheme) = scheme.filter(|scheme| scheme.value != wanted) else { continue };
            let (name, wanted) = (service.name(), wanted.word());
            findings.error(
                Code::BackendGroup,
                scheme.at,
                format!("`{name}` is behind the forwarding rule `{}`, which has scheme {wanted}; both have one", rule.name()),
                format!("write loadBalancingScheme: {wanted}"),
            );
        }
    }
}

/// Where a rule is published on the host's loopback: where it says, else at its port plus 9000 or
/// the next free one.
fn publish(
    item: &Item<ForwardingRule>,
    port: u16,
    published: &mut BTreeSet<SocketAddr>,
    findings: &mut Findings,
) -> Option<SocketAddr> {
    let raw = &item.raw;
    let ours = raw.postern.as_ref().and_then(|ours| ours.northbound.as_ref());
    let address = match ours {
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => address,
            _ => {
                findings.error(
                        Code::InvalidValue,
                        text.at,
                        format!("`{}` is no loopback address with a port; an external rule is published on this machine only", text.value),
                        "write an address such as 127.0.0.1:9443",
                    );
                return None;
            }
        },
        None => (9000u16.saturating_add(port)..u16::MAX)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .find(|address| !published.contains(address))?,
    };
    if !published.insert(address) && address.port() != 0 {
        findings.error(
            Code::AddressInUse,
            ours.map_or(raw.at, |text| text.at),
            format!("another external forwarding rule is published at {address}"),
            "write another port",
        );
    }
    Some(address)
}

impl LoadBalancingScheme {
    /// As files write it, of an Application Load Balancer.
    pub(crate) fn word(self) -> &'static str {
        match self {
            LoadBalancingScheme::ExternalManaged => "EXTERNAL_MANAGED",
            _ => "INTERNAL_MANAGED",
        }
    }
}
