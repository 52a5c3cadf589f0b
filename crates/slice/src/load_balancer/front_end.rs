//! Front ends: forwarding rules, target proxies, certificates and TLS policies
//! (private-connectivity 2.1).

use names::{NetworkId, Origin, SelfLink};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// A forwarding rule with scheme INTERNAL_MANAGED or EXTERNAL_MANAGED, its target proxy resolved
/// (2.1; cloud-run 6.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardingRule {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Network of the address; of an external one the internet.
    pub network: NetworkId,
    /// Region; `global` for a global rule.
    pub region: String,
    /// Address.
    pub address: Ipv4Addr,
    /// Its one port.
    pub port: u16,
    /// May clients of other regions use it?
    pub allow_global_access: bool,
    /// Address of the region's proxy-only subnet from which backends in the network are spoken to
    /// (2.1); none: there is no such subnet.
    #[serde(default)]
    pub proxy_address: Option<Ipv4Addr>,
    /// Where an external rule is published on the host's own loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub northbound: Option<SocketAddr>,
    /// The target proxy.
    pub target: TargetProxy,
}

impl ForwardingRule {
    /// Is it the front end of an external load balancer?
    pub fn is_external(&self) -> bool {
        self.network.is_internet()
    }

    /// Where requests come from that went through it.
    pub fn origin(&self) -> Origin {
        let forwarding_rule = self.self_link.clone();
        match self.is_external() {
            true => Origin::ExternalLoadBalancer { forwarding_rule },
            false => {
                Origin::InternalLoadBalancer { network: self.network.clone(), forwarding_rule }
            }
        }
    }
}

/// A target HTTP(S) proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetProxy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// The URL map.
    pub url_map: SelfLink,
    /// Certificates in order, the first one is the default; empty: plain HTTP.
    pub ssl_certificates: Vec<SslCertificate>,
    /// Is it a target HTTPS proxy?
    pub https: bool,
    /// Client keep-alive, seconds, default 610.
    pub http_keep_alive_timeout_sec: u32,
    /// `sslPolicy`; none: the default policy (COMPATIBLE, TLS 1.0 in name; TLS 1.2 here).
    #[serde(default)]
    pub ssl_policy: Option<SslPolicy>,
    /// `serverTlsPolicy`: clients show a certificate.
    #[serde(default)]
    pub server_tls_policy: Option<ServerTlsPolicy>,
    /// Ours (`postern: {acceptProxyProtocol: true}`): connections begin with a PROXY v2 header,
    /// which names the client.
    #[serde(default)]
    pub accept_proxy_protocol: bool,
}

impl TargetProxy {
    /// A target HTTP proxy with Google's defaults.
    pub fn new(self_link: SelfLink, url_map: SelfLink) -> TargetProxy {
        TargetProxy {
            self_link,
            url_map,
            ssl_certificates: Vec::new(),
            https: false,
            http_keep_alive_timeout_sec: 610,
            ssl_policy: None,
            server_tls_policy: None,
            accept_proxy_protocol: false,
        }
    }
}

/// `sslPolicies[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SslPolicy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Oldest version.
    pub min_tls_version: TlsVersion,
    /// Cipher suites in Google's spelling (`enabledFeatures`), those of the profile or the custom
    /// ones.
    pub features: Vec<String>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2, also where a policy says 1.0 or 1.1, which are not spoken here.
    #[serde(rename = "TLS_1_2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLS_1_3")]
    Tls13,
}

/// `mtlsPolicy` of a server TLS policy, its trust config resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerTlsPolicy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// `ALLOW_INVALID_OR_MISSING_CLIENT_CERT`, else `REJECT_INVALID`.
    pub allow_invalid_or_missing: bool,
    /// PEM of the trust anchors.
    pub trust_anchors: Vec<String>,
    /// PEM of intermediate CAs.
    pub intermediate_cas: Vec<String>,
    /// PEM of certificates that are good as they are.
    pub allowlisted_certificates: Vec<String>,
}

/// A self-managed certificate. Without `private_key` in the file, the topology crate leaves it
/// empty and the supervisor issues a leaf of the dev CA with the same names (DESIGN.md 3 "Keys").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SslCertificate {
    /// Canonical name.
    pub self_link: SelfLink,
    /// PEM chain, leaf first.
    pub certificate: String,
    /// PEM key; empty: to be issued.
    pub private_key: String,
    /// DNS names for which a leaf is to be issued where there is no key.
    pub domains: Vec<String>,
}
