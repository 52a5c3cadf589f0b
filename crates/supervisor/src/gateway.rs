//! The way into a network for a session of loopback isolation: an HTTP proxy on the host's loopback
//! that resolves and dials as that workload (DESIGN.md 3 `--isolation loopback`).
//!
//! `CONNECT host:port`, absolute-form requests, and plain requests for the metadata server
//! (`GCE_METADATA_HOST` points here). Names are resolved by the network's own `private-dns`; whether
//! an address is reachable is `vpc::Fabric::reach`, the same as in `explain`; a connection that the
//! network drops gets no answer, as in the cloud.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use names::SelfLink;
use net::Network;
use slice::{METADATA_ADDRESS, Workload};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use vpc::{Caller, Fabric, Packet, Reach};

/// Request heads over this size are refused.
const HEAD_MAX: usize = 64 * 1024;
/// As long as a kernel tries to connect before it gives up.
const SILENCE: Duration = Duration::from_secs(130);
/// A head has to come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one session at once.
const CONNECTIONS_MAX: usize = 1_000;
/// How long a name server may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// What the gateways see of the world; replaced at every change.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The map of the networks.
    pub fabric: Arc<Fabric>,
    /// Endpoints whose connection carries traffic.
    pub accepted: HashSet<SelfLink>,
    /// Placed addresses by network.
    pub networks: HashMap<names::NetworkId, Network>,
}

/// The view, shared with the gateways' thread.
pub type SharedView = Arc<RwLock<View>>;

/// All gateways of one supervisor: one thread.
#[derive(Debug)]
pub struct Gateways {
    sessions: mpsc::UnboundedSender<Opened>,
    /// The view that they decide by.
    pub view: SharedView,
}

#[derive(Debug)]
struct Opened {
    listener: std::net::TcpListener,
    workload: Workload,
    closed: oneshot::Receiver<()>,
}

/// A session's gateway; dropping it closes it.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    _closed: oneshot::Sender<()>,
}

impl Gateways {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of `pthread_create(3)`.
    pub fn start() -> io::Result<Gateways> {
        let view = SharedView::default();
        let (sessions, mut receiver) = mpsc::unbounded_channel::<Opened>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&view);
        crate::child::spawn_thread("gateways", move || {
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async {
                while let Some(opened) = receiver.recv().await {
                    tokio::task::spawn_local(serve(opened, Arc::clone(&shared)));
                }
            });
        })?;
        Ok(Gateways { sessions, view })
    }

    /// Opens a gateway for a workload.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn open(&self, workload: Workload) -> io::Result<Gateway> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, closed) = oneshot::channel();
        let opened = Opened { listener, workload, closed };
        self.sessions.send(opened).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(Gateway { address, _closed: sender })
    }
}

/// The environment by which a session's programs find their gateway.
pub fn environment(address: SocketAddr) -> impl Iterator<Item = (String, String)> {
    let proxy = format!("http://{address}");
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];
    let metadata = ["GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"];
    proxies
        .into_iter()
        .map(move |name| (name.to_owned(), proxy.clone()))
        .chain(metadata.into_iter().map(move |name| (name.to_owned(), address.to_string())))
        .chain([("NO_PROXY".to_owned(), address.ip().to_string())])
}

async fn serve(opened: Opened, view: SharedView) {
    let Opened { listener, workload, mut closed } = opened;
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let workload = Rc::new(workload);
    // Dropped with the session, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut closed => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let (workload, view) = (Rc::clone(&workload), Arc::clone(&view));
                connections.spawn_local(async move {
                    let _ = carry(client, &workload, &view).await;
                });
            }
            // Out of descriptors: others have to end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One connection of a session.
async fn carry(mut client: TcpStream, workload: &Workload, view: &SharedView) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let head = tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut client));
    let head = head.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let Some((head, rest)) = head else { return Ok(()) };
    let Some(wish) = Wish::parse(&head, client.local_addr()?) else {
        return refuse(&mut client, "400 Bad Request", "not a proxy request").await;
    };
    let address = match wish.host.parse::<Ipv4Addr>() {
        Ok(address) => Some(address),
        Err(_) => look_up(&wish.host, workload, view).await?,
    };
    let Some(address) = address else {
        let why = format!("{} has no address in {}", wish.host, workload.network);
        return refuse(&mut client, "502 Bad Gateway", &why).await;
    };
    let to = SocketAddrV4::new(address, wish.port);
    let Look { dropped, network, source } = look(workload, to, view);
    if let Some(detail) = dropped {
        // Silence: the session sees its connect time out.
        let mut byte = [0];
        let gone = async { while matches!(client.read(&mut byte).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(SILENCE, gone).await;
        return refuse(&mut client, "504 Gateway Timeout", &detail).await;
    }
    let mut server = match network.dial(Some(source), to).await {
        Ok(server) => server,
        Err(error) => {
            return refuse(&mut client, "502 Bad Gateway", &format!("{to}: {error}")).await;
        }
    };
    match wish.forward {
        None => client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?,
        Some(head) => server.write_all(&head).await?,
    }
    server.write_all(&rest).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

/// What becomes of a connection.
struct Look {
    /// Why the network drops it, if it does.
    dropped: Option<String>,
    /// Where the addresses of the network are placed.
    network: Network,
    /// The address that it comes from.
    source: Ipv4Addr,
}

fn look(workload: &Workload, to: SocketAddrV4, view: &SharedView) -> Look {
    let view = view.read().unwrap_or_else(PoisonError::into_inner);
    let caller = Caller::from(workload).towards(*to.ip());
    let reach = view.fabric.reach(caller, Packet::tcp(*to.ip(), to.port())).reach;
    let dropped = match &reach {
        Reach::Dropped { reason, detail } => Some(format!("{reason}: {detail}")),
        // Nothing has the address; a dial would leave the topology.
        Reach::Subnetwork { subnetwork } => {
            Some(format!("{}: {subnetwork}", names::Reason::UnknownInternalAddress))
        }
        Reach::Endpoint { endpoint } if !view.accepted.contains(endpoint) => {
            Some(format!("{}: {endpoint}", names::Reason::PscConnectionNotAccepted))
        }
        _ => None,
    };
    // A forwarding rule of a peer is placed in the peer's table.
    let owner = match reach {
        Reach::ForwardingRule { network, .. } | Reach::Instance { network, .. } => network,
        _ => caller.network.clone(),
    };
    let own = view.networks.get(caller.network).cloned().unwrap_or_default();
    let network = view.networks.get(&owner).cloned().unwrap_or_default();
    let source = own.real(SocketAddrV4::new(caller.address, 0));
    let network = match source {
        SocketAddr::V4(source) => network.extended([(caller.address, *source.ip())], None),
        SocketAddr::V6(_) => network,
    };
    Look { dropped, network, source: caller.address }
}

/// What a client wants.
struct Wish {
    host: String,
    port: u16,
    /// The head to send on; none for CONNECT.
    forward: Option<Vec<u8>>,
}

impl Wish {
    fn parse(head: &[u8], own: SocketAddr) -> Option<Wish> {
        let text = std::str::from_utf8(head).ok()?;
        let (line, fields) = text.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if method == "CONNECT" {
            let (host, port) = target.rsplit_once(':')?;
            return Some(Wish { host: host.to_owned(), port: port.parse().ok()?, forward: None });
        }
        let (authority, path) = match target.strip_prefix("http://") {
            Some(rest) => match rest.find('/') {
                Some(at) => (rest[..at].to_owned(), rest[at..].to_owned()),
                None => (rest.to_owned(), "/".to_owned()),
            },
            // A plain request: only the metadata server is asked so.
            None => (own.to_string(), target.to_owned()),
        };
        let metadata = authority == own.to_string();
        let (host, port) = match authority.rsplit_once(':') {
            _ if metadata => (METADATA_ADDRESS.to_string(), 80),
            Some((host, port)) => (host.to_owned(), port.parse().ok()?),
            None => (authority.clone(), 80),
        };
        let mut forward = format!("{method} {path} {version}\r\n");
        for field in fields.split("\r\n").filter(|field| !field.is_empty()) {
            let name = field.split(':').next()?.to_ascii_lowercase();
            match name.as_str() {
                "proxy-connection" | "proxy-authorization" | "connection" => {}
                "host" if metadata => forward.push_str("Host: metadata.google.internal\r\n"),
                _ => {
                    forward.push_str(field);
                    forward.push_str("\r\n");
                }
            }
        }
        // One request a connection: the next one may be for another host.
        forward.push_str("Connection: close\r\n\r\n");
        Some(Wish { host, port, forward: Some(forward.into_bytes()) })
    }
}

/// The head, and what came after it.
async fn read_head(client: &mut TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() > HEAD_MAX {
            refuse(client, "431 Request Header Fields Too Large", "").await?;
            return Ok(None);
        }
    }
}

async fn refuse(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let length = why.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{why}"
    );
    client.write_all(text.as_bytes()).await
}

/// Looks a name up as a workload's resolver library does, by its search list too.
async fn look_up(
    host: &str,
    workload: &Workload,
    view: &SharedView,
) -> io::Result<Option<Ipv4Addr>> {
    for name in slice::lookup_order(host, &workload.zone, &workload.project) {
        if let Some(address) = resolve(&name, workload, view).await? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Asks the network's own resolver for an address, as the workload: the answer may depend on where it
/// is, and the log names it.
async fn resolve(
    host: &str,
    workload: &Workload,
    view: &SharedView,
) -> io::Result<Option<Ipv4Addr>> {
    let (resolver, own) = {
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        let network = view.networks.get(&workload.network).cloned().unwrap_or_default();
        let real = |address, port| network.real(SocketAddrV4::new(address, port));
        (real(METADATA_ADDRESS, 53), real(workload.address, 0))
    };
    let Ok(name) = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))) else {
        return Ok(None);
    };
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::A));
    let question = question.to_vec().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(own).await?;
    socket.connect(resolver).await?;
    socket.send(&question).await?;
    let mut answer = [0; 4096];
    let length = tokio::time::timeout(DNS_TIMEOUT, socket.recv(&mut answer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let answer = Message::from_vec(&answer[..length]).map_err(io::Error::other)?;
    let first = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    Ok(first)
}
