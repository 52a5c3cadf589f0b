//! Hubs: the connections of accepted endpoints in one VPC spoke, propagated to the others
//! (private-connectivity 1.4).

use super::Lowering;
use super::psc::network_of;
use crate::decode::Text;
use crate::derive;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::hubs::Spoke;
use crate::model::Scoped;
use crate::reference::{last_segment, parts};
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::psc::{Endpoint, EndpointKind, PropagatedFrom};
use std::collections::HashMap;

/// A VPC spoke.
struct Vpc {
    network: NetworkId,
    /// Endpoints in these ranges stay at home.
    excluded: Vec<Ipv4Net>,
    /// Only endpoints in these are propagated; all where it is empty.
    included: Vec<Ipv4Net>,
    at: Mark,
}

impl Lowering<'_> {
    /// Adds a propagated connection for each endpoint of a published service and each other spoke.
    ///
    /// Its consumer project is the endpoint's; the spoke's network may not have the endpoint's
    /// address in a subnetwork (spokes of one hub do not overlap).
    pub(crate) fn propagate(&mut self, findings: &mut Findings) {
        let mut spokes = self.spokes(findings);
        for hub in &self.model.hubs {
            let name = key(hub.scope.project.as_deref(), &hub.raw.name);
            let vpcs = spokes.remove(&name).unwrap_or_default();
            findings.warning(
                Code::NotYetHonoured,
                hub.raw.at,
                format!(
                    "the hub `{}` propagates PSC connections here and exchanges no subnet routes",
                    last_segment(&hub.raw.name)
                ),
                "peer the networks where workloads of one call those of another",
            );
            if hub.raw.export_psc != Some(true) {
                continue;
            }
            let mut more = Vec::new();
            for (at, endpoint) in &self.endpoints {
                let Some(home) = vpcs.iter().find(|vpc| vpc.network == endpoint.network) else {
                    continue;
                };
                if endpoint.kind != EndpointKind::ForwardingRule || !self.exported(home, endpoint) {
                    continue;
                }
                for spoke in vpcs.iter().filter(|spoke| spoke.network != home.network) {
                    // The producer's own network gets none, should it be a spoke too.
                    if Some(&spoke.network) == endpoint.producer_network.as_ref() {
                        continue;
                    }
                    let net = &self.fabric.nets[&spoke.network];
                    if net.containing(endpoint.address).is_some() {
                        findings.error(
                            Code::SubnetOverlap,
                            spoke.at,
                            format!("{} has a subnetwork with {}, the address of {}; spokes of one hub do not overlap", spoke.network, endpoint.address, endpoint.self_link),
                            "exclude the endpoint's range from export, or change one of the ranges",
                        );
                        continue;
                    }
                    more.push((*at, propagated(endpoint, &spoke.network)));
                }
            }
            self.endpoints.extend(more);
        }
    }

    fn spokes(&self, findings: &mut Findings) -> HashMap<String, Vec<Vpc>> {
        let mut all: HashMap<String, Vec<Vpc>> = HashMap::new();
        for Scoped { scope, raw } in &self.model.spokes {
            let hub = key(scope.project.as_deref(), &raw.hub);
            let known = self.model.hubs.iter();
            if !known.into_iter().any(|own| key(own.scope.project.as_deref(), &own.raw.name) == hub)
            {
                findings.error(
                    Code::ReferenceNotFound,
                    raw.hub.at,
                    format!("`{}` leads to nothing; there is no such hub", raw.hub.value),
                    "declare it under `hubs`, or correct the name",
                );
            }
            let uri = &raw.linked_vpc_network.uri;
            let Some(network) = network_of(self, uri, scope, findings) else { continue };
            let vpcs = all.entry(hub).or_default();
            if vpcs.iter().any(|vpc| vpc.network == network) {
                findings.error(
                    Code::DuplicateEntry,
                    uri.at,
                    format!("{network} is a spoke of this hub already"),
                    "remove one of the two",
                );
                continue;
            }
            let (excluded, included) = ranges(raw, findings);
            vpcs.push(Vpc { network, excluded, included, at: raw.at });
        }
        all
    }

    /// Is the subnetwork of the endpoint exported to the hub?
    fn exported(&self, home: &Vpc, endpoint: &Endpoint) -> bool {
        let net = &self.fabric.nets[&home.network];
        let Some(index) = net.containing(endpoint.address) else { return false };
        let range = net.subnets[index].range;
        let within = |all: &[Ipv4Net]| all.iter().any(|one| one.contains(&range));
        (home.included.is_empty() || within(&home.included)) && !within(&home.excluded)
    }
}

fn propagated(endpoint: &Endpoint, network: &NetworkId) -> Endpoint {
    let link = format!(
        "{}/propagatedConnections/{}/{}",
        endpoint.self_link, network.project, network.name
    );
    Endpoint {
        self_link: SelfLink::new(&link),
        network: network.clone(),
        psc_connection_id: derive::psc_connection_id(network, endpoint.address),
        automatic_dns_name: None,
        propagated_from: Some(PropagatedFrom {
            endpoint: endpoint.self_link.clone(),
            psc_connection_id: endpoint.psc_connection_id,
            network: endpoint.network.clone(),
        }),
        ..endpoint.clone()
    }
}

/// A hub's canonical name.
fn key(project: Option<&str>, reference: &str) -> String {
    let named = parts(reference).and_then(|parts| parts.project);
    let project = named.or(project).unwrap_or_default();
    format!("projects/{project}/locations/global/hubs/{}", last_segment(reference))
}

fn ranges(raw: &Spoke, findings: &mut Findings) -> (Vec<Ipv4Net>, Vec<Ipv4Net>) {
    let mut read = |texts: &[Text]| {
        let mut all = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse() {
                Ok(range) => all.push(range),
                Err(_) if text.as_str() == "ALL_PRIVATE_IPV4_RANGES" => {
                    all.extend("0.0.0.0/0".parse::<Ipv4Net>());
                }
                Err(_) => findings.error(
                    Code::InvalidRange,
                    text.at,
                    format!("`{}` is no IPv4 range", text.value),
                    "write a range such as 10.0.0.0/24",
                ),
            }
        }
        all
    };
    let vpc = &raw.linked_vpc_network;
    (read(&vpc.exclude_export_ranges), read(&vpc.include_export_ranges))
}
