//! Forwarding rules: which ones are front ends of load balancers, which ones are Private Service
//! Connect endpoints, and which ones have no effect here (private-connectivity 1.6, 2.1).

use super::Lowering;
use super::addresses::Placed;
use super::external;
use super::fabric::Net;
use super::network_rules::{self, NetworkRule};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::load_balancing::TargetProxyPostern;
use crate::fields::psc::{ForwardingRule, LoadBalancingScheme};
use crate::model::{Item, Model};
use crate::reference::parts;
use names::{NetworkId, SelfLink};
use slice::Purpose;
use slice::load_balancer as lb;
use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;

/// What a forwarding rule is.
pub(crate) enum Rule<'m> {
    /// Of an internal Application Load Balancer, with its port.
    LoadBalancer { item: &'m Item<ForwardingRule>, target: &'m Text, port: u16 },
    /// Of a Network Load Balancer or a target instance.
    Network(NetworkRule<'m>),
    /// A PSC endpoint for Google APIs.
    GoogleApis { item: &'m Item<ForwardingRule>, bundle: slice::psc::ApiBundle },
    /// A PSC endpoint for a published service.
    Endpoint { item: &'m Item<ForwardingRule>, target: &'m Text },
}

/// Sorts the forwarding rules; the second value holds those without effect.
pub(crate) fn sort<'m>(
    model: &'m Model,
    findings: &mut Findings,
) -> (Vec<Rule<'m>>, HashSet<SelfLink>) {
    let mut rules = Vec::new();
    let mut idle = HashSet::new();
    for item in &model.forwarding_rules.items {
        match classify(model, item, findings) {
            Some(rule) => rules.push(rule),
            None => {
                idle.insert(item.link.clone());
            }
        }
    }
    (rules, idle)
}

fn classify<'m>(
    model: &'m Model,
    item: &'m Item<ForwardingRule>,
    findings: &mut Findings,
) -> Option<Rule<'m>> {
    let raw = &item.raw;
    let scheme = raw.load_balancing_scheme.as_ref();
    let not_yet = |what: &str, findings: &mut Findings| {
        findings.warning(
            Code::NotYetHonoured,
            raw.at,
            format!("the forwarding rule `{}` has no effect in this release; {what}", item.name()),
            "remove it to silence this warning",
        );
        None
    };
    match scheme.map(|scheme| scheme.value) {
        Some(LoadBalancingScheme::External) => {
            return not_yet(
                "classic and passthrough external load balancers are not simulated, EXTERNAL_MANAGED ones are",
                findings,
            );
        }
        Some(LoadBalancingScheme::InternalSelfManaged) => {
            return not_yet("service meshes are not simulated", findings);
        }
        _ => {}
    }
    if let Some(leads) = network_rules::leads(model, item) {
        return network_rules::read(item, leads, findings).map(Rule::Network);
    }
    if let Some(every) = raw.all_ports.as_ref().filter(|every| every.value) {
        findings.error(
            Code::PortRange,
            every.at,
            "only passthrough load balancers and target instances take all ports",
            "write portRange: \"443\"",
        );
    }
    if let Some(service) = &raw.backend_service
        && raw.target.is_none()
    {
        findings.error(
            Code::ConflictingFields,
            service.at,
            "a forwarding rule with a `backendService` is that of a passthrough load balancer",
            "write loadBalancingScheme: INTERNAL, or name a target proxy in `target`",
        );
        return None;
    }
    let Some(target) = &raw.target else {
        if !raw.faulty {
            findings.error(
                Code::MissingField,
                raw.at,
                format!("the forwarding rule `{}` has no `target`", item.name()),
                "add `target`: a target HTTP(S) proxy, or a service attachment",
            );
        }
        return None;
    };
    let collection = parts(target).and_then(|parts| parts.collection);
    let managed = matches!(
        scheme.map(|scheme| scheme.value),
        Some(LoadBalancingScheme::InternalManaged | LoadBalancingScheme::ExternalManaged)
    );
    if let Some(bundle) = super::google_apis::bundle(target) {
        return Some(Rule::GoogleApis { item, bundle });
    }
    let is_attachment = match collection {
        Some("serviceAttachments") => true,
        Some(_) => false,
        None => {
            // Nothing else has an empty scheme.
            scheme.is_some_and(|scheme| scheme.value == LoadBalancingScheme::None)
                || !managed && model.seek(&model.service_attachments, target, &item.scope()).is_ok()
        }
    };
    if is_attachment {
        if managed {
            findings.error(
                Code::ConflictingFields,
                raw.at,
                "a forwarding rule that targets a service attachment has no load balancing scheme",
                "write loadBalancingScheme: \"\" or remove it",
            );
        }
        if raw.ports.is_some() || raw.port_range.is_some() || raw.backend_service.is_some() {
            findings.error(
                Code::ConflictingFields,
                raw.at,
                "a Private Service Connect endpoint has no ports and no backend service; the published service's ports hold",
                "remove `ports`, `portRange` and `backendService`",
            );
        }
        return Some(Rule::Endpoint { item, target });
    }
    if !managed && !raw.faulty {
        findings.error(
            Code::MissingField,
            raw.at,
            format!("the forwarding rule `{}` has no `loadBalancingScheme`; without it Google makes an external one", item.name()),
            "add loadBalancingScheme: INTERNAL_MANAGED",
        );
    }
    if let Some(protocol) = &raw.ip_protocol
        && protocol.as_str() != "TCP"
    {
        findings.error(
            Code::InvalidValue,
            protocol.at,
            format!("`{}` is not TCP; an Application Load Balancer takes TCP only", protocol.value),
            "write IPProtocol: TCP",
        );
    }
    Some(Rule::LoadBalancer { item, target, port: one_port(item, findings)? })
}

/// Exactly one port, as `portRange: 443`, `443-443` or `ports: [443]` (2.1).
fn one_port(item: &Item<ForwardingRule>, findings: &mut Findings) -> Option<u16> {
    let raw = &item.raw;
    let mut all: Vec<&crate::decode::At<crate::decode::TextOrNumber>> = Vec::new();
    all.extend(raw.port_range.iter());
    all.extend(raw.ports.iter().flatten());
    let read = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first == last && first > 0).then_some(first)
    };
    let ports: Vec<Option<u16>> = all.iter().map(|text| read(&text.value.0)).collect();
    match ports.as_slice() {
        [Some(first), rest @ ..] if rest.iter().all(|other| *other == Some(*first)) => Some(*first),
        _ => {
            if !raw.faulty {
                let no_port = all.iter().find(|text| {
                    text.value.0.split('-').any(|one| !one.trim().parse().is_ok_and(|n: u16| n > 0))
                });
                if let Some(text) = no_port {
                    findings.error(
                        Code::PortRange,
                        text.at,
                        format!("`{}` is no port; they go from 1 to 65535", text.value.0),
                        "write portRange: \"443\", and one forwarding rule per port",
                    );
                    return None;
                }
                findings.error(
                    Code::PortRange,
                    all.first().map_or(raw.at, |text| text.at),
                    format!("the forwarding rule `{}` does not have exactly one port; an Application Load Balancer takes one", item.name()),
                    "write portRange: \"443\", and one forwarding rule per port",
                );
            }
            None
        }
    }
}

impl Lowering<'_> {
    /// Front ends of load balancers.
    pub(crate) fn forwarding_rules(&mut self, rules: &[Rule<'_>], findings: &mut Findings) {
        let mut published = BTreeSet::new();
        for rule in rules {
            let Rule::LoadBalancer { item, target, port } = rule else { continue };
            let target = self.target_proxy(item, target, findings);
            let Some(Placed { network, address }) = self.addresses.placed.get(&item.link).cloned()
            else {
                continue;
            };
            if external::is_external(item) {
                let Some(target) = target else { continue };
                let rule = self.external(item, address, *port, target, &mut published, findings);
                let index = self.topology.load_balancing.forwarding_rules.len();
                self.rule_index.insert(item.link.clone(), index);
                self.topology.load_balancing.forwarding_rules.push(rule);
                continue;
            }
            let net = &self.fabric.nets[&network];
            if net.of(Purpose::RegionalManagedProxy, item.region()).next().is_none()
                && !net.incomplete
            {
                no_proxy_subnet(item, &network, findings);
            }
            let Some(target) = target else { continue };
            self.schemes_fit(item, &target, LoadBalancingScheme::InternalManaged, findings);
            let index = self.topology.load_balancing.forwarding_rules.len();
            self.rule_index.insert(item.link.clone(), index);
            self.topology.load_balancing.forwarding_rules.push(lb::ForwardingRule {
                self_link: item.link.clone(),
                network,
                region: item.region().to_owned(),
                address,
                port: *port,
                allow_global_access: item.raw.allow_global_access.unwrap_or(false),
                proxy_address: proxy_address(net, item.region()),
                northbound: None,
                target,
            });
        }
    }

    fn target_proxy(
        &self,
        item: &Item<ForwardingRule>,
        target: &Text,
        findings: &mut Findings,
    ) -> Option<lb::TargetProxy> {
        let model = self.model;
        let scope = item.scope();
        let https = match parts(target).and_then(|parts| parts.collection) {
            Some("targetHttpProxies") => false,
            Some(_) => true,
            // A short name may be either; one that could not be read is what it is.
            None => {
                model.seek(&model.target_https_proxies, target, &scope).is_ok()
                    || model
                        .seek(&model.target_http_proxies, target, &scope)
                        .is_err_and(|miss| !miss.silent)
            }
        };
        let keep_alive =
            |seconds: Option<i64>| u32::try_from(seconds.unwrap_or(610)).unwrap_or(610);
        if https {
            let proxy = model.find(&model.target_https_proxies, target, &scope, findings)?;
            same_region(item, proxy, target, findings);
            let url_map = self.url_map_of(proxy, &proxy.raw.url_map, findings);
            let certificates = self.certificates(proxy, findings);
            if let Some(map) = url_map {
                self.no_https_redirect(map, proxy.name(), findings);
            }
            return Some(lb::TargetProxy {
                self_link: proxy.link.clone(),
                url_map: url_map?.link.clone(),
                ssl_certificates: certificates?,
                https,
                http_keep_alive_timeout_sec: keep_alive(
                    proxy.raw.http_keep_alive_timeout_sec.map(|seconds| seconds.0),
                ),
                ssl_policy: self.ssl_policy(proxy, findings),
                server_tls_policy: self.server_tls_policy(proxy, findings),
                accept_proxy_protocol: accepts(proxy.raw.postern.as_ref()),
            });
        }
        let proxy = model.find(&model.target_http_proxies, target, &scope, findings)?;
        same_region(item, proxy, target, findings);
        let url_map = self.url_map_of(proxy, &proxy.raw.url_map, findings)?;
        Some(lb::TargetProxy {
            self_link: proxy.link.clone(),
            url_map: url_map.link.clone(),
            ssl_certificates: Vec::new(),
            https,
            http_keep_alive_timeout_sec: keep_alive(
                proxy.raw.http_keep_alive_timeout_sec.map(|seconds| seconds.0),
            ),
            ssl_policy: None,
            server_tls_policy: None,
            accept_proxy_protocol: accepts(proxy.raw.postern.as_ref()),
        })
    }
}

/// The address from which the load balancers of a region speak to backends: they share the
/// proxy-only subnetwork, and one process stands for all its proxies.
pub(crate) fn proxy_address(net: &Net, region: &str) -> Option<Ipv4Addr> {
    let index = net.of(Purpose::RegionalManagedProxy, region).next()?;
    // The first one that is usable.
    Some(Ipv4Addr::from(u32::from(net.subnets[index].range.network()) + 2))
}

/// Reports a region without proxies.
pub(crate) fn no_proxy_subnet(
    item: &Item<ForwardingRule>,
    network: &NetworkId,
    findings: &mut Findings,
) {
    findings.error(
        Code::LoadBalancerHasNoProxySubnet,
        item.raw.at,
        format!("{network} has no active proxy-only subnetwork in {}; the load balancer's proxies would have no addresses", item.region()),
        format!("add to subnetworks: {{name: proxy-only, network: {}, region: {}, ipCidrRange: RANGE/26, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}}", network.name, item.region()),
    );
}

fn accepts(ours: Option<&TargetProxyPostern>) -> bool {
    ours.and_then(|ours| ours.accept_proxy_protocol).unwrap_or(false)
}

/// Reports two resources that must be in one region and are not.
pub(crate) fn same_region<A, B>(
    item: &Item<A>,
    target: &Item<B>,
    reference: &Text,
    findings: &mut Findings,
) {
    if item.place.region() != target.place.region() {
        findings.error(
            Code::RegionMismatch,
            reference.at,
            format!(
                "`{}` is {}, but `{}`, to which it leads, is not",
                item.name(),
                match item.place.region() {
                    Some(region) => format!("in {region}"),
                    None => "global".to_owned(),
                },
                target.link
            ),
            "refer to a resource of the same region",
        );
    }
}
