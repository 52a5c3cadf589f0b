//! Addresses: reserved ones, those of forwarding rules, endpoints and declared VMs, and the ones
//! that are given out where none is written.

use super::fabric::{Fabric, Location, Net, locate};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::network::{AddressPurpose, AddressType};
use crate::fields::psc::ForwardingRule;
use crate::model::{Item, Model};
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::{IpProtocol, Purpose};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// Who holds which address of one network.
#[derive(Debug, Default)]
pub(crate) struct Book {
    held: HashMap<Ipv4Addr, Held>,
    /// Where the search for a free address goes on, by first address of the range.
    next: HashMap<Ipv4Addr, u32>,
    /// Addresses that are written down for someone who is placed later.
    pub(crate) spoken_for: HashSet<Ipv4Addr>,
}

#[derive(Debug, Default)]
struct Held {
    /// An `addresses` resource.
    reserved: Option<Mark>,
    /// It may be shared by forwarding rules with different ports.
    shared: bool,
    users: Vec<(Mark, RulePorts)>,
}

/// Four addresses of each primary range are Google's: network, gateway, the last but one and
/// broadcast (which four: (unconfirmed)).
pub(crate) fn is_reserved(range: Ipv4Net, address: Ipv4Addr) -> bool {
    let first = u32::from(range.network());
    let last = u32::from(range.broadcast());
    let address = u32::from(address);
    address <= first + 1 || address >= last - 1
}

/// The protocols and ports that a forwarding rule takes of an address; none: the whole address.
pub(crate) type RulePorts = Option<Vec<(IpProtocol, u16)>>;

/// Can two rules share the address?
fn apart(one: &RulePorts, other: &RulePorts) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    !one.iter().any(|port| other.contains(port))
}

/// Someone who wants an address.
pub(crate) struct Claim {
    pub(crate) at: Mark,
    /// For messages: `the forwarding rule`.
    pub(crate) called: &'static str,
    pub(crate) ports: RulePorts,
}

/// Takes a written address for someone, after all checks.
pub(crate) fn take(
    net: &mut Net,
    index: usize,
    address: Ipv4Addr,
    claim: &Claim,
    findings: &mut Findings,
) {
    let subnet = &net.subnets[index];
    let (range, name) = (subnet.range, subnet.link.name().to_owned());
    let Claim { at, called, ports } = claim;
    if subnet.purpose != Purpose::Private {
        findings.error(
            Code::SubnetPurpose,
            *at,
            format!(
                "{address} is in `{name}`, a subnetwork for proxies or NAT; {called} needs an address of an ordinary one"
            ),
            "choose an address of a subnetwork with purpose PRIVATE",
        );
        return;
    }
    if !range.contains(&address) {
        findings.error(
            Code::AddressOutsideSubnet,
            *at,
            format!(
                "{address} is not in the subnetwork `{name}` ({range}); {called} cannot have it"
            ),
            format!("choose an address of {range}, or another subnetwork"),
        );
        return;
    }
    if is_reserved(range, address) {
        findings.error(
            Code::AddressReserved,
            *at,
            format!("{address} is one of the four addresses of {range} that Google keeps"),
            "choose another address: not the first two and not the last two",
        );
        return;
    }
    let held = net.book.held.entry(address).or_default();
    let clash = held.users.iter().find(|(_, other)| !held.shared || !apart(ports, other));
    if let Some((other, _)) = clash {
        let other = findings.position(*other);
        findings.error(
            Code::AddressInUse,
            *at,
            format!("{address} is in use at {other}; an address belongs to one resource, unless its purpose is SHARED_LOADBALANCER_VIP and the ports differ"),
            "choose a free address",
        );
        return;
    }
    held.users.push((*at, ports.clone()));
}

/// Gives out the lowest free address of a subnetwork.
pub(crate) fn give(
    net: &mut Net,
    index: usize,
    claim: &Claim,
    findings: &mut Findings,
) -> Option<Ipv4Addr> {
    let range = net.subnets[index].range;
    let first = u32::from(range.network());
    let last = u32::from(range.broadcast()) - 2;
    let next = net.book.next.entry(range.network()).or_insert(first + 2);
    while *next <= last {
        let address = Ipv4Addr::from(*next);
        *next += 1;
        if !net.book.held.contains_key(&address) && !net.book.spoken_for.contains(&address) {
            let held = net.book.held.entry(address).or_default();
            held.users.push((claim.at, claim.ports.clone()));
            return Some(address);
        }
    }
    findings.error(
        Code::AddressExhausted,
        claim.at,
        format!("{range} has no free address left for {}", claim.called),
        "widen the range, or name another subnetwork",
    );
    None
}

/// What a forwarding rule's address turned out to be.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) network: NetworkId,
    pub(crate) address: Ipv4Addr,
}

/// Someone whose address is still to be given out.
struct Waiting {
    link: SelfLink,
    network: NetworkId,
    index: usize,
    claim: Claim,
}

/// The reserved addresses: by link, network, subnetwork and address.
type Reserved = HashMap<SelfLink, (NetworkId, usize, Ipv4Addr)>;

/// Addresses of everything in compute that has one; endpoint attachments come later.
pub(crate) struct Addresses {
    pub(crate) placed: HashMap<SelfLink, Placed>,
    /// Subnetwork of each declared VM.
    pub(crate) subnets: HashMap<SelfLink, usize>,
}

/// Places all forwarding rules in `rules` and all declared VMs: written addresses first, then
/// given ones.
pub(crate) fn place(
    model: &Model,
    fabric: &mut Fabric,
    rules: &[(&Item<ForwardingRule>, RulePorts)],
    findings: &mut Findings,
) -> Addresses {
    let attachments = model.organizations.iter().flat_map(|item| &item.raw.endpoint_attachments);
    let hosts: HashSet<Ipv4Addr> = attachments
        .filter_map(|attachment| attachment.host.as_ref())
        .map(|host| host.value)
        .collect();
    for net in fabric.nets.values_mut() {
        net.book.spoken_for.clone_from(&hosts);
    }
    let mut reserved = Reserved::new();
    let mut late = Vec::new();
    for item in &model.addresses.items {
        reserve(model, fabric, item, &mut reserved, &mut late, findings);
    }
    let mut out = Addresses { placed: HashMap::new(), subnets: HashMap::new() };
    let mut waiting = Vec::new();
    let mut by_name = Vec::new();
    for (item, ports) in rules {
        let claim = Claim { at: item.raw.at, called: "the forwarding rule", ports: ports.clone() };
        let written = item.raw.ip_address.as_ref();
        let literal = written.and_then(|text| text.parse::<Ipv4Addr>().ok());
        if let (Some(text), None) = (written, literal) {
            by_name.push((*item, text, claim));
            continue;
        }
        let location = Location {
            network: item.raw.network.as_ref(),
            subnetwork: item.raw.subnetwork.as_ref(),
            address: literal,
            scope: item.scope(),
            at: item.raw.at,
            called: "the forwarding rule",
        };
        let Some((network, index)) = locate(model, fabric, &location, findings) else { continue };
        let at = written.map_or(item.raw.at, |text| text.at);
        place_one(
            fabric,
            item.link.clone(),
            network,
            index,
            literal,
            Claim { at, ..claim },
            &mut out,
            &mut waiting,
            findings,
        );
    }
    instances(model, fabric, &mut out, &mut waiting, findings);
    for (item, index, network) in late {
        let claim = Claim { at: item.raw.at, called: "the reserved address", ports: None };
        let Some(net) = fabric.nets.get_mut(&network) else { continue };
        if let Some(address) = give(net, index, &claim, findings) {
            // Given to the reservation, not to a user.
            let shared = is_shared(item);
            let held = net.book.held.entry(address).or_default();
            *held = Held { reserved: Some(item.raw.at), shared, users: Vec::new() };
            reserved.insert(item.link.clone(), (network, index, address));
        }
    }
    for (item, text, claim) in by_name {
        let Some(address) = model.find(&model.addresses, text, &item.scope(), findings) else {
            continue;
        };
        if !is_internal(address) {
            findings.error(
                Code::NotYetSupported,
                text.at,
                format!("the address `{}` is external or of another purpose; the forwarding rule would have no address", text.value),
                "name an internal address of purpose GCE_ENDPOINT or SHARED_LOADBALANCER_VIP",
            );
        }
        let Some((network, index, address)) = reserved.get(&address.link).cloned() else {
            continue;
        };
        if let Some(named) = &item.raw.subnetwork {
            let subnet = model.find(&model.subnetworks, named, &item.scope(), findings);
            let Some(subnet) = subnet else { continue };
            if fabric.nets[&network].subnets[index].link != subnet.link {
                findings.error(
                    Code::NetworkMismatch,
                    text.at,
                    format!(
                        "the address `{}` is not in the subnetwork `{}`",
                        text.value, named.value
                    ),
                    "reserve an address in the forwarding rule's subnetwork",
                );
                continue;
            }
        }
        if let Some(named) = &item.raw.network {
            let Some(named) = model.find(&model.networks, named, &item.scope(), findings) else {
                continue;
            };
            let named = super::fabric::network_id(&named.link);
            if named != network {
                findings.error(
                    Code::NetworkMismatch,
                    text.at,
                    format!(
                        "the address `{}` is in {network}, the forwarding rule in {named}",
                        text.value
                    ),
                    "reserve an address in the forwarding rule's network",
                );
                continue;
            }
        }
        place_one(
            fabric,
            item.link.clone(),
            network,
            index,
            Some(address),
            Claim { at: text.at, ..claim },
            &mut out,
            &mut waiting,
            findings,
        );
    }
    waiting.sort_by_key(|one| one.claim.at);
    for Waiting { link, network, index, claim } in waiting {
        let Some(net) = fabric.nets.get_mut(&network) else { continue };
        if let Some(address) = give(net, index, &claim, findings) {
            out.placed.insert(link, Placed { network, address });
        }
    }
    out
}

#[allow(clippy::too_many_arguments)]
fn place_one(
    fabric: &mut Fabric,
    link: SelfLink,
    network: NetworkId,
    index: usize,
    address: Option<Ipv4Addr>,
    claim: Claim,
    out: &mut Addresses,
    waiting: &mut Vec<Waiting>,
    findings: &mut Findings,
) {
    let Some(net) = fabric.nets.get_mut(&network) else { return };
    match address {
        Some(address) => {
            take(net, index, address, &claim, findings);
            out.placed.insert(link, Placed { network, address });
        }
        None if net.subnets[index].purpose == Purpose::Private => {
            waiting.push(Waiting { link, network, index, claim });
        }
        None => findings.error(
            Code::SubnetPurpose,
            claim.at,
            format!(
                "`{}` is a subnetwork for proxies or NAT; {} needs an ordinary one",
                net.subnets[index].link.name(),
                claim.called
            ),
            "name a subnetwork with purpose PRIVATE",
        ),
    }
}

fn is_shared(item: &Item<crate::fields::network::Address>) -> bool {
    item.raw.purpose.as_ref().is_some_and(|p| p.value == AddressPurpose::SharedLoadbalancerVip)
}

/// Only these have an effect here.
fn is_internal(item: &Item<crate::fields::network::Address>) -> bool {
    match item.raw.purpose.as_ref().map(|purpose| purpose.value) {
        None | Some(AddressPurpose::GceEndpoint | AddressPurpose::SharedLoadbalancerVip) => {
            item.raw.address_type != Some(AddressType::External)
        }
        Some(_) => false,
    }
}

fn reserve<'m>(
    model: &'m Model,
    fabric: &mut Fabric,
    item: &'m Item<crate::fields::network::Address>,
    reserved: &mut Reserved,
    late: &mut Vec<(&'m Item<crate::fields::network::Address>, usize, NetworkId)>,
    findings: &mut Findings,
) {
    let raw = &item.raw;
    let purpose = raw.purpose.as_ref().map(|purpose| purpose.value);
    if purpose == Some(AddressPurpose::PrivateServiceConnect) {
        return; // in no subnetwork: an endpoint for Google APIs takes it (1.6)
    }
    if super::external::is_external_address(item) {
        return; // in no network
    }
    if !is_internal(item) {
        findings.warning(
            Code::NotYetHonoured,
            raw.at,
            format!("the address `{}` has a type or purpose that has no effect in this release", item.name()),
            "remove it to silence this warning; external addresses and internal ones of purpose GCE_ENDPOINT or SHARED_LOADBALANCER_VIP are honoured",
        );
        return;
    }
    let address = raw.address.as_ref().map(|address| address.value);
    if address.is_none() && raw.faulty {
        return;
    }
    let location = Location {
        network: raw.network.as_ref(),
        subnetwork: raw.subnetwork.as_ref(),
        address,
        scope: item.scope(),
        at: raw.at,
        called: "the reserved address",
    };
    // Without a network the address itself tells, if it fits one subnetwork of the project only.
    let only = |address: Ipv4Addr| {
        let own = fabric.nets.iter().filter(|(id, _)| *id.project == *item.project);
        let mut all = own.filter_map(|(id, net)| Some((id.clone(), net.containing(address)?)));
        all.next().filter(|_| all.next().is_none())
    };
    let found = match address {
        Some(address) if raw.network.is_none() && raw.subnetwork.is_none() => only(address),
        _ => None,
    };
    let Some((network, index)) = found.or_else(|| locate(model, fabric, &location, findings))
    else {
        return;
    };
    let Some(net) = fabric.nets.get_mut(&network) else { return };
    let Some(at) = &raw.address else {
        late.push((item, index, network));
        return;
    };
    let (at, address) = (at.at, at.value);
    if let Some(first) = net.book.held.get(&address).and_then(|held| held.reserved) {
        let first = findings.position(first);
        findings.error(
            Code::AddressInUse,
            at,
            format!("{address} is reserved at {first} already"),
            "choose a free address",
        );
        return;
    }
    let before = findings.errors();
    take(net, index, address, &Claim { at, called: "the reserved address", ports: None }, findings);
    if findings.errors() == before {
        let held = Held { reserved: Some(raw.at), shared: is_shared(item), users: Vec::new() };
        net.book.held.insert(address, held);
    }
    reserved.insert(item.link.clone(), (network, index, address));
}

fn instances(
    model: &Model,
    fabric: &mut Fabric,
    out: &mut Addresses,
    waiting: &mut Vec<Waiting>,
    findings: &mut Findings,
) {
    for item in &model.instances.items {
        let raw = &item.raw;
        let mut interfaces = raw.network_interfaces.iter();
        let Some(first) = interfaces.next() else {
            if !raw.faulty {
                findings.error(
                    Code::MissingField,
                    raw.at,
                    "the instance has no network interface; it would be in no network",
                    "add networkInterfaces: [{subnetwork: NAME}]",
                );
            }
            continue;
        };
        if let Some(second) = interfaces.next() {
            findings.warning(
                Code::NotYetHonoured,
                second.at,
                "only the first network interface of an instance is honoured in this release",
                "remove the other ones to silence this warning",
            );
        }
        let literal = match &first.network_ip {
            None => None,
            Some(text) => match text.parse::<Ipv4Addr>() {
                Ok(address) => Some(address),
                Err(_) => {
                    findings.error(
                        Code::InvalidValue,
                        text.at,
                        format!("`{}` is no IPv4 address", text.value),
                        "write an address such as 10.0.0.7",
                    );
                    continue;
                }
            },
        };
        let location = Location {
            network: first.network.as_ref(),
            subnetwork: first.subnetwork.as_ref(),
            address: literal,
            scope: item.scope(),
            at: first.at,
            called: "the instance",
        };
        let Some((network, index)) = locate(model, fabric, &location, findings) else { continue };
        let at = first.network_ip.as_ref().map_or(first.at, |text| text.at);
        out.subnets.insert(item.link.clone(), index);
        let claim = Claim { at, called: "the instance", ports: None };
        place_one(
            fabric,
            item.link.clone(),
            network,
            index,
            literal,
            claim,
            out,
            waiting,
            findings,
        );
    }
}
