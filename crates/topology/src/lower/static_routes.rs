//! Static routes (private-connectivity 5.2).

use super::addresses::Addresses;
use super::fabric::Fabric;
use super::firewalls::{check_tag, network_of};
use crate::diagnostic::{Code, Findings};
use crate::fields::firewalls::Route as Raw;
use crate::model::{Item, Model};
use crate::reference::last_segment;
use ipnet::{Ipv4Net, Ipv6Net};
use names::NetworkId;
use slice::vpc::{NextHop, StaticRoute};
use slice::{PRIVATE_VIP, PUBLIC_VIP, RESTRICTED_VIP};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// The static routes of each network.
pub(crate) fn lower(
    model: &Model,
    fabric: &Fabric,
    addresses: &Addresses,
    findings: &mut Findings,
) -> HashMap<NetworkId, Vec<StaticRoute>> {
    let mut all: HashMap<NetworkId, Vec<StaticRoute>> = HashMap::new();
    for item in &model.routes.items {
        let raw = &item.raw;
        // Subnet routes and peering routes, as an export lists them, follow from the subnetworks.
        if raw.next_hop_network.is_some() || raw.next_hop_peering.is_some() {
            continue;
        }
        let Some(network) = network_of(model, raw.network.as_ref(), item, findings) else {
            continue;
        };
        if raw.dest_range.parse::<Ipv6Net>().is_ok() {
            findings.warning(
                Code::NoEffect,
                raw.dest_range.at,
                format!("`{}` is about IPv6, and all that is simulated is IPv4", item.name()),
                "remove the route to silence this warning",
            );
            continue;
        }
        let Some(range) = range(item, &network, fabric, findings) else { continue };
        raw.tags.iter().for_each(|tag| check_tag(tag, findings));
        let Some(next_hop) = next_hop(model, item, &network, addresses, findings) else {
            continue;
        };
        let vips = [RESTRICTED_VIP, PRIVATE_VIP, PUBLIC_VIP];
        if next_hop != NextHop::InternetGateway
            && range.prefix_len() > 0
            && let Some(vip) = vips.iter().find(|vip| range.contains(*vip))
        {
            findings.error(
                Code::NotYetSupported,
                raw.dest_range.at,
                format!("{range} contains {vip}, a front end of Google's, which answers in every network here"),
                "choose a range without it, or nextHopGateway: default-internet-gateway",
            );
            continue;
        }
        all.entry(network).or_default().push(StaticRoute {
            self_link: item.link.clone(),
            range,
            priority: raw.priority.map_or(1000, |p| u16::try_from(p.0).unwrap_or(1000)),
            tags: raw.tags.iter().map(|tag| tag.value.clone()).collect(),
            next_hop,
        });
    }
    all
}

/// A destination may not lie in a range of a subnetwork: subnet routes always win.
fn range(
    item: &Item<Raw>,
    network: &NetworkId,
    fabric: &Fabric,
    findings: &mut Findings,
) -> Option<Ipv4Net> {
    let text = &item.raw.dest_range;
    let range = text.parse::<Ipv4Net>().ok();
    let range = range.or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
    let Some(range) = range.filter(|range| range.trunc() == *range) else {
        findings.error(
            Code::InvalidRange,
            text.at,
            format!("`{}` is no IPv4 range in CIDR notation", text.value),
            "write a range such as 192.168.0.0/24",
        );
        return None;
    };
    let net = fabric.nets.get(network)?;
    if let Some(subnet) = net.subnets.iter().find(|subnet| subnet.range.contains(&range)) {
        findings.error(
            Code::StaticRoute,
            text.at,
            format!(
                "{range} lies in {} of `{}`; subnet routes always win",
                subnet.range,
                subnet.link.name()
            ),
            "choose a range outside of the network's subnetworks",
        );
        return None;
    }
    Some(range)
}

fn next_hop(
    model: &Model,
    item: &Item<Raw>,
    network: &NetworkId,
    addresses: &Addresses,
    findings: &mut Findings,
) -> Option<NextHop> {
    let raw = &item.raw;
    let hops = [&raw.next_hop_gateway, &raw.next_hop_instance, &raw.next_hop_ip];
    let mut named = hops.iter().filter_map(|hop| hop.as_ref());
    let (Some(first), None) = (named.next(), named.next()) else {
        if !raw.faulty {
            findings.error(
                Code::StaticRoute,
                raw.at,
                format!("`{}` needs exactly one next hop", item.name()),
                "write one of nextHopGateway, nextHopInstance and nextHopIp",
            );
        }
        return None;
    };
    let of_instance = |instance: &Item<crate::fields::network::Instance>| {
        let placed = addresses.placed.get(&instance.link)?;
        (placed.network == *network).then(|| NextHop::Instance {
            name: instance.name().to_owned(),
            address: placed.address,
            can_ip_forward: instance.raw.can_ip_forward == Some(true),
        })
    };
    if raw.next_hop_gateway.is_some() {
        if last_segment(first) != "default-internet-gateway" {
            findings.error(
                Code::ReferenceNotFound,
                first.at,
                format!("`{}` is no gateway; there is one, default-internet-gateway", first.value),
                "write default-internet-gateway",
            );
            return None;
        }
        return Some(NextHop::InternetGateway);
    }
    if raw.next_hop_instance.is_some() {
        let instance = model.find(&model.instances, first, &item.scope(), findings)?;
        let hop = of_instance(instance);
        // Without an address the instance itself was reported.
        if hop.is_none() && addresses.placed.contains_key(&instance.link) {
            findings.error(
                Code::NetworkMismatch,
                first.at,
                format!("the instance `{}` is not in {network}", instance.name()),
                "name an instance of the route's network",
            );
        }
        return hop;
    }
    let Ok(address) = first.parse::<Ipv4Addr>() else {
        findings.error(
            Code::InvalidValue,
            first.at,
            format!("`{}` is no IPv4 address", first.value),
            "write an address such as 10.0.0.7",
        );
        return None;
    };
    let here = model
        .instances
        .items
        .iter()
        .filter_map(of_instance)
        .find(|hop| matches!(hop, NextHop::Instance { address: own, .. } if *own == address));
    Some(here.unwrap_or(NextHop::Address(address)))
}
