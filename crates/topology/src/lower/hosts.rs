//! Hosts of a deployment, and whether every endpoint finds its service from where it is.

use super::Lowering;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::model::Scoped;
use names::NetworkId;
use slice::IpProtocol;
use slice::hosts::{Host, HostNetwork};
use std::collections::HashMap;
use std::net::SocketAddr;

impl Lowering<'_> {
    /// All hosts, after the endpoints.
    pub(crate) fn hosts(&mut self, findings: &mut Findings) {
        let mut names: HashMap<&str, Mark> = HashMap::new();
        let mut networks: HashMap<NetworkId, Mark> = HashMap::new();
        let mut addresses: HashMap<SocketAddr, Mark> = HashMap::new();
        let model = self.model;
        for Scoped { scope, raw } in &model.hosts {
            conflict(&mut names, &raw.name, raw.name.at, "the host", findings);
            let mut host = Host { name: raw.name.value.clone(), networks: Vec::new() };
            for one in &raw.networks {
                let Some(network) =
                    super::psc::network_in_ours(self, &one.network, scope, findings)
                else {
                    continue;
                };
                conflict(&mut networks, network.clone(), one.at, "the network", findings);
                let address = socket(one.address.as_ref(), &mut addresses, findings);
                let rendezvous = socket(one.rendezvous.as_ref(), &mut addresses, findings);
                host.networks.push(HostNetwork { network, address, rendezvous });
            }
            self.topology.hosts.push(host);
        }
        if !self.topology.hosts.is_empty() {
            self.ways(findings);
        }
    }

    /// Every endpoint's way to its service.
    fn ways(&self, findings: &mut Findings) {
        let hosts = &self.topology.hosts;
        let find = |id: &NetworkId| {
            let all = hosts.iter().enumerate();
            let mut all = all.flat_map(|(host, one)| one.networks.iter().map(move |n| (host, n)));
            all.find(|(_, one)| one.network == *id)
        };
        for (at, endpoint) in &self.endpoints {
            let Some(producer) = &endpoint.producer_network else { continue };
            let mut ends = Vec::new();
            for network in [&endpoint.network, producer] {
                match find(network) {
                    Some(found) => ends.push(found),
                    None => findings.error(
                        Code::HostWay,
                        *at,
                        format!("{network} is on no host, and `hosts` are declared"),
                        format!("add {{network: {network}}} to the `networks` of a host"),
                    ),
                }
            }
            let [(near, consumer), (far, producer)] = ends[..] else { continue };
            if near == far {
                continue;
            }
            if !endpoint.listens() {
                findings.error(
                    Code::HostWay,
                    *at,
                    format!(
                        "the service of this network endpoint group is on `{}`, the load balancer on `{}`; a load balancer hands connections over on its own host",
                        hosts[far].name, hosts[near].name
                    ),
                    "create an endpoint (a forwarding rule), and a group of its address",
                );
            } else if endpoint.protocol == IpProtocol::Udp {
                findings.error(
                    Code::HostWay,
                    *at,
                    "a UDP endpoint and its service are on two hosts; between hosts TCP is carried",
                    "put both networks on one host",
                );
            } else if producer.address.is_none() && consumer.rendezvous.is_none() {
                findings.error(
                    Code::HostWay,
                    *at,
                    format!(
                        "the endpoint is on `{}`, its service on `{}`, and neither can dial the other",
                        hosts[near].name, hosts[far].name
                    ),
                    format!(
                        "give {} an `address` that `{}` can dial, or {} a `rendezvous` that `{}` can dial; port 15008 by convention",
                        producer.network, hosts[near].name, consumer.network, hosts[far].name
                    ),
                );
            }
        }
    }
}

fn conflict<K: std::hash::Hash + Eq + std::fmt::Display>(
    seen: &mut HashMap<K, Mark>,
    key: K,
    at: Mark,
    what: &str,
    findings: &mut Findings,
) {
    let told = key.to_string();
    let first = *seen.entry(key).or_insert(at);
    if first != at {
        let first = findings.position(first);
        findings.error(
            Code::HostConflict,
            at,
            format!("{what} `{told}` stands here twice, first at {first}"),
            "remove one of the two",
        );
    }
}

/// An address of a host, each for one listener.
fn socket(
    text: Option<&Text>,
    seen: &mut HashMap<SocketAddr, Mark>,
    findings: &mut Findings,
) -> Option<SocketAddr> {
    let text = text?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => {
            conflict(seen, address, text.at, "the address", findings);
            Some(address)
        }
        _ => {
            findings.error(
                Code::InvalidValue,
                text.at,
                format!("`{}` is no address that another host could dial", text.value),
                "write ADDRESS:PORT of the host, such as 192.0.2.7:15008",
            );
            None
        }
    }
}
