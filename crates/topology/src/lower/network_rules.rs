//! Forwarding rules of Network Load Balancers and target instances (private-connectivity 1.7).

use super::Lowering;
use super::addresses::{Placed, RulePorts};
use super::rules::{Rule, proxy_address, same_region};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::backends::ProxyHeader;
use crate::fields::psc::{ForwardingRule, LoadBalancingScheme};
use crate::model::{Item, Model};
use crate::reference::parts;
use names::SelfLink;
use slice::load_balancer as lb;
use slice::{IpProtocol, Purpose, psc};

/// Most ports of a passthrough load balancer's rule that does not take all.
const PORTS_MAX: usize = 5;

/// What a rule for packets or plain TCP leads to.
#[derive(Clone, Copy)]
pub(crate) enum Leads<'m> {
    /// A target TCP proxy.
    TcpProxy(&'m Text),
    /// A backend service with scheme INTERNAL.
    Service(&'m Text),
    /// A target instance.
    Instance(&'m Text),
}

/// Such a rule, with what it takes.
pub(crate) struct NetworkRule<'m> {
    pub(crate) item: &'m Item<ForwardingRule>,
    leads: Leads<'m>,
    protocol: lb::RuleProtocol,
    ports: lb::Ports,
}

impl NetworkRule<'_> {
    /// What it takes of its address.
    pub(crate) fn claims(&self) -> RulePorts {
        let protocol = match self.protocol {
            lb::RuleProtocol::Tcp => IpProtocol::Tcp,
            lb::RuleProtocol::Udp => IpProtocol::Udp,
            lb::RuleProtocol::L3Default => return None,
        };
        Some(self.ports.listed()?.into_iter().map(|port| (protocol, port)).collect())
    }
}

/// Is the rule one of these, and of which kind? By the collection that it names, or by what a
/// short name leads to.
pub(crate) fn leads<'m>(model: &Model, item: &'m Item<ForwardingRule>) -> Option<Leads<'m>> {
    let raw = &item.raw;
    let scheme = raw.load_balancing_scheme.as_ref().map(|scheme| scheme.value);
    if scheme == Some(LoadBalancingScheme::Internal)
        && let Some(service) = &raw.backend_service
    {
        return Some(Leads::Service(service));
    }
    let target = raw.target.as_ref()?;
    let scope = item.scope();
    match (parts(target)?.collection, scheme) {
        (Some("targetTcpProxies"), _) => Some(Leads::TcpProxy(target)),
        (Some("targetInstances"), _) => Some(Leads::Instance(target)),
        (None, Some(LoadBalancingScheme::Internal)) => Some(Leads::Instance(target)),
        (None, Some(LoadBalancingScheme::InternalManaged))
            if model.seek(&model.target_tcp_proxies, target, &scope).is_ok() =>
        {
            Some(Leads::TcpProxy(target))
        }
        _ => None,
    }
}

/// Reads protocol and ports of such a rule.
pub(crate) fn read<'m>(
    item: &'m Item<ForwardingRule>,
    leads: Leads<'m>,
    findings: &mut Findings,
) -> Option<NetworkRule<'m>> {
    let raw = &item.raw;
    let scheme = raw.load_balancing_scheme.as_ref().map(|scheme| scheme.value);
    let (wanted, word) = match leads {
        Leads::TcpProxy(_) => (LoadBalancingScheme::InternalManaged, "INTERNAL_MANAGED"),
        Leads::Service(_) | Leads::Instance(_) => (LoadBalancingScheme::Internal, "INTERNAL"),
    };
    if scheme != Some(wanted) && !raw.faulty {
        findings.error(
            Code::ConflictingFields,
            raw.load_balancing_scheme.as_ref().map_or(raw.at, |scheme| scheme.at),
            format!(
                "the forwarding rule `{}` leads to what needs another load balancing scheme",
                item.name()
            ),
            format!("write loadBalancingScheme: {word}"),
        );
        return None;
    }
    if let (Leads::Service(_), Some(target)) = (leads, &raw.target) {
        findings.error(
            Code::ConflictingFields,
            target.at,
            "a forwarding rule has a `target` or a `backendService`, not both",
            "remove one of the two",
        );
    }
    let protocol = match raw.ip_protocol.as_ref().map(|text| (text.as_str(), text.at)) {
        None | Some(("TCP", _)) => lb::RuleProtocol::Tcp,
        Some(("UDP", _)) if !matches!(leads, Leads::TcpProxy(_)) => lb::RuleProtocol::Udp,
        Some(("L3_DEFAULT", _)) if !matches!(leads, Leads::TcpProxy(_)) => {
            lb::RuleProtocol::L3Default
        }
        Some((word, at)) => {
            findings.error(
                Code::InvalidValue,
                at,
                format!("`{word}` is no protocol of this forwarding rule"),
                match leads {
                    Leads::TcpProxy(_) => "write IPProtocol: TCP",
                    _ => "write TCP, UDP or L3_DEFAULT",
                },
            );
            return None;
        }
    };
    let ports = ports(item, leads, findings)?;
    if protocol == lb::RuleProtocol::L3Default && ports != lb::Ports::All {
        findings.error(
            Code::PortRange,
            raw.at,
            "L3_DEFAULT takes every protocol, and every port",
            "write allPorts: true",
        );
        return None;
    }
    Some(NetworkRule { item, leads, protocol, ports })
}

fn ports(
    item: &Item<ForwardingRule>,
    leads: Leads<'_>,
    findings: &mut Findings,
) -> Option<lb::Ports> {
    let raw = &item.raw;
    let mut all: Vec<(u16, u16)> = Vec::new();
    let written = raw.port_range.iter().chain(raw.ports.iter().flatten());
    for text in written {
        let (first, last) = text.value.0.split_once('-').unwrap_or((&text.value.0, &text.value.0));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first > 0 && first <= last => all.push((first, last)),
            _ => {
                findings.error(
                    Code::PortRange,
                    text.at,
                    format!("`{}` is no port and no range of ports", text.value.0),
                    "write a port from 1 to 65535",
                );
                return None;
            }
        }
    }
    let at = raw.port_range.as_ref().or(raw.ports.iter().flatten().next());
    let at = at.map_or(raw.at, |text| text.at);
    let every = raw.all_ports.as_ref().is_some_and(|all| all.value);
    let mut single: Vec<u16> = Vec::new();
    for (first, last) in &all {
        if first == last && !single.contains(first) {
            single.push(*first);
        }
    }
    let ranges: Vec<_> = all.iter().filter(|(first, last)| first != last).collect();
    let wrong = |what: String, fix: &str, findings: &mut Findings| {
        if !raw.faulty {
            findings.error(Code::PortRange, at, what, fix);
        }
        None
    };
    let name = item.name();
    match (leads, every, &single[..], &ranges[..]) {
        (Leads::TcpProxy(_), false, [_], []) => Some(lb::Ports::Listed(single)),
        (Leads::TcpProxy(_), ..) => wrong(
            format!(
                "the forwarding rule `{name}` does not have exactly one port; a proxy Network Load Balancer takes one"
            ),
            "write portRange: \"5432\", and one forwarding rule per port",
            findings,
        ),
        (_, true, [], []) => Some(lb::Ports::All),
        (Leads::Instance(_), false, [], [(first, last)]) => Some(lb::Ports::Range(*first, *last)),
        // Without ports a target instance gets them all (protocol forwarding).
        (Leads::Instance(_), false, [], []) => Some(lb::Ports::All),
        (_, false, [_, ..], []) if single.len() <= PORTS_MAX => Some(lb::Ports::Listed(single)),
        _ => wrong(
            format!("the forwarding rule `{name}` needs one to five ports, or all of them"),
            "write ports: [5432], or allPorts: true",
            findings,
        ),
    }
}

/// Such a rule as what a service attachment publishes: not with L3_DEFAULT (1.7).
pub(crate) fn published(
    rule: &lb::NetworkForwardingRule,
    reference: &Text,
    findings: &mut Findings,
) -> Option<psc::Target> {
    let protocol = match rule.protocol {
        lb::RuleProtocol::Tcp => IpProtocol::Tcp,
        lb::RuleProtocol::Udp => IpProtocol::Udp,
        lb::RuleProtocol::L3Default => {
            findings.error(
                Code::PscTargetNotSupported,
                reference.at,
                format!(
                    "`{}` has IPProtocol L3_DEFAULT, which cannot be published",
                    rule.self_link.name()
                ),
                "publish a forwarding rule with IPProtocol TCP or UDP",
            );
            return None;
        }
    };
    let ports = rule.ports.listed();
    Some(psc::Target {
        forwarding_rule: rule.self_link.clone(),
        address: rule.address,
        all_ports: ports.is_none(),
        ports: ports.unwrap_or_default(),
        protocol,
        allow_global_access: rule.allow_global_access,
    })
}

impl Lowering<'_> {
    /// Front ends of Network Load Balancers and target instances.
    pub(crate) fn network_rules(&mut self, rules: &[Rule<'_>], findings: &mut Findings) {
        for rule in rules {
            let Rule::Network(rule) = rule else { continue };
            let item = rule.item;
            let target = self.leads_to(rule, findings);
            let Some(Placed { network, address }) = self.addresses.placed.get(&item.link).cloned()
            else {
                continue;
            };
            let net = &self.fabric.nets[&network];
            let proxies = net.of(Purpose::RegionalManagedProxy, item.region()).next().is_some();
            if matches!(rule.leads, Leads::TcpProxy(_)) && !proxies && !net.incomplete {
                super::rules::no_proxy_subnet(item, &network, findings);
            }
            let Some(target) = target else { continue };
            let index = self.topology.load_balancing.network_rules.len();
            self.network_rule_index.insert(item.link.clone(), index);
            self.topology.load_balancing.network_rules.push(lb::NetworkForwardingRule {
                self_link: item.link.clone(),
                proxy_address: proxy_address(net, item.region()),
                network,
                region: item.region().to_owned(),
                address,
                protocol: rule.protocol,
                ports: rule.ports.clone(),
                allow_global_access: item.raw.allow_global_access.unwrap_or(false),
                target,
            });
        }
    }

    fn leads_to(
        &self,
        rule: &NetworkRule<'_>,
        findings: &mut Findings,
    ) -> Option<lb::NetworkTarget> {
        let model = self.model;
        let item = rule.item;
        let scope = item.scope();
        Some(match rule.leads {
            Leads::Service(reference) => lb::NetworkTarget::PassthroughService(
                self.passthrough_of(item, reference, rule.protocol, findings)?,
            ),
            Leads::TcpProxy(reference) => {
                let proxy = model.find(&model.target_tcp_proxies, reference, &scope, findings)?;
                same_region(item, proxy, reference, findings);
                let service = self.tcp_service(proxy, findings)?;
                lb::NetworkTarget::TcpProxy(lb::TargetTcpProxy {
                    self_link: proxy.link.clone(),
                    service,
                    proxy_header: proxy.raw.proxy_header == Some(ProxyHeader::ProxyV1),
                })
            }
            Leads::Instance(reference) => {
                let target = model.find(&model.target_instances, reference, &scope, findings)?;
                same_region(item, target, reference, findings);
                let raw = &target.raw;
                let address =
                    self.vm(&raw.instance, &target.scope(), target.place.region(), findings)?;
                let vm = model.seek(&model.instances, &raw.instance, &target.scope()).ok()?;
                let networks = [&item.link, &vm.link].map(|link| self.addresses.placed.get(link));
                if let [Some(own), Some(other)] = networks
                    && own.network != other.network
                {
                    findings.error(
                        Code::NetworkMismatch,
                        reference.at,
                        format!(
                            "the VM `{}` is in {}, the forwarding rule in {}",
                            vm.name(),
                            other.network,
                            own.network
                        ),
                        "name a VM of the forwarding rule's network",
                    );
                }
                lb::NetworkTarget::Instance(lb::TargetInstance {
                    self_link: target.link.clone(),
                    instance: vm.name().to_owned(),
                    address,
                })
            }
        })
    }

    /// The backend service of a target TCP proxy.
    fn tcp_service(
        &self,
        proxy: &Item<crate::fields::load_balancing::TargetTcpProxy>,
        findings: &mut Findings,
    ) -> Option<SelfLink> {
        let model = self.model;
        let reference = &proxy.raw.service;
        let service = model.find(&model.backend_services, reference, &proxy.scope(), findings)?;
        same_region(proxy, service, reference, findings);
        let all = &self.topology.load_balancing.backend_services;
        let lowered = all.iter().find(|one| one.self_link == service.link);
        if lowered.is_none_or(|lowered| lowered.protocol != lb::Protocol::Tcp) {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("`{}` is no backend service for a target TCP proxy; that one has protocol TCP and scheme INTERNAL_MANAGED", service.name()),
                "write protocol: TCP and loadBalancingScheme: INTERNAL_MANAGED in the backend service",
            );
            return None;
        }
        Some(service.link.clone())
    }
}
