//! From the name to the load balancer: DNS, route, PSC endpoint, service attachment.

use crate::caller::Caller;
use crate::network_lb::Client;
use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use ipnet::Ipv4Net;
use managed_zone::RecordType;
use names::{NetworkId, Origin, Reason, SelfLink};
use psc::Admission;
use serde_json::json;
use slice::vpc::Direction;
use std::net::Ipv4Addr;
use vpc::{Packet, Reach, Ruling, Taken};

impl Walk<'_> {
    /// A client in a network. `verifies` says whether it looks at certificates.
    pub(crate) fn call_from_network(
        &mut self,
        caller: &Caller,
        asked: &Asked,
        verifies: bool,
    ) -> End {
        let address = match asked.host.parse::<Ipv4Addr>() {
            Ok(address) => address,
            Err(_) => match self.look_up(caller, &asked.host) {
                Ok(address) => address,
                Err(end) => return end,
            },
        };
        if address.is_loopback() {
            let text = format!("{address} is the client itself, and no address of a network");
            let refusal = Refusal::new(Reason::NoRoute, text.clone());
            let step = Step::new(State::ApplyRoute, text);
            return self.refuse(step, refusal, End::Silence(Silence::Itself));
        }
        let port = asked.port;
        self.endpoint_info.entry("destinationIp").or_insert_with(|| json!(address.to_string()));
        let route = |text: String| Step::new(State::ApplyRoute, text);
        let packet = Packet { protocol: asked.protocol(), to: address, port };
        let sender = caller.at_the_boundary().towards(address);
        if *sender.network != caller.network {
            let text = format!("{address} is in no private range: it is called past the network");
            self.push(Step::new(State::ApplyRoute, text));
        }
        let verdict = self.world.fabric.reach(sender, packet);
        let dropped = match &verdict.reach {
            Reach::Dropped { reason, detail } => Some(Refusal::new(*reason, detail.clone())),
            _ => None,
        };
        let silence = End::Silence(Silence::TimesOut);
        let denied = |ruling: &Ruling| dropped.clone().filter(|_| !ruling.allowed);
        if let Some(egress) = &verdict.egress {
            let step = ruled(egress, &caller.network);
            match denied(egress) {
                Some(refusal) => return self.refuse(step, refusal, silence),
                None => self.push(step),
            }
        }
        match (&verdict.taken, &dropped, &verdict.ingress) {
            // The drop is the route's own, or that of what it leads to.
            (taken, Some(refusal), None) => {
                let step = match taken {
                    Some(taken) => self.via(&caller.network, taken, address),
                    None => route(format!("{address}:{port} from {}", sender.network)),
                };
                return self.refuse(step, refusal.clone(), silence);
            }
            (Some(taken), ..) => {
                let step = self.via(&caller.network, taken, address);
                self.push(step);
            }
            (None, ..) => {}
        }
        if let Some(ingress) = &verdict.ingress {
            let network = match (&verdict.reach, &verdict.taken) {
                (Reach::Instance { network, .. }, _)
                | (_, Some(Taken::PeeringSubnet { peer: network, .. })) => network,
                _ => &caller.network,
            };
            let step = ruled(ingress, network);
            match denied(ingress) {
                Some(refusal) => return self.refuse(step, refusal, silence),
                None => self.push(step),
            }
        }
        match verdict.reach {
            Reach::ForwardingRule { forwarding_rule, network } => {
                if let Some(rule) = self.world.network_rule(&forwarding_rule) {
                    let client = Client::Workload(caller.at_the_boundary());
                    return self.pass(&network, rule, client, asked);
                }
                let client = (caller.region.as_str(), caller.source);
                self.balance(&network, &forwarding_rule, client, asked, verifies)
            }
            Reach::Endpoint { endpoint } => {
                self.connect_psc(&caller.region, caller.address, &endpoint, asked, verifies)
            }
            Reach::FrontEnd(front_end) if asked.only.is_some() => {
                End::Delivered { service: None, to: format!("{front_end:?}") }
            }
            Reach::FrontEnd(front_end) => {
                let origin = Origin::through(front_end, sender.network, &caller.project);
                self.front_end(asked, origin)
            }
            Reach::Metadata => {
                let to = "the metadata server".to_owned();
                self.push(Step::new(State::Deliver, to.clone()).detail(
                    "deliver",
                    json!({
                        "target": "GOOGLE_API", "ipAddress": address.to_string(),
                    }),
                ));
                End::Delivered { service: None, to }
            }
            Reach::Instance { name, network } => {
                let to = format!("the instance {name} in {network}");
                self.push(Step::new(State::Deliver, to.clone()).detail(
                    "deliver",
                    json!({
                        "target": "INSTANCE", "resourceUri": name, "ipAddress": address.to_string(),
                    }),
                ));
                End::Delivered { service: None, to }
            }
            Reach::Subnetwork { subnetwork } => {
                let text = format!("{address} is in {subnetwork}, where nothing has it");
                let refusal = Refusal::new(Reason::UnknownInternalAddress, text.clone());
                self.refuse(route(text).on(&subnetwork), refusal, silence)
            }
            // Refused above, where the step is that says so.
            Reach::Dropped { reason, detail } => {
                let refusal = Refusal::new(reason, detail);
                self.refuse(route(address.to_string()), refusal, silence)
            }
        }
    }

    /// The name as the workload's own resolver library looks it up: by its search list too.
    fn look_up(&mut self, caller: &Caller, host: &str) -> Result<Ipv4Addr, End> {
        let region = Some(caller.region.as_str());
        let mut vms = self.world.topology().networks.iter().flat_map(|network| &network.instances);
        let vm = vms.find(|vm| Some(vm.address) == caller.address && vm.project == caller.project);
        let zone = match (vm, caller.network.is_internet()) {
            (Some(vm), _) => vm.zone.clone(),
            (None, true) => String::new(),
            (None, false) => format!("{}-b", caller.region),
        };
        let order = slice::lookup_order(host, &zone, &caller.project);
        let found = order.iter().find(|name| {
            let resolution = self.world.resolve_here(&caller.network, region, name, RecordType::A);
            resolution.is_ok_and(|resolution| !resolution.addresses().is_empty())
        });
        let name = found.map_or(host, String::as_str).to_owned();
        self.resolve(caller, &name)
    }

    fn resolve(&mut self, caller: &Caller, host: &str) -> Result<Ipv4Addr, End> {
        let region = Some(caller.region.as_str());
        let resolution = match self.world.resolve_here(&caller.network, region, host, RecordType::A)
        {
            Ok(resolution) => resolution,
            Err(problem) => {
                let refusal = Refusal::new(Reason::DnsNameNotFound, problem);
                let step = Step::new(State::ResolveName, format!("`{host}`"));
                return Err(self.refuse(step, refusal, End::Silence(Silence::Unresolved)));
            }
        };
        let shown = crate::resolve::step(&resolution);
        if let Some(address) = resolution.addresses().first() {
            self.push(shown);
            return Ok(*address);
        }
        let reason = resolution.reason.unwrap_or(Reason::DnsNodata);
        let why = match resolution.zone() {
            Some(zone) => format!("{} ({zone})", reason.summary()),
            None => reason.summary().to_owned(),
        };
        let refusal = Refusal::new(reason, why);
        let silence = match resolution.name_servers() {
            Some(_) => Silence::Forwarded,
            None => Silence::Unresolved,
        };
        Err(self.refuse(shown, refusal, End::Silence(silence)))
    }

    /// Endpoint → service attachment → the producer's forwarding rule.
    pub(crate) fn connect_psc(
        &mut self,
        client_region: &str,
        client: Option<Ipv4Addr>,
        link: &SelfLink,
        asked: &Asked,
        verifies: bool,
    ) -> End {
        let world = self.world;
        let silence = End::Silence(Silence::TimesOut);
        let Some(endpoint) = world.topology().endpoints.iter().find(|e| e.self_link == *link)
        else {
            let refusal = Refusal::new(Reason::UnknownInternalAddress, format!("no {link}"));
            let step = Step::new(State::ApplyForwardingRule, link.to_string());
            return self.refuse(step, refusal, silence);
        };
        let connection = world.connections.get(link);
        let state = connection.map(psc::Connection::state);
        let status = state.as_ref().map(|state| state.status.to_string());
        // A propagated connection has the name of the network that it is propagated to.
        let name = match &endpoint.propagated_from {
            Some(from) => format!("{} of {}, propagated to", from.endpoint.name(), from.network),
            None => link.name().to_owned(),
        };
        let to = endpoint.propagated_from.as_ref().map(|_| format!("{}, ", endpoint.network));
        let text = format!(
            "PSC endpoint {name} {}({}:{}) → {}{}",
            to.map(|to| format!("{} ", to.trim_end_matches(", "))).unwrap_or_default(),
            endpoint.address,
            asked.port,
            endpoint.target.name(),
            status.as_ref().map(|status| format!(", connection {status}")).unwrap_or_default(),
        );
        let step = Step::new(State::ApplyForwardingRule, text).on(link).detail(
            "forwardingRule",
            json!({
                "displayName": link.name(),
                "uri": link.as_str(),
                "vip": endpoint.address.to_string(),
                "networkUri": network_uri(&endpoint.network),
                "target": endpoint.target.as_str(),
                "region": endpoint.region,
                "pscServiceAttachmentUri": endpoint.target.as_str(),
                "pscConnectionStatus": status,
            }),
        );
        if let Some(reason) = psc::enter(endpoint, Some(client_region), state.as_ref()) {
            let refusal = psc_refusal(reason, endpoint, connection);
            return self.refuse(step, refusal, silence);
        }
        let attachment = world
            .topology()
            .service_attachments
            .iter()
            .find(|attachment| attachment.self_link == endpoint.target);
        let (Some(connection), Some(attachment)) = (connection, attachment) else {
            let refusal = psc_refusal(Reason::PscServiceAttachmentNotFound, endpoint, connection);
            return self.refuse(step, refusal, silence);
        };
        let mut step = step;
        step.details.push(connection.evidence.to_string());
        self.push(step);
        // Regions have been asked about at the endpoint.
        let protocol = asked.ip_protocol();
        match psc::admit(connection, &attachment.target, None, protocol, asked.port, |_| 0) {
            Admission::Refused(reason) => {
                let step = Step::new(
                    State::Nat,
                    format!("service attachment {}", attachment.self_link.name()),
                )
                .on(&attachment.self_link);
                let refusal = psc_refusal(reason, endpoint, Some(connection));
                self.refuse(step, refusal, silence)
            }
            Admission::Admitted { source, target } => {
                let rule = &attachment.target.forwarding_rule;
                let text = format!(
                    "service attachment {} in {}: source {source}, to {target} ({})",
                    attachment.self_link.name(),
                    attachment.network,
                    rule.name(),
                );
                let step = Step::new(State::Nat, text).on(&attachment.self_link).detail(
                    "nat",
                    json!({
                        "type": "PRIVATE_SERVICE_CONNECT",
                        "protocol": attachment.target.protocol.to_string(),
                        "networkUri": network_uri(&attachment.network),
                        "oldSourceIp": client.map(|address| address.to_string()),
                        "newSourceIp": source.to_string(),
                        "oldDestinationIp": endpoint.address.to_string(),
                        "newDestinationIp": target.ip().to_string(),
                        "oldDestinationPort": asked.port,
                        "newDestinationPort": target.port(),
                    }),
                );
                self.push(step);
                if let Some(rule) = world.network_rule(rule) {
                    return self.pass(&attachment.network, rule, Client::Nat(source), asked);
                }
                if attachment.enable_proxy_protocol {
                    return self.misread_proxy_header(attachment, asked);
                }
                let client = (attachment.region.as_str(), source);
                self.balance(&attachment.network, rule, client, asked, verifies)
            }
        }
    }

    /// A PROXY header reaches a load balancer, which takes it for the client's first bytes: for a
    /// TLS hello that is none, or for a request line that is none (private-connectivity 1.5).
    fn misread_proxy_header(
        &mut self,
        attachment: &slice::psc::ServiceAttachment,
        asked: &Asked,
    ) -> End {
        let rule = &attachment.target.forwarding_rule;
        let rules = &self.world.topology().load_balancing.forwarding_rules;
        let https =
            rules.iter().find(|own| own.self_link == *rule).map_or(asked.https, |r| r.target.https);
        let (end, instead) = match (https, asked.https) {
            (_, true) => (End::Silence(Silence::TlsFails), "a TLS hello"),
            (true, false) => (End::Silence(Silence::NoHttp), "a TLS hello"),
            (false, false) => (End::Answered { status: 400, location: None }, "a request line"),
        };
        let why = format!(
            "enableProxyProtocol of {} is true: {} gets a PROXY header instead of {instead}",
            attachment.self_link,
            rule.name(),
        );
        let fix = format!(
            "Set enableProxyProtocol of {} to false, or publish a target that understands PROXY.",
            attachment.self_link
        );
        let step = Step::new(State::ArriveAtInternalLoadBalancer, rule.name()).on(rule);
        let refusal = Refusal::with_fix(Reason::ProxyProtocolNotSupported, why, fix);
        self.refuse(step, refusal, end)
    }
}

pub(crate) fn network_uri(network: &NetworkId) -> String {
    SelfLink::global(&network.project, "networks", &network.name).to_string()
}

/// A firewall rule that was asked.
pub(crate) fn ruled(ruling: &Ruling, network: &NetworkId) -> Step {
    let (state, direction) = match ruling.direction {
        Direction::Egress => (State::ApplyEgressFirewallRule, "EGRESS"),
        Direction::Ingress => (State::ApplyIngressFirewallRule, "INGRESS"),
    };
    let action = if ruling.allowed { "ALLOW" } else { "DENY" };
    let mut step = Step::new(state, format!("{ruling} of {network}: {action}"));
    let (name, uri, kind) = match &ruling.rule {
        Some(rule) => {
            step = step.on(rule);
            (rule.name(), rule.as_str(), "VPC_FIREWALL_RULE")
        }
        None => ("", "", "IMPLIED_VPC_FIREWALL_RULE"),
    };
    step.detail(
        "firewall",
        json!({
            "displayName": name,
            "uri": uri,
            "direction": direction,
            "action": action,
            "priority": ruling.priority,
            "networkUri": network_uri(network),
            "firewallRuleType": kind,
        }),
    )
}

impl Walk<'_> {
    /// The route that a packet takes, or the PSC endpoint for Google APIs that has the address.
    fn via(&self, own: &NetworkId, taken: &Taken, address: Ipv4Addr) -> Step {
        let mut endpoints = self.world.topology().google_apis_endpoints.iter();
        let known = endpoints.find(|one| one.network == *own && one.address == address);
        match known.filter(|_| *taken == Taken::DefaultInternetGateway) {
            Some(endpoint) => {
                let link = &endpoint.self_link;
                let text = format!("PSC endpoint {} ({address}) for Google APIs", link.name());
                Step::new(State::ApplyForwardingRule, text).on(link).detail(
                    "forwardingRule",
                    json!({
                        "displayName": link.name(),
                        "uri": link.as_str(),
                        "vip": address.to_string(),
                        "networkUri": network_uri(own),
                    }),
                )
            }
            None => via(own, taken, address),
        }
    }
}

/// The route that a packet takes.
fn via(own: &NetworkId, taken: &Taken, address: Ipv4Addr) -> Step {
    let internet = Ipv4Net::default();
    let (text, kind, hop, resource, range) = match taken {
        Taken::Subnet { subnetwork, range } => (
            format!("{address} is in {} ({range}), a subnetwork of {own}", subnetwork.name()),
            "SUBNET",
            "NEXT_HOP_NETWORK",
            network_uri(own),
            range,
        ),
        Taken::PeeringSubnet { peer, subnetwork, range, .. } => (
            format!(
                "{address} is in {} ({range}), a subnetwork of {peer}, an active peer of {own}",
                subnetwork.name()
            ),
            "PEERING_SUBNET",
            "NEXT_HOP_PEERING",
            network_uri(peer),
            range,
        ),
        Taken::Static { route, range } => (
            format!("static route {} ({range}) of {own}", route.name()),
            "STATIC",
            "NEXT_HOP_INSTANCE",
            route.to_string(),
            range,
        ),
        Taken::PeeringStatic { peer, route, range, .. } => (
            format!("static route {} ({range}) of {peer}, an active peer of {own}", route.name()),
            "PEERING_STATIC",
            "NEXT_HOP_PEERING",
            route.to_string(),
            range,
        ),
        Taken::DefaultInternetGateway => (
            format!("{address} is a Google front end, behind the default internet gateway"),
            "STATIC",
            "NEXT_HOP_INTERNET_GATEWAY",
            network_uri(own),
            &internet,
        ),
    };
    Step::new(State::ApplyRoute, text).on(resource).detail(
        "route",
        json!({
            "routeType": kind,
            "nextHopType": hop,
            "networkUri": network_uri(own),
            "destIpRange": range.to_string(),
        }),
    )
}

fn psc_refusal(
    reason: Reason,
    endpoint: &slice::psc::Endpoint,
    connection: Option<&psc::Connection>,
) -> Refusal {
    match (reason, connection) {
        (Reason::PscServiceAttachmentNotFound, _) => {
            Refusal::new(reason, format!("{} does not exist", endpoint.target))
        }
        (_, Some(connection)) if connection.reason() == Some(reason) => {
            let why = format!("{}: {}", connection.status, connection.why());
            match connection.fix() {
                Some(fix) => {
                    let place = connection.fixed_in();
                    Refusal::with_fix(reason, why, format!("In {place}: {fix}."))
                }
                None => Refusal::new(reason, why),
            }
        }
        _ => Refusal::new(reason, reason.summary()),
    }
}
