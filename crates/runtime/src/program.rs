//! What a program is.

use crate::{Context, Drain, Worker};
use slice::{Notice, Role, Slice};
use std::future::Future;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};

/// A long-running program of a simulated network.
pub trait Program: Sized + Send + Sync + 'static {
    /// Which one it is; its name and its part of a topology follow.
    const ROLE: Role;
    /// What the topology says to it.
    type Slice: Slice;
    /// Does it read and write the connections that it accepts? One that only passes them on gets them
    /// as [`Stream::Unwatched`]: the reactor never hears of them.
    const WATCHES: bool = true;
    /// What it compiled from that: immutable, one per generation.
    type Snapshot: Send + Sync + 'static;
    /// What each worker thread keeps for itself.
    type Local: 'static;

    /// Makes the program, once per process. State that outlives generations lives in it.
    ///
    /// # Errors
    /// A sentence; the process then ends.
    fn new(context: Context) -> Result<Self, String>;

    /// Compiles a slice, aside: nothing live may change.
    ///
    /// # Errors
    /// A sentence; the last good generation then stays in force.
    fn compile(&self, slice: Self::Slice) -> Result<Self::Snapshot, String>;

    /// Makes a worker thread's own state, inside its runtime.
    fn local(&self) -> Self::Local;

    /// Called after a generation came into force.
    fn committed(&self, _snapshot: &Arc<Self::Snapshot>, _generation: u64) {}

    /// Called for what the supervisor tells beside slices.
    fn notice(&self, _notice: Notice) {}

    /// Serves one accepted connection to its end.
    fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) -> impl Future<Output = ()>;

    /// Serves a datagram socket until `socket.drain` resolves; every worker gets the same socket.
    fn datagrams(_worker: Rc<Worker<Self>>, _socket: UdpListener) -> impl Future<Output = ()> {
        async {}
    }

    /// Runs on the first worker for the life of the process.
    fn background(_worker: Rc<Worker<Self>>) -> impl Future<Output = ()> {
        async {}
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The key of the listener.
    pub key: Arc<str>,
    /// The connection; Nagle's algorithm is off.
    pub stream: Stream,
    /// The peer as a declared address; none on a Unix socket.
    pub peer: Option<SocketAddrV4>,
    /// The listener's declared address; none on a Unix socket or the host's loopback.
    pub declared: Option<SocketAddrV4>,
    /// The end of the listener.
    pub drain: Drain,
}

/// The two kinds of stream.
#[derive(Debug)]
pub enum Stream {
    /// From a network.
    Tcp(TcpStream),
    /// From a network too, non-blocking, for a program that does not watch its connections.
    Unwatched(std::net::TcpStream),
    /// From another program of this machine.
    Unix(UnixStream),
}

/// A datagram socket.
#[derive(Clone)]
pub struct UdpListener {
    /// The key of the listener.
    pub key: Arc<str>,
    /// The socket, non-blocking, shared by all workers.
    pub socket: Arc<UdpSocket>,
    /// The end of the listener.
    pub drain: Drain,
    pub(crate) context: Context,
}

impl UdpListener {
    /// The peer as a declared address.
    pub fn peer(&self, actual: SocketAddr) -> SocketAddrV4 {
        // As of now: workloads come and go while the socket stays.
        self.context.0.network.load().declared(actual)
    }
}
