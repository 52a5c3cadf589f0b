//! Which sockets each program serves: asked by the supervisor, which binds and passes them, and by
//! a program started by hand, which binds them itself.

use crate::apigee::ApiProxySlice;
use crate::dns::PrivateDnsSlice;
use crate::load_balancer::{InternalLbSlice, NORTHBOUND, RuleProtocol};
use crate::psc::{EndpointAttachmentSlice, ServiceAttachmentSlice};
use crate::run::{CloudRunSlice, GoogleFrontEndSlice, MetadataSlice};
use crate::{
    Bind, CLOUD_RUN_CHANNEL, CLOUD_RUN_FRONT_END_CHANNEL, IDENTITY_FRONT_END_CHANNEL, IpProtocol,
    Listen, METADATA_ADDRESS, PRIVATE_VIP, RESTRICTED_VIP, TOKEN_CHANNEL, front_ends,
    private_dns_channel, service_attachment_channel,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A program's slice.
pub trait Slice: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// The sockets that the program serves under this slice.
    fn listens(&self) -> Vec<Listen>;
}

fn listen(key: impl Into<String>, bind: Bind) -> Listen {
    Listen { key: key.into(), bind }
}

impl Slice for EndpointAttachmentSlice {
    /// One listener per endpoint and port, keyed `SELF_LINK:PORT`, and `rendezvous` where producers
    /// of other hosts dial in.
    fn listens(&self) -> Vec<Listen> {
        let of = |endpoint: &crate::psc::Endpoint| {
            let one = |port: &u16| {
                let (network, to) =
                    (self.network.clone(), SocketAddrV4::new(endpoint.address, *port));
                let bind = match endpoint.protocol {
                    IpProtocol::Tcp => Bind::Tcp(network, to),
                    IpProtocol::Udp => Bind::Udp(network, to),
                };
                listen(format!("{}:{port}", endpoint.self_link), bind)
            };
            endpoint.ports.iter().map(one).collect::<Vec<_>>()
        };
        let rendezvous = self.remote.rendezvous;
        let rendezvous = rendezvous.map(|address| listen("rendezvous", Bind::Host(address)));
        self.endpoints.iter().flat_map(of).chain(rendezvous).collect()
    }
}

impl Slice for ServiceAttachmentSlice {
    /// The channel `channel`, and `hbone` where consumers of other hosts dial.
    fn listens(&self) -> Vec<Listen> {
        let channel = Bind::Channel(service_attachment_channel(&self.network));
        let hbone = self.remote.address.map(|address| listen("hbone", Bind::Host(address)));
        std::iter::once(listen("channel", channel)).chain(hbone).collect()
    }
}

impl Slice for InternalLbSlice {
    /// One listener per forwarding rule, keyed by its self link, and one on the host where it is
    /// published, keyed `northbound SELF_LINK`; of a passthrough rule one per port,
    /// keyed `SELF_LINK:PORT`. (Nobody can listen on all ports: such a rule is silent where the
    /// program has to carry packets.)
    fn listens(&self) -> Vec<Listen> {
        let mut all = Vec::new();
        for rule in &self.load_balancing.forwarding_rules {
            let to = SocketAddrV4::new(rule.address, rule.port);
            all.push(listen(rule.self_link.as_str(), Bind::Tcp(rule.network.clone(), to)));
            if let Some(northbound) = rule.northbound {
                let key = format!("{NORTHBOUND}{}", rule.self_link);
                all.push(listen(key, Bind::Host(northbound)));
            }
        }
        for rule in &self.load_balancing.network_rules {
            let passthrough = rule.is_passthrough();
            if passthrough && !self.carries_packets {
                continue;
            }
            for port in rule.ports.listed().unwrap_or_default() {
                let to = SocketAddrV4::new(rule.address, port);
                let (key, network) = match passthrough {
                    true => (format!("{}:{port}", rule.self_link), rule.network.clone()),
                    false => (rule.self_link.to_string(), rule.network.clone()),
                };
                let bind = match rule.protocol {
                    RuleProtocol::Udp => Bind::Udp(network, to),
                    RuleProtocol::Tcp | RuleProtocol::L3Default => Bind::Tcp(network, to),
                };
                all.push(listen(key, bind));
            }
        }
        all
    }
}

impl Slice for PrivateDnsSlice {
    /// `udp` and `tcp` on 169.254.169.254:53, and `udp ADDRESS` and `tcp ADDRESS` on each inbound
    /// entry of the own network; the channel `peers` where the network has name servers that the
    /// resolvers of others may need.
    fn listens(&self) -> Vec<Listen> {
        let to = SocketAddrV4::new(METADATA_ADDRESS, 53);
        let mut all = vec![
            listen("udp", Bind::Udp(self.network.clone(), to)),
            listen("tcp", Bind::Tcp(self.network.clone(), to)),
        ];
        let entries = self.policies.iter().flat_map(|policy| &policy.inbound);
        for entry in entries.filter(|entry| entry.network == self.network) {
            let to = SocketAddrV4::new(entry.address, 53);
            let key = |protocol: &str| format!("{protocol} {}", entry.address);
            all.push(listen(key("udp"), Bind::Udp(self.network.clone(), to)));
            all.push(listen(key("tcp"), Bind::Tcp(self.network.clone(), to)));
        }
        let own = |networks: &[names::NetworkId]| networks.contains(&self.network);
        let forwards = self.zones.iter().any(|zone| {
            matches!(zone.kind, crate::dns::ZoneKind::Forwarding(_)) && own(&zone.networks)
        });
        let policy = self
            .policies
            .iter()
            .any(|policy| !policy.alternative_name_servers.is_empty() && own(&policy.networks));
        if forwards || policy {
            all.push(listen("peers", Bind::Channel(private_dns_channel(&self.network))));
        }
        all
    }
}

impl Slice for MetadataSlice {
    /// `http` on 169.254.169.254:80; `tokens` and `front-end` where it issues for all.
    fn listens(&self) -> Vec<Listen> {
        let to = SocketAddrV4::new(METADATA_ADDRESS, 80);
        let mut all = vec![listen("http", Bind::Tcp(self.network.clone(), to))];
        if self.issuer.is_some() {
            all.push(listen("tokens", Bind::Channel(TOKEN_CHANNEL.to_owned())));
            let channel = IDENTITY_FRONT_END_CHANNEL.to_owned();
            all.push(listen("front-end", Bind::Channel(channel)));
        }
        all
    }
}

impl Slice for GoogleFrontEndSlice {
    /// `private`, `restricted` and `public` on port 443 of the front-end addresses: the first two
    /// are four addresses each, the other three keyed `private ADDRESS` and so on; and that
    /// port of every PSC endpoint for Google APIs, keyed by its self link. The internet has the
    /// public one. Port 80 of each has the same key with ` http` behind it.
    fn listens(&self) -> Vec<Listen> {
        let name = |(first, address): (Ipv4Addr, Ipv4Addr)| {
            let key = match first {
                RESTRICTED_VIP => "restricted",
                PRIVATE_VIP => "private",
                _ => "public",
            };
            let is_first = first == address;
            (if is_first { key.to_owned() } else { format!("{key} {address}") }, address)
        };
        front_ends(self.network.is_internet())
            .map(name)
            .chain(self.endpoints.iter().map(|one| (one.self_link.to_string(), one.address)))
            .flat_map(|(key, address)| {
                let bind = |port| Bind::Tcp(self.network.clone(), SocketAddrV4::new(address, port));
                [listen(format!("{key} http"), bind(80)), listen(key, bind(443))]
            })
            .collect()
    }
}

impl Slice for CloudRunSlice {
    /// `requests` and `front-end`, both channels.
    fn listens(&self) -> Vec<Listen> {
        vec![
            listen("requests", Bind::Channel(CLOUD_RUN_CHANNEL.to_owned())),
            listen("front-end", Bind::Channel(CLOUD_RUN_FRONT_END_CHANNEL.to_owned())),
        ]
    }
}

impl Slice for ApiProxySlice {
    /// `northbound` on the host's loopback.
    fn listens(&self) -> Vec<Listen> {
        self.northbound.iter().map(|address| listen("northbound", Bind::Host(*address))).collect()
    }
}
