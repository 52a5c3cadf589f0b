//! One new TCP connection: at the endpoint, and at the service attachment.

use crate::connection::Connection;
use names::Reason;
use slice::psc::{ConnectionStatus, Endpoint, Target};
use std::net::{Ipv4Addr, SocketAddrV4};

/// May a client of this region open a connection to the endpoint? `Some` is why not.
///
/// An endpoint serves its own region, all regions with `allowPscGlobalAccess`
/// (private-connectivity 1.6). A client whose region nobody knows (a deployment without declared
/// workloads) is taken for one of the endpoint's region.
pub fn reach(endpoint: &Endpoint, client_region: Option<&str>) -> Option<Reason> {
    match client_region {
        Some(region) if region != endpoint.region && !endpoint.allow_psc_global_access => {
            Some(Reason::ForwardingRuleRegionMismatch)
        }
        _ => None,
    }
}

/// What the service attachment does with one new TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Dial `target` from `source`.
    Admitted {
        /// The endpoint's NAT address.
        source: Ipv4Addr,
        /// The published forwarding rule.
        target: SocketAddrV4,
    },
    /// Carry nothing.
    Refused(Reason),
}

/// Decides about one new TCP connection to `port` of the endpoint behind `connection`.
pub fn admit(connection: &Connection, target: &Target, port: u16) -> Admission {
    use ConnectionStatus::{Accepted, Closed, NeedsAttention, Pending, Rejected};
    match (connection.status, connection.nat_address()) {
        (Accepted | NeedsAttention, Some(source)) if target.ports.contains(&port) => {
            Admission::Admitted { source, target: SocketAddrV4::new(target.address, port) }
        }
        (Accepted | NeedsAttention, Some(_)) => Admission::Refused(Reason::ForwardingRuleMismatch),
        (Accepted | NeedsAttention | Pending | Rejected | Closed, _) => {
            Admission::Refused(connection.reason().unwrap_or(Reason::PscNatSubnetExhausted))
        }
    }
}
