//! One new TCP connection: at the endpoint, and at the service attachment.

use crate::connection::Connection;
use names::{NetworkId, Reason};
use slice::psc::{ConnectionStatus, Endpoint, Target};
use slice::{ConnectionState, IpProtocol};
use std::net::{Ipv4Addr, SocketAddrV4};

/// May a client of this region open a connection to the endpoint? `Some` is why not.
///
/// An endpoint serves its own region ([`Endpoint::admits_region`]). A client whose region nobody
/// knows (a deployment without declared workloads) is taken for one of the endpoint's region.
pub fn reach(endpoint: &Endpoint, client_region: Option<&str>) -> Option<Reason> {
    endpoint.admits_region(client_region?).err()
}

/// What the endpoint does with one new TCP connection: `Some` is why it goes no further.
///
/// `state` is what the service attachment said last of this endpoint's connection. While it has
/// said nothing (both have just started) the connection goes on: [`admit`] decides in any case.
pub fn enter(
    endpoint: &Endpoint,
    client_region: Option<&str>,
    state: Option<&ConnectionState>,
) -> Option<Reason> {
    if endpoint.producer_network.is_none() {
        // It was deleted, or never was.
        let closed = state.filter(|state| state.status == ConnectionStatus::Closed);
        return Some(
            closed.and_then(|state| state.reason).unwrap_or(Reason::PscServiceAttachmentNotFound),
        );
    }
    if let Some(reason) = reach(endpoint, client_region) {
        return Some(reason);
    }
    match state {
        Some(state) if !state.opens() => {
            Some(state.reason.unwrap_or(Reason::PscConnectionNotAccepted))
        }
        _ => None,
    }
}

/// May the endpoint attachment of `network`, on another host, open TCP connections for this
/// connection? `Some` is why not. A consumer speaks for its own endpoints and for no other's.
pub fn speak(connection: &Connection, network: &NetworkId) -> Option<Reason> {
    (connection.consumer_network != *network).then_some(Reason::PeerIdentityMismatch)
}

/// What the service attachment does with one new TCP connection or UDP mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Dial `target` from `source`.
    Admitted {
        /// One of the endpoint's NAT addresses.
        source: Ipv4Addr,
        /// The published forwarding rule.
        target: SocketAddrV4,
    },
    /// Carry nothing.
    Refused(Reason),
}

/// TCP connections, and UDP mappings, that one endpoint may have at once from each of its NAT addresses
/// (private-connectivity 1.4: per endpoint and producer VM; here one process stands for all VMs).
pub const CONNECTIONS_MAX: usize = 64_512;

/// Decides about one new TCP connection or UDP mapping to `port` of the endpoint behind `connection`. `open` says
/// how many it has already from a NAT address; the address with the fewest is taken. `far` is why a client
/// of another region is kept out, where this one is and the endpoint keeps them out: the producer's
/// side asks again, for the other end may still go by what was before ([`Endpoint::admits_region`]).
pub fn admit(
    connection: &Connection,
    target: &Target,
    far: Option<Reason>,
    protocol: IpProtocol,
    port: u16,
    open: impl Fn(Ipv4Addr) -> usize,
) -> Admission {
    let refused = |reason| Admission::Refused(reason);
    if !connection.status.carries_traffic() {
        return refused(connection.reason().unwrap_or(Reason::PscConnectionNotAccepted));
    }
    if let Some(reason) = far {
        return refused(reason);
    }
    let sources = connection.nat_addresses().iter().map(|source| (open(*source), *source));
    match sources.min_by_key(|(open, _)| *open) {
        None => refused(connection.reason().unwrap_or(Reason::PscNatSubnetExhausted)),
        Some((open, _)) if open >= CONNECTIONS_MAX => refused(Reason::PscNatPortsExhausted),
        Some(_) if !target.serves(protocol, port) => refused(Reason::ForwardingRuleMismatch),
        Some((_, source)) => {
            Admission::Admitted { source, target: SocketAddrV4::new(target.address, port) }
        }
    }
}
