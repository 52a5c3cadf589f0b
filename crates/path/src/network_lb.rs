//! Network Load Balancers and target instances: which VM or endpoint gets the connection, and what
//! its firewall says.

use crate::network::{network_uri, ruled};
use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use balancing::Table;
use balancing::passthrough::{PoolChoice, pool, slots};
use names::{NetworkId, Reason, SelfLink};
use serde_json::json;
use slice::load_balancer::{
    Backend, BackendService, Endpoints, NetworkEndpointGroup, NetworkForwardingRule, NetworkTarget,
    TargetTcpProxy,
};
use std::net::Ipv4Addr;
use vpc::Packet;

/// Who connects to a forwarding rule.
#[derive(Clone, Copy)]
pub(crate) enum Client<'a> {
    /// A workload of the network, or of a peer.
    Workload(vpc::Caller<'a>),
    /// The NAT address of a service attachment.
    Nat(Ipv4Addr),
}

impl crate::World {
    /// The rule of a Network Load Balancer or target instance.
    pub(crate) fn network_rule(&self, link: &SelfLink) -> Option<&NetworkForwardingRule> {
        self.topology().load_balancing.network_rules.iter().find(|rule| rule.self_link == *link)
    }
}

impl Walk<'_> {
    /// A connection to such a rule. Its region has been judged with the route, or by the endpoint.
    pub(crate) fn pass(
        &mut self,
        network: &NetworkId,
        rule: &NetworkForwardingRule,
        client: Client<'_>,
        asked: &Asked,
    ) -> End {
        self.push(arrival(network, rule));
        match &rule.target {
            NetworkTarget::TcpProxy(proxy) => self.proxy(network, rule, proxy),
            NetworkTarget::Instance(target) => {
                let step = Step::new(
                    State::AnalyzeLoadBalancerBackend,
                    format!("target instance {}: {}", target.self_link.name(), target.instance),
                );
                self.push(step.on(&target.self_link));
                self.enter_vm(network, rule, target.address, client, asked)
            }
            NetworkTarget::PassthroughService(link) => {
                let world = self.world;
                let all = &world.topology().load_balancing;
                let mut services = all.passthrough_services.iter();
                let service = services.find(|service| service.self_link == *link);
                let protocol = asked.ip_protocol();
                let pool = service.map(|one| pool(one, all, world.backend_states(), protocol));
                let shown = |list: &[Ipv4Addr]| {
                    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                    list.join(", ")
                };
                let (active, choice) = match &pool {
                    Some(pool) => (pool.active.clone(), pool.choice),
                    None => (Vec::new(), PoolChoice::Nobody),
                };
                let text = format!("{}: {} ({})", link.name(), shown(&active), choice.as_str());
                let info = json!({
                    "name": link.name(),
                    "backendServiceUri": link.as_str(),
                    "activeFailoverPool": active.iter().map(ToString::to_string).collect::<Vec<_>>(),
                });
                let step = Step::new(State::AnalyzeLoadBalancerBackend, text)
                    .on(link)
                    .detail("loadBalancerBackendInfo", info);
                let Some(vm) = slots(&active).first().copied() else {
                    let reason = Reason::NoHealthyBackend;
                    let refusal = Refusal::new(reason, reason.summary());
                    return self.refuse(step, refusal, End::Silence(Silence::TimesOut));
                };
                self.push(step);
                if active.len() > 1 {
                    self.notes.push(format!(
                        "{} VMs are behind {}; shown is one of them.",
                        active.len(),
                        rule.self_link.name()
                    ));
                }
                self.enter_vm(network, rule, vm, client, asked)
            }
        }
    }

    /// The packet as it is, into a VM: its firewall is asked for the client's own source.
    fn enter_vm(
        &mut self,
        network: &NetworkId,
        rule: &NetworkForwardingRule,
        vm: Ipv4Addr,
        client: Client<'_>,
        asked: &Asked,
    ) -> End {
        let world = self.world;
        let packet = Packet { protocol: asked.protocol(), to: rule.address, port: asked.port };
        let (source, caller) = match client {
            Client::Workload(caller) => (caller.address, Some(caller)),
            Client::Nat(source) => (source, None),
        };
        // A VM's packets to itself do not leave it.
        let ingress = match source == vm {
            true => None,
            false => world.fabric.passed_on(network, source, caller, vm, packet),
        };
        if let Some(ingress) = ingress {
            let step = ruled(&ingress, network);
            if !ingress.allowed {
                let why = format!("{ingress} of {network} denies it");
                let refusal = Refusal::new(Reason::FirewallRule, why);
                return self.refuse(step, refusal, End::Silence(Silence::TimesOut));
            }
            self.push(step);
        }
        let instances = world.topology().networks.iter().filter(|own| own.id == *network);
        let name = instances
            .flat_map(|own| &own.instances)
            .find(|instance| instance.address == vm)
            .map_or_else(|| vm.to_string(), |instance| instance.name.clone());
        let to = format!("the instance {name} in {network}, with {} as its address", rule.address);
        self.push(Step::new(State::Deliver, to.clone()).detail(
            "deliver",
            json!({"target": "INSTANCE", "resourceUri": name, "ipAddress": vm.to_string()}),
        ));
        End::Delivered { service: None, to }
    }

    /// A proxy opens a connection of its own.
    fn proxy(
        &mut self,
        network: &NetworkId,
        rule: &NetworkForwardingRule,
        proxy: &TargetTcpProxy,
    ) -> End {
        let world = self.world;
        let all = &world.topology().load_balancing;
        let states = world.backend_states();
        let service = all.backend_services.iter().find(|one| one.self_link == proxy.service);
        let closed = End::Silence(Silence::NoHttp);
        let step = Step::new(State::AnalyzeLoadBalancerBackend, proxy.service.name());
        let step = step.on(&proxy.service).detail(
            "loadBalancerBackendInfo",
            json!({"name": proxy.service.name(), "backendServiceUri": proxy.service.as_str()}),
        );
        let groups = &all.network_endpoint_groups;
        let table = service.map(|service| Table::told(service, groups, states));
        if table.is_none_or(|table| table.is_empty()) {
            let reason = Reason::NoHealthyBackend;
            return self.refuse(step, Refusal::new(reason, reason.summary()), closed);
        }
        self.push(step);
        let to = format!("an endpoint of {}", proxy.service.name());
        let source = rule.proxy_address.map(|address| format!(" from {address}"));
        let text = format!("a connection of its own to {to}{}", source.unwrap_or_default());
        self.push(Step::new(State::ProxyConnection, text).on(&proxy.self_link).detail(
            "proxyConnection",
            json!({
                "protocol": "TCP",
                "networkUri": network_uri(network),
                "newSourceIp": rule.proxy_address.map(|address| address.to_string()),
            }),
        ));
        // No backend can be dialled: the connection that the proxy has accepted is closed.
        let endpoints = service.map(|service| sockets(service, groups)).unwrap_or_default();
        if let Some(source) = rule.proxy_address
            && let Some(end) = self.kept_out(network, source, &endpoints, closed)
        {
            return end;
        }
        End::Delivered { service: None, to }
    }
}

/// The endpoints of a backend service that have an address.
fn sockets(service: &BackendService, groups: &[NetworkEndpointGroup]) -> Vec<String> {
    let of = |backend: &Backend| {
        let group = groups.iter().find(|group| group.self_link == backend.group);
        let all = match group.map(|group| &group.endpoints) {
            Some(Endpoints::Addresses { endpoints, .. }) => endpoints.clone(),
            Some(Endpoints::Instances(all)) => all.sockets(&service.port_name),
            _ => Vec::new(),
        };
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    service.backends.iter().flat_map(of).collect()
}

fn arrival(network: &NetworkId, rule: &NetworkForwardingRule) -> Step {
    let (kind, target) = match &rule.target {
        NetworkTarget::TcpProxy(proxy) => ("proxy Network Load Balancer", &proxy.self_link),
        NetworkTarget::PassthroughService(link) => ("passthrough Network Load Balancer", link),
        NetworkTarget::Instance(target) => ("target instance", &target.self_link),
    };
    let text = format!(
        "{} ({} {} {}) in {network}, {kind}",
        rule.self_link.name(),
        rule.address,
        rule.protocol,
        rule.ports,
    );
    Step::new(State::ArriveAtInternalLoadBalancer, text).on(&rule.self_link).detail(
        "forwardingRule",
        json!({
            "displayName": rule.self_link.name(),
            "uri": rule.self_link.as_str(),
            "matchedProtocol": rule.protocol.to_string(),
            "matchedPortRange": rule.ports.to_string(),
            "vip": rule.address.to_string(),
            "target": target.as_str(),
            "networkUri": network_uri(network),
            "region": rule.region,
        }),
    )
}
