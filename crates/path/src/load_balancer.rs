//! Application Load Balancers: forwarding rule, certificate, URL map, backend.

use crate::network::network_uri;
use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Silence, Walk};
use names::{NetworkId, Reason, SelfLink};
use serde_json::json;
use slice::load_balancer::{ForwardingRule, SslCertificate};
use std::net::{Ipv4Addr, SocketAddrV4};
use url_map::{Outcome, RequestHead};

impl Walk<'_> {
    /// A connection to a forwarding rule.
    pub(crate) fn balance(
        &mut self,
        network: &NetworkId,
        link: &SelfLink,
        (client_region, client): (&str, Ipv4Addr),
        asked: &Asked,
        verifies: bool,
    ) -> End {
        let world = self.world;
        let silence = End::Silence(Silence::TimesOut);
        let step = Step::new(State::ArriveAtInternalLoadBalancer, link.name()).on(link);
        let rules = &world.topology().load_balancing.forwarding_rules;
        let rule = rules.iter().find(|rule| rule.self_link == *link);
        let front = world.load_balancers.front(link.as_str());
        let (Some(rule), Some(front)) = (rule, front) else {
            let why = format!("{link} is no forwarding rule of an internal load balancer");
            let refusal = Refusal::new(Reason::DroppedInsidePscServiceProducer, why);
            return self.refuse(step, refusal, silence);
        };
        if let Err(reason) = front.admits(client_region) {
            let why = format!("the rule is in {}, the client in {client_region}", rule.region);
            return self.refuse(step, Refusal::new(reason, why), silence);
        }
        self.push(arrival(network, rule));
        if asked.only.is_some() {
            return End::Delivered { service: None, to: link.to_string() };
        }
        if asked.https != rule.target.https {
            let proxy = &rule.target.self_link;
            let (why, silence) = match rule.target.https {
                true => ("plain HTTP to a target HTTPS proxy", Silence::NoHttp),
                false => ("TLS to a target HTTP proxy", Silence::TlsFails),
            };
            let step = Step::new(State::PresentCertificate, why).on(proxy);
            let refusal = Refusal::new(Reason::SchemeMismatch, format!("{why} {proxy}"));
            return self.refuse(step, refusal, End::Silence(silence));
        }
        if rule.target.https
            && let Some(end) = self.present(rule, asked, verifies)
        {
            return end;
        }
        self.route(network, rule, client, front, asked)
    }

    /// The certificate that a client of this name is shown. A client that verifies goes no further
    /// with one for other names.
    fn present(&mut self, rule: &ForwardingRule, asked: &Asked, verifies: bool) -> Option<End> {
        let proxy = &rule.target.self_link;
        let (certificate, covers) = shown(&rule.target.ssl_certificates, &asked.host)?;
        let names = match certificate.domains.is_empty() {
            true => "its own names".to_owned(),
            false => certificate.domains.join(", "),
        };
        let text = format!("{} for {names}", certificate.self_link.name());
        let step = Step::new(State::PresentCertificate, text).on(proxy);
        let refusal = if !covers && verifies && !certificate.domains.is_empty() {
            let why = format!("{} is shown {}, for {names}", asked.host, certificate.self_link);
            Refusal::new(Reason::TlsCertificateMismatch, why)
        } else if let Some(policy) = &rule.target.server_tls_policy
            && !policy.allow_invalid_or_missing
        {
            // The client asked about here has no certificate of its own.
            let policy = &policy.self_link;
            let why = format!("{policy} asks for a client certificate, and none is shown");
            Refusal::new(Reason::TlsHandshakeFailed, why)
        } else {
            self.push(step);
            return None;
        };
        Some(self.refuse(step, refusal, End::Silence(Silence::TlsFails)))
    }

    /// The ingress rules of the backends' network: proxies need one that admits them
    /// (private-connectivity 5.3). Refused where every endpoint is kept from them; `end` is what a
    /// client sees then.
    pub(crate) fn kept_out(
        &mut self,
        network: &NetworkId,
        source: Ipv4Addr,
        endpoints: &[String],
        end: End,
    ) -> Option<End> {
        let fabric = &self.world.fabric;
        let rulings: Vec<(SocketAddrV4, vpc::Ruling)> = endpoints
            .iter()
            .map(|endpoint| {
                let to: SocketAddrV4 = endpoint.parse().ok()?;
                let packet = vpc::Packet::tcp(*to.ip(), to.port());
                Some((to, fabric.from_proxy(network, source, packet)?))
            })
            .collect::<Option<_>>()?;
        let chosen = rulings.iter().find(|(_, ruling)| ruling.allowed).or(rulings.first())?;
        let (to, ruling) = chosen.clone();
        let step = crate::network::ruled(&ruling, network);
        if ruling.allowed {
            self.push(step);
            return None;
        }
        let why = format!("{ruling} of {network} denies {source}, a proxy, to {to}");
        Some(self.refuse(step, Refusal::new(Reason::FirewallRule, why), end))
    }

    fn route(
        &mut self,
        network: &NetworkId,
        rule: &ForwardingRule,
        client: Ipv4Addr,
        front: url_map::Front<'_>,
        asked: &Asked,
    ) -> End {
        let link = &rule.self_link;
        let headers = asked.header_map();
        let head = RequestHead::new(&asked.authority, &asked.target)
            .with_method(&asked.method)
            .with_headers(&headers);
        // Where chance decides, what happens to most requests is shown.
        let head = head.with_roll(front.decide(&head).likely_roll());
        let decision = front.decide(&head);
        if decision.by_chance() {
            let map = decision.url_map.self_link.name();
            self.notes.push(format!(
                "Chance has a part in {map}; shown is what happens to most requests."
            ));
        }
        let explained = url_map::explain(&decision, &head);
        let refused = matches!(decision.outcome, Outcome::Refuse { .. });
        let last = explained.steps.len().saturating_sub(1);
        for (index, part) in explained.steps.into_iter().enumerate() {
            let state = match part.kind {
                "backendService" | "networkEndpointGroup" => State::AnalyzeLoadBalancerBackend,
                _ => State::ApplyUrlMap,
            };
            let mut step = Step::new(state, format!("{}: {}", part.resource.name(), part.text))
                .on(&part.resource);
            step.near_misses = part
                .near_misses
                .iter()
                .map(|near| format!("{}: {}", near.candidate, near.why))
                .collect();
            if state == State::AnalyzeLoadBalancerBackend {
                let key = match part.kind {
                    "backendService" => "backendServiceUri",
                    _ => "networkEndpointGroupUri",
                };
                let info = json!({"name": part.resource.name(), key: part.resource.as_str()});
                step = step.detail("loadBalancerBackendInfo", info);
            }
            if refused && index == last {
                let reason = decision.reason().unwrap_or(Reason::UrlMapNoMatch);
                let fix = match part.near_misses.first() {
                    Some(near) => format!("{} Near: {}.", reason.fix(), near.candidate),
                    None => reason.fix().to_owned(),
                };
                step = step.refuse(Refusal::with_fix(reason, part.text, fix));
            }
            self.push(step);
        }
        if let Some(service) = decision.backend_service
            && let Some(end) = self.guard(client, service, asked)
        {
            return end;
        }
        match &decision.outcome {
            Outcome::Refuse { status, .. } => End::Answered { status: *status, location: None },
            Outcome::Redirect(redirect) => {
                let location = Some(redirect.location.clone());
                let mut step = Step::new(
                    State::Redirect,
                    format!("{} to {}", redirect.status, redirect.location),
                )
                .on(&decision.url_map.self_link);
                if let Some(reason) = redirect.reason {
                    step = step.refuse(Refusal::new(reason, reason.summary()));
                }
                self.push(step);
                End::Answered { status: redirect.status, location }
            }
            Outcome::Endpoints { .. } => match decision.backend_service {
                Some(service) => {
                    let mut rules = self.world.topology().load_balancing.forwarding_rules.iter();
                    let rule = rules.find(|rule| rule.self_link == *link);
                    let end = End::Answered { status: 503, location: None };
                    rule.and_then(|rule| rule.proxy_address)
                        .and_then(|source| self.kept_out(network, source, service.endpoints(), end))
                        .unwrap_or_else(|| self.deliver(service, asked.forwarded(&decision)))
                }
                None => End::Delivered { service: None, to: link.to_string() },
            },
            Outcome::Preflight => {
                // The last step has said so.
                End::Answered { status: 200, location: None }
            }
            Outcome::CloudRun { target, .. } => {
                let origin = rule.origin();
                let key = serverless::Target::Service(&target.key);
                self.cloud_run(&asked.forwarded(&decision), &origin, key)
            }
        }
    }
}

fn arrival(network: &NetworkId, rule: &ForwardingRule) -> Step {
    let text = format!(
        "{} ({}:{}) in {network}, {}, URL map {}",
        rule.self_link.name(),
        rule.address,
        rule.port,
        match rule.target.https {
            true => "HTTPS",
            false => "HTTP",
        },
        rule.target.url_map.name(),
    );
    let state = match rule.is_external() {
        true => State::ArriveAtExternalLoadBalancer,
        false => State::ArriveAtInternalLoadBalancer,
    };
    Step::new(state, text).on(&rule.self_link).detail(
        "forwardingRule",
        json!({
            "displayName": rule.self_link.name(),
            "uri": rule.self_link.as_str(),
            "matchedPortRange": rule.port.to_string(),
            "vip": rule.address.to_string(),
            "target": rule.target.self_link.as_str(),
            "networkUri": network_uri(network),
            "region": rule.region,
            "loadBalancerName": rule.target.url_map.name(),
        }),
    )
}

/// The first certificate for the name, else the first one (private-connectivity 2.1); and whether
/// it is for the name. The same rule as `http_proxy::tls::server_config` follows by the
/// certificates' own names.
fn shown<'a>(certificates: &'a [SslCertificate], host: &str) -> Option<(&'a SslCertificate, bool)> {
    let covering = certificates
        .iter()
        .find(|one| one.domains.iter().any(|name| names::certificate_covers(name, host)));
    match covering {
        Some(certificate) => Some((certificate, true)),
        None => certificates.first().map(|certificate| (certificate, false)),
    }
}
