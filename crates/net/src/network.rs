//! One network's addresses: declared ones on the outside, really bound ones on the inside.

use nix::errno::Errno;
use slice::Placement;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};

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
    closed: bool,
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

    /// The same network, in which what has no place is nowhere: nothing real stands behind it.
    pub fn closed(&self) -> Self {
        let Some(placed) = &self.placed else { return self.clone() };
        Network { placed: Some(Arc::new(Placed { closed: true, ..Placed::clone(placed) })) }
    }

    /// Can there be anything at this declared address?
    pub fn has(&self, declared: SocketAddrV4) -> bool {
        self.placed.as_ref().is_none_or(|placed| {
            !placed.closed
                || placed.sockets.contains_key(&declared)
                || placed.hosts.contains_key(declared.ip())
        })
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
        let stream = self.call(source, to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// As [`Network::dial`], with Nagle's algorithm as the kernel has it: on. The first thing that is
    /// sent never waits for it; [`crate::splice`] turns it off when there is a second.
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`.
    pub async fn call(&self, source: Option<Ipv4Addr>, to: SocketAddrV4) -> io::Result<TcpStream> {
        let real = self.real(to);
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(real), kind, Some(Protocol::TCP))?;
        if let Some(source) = self.real_source(source) {
            bind_address_no_port(&socket)?;
            socket.bind(&SocketAddrV4::new(source, 0).into())?;
        }
        match socket.connect(&real.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into())?;
        let ready = stream.ready(Interest::WRITABLE.add(Interest::ERROR)).await?;
        match ready.is_error() || ready.is_write_closed() {
            true => stream.take_error()?.map_or(Ok(stream), Err),
            false => Ok(stream),
        }
    }

    /// A datagram socket to a declared address, from a declared source address if one is given and
    /// from `port`, 0 for any. It takes datagrams from there alone.
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`; `HostUnreachable` where there can be nothing.
    pub async fn udp(
        &self,
        source: Option<Ipv4Addr>,
        port: u16,
        to: SocketAddrV4,
    ) -> io::Result<UdpSocket> {
        if !self.has(to) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let real = self.real(to);
        let source: IpAddr = match self.real_source(source) {
            Some(source) => source.into(),
            None if real.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
            None => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((source, port)).await?;
        socket.connect(real).await?;
        Ok(socket)
    }

    /// The address to bind for a declared source, or for the network's own.
    fn real_source(&self, source: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let own = self.placed.as_ref().and_then(|placed| placed.source);
        let source = source.or(own)?;
        Some(match &self.placed {
            None => source,
            Some(placed) => placed.hosts.get(&source).copied().unwrap_or(source),
        })
    }
}

impl Network {
    /// As [`Network::udp`], from any port and without waiting.
    ///
    /// # Errors
    /// Those of `bind(2)` and `connect(2)`; `HostUnreachable` where there can be nothing.
    pub fn udp_mapping(&self, source: Ipv4Addr, to: SocketAddrV4) -> io::Result<UdpSocket> {
        if !self.has(to) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let source = self.real_source(Some(source)).unwrap_or(source);
        let socket = std::net::UdpSocket::bind((source, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(self.real(to))?;
        UdpSocket::from_std(socket)
    }
}

/// `IP_BIND_ADDRESS_NO_PORT`: without it `bind` reserves a whole local port, and a NAT address is
/// used up after 28,000 connections.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
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
    async fn datagrams_go_to_placed_addresses_and_nowhere_else_in_a_closed_network() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let declared: SocketAddrV4 = "10.0.0.53:53".parse().expect("an address");
        let actual = server.local_addr().expect("bound");
        let placement = Placement { network: NetworkId::new("p", "n"), declared, actual };
        let network = Network::placed(&[placement], &[]).closed();
        let socket = network.udp(None, 0, declared).await.expect("placed");
        socket.send(b"x").await.expect("sent");
        let mut octets = [0; 8];
        let (length, from) = server.recv_from(&mut octets).await.expect("received");
        assert_eq!((&octets[..length], from), (&b"x"[..], socket.local_addr().expect("bound")));
        let other = "10.0.0.54:53".parse().expect("an address");
        let error = network.udp(None, 0, other).await.expect_err("placed nowhere");
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
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
