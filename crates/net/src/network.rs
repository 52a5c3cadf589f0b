//! One network's addresses: declared ones on the outside, really bound ones on the inside.

use slice::Placement;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

/// Hides the isolation mode: the addresses given to it are always declared ones.
#[derive(Clone, Debug, Default)]
pub struct Network {
    placed: Option<Arc<Placed>>,
}

#[derive(Clone, Debug, Default)]
struct Placed {
    sockets: HashMap<SocketAddrV4, SocketAddr>,
    declared: HashMap<SocketAddr, SocketAddrV4>,
    hosts: HashMap<Ipv4Addr, Ipv4Addr>,
    declared_hosts: HashMap<Ipv4Addr, Ipv4Addr>,
    source: Option<Ipv4Addr>,
}

impl Network {
    /// Declared addresses are the real ones (namespaces, host isolation).
    pub fn direct() -> Self {
        Network::default()
    }

    /// Declared addresses are bound elsewhere. `hosts` places whole addresses (sources of
    /// workloads and NAT addresses) beside the sockets of `placements`.
    pub fn placed(placements: &[Placement], hosts: &[(Ipv4Addr, Ipv4Addr)]) -> Self {
        let mut placed = Placed::default();
        for Placement { declared, actual, .. } in placements {
            placed.sockets.insert(*declared, *actual);
            placed.declared.insert(*actual, *declared);
        }
        for (declared, actual) in hosts {
            placed.hosts.insert(*declared, *actual);
            placed.declared_hosts.insert(*actual, *declared);
        }
        Network { placed: Some(Arc::new(placed)) }
    }

    /// The same network with more placed addresses (workloads that came later), and the declared
    /// address from which connections without a source of their own come. Nothing changes where
    /// declared addresses are the real ones.
    pub fn extended(
        &self,
        hosts: impl IntoIterator<Item = (Ipv4Addr, Ipv4Addr)>,
        source: Option<Ipv4Addr>,
    ) -> Self {
        let Some(placed) = &self.placed else { return self.clone() };
        let mut placed = Placed::clone(placed);
        for (declared, actual) in hosts {
            placed.hosts.insert(declared, actual);
            placed.declared_hosts.insert(actual, declared);
        }
        placed.source = source.or(placed.source);
        Network { placed: Some(Arc::new(placed)) }
    }

    /// Can a connection come from this declared address here? Where declared addresses are placed,
    /// it needs a place.
    pub fn has_host(&self, declared: Ipv4Addr) -> bool {
        self.placed.as_ref().is_none_or(|placed| placed.hosts.contains_key(&declared))
    }

    /// Where a declared address is really bound.
    pub fn real(&self, declared: SocketAddrV4) -> SocketAddr {
        let Some(placed) = &self.placed else { return declared.into() };
        if let Some(actual) = placed.sockets.get(&declared) {
            return *actual;
        }
        match placed.hosts.get(declared.ip()) {
            Some(host) => SocketAddrV4::new(*host, declared.port()).into(),
            None => declared.into(),
        }
    }

    /// The declared address of a peer or a bound socket; an address that is placed nowhere is
    /// given back as it is.
    pub fn declared(&self, actual: SocketAddr) -> SocketAddrV4 {
        let plain = match actual {
            SocketAddr::V4(v4) => v4,
            SocketAddr::V6(v6) => {
                SocketAddrV4::new(v6.ip().to_ipv4().unwrap_or(Ipv4Addr::UNSPECIFIED), v6.port())
            }
        };
        let Some(placed) = &self.placed else { return plain };
        if let Some(declared) = placed.declared.get(&actual) {
            return *declared;
        }
        match placed.declared_hosts.get(plain.ip()) {
            Some(host) => SocketAddrV4::new(*host, plain.port()),
            None => plain,
        }
    }

    /// Connects to a declared address, from a declared source address if one is given (the port is
    /// chosen at connect time, so that one source can hold as many connections as there are
    /// 4-tuples). Nagle's algorithm is off.
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`.
    pub async fn dial(&self, source: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<TcpStream> {
        let real = self.real(to);
        let socket = if real.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let own = self.placed.as_ref().and_then(|placed| placed.source);
        if let Some(source) = source.or(own) {
            let source = match &self.placed {
                None => source,
                Some(placed) => placed.hosts.get(&source).copied().unwrap_or(source),
            };
            bind_address_no_port(&socket)?;
            socket.bind(SocketAddrV4::new(source, 0).into())?;
        }
        socket.set_nodelay(true)?;
        socket.connect(real).await
    }
}

/// `IP_BIND_ADDRESS_NO_PORT`: without it `bind` reserves a whole local port, and a NAT address is
/// used up after 28,000 connections.
fn bind_address_no_port(socket: &TcpSocket) -> io::Result<()> {
    debug_assert!(socket.as_raw_fd() >= 0);
    nix::sys::socket::setsockopt(
        &socket.as_fd(),
        nix::sys::socket::sockopt::IpBindAddressNoPort,
        &true,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::NetworkId;

    #[test]
    fn placements_are_undone_for_peers() {
        let declared: SocketAddrV4 = "10.0.0.5:443".parse().expect("an address");
        let actual: SocketAddr = "127.0.0.1:29210".parse().expect("an address");
        let placement = Placement { network: NetworkId::new("p", "n"), declared, actual };
        let hosts = [(Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(127, 64, 0, 9))];
        let network = Network::placed(&[placement], &hosts);
        assert_eq!(network.real(declared), actual);
        assert_eq!(network.declared(actual), declared);
        let peer: SocketAddr = "127.64.0.9:5000".parse().expect("an address");
        assert_eq!(network.declared(peer).to_string(), "10.0.0.9:5000");
        assert_eq!(network.real(network.declared(peer)), peer);
    }

    #[tokio::test]
    async fn a_dial_keeps_the_source_it_was_given() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let SocketAddr::V4(to) = listener.local_addr().expect("bound") else { return };
        let source = Ipv4Addr::new(127, 0, 0, 7);
        let dialled = Network::direct().dial(Some(source), to).await.expect("connected");
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer.ip(), source);
        assert_eq!(dialled.local_addr().expect("connected"), peer);
    }
}
