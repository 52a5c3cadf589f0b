//! A worker thread: one `current_thread` runtime that accepts from every listener and serves what
//! it accepted.

use crate::{Accepted, Context, Drain, Program, Stream, UdpListener, log};
use arc_swap::ArcSwap;
use nix::sys::socket::SockFlag;
use slice::Workload;
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// More connections than this at once are left in the kernel's queue.
const CONNECTIONS_MAX: usize = 100_000;

/// One generation in force.
pub(crate) struct Generation<S> {
    pub(crate) number: u64,
    pub(crate) snapshot: Arc<S>,
}

/// What a worker thread has at hand while it serves.
pub struct Worker<P: Program> {
    /// The program.
    pub program: Arc<P>,
    /// The thread's own state.
    pub local: P::Local,
    /// The thread's number, from 0.
    pub index: usize,
    pub(crate) generation: Arc<ArcSwap<Generation<P::Snapshot>>>,
    pub(crate) context: Context,
}

impl<P: Program> Worker<P> {
    /// The snapshot in force. Take it once per request (at L4: per connection) and keep it.
    pub fn snapshot(&self) -> Arc<P::Snapshot> {
        Arc::clone(&self.generation.load().snapshot)
    }

    /// The number of the generation in force.
    pub fn generation(&self) -> u64 {
        self.generation.load().number
    }

    /// The workload at this address of the program's network.
    pub fn workload(&self, address: Ipv4Addr) -> Option<Arc<Workload>> {
        self.context.workload(address)
    }

    /// The program's surroundings.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

/// A bound socket, on its way to a worker.
pub(crate) enum Socket {
    Tcp(std::net::TcpListener, Option<SocketAddrV4>),
    Unix(std::os::unix::net::UnixListener),
    Udp(Arc<std::net::UdpSocket>),
}

pub(crate) struct Open {
    pub(crate) key: Arc<str>,
    pub(crate) socket: Socket,
    pub(crate) drain: Drain,
}

impl Open {
    /// The same listener for another worker.
    pub(crate) fn try_clone(&self) -> io::Result<Open> {
        let socket = match &self.socket {
            Socket::Tcp(listener, declared) => Socket::Tcp(listener.try_clone()?, *declared),
            Socket::Unix(listener) => Socket::Unix(listener.try_clone()?),
            Socket::Udp(socket) => Socket::Udp(Arc::clone(socket)),
        };
        Ok(Open { key: Arc::clone(&self.key), socket, drain: self.drain.clone() })
    }
}

/// The body of a worker thread; it ends when the sender of `listeners` is dropped.
pub(crate) fn run<P: Program>(
    program: Arc<P>,
    index: usize,
    context: Context,
    generation: Arc<ArcSwap<Generation<P::Snapshot>>>,
    mut listeners: mpsc::UnboundedReceiver<Open>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let main = async move {
        tokio::task::spawn_local(log::flusher());
        let local = program.local();
        let worker = Rc::new(Worker { program, local, index, generation, context });
        if index == 0 {
            tokio::task::spawn_local(P::background(Rc::clone(&worker)));
        }
        while let Some(open) = listeners.recv().await {
            tokio::task::spawn_local(listen(Rc::clone(&worker), open));
        }
    };
    tasks.block_on(&runtime, main);
    // Connections that are cut off say so, and what this thread has gathered goes out with it.
    drop(tasks);
    log::flush();
    Ok(())
}

async fn listen<P: Program>(worker: Rc<Worker<P>>, open: Open) {
    let Open { key, socket, drain } = open;
    let outcome = match socket {
        Socket::Tcp(listener, declared) => {
            accept_tcp(&worker, &key, listener, declared, &drain).await
        }
        Socket::Unix(listener) => accept_unix(&worker, &key, listener, &drain).await,
        Socket::Udp(socket) => {
            let context = worker.context.clone();
            P::datagrams(worker, UdpListener { key: Arc::clone(&key), socket, drain, context })
                .await;
            Ok(())
        }
    };
    if let Err(error) = outcome {
        log::entry(log::Severity::Error, "a listener failed")
            .field("listener", &*key)
            .field("error", error.to_string().as_str())
            .emit();
    }
}

async fn accept_tcp<P: Program>(
    worker: &Rc<Worker<P>>,
    key: &Arc<str>,
    listener: std::net::TcpListener,
    declared: Option<SocketAddrV4>,
    drain: &Drain,
) -> io::Result<()> {
    // For the reactor one socket is like another: it says when there is something to accept.
    let listener = UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(listener)))?;
    let mut drained = pin!(drain.wait());
    loop {
        tokio::select! {
            () = &mut drained => return Ok(()),
            ready = listener.readable() => ready?,
        }
        loop {
            let accepted = listener.try_io(Interest::READABLE, || accept(&listener));
            let accepted = accepted.and_then(|(stream, peer)| {
                let stream = match P::WATCHES {
                    true => Stream::Tcp(TcpStream::from_std(stream)?),
                    false => Stream::Unwatched(stream),
                };
                Ok((stream, peer))
            });
            match accepted {
                Ok((stream, peer)) => {
                    let peer = Some(worker.context.0.network.load().declared(peer));
                    spawn(worker, key, stream, peer, declared, drain);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => pause(key, &error).await,
            }
            room(worker).await;
            if drain.is_draining() {
                return Ok(());
            }
            // Those that were accepted have their turn.
            tokio::task::consume_budget().await;
        }
    }
}

/// One `accept4`: the socket is non-blocking, and Nagle's algorithm off as on the listener.
fn accept(listener: &UdpSocket) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (socket, peer) = SockRef::from(listener).accept4(flags.bits())?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((socket.into(), peer))
}

async fn accept_unix<P: Program>(
    worker: &Rc<Worker<P>>,
    key: &Arc<str>,
    listener: std::os::unix::net::UnixListener,
    drain: &Drain,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = drain.wait() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => spawn(worker, key, Stream::Unix(stream), None, None, drain),
            Err(error) => pause(key, &error).await,
        }
        room(worker).await;
    }
}

fn spawn<P: Program>(
    worker: &Rc<Worker<P>>,
    key: &Arc<str>,
    stream: Stream,
    peer: Option<SocketAddrV4>,
    declared: Option<SocketAddrV4>,
    drain: &Drain,
) {
    let accepted = Accepted { key: Arc::clone(key), stream, peer, declared, drain: drain.clone() };
    let counted = Counted::new(worker.context.clone());
    let served = P::serve(Rc::clone(worker), accepted);
    tokio::task::spawn_local(async move {
        served.await;
        drop(counted);
    });
}

/// Out of descriptors or memory: the connection stays in the kernel's queue for a moment.
async fn pause(key: &str, error: &io::Error) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    log::entry(log::Severity::Error, "accept failed")
        .field("listener", key)
        .field("error", error.to_string().as_str())
        .emit();
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn room<P: Program>(worker: &Worker<P>) {
    while worker.context.0.connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Counts a connection for as long as it is served, on every way out.
struct Counted(Context);

impl Counted {
    fn new(context: Context) -> Self {
        context.0.connections.fetch_add(1, Ordering::Relaxed);
        Counted(context)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
