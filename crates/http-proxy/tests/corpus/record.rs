//! A proxy in front of a backend that keeps every byte, and the reading of what it kept.

use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use http_proxy::headers::strip_hop_by_hop;
use http_proxy::{
    Body, ConnectionInfo, Handler, Incoming, Pool, PoolOptions, SendError, Version, bridge_upgrade,
};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request, as a backend understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

/// What a backend has got.
#[derive(Default)]
pub struct Recorded {
    pub bytes: Vec<u8>,
    /// Those that were whole.
    pub messages: Vec<Message>,
}

/// Takes connections, keeps what comes, and answers each whole request. The answer to `/next` says
/// so.
pub async fn recorder() -> (SocketAddr, Rc<RefCell<Recorded>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let recorded = Rc::new(RefCell::new(Recorded::default()));
    let all = recorded.clone();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(record(stream, all.clone()));
        }
    });
    (address, recorded)
}

async fn record(mut stream: TcpStream, all: Rc<RefCell<Recorded>>) {
    let mut buffer = Vec::new();
    loop {
        let before = buffer.len();
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        all.borrow_mut().bytes.extend_from_slice(&buffer[before..]);
        while let Some((message, length)) = message(&buffer) {
            buffer.drain(..length);
            let (status, body) = match &*message.method {
                "CONNECT" => ("405 Method Not Allowed", ""),
                "HEAD" => ("200 OK", ""),
                _ => ("200 OK", "ok"),
            };
            let next = if message.target == "/next" { "x-next: 1\r\n" } else { "" };
            all.borrow_mut().messages.push(message);
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\n{next}content-length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The first request of what this crate's own client sends, and its length.
pub fn message(bytes: &[u8]) -> Option<(Message, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let mut body = Vec::new();
    let mut at = end;
    if let Some(length) = field("content-length: ") {
        let length: usize = length.parse().ok()?;
        body.extend_from_slice(bytes.get(at..at + length)?);
        at += length;
    } else if field("transfer-encoding: ") == Some("chunked") {
        loop {
            let line = find(&bytes[at..], b"\r\n")?;
            let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            at += line + 2;
            if size == 0 {
                // Trailers, up to an empty line.
                at += if bytes.get(at..at + 2)? == b"\r\n" {
                    2
                } else {
                    find(&bytes[at..], b"\r\n\r\n")? + 4
                };
                break;
            }
            body.extend_from_slice(bytes.get(at..at + size)?);
            at += size + 2;
            bytes.get(at - 2..at)?;
        }
    }
    Some((Message { method, target, body }, at))
}

/// The same bytes with neighbouring chunks made one: where they are cut depends on when they came.
pub fn joined(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(end) = find(rest, b"\r\n\r\n") else { break };
        let (head, body) = rest.split_at(end + 4);
        out.extend_from_slice(head);
        rest = body;
        if find(head, b"\r\ntransfer-encoding: chunked\r\n").is_some() {
            let mut data = Vec::new();
            while let Some((chunk, after)) = first_chunk(rest) {
                data.extend_from_slice(chunk);
                rest = after;
            }
            if !data.is_empty() {
                out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                out.extend_from_slice(&[&data[..], b"\r\n"].concat());
            }
            if let Some(trailers) = rest.strip_prefix(b"0\r\n") {
                let none = trailers.starts_with(b"\r\n").then_some(2);
                let end = none.or_else(|| Some(find(trailers, b"\r\n\r\n")? + 4));
                let length = end.map_or(rest.len(), |end| end + 3);
                out.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
        } else if let Some((_, length)) = message(&[head, body].concat()) {
            let length = length - head.len();
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
        }
    }
    out.extend_from_slice(rest);
    out
}

/// A whole chunk that is not the last one, and what follows.
fn first_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = find(bytes, b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
    let data = bytes.get(line + 2..line + 2 + size).filter(|data| !data.is_empty())?;
    Some((data, bytes.get(line + 4 + size..)?))
}

pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|some| some == part)
}

/// Forwards everything to one backend, as the load balancer does: of upgrades only WebSocket.
pub struct Forwarder {
    pool: Pool<()>,
    to: SocketAddr,
    version: Version,
}

impl Forwarder {
    pub fn new(to: SocketAddr, version: Version) -> Rc<Forwarder> {
        Rc::new(Forwarder { pool: Pool::new(PoolOptions::default()), to, version })
    }
}

impl Handler for Forwarder {
    async fn handle(
        self: Rc<Self>,
        mut request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let upgrade = strip_hop_by_hop(request.headers_mut());
        let upgrade = upgrade.filter(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let client = upgrade.and_then(|protocol| {
            let client = request.body_mut().take_upgrade()?;
            request.headers_mut().insert(UPGRADE, protocol);
            Some(client)
        });
        let connect = || TcpStream::connect(self.to);
        let sent = self.pool.send(&(), self.version, connect, request.map(Body::from)).await;
        let status = match sent {
            Ok(mut response) => {
                if let (Some(client), Some(upstream)) = (client, response.body_mut().take_upgrade())
                {
                    let idle = Duration::from_secs(5);
                    tokio::task::spawn_local(bridge_upgrade(client, upstream, idle));
                }
                return response.map(Body::from);
            }
            Err(SendError::Body(_)) => StatusCode::BAD_REQUEST,
            Err(SendError::Protocol(_)) => StatusCode::BAD_GATEWAY,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    }
}
