//! Network Load Balancers and target instances: what takes TCP and UDP as they are
//! (private-connectivity 1.5, 1.7).

use crate::IpProtocol;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// A forwarding rule of an internal proxy or passthrough Network Load Balancer, or of a target
/// instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkForwardingRule {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Network of the address.
    pub network: NetworkId,
    /// Region.
    pub region: String,
    /// Address.
    pub address: Ipv4Addr,
    /// `IPProtocol`.
    pub protocol: RuleProtocol,
    /// `ports`, `portRange`, `allPorts`.
    pub ports: Ports,
    /// May clients of other regions use it?
    pub allow_global_access: bool,
    /// Address of the region's proxy-only subnet, from which a proxy speaks to endpoints, and from
    /// which endpoints are probed; none: there is no such subnet.
    #[serde(default)]
    pub proxy_address: Option<Ipv4Addr>,
    /// What is behind it.
    pub target: NetworkTarget,
}

impl NetworkForwardingRule {
    /// Does it take packets of this protocol to this port?
    pub fn takes(&self, protocol: IpProtocol, port: u16) -> bool {
        self.protocol.takes(protocol) && self.ports.contains(port)
    }

    /// Does a packet get to a VM as it is, with the rule's address as its destination?
    pub fn is_passthrough(&self) -> bool {
        !matches!(self.target, NetworkTarget::TcpProxy(_))
    }
}

/// What a [`NetworkForwardingRule`] leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkTarget {
    /// A proxy Network Load Balancer (`INTERNAL_MANAGED` with a target TCP proxy).
    TcpProxy(TargetTcpProxy),
    /// A passthrough Network Load Balancer (`INTERNAL`): a member of
    /// [`super::LoadBalancing::passthrough_services`].
    PassthroughService(SelfLink),
    /// One VM (`INTERNAL` with a target instance).
    Instance(TargetInstance),
}

/// `targetTcpProxies[]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetTcpProxy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Its backend service: a member of [`super::LoadBalancing::backend_services`] with protocol
    /// TCP.
    pub service: SelfLink,
    /// `proxyHeader: PROXY_V1`: backends get a PROXY v1 header first.
    pub proxy_header: bool,
}

/// `targetInstances[]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetInstance {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Name of the VM.
    pub instance: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// `IPProtocol` of a forwarding rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RuleProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Every protocol, always with all ports; not to be published (1.7).
    L3Default,
}

impl RuleProtocol {
    /// Does the rule take this protocol?
    pub fn takes(self, protocol: IpProtocol) -> bool {
        match self {
            RuleProtocol::Tcp => protocol == IpProtocol::Tcp,
            RuleProtocol::Udp => protocol == IpProtocol::Udp,
            RuleProtocol::L3Default => true,
        }
    }
}

impl fmt::Display for RuleProtocol {
    /// The API's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleProtocol::Tcp => "TCP",
            RuleProtocol::Udp => "UDP",
            RuleProtocol::L3Default => "L3_DEFAULT",
        })
    }
}

/// The ports of a forwarding rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ports {
    /// These, in the order of the file, each once.
    Listed(Vec<u16>),
    /// `portRange` of a target instance: from the first to the last.
    Range(u16, u16),
    /// `allPorts`.
    All,
}

impl Ports {
    /// Is this one of them?
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Ports::Listed(ports) => ports.contains(&port),
            Ports::Range(first, last) => (*first..=*last).contains(&port),
            Ports::All => true,
        }
    }

    /// They all, where there are so few that one can listen on each.
    pub fn listed(&self) -> Option<Vec<u16>> {
        /// A wider range is treated as all ports are.
        const FEW: u16 = 128;
        match self {
            Ports::Listed(ports) => Some(ports.clone()),
            Ports::Range(first, last) if last.saturating_sub(*first) < FEW => {
                Some((*first..=*last).collect())
            }
            Ports::Range(..) | Ports::All => None,
        }
    }
}

impl fmt::Display for Ports {
    /// `443, 80`, `1000-2000`, `all ports`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ports::Listed(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                f.write_str(&ports.join(", "))
            }
            Ports::Range(first, last) => write!(f, "{first}-{last}"),
            Ports::All => f.write_str("all ports"),
        }
    }
}

/// A backend service with scheme INTERNAL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassthroughService {
    /// Canonical name.
    pub self_link: SelfLink,
    /// `protocol`; UNSPECIFIED goes with every forwarding rule.
    pub protocol: PassthroughProtocol,
    /// Its groups, in order: of kind [`super::Endpoints::Instances`].
    pub backends: Vec<PassthroughBackend>,
    /// The health check, a member of [`super::LoadBalancing::health_checks`]; none: every VM counts
    /// as healthy.
    pub health_check: Option<SelfLink>,
    /// What is hashed.
    pub session_affinity: PacketAffinity,
    /// What is remembered.
    pub connection_tracking: ConnectionTracking,
    /// When backups take over.
    pub failover_policy: FailoverPolicy,
}

/// `protocol` of a [`PassthroughService`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PassthroughProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// Any.
    Unspecified,
}

/// `backends[]` of a [`PassthroughService`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassthroughBackend {
    /// The group.
    pub group: SelfLink,
    /// A backup, not a primary.
    pub failover: bool,
}

/// `sessionAffinity` of a [`PassthroughService`]: the parts of a packet that choose its VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PacketAffinity {
    /// The same as [`PacketAffinity::ClientIpPortProto`] for TCP and unfragmented UDP.
    #[default]
    None,
    /// Source and destination.
    ClientIp,
    /// Source, destination and protocol.
    ClientIpProto,
    /// The 5-tuple.
    ClientIpPortProto,
    /// The source alone.
    ClientIpNoDestination,
}

/// `connectionTrackingPolicy` of a [`PassthroughService`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionTracking {
    /// `trackingMode: PER_SESSION`, else PER_CONNECTION.
    pub per_session: bool,
    /// `connectionPersistenceOnUnhealthyBackends`.
    pub persistence: Persistence,
}

/// `connectionPersistenceOnUnhealthyBackends`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Persistence {
    /// TCP connections stay where tracking is by connection, UDP does not.
    #[default]
    DefaultForProtocol,
    /// Nothing stays.
    NeverPersist,
    /// Everything stays.
    AlwaysPersist,
}

impl PassthroughService {
    /// Do existing connections of this protocol stay with a VM that has become unhealthy?
    /// DEFAULT_FOR_PROTOCOL: TCP only, and only with PER_CONNECTION tracking or an affinity by the
    /// 5-tuple (the API's description of the field).
    pub fn persists(&self, protocol: IpProtocol) -> bool {
        let by_connection = !self.connection_tracking.per_session
            || matches!(
                self.session_affinity,
                PacketAffinity::None | PacketAffinity::ClientIpPortProto
            );
        match self.connection_tracking.persistence {
            Persistence::DefaultForProtocol => protocol == IpProtocol::Tcp && by_connection,
            Persistence::NeverPersist => false,
            Persistence::AlwaysPersist => true,
        }
    }
}

/// `failoverPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailoverPolicy {
    /// `failoverRatio`, 0.0 to 1.0: primaries serve while their healthy share is at least this;
    /// 0.0 (the default): while at least one is healthy.
    pub failover_ratio: f64,
    /// With no healthy VM at all: drop, instead of using all primaries.
    pub drop_traffic_if_unhealthy: bool,
    /// A failover or failback ends existing connections at once.
    pub disable_connection_drain_on_failover: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_as_the_rule_writes_them() {
        for (ports, inside, outside, listed, text) in [
            (Ports::Listed(vec![443, 80]), 80, 81, Some(vec![443, 80]), "443, 80"),
            (Ports::Range(5, 7), 7, 8, Some(vec![5, 6, 7]), "5-7"),
            (Ports::Range(1, 65534), 1, 65535, None, "1-65534"),
        ] {
            assert!(ports.contains(inside) && !ports.contains(outside), "{text}");
            assert_eq!((ports.listed(), ports.to_string().as_str()), (listed, text));
        }
        assert!(Ports::All.contains(65535) && Ports::All.listed().is_none());
    }
}
