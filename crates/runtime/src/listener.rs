//! Binding: by the supervisor inside a network's namespace, or by a program started by hand.

use net::Network;
use slice::Bind;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Binds one socket where the network says, non-blocking. `free`: also to an address that the
/// machine does not have yet (a PSC endpoint whose connection is not accepted).
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` and `listen(2)`.
pub fn bind(bind: &Bind, network: &Network, channel: &Path, free: bool) -> io::Result<OwnedFd> {
    match bind {
        Bind::Tcp(_, declared) => tcp(network.real(*declared), free),
        Bind::Host(address) => tcp(*address, false),
        Bind::Udp(_, declared) => {
            let address = network.real(*declared);
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
            if free && address.is_ipv4() {
                socket.set_freebind_v4(true)?;
            }
            socket.bind(&address.into())?;
            // A burst of queries must not be lost while the program is not scheduled.
            let _ = socket.set_recv_buffer_size(1 << 20);
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
        Bind::Channel(_) => {
            match std::fs::remove_file(channel) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(channel)?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
    }
}

pub(crate) fn tcp(address: SocketAddr, free: bool) -> io::Result<OwnedFd> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    if free && address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from(socket).into())
}
