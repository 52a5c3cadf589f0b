//! A server with a closure for a handler, and a client that speaks bytes.
#![allow(dead_code, reason = "every test file compiles all of it and uses a part")]

use bytes::Bytes;
use http::{Request, Response};
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming, ServerOptions, serve};
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Runs a test on one thread, as the programs run.
pub fn run(test: impl Future<Output = ()>) {
    run_within(std::time::Duration::from_secs(30), test);
}

/// The same for a long one.
pub fn run_within(limit: std::time::Duration, test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, test).await.expect("no test hangs");
    });
}

pub struct Closure<F> {
    handle: F,
    pub refused: RefCell<Vec<HeadError>>,
}

impl<F, R> Handler for Closure<F>
where
    F: Fn(Request<Incoming>) -> R + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        (self.handle)(request).await
    }

    fn refused(&self, error: &HeadError) {
        self.refused.borrow_mut().push(error.clone());
    }
}

pub struct Server<F> {
    pub address: SocketAddr,
    pub handler: Rc<Closure<F>>,
    pub drain: Rc<Notify>,
    /// How many connections were accepted, and how many have ended.
    pub accepted: Rc<RefCell<(usize, usize)>>,
    pub ended: Rc<Notify>,
}

pub async fn server<F, R>(options: ServerOptions, handle: F) -> Server<F>
where
    F: Fn(Request<Incoming>) -> R + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let handler = Rc::new(Closure { handle, refused: RefCell::default() });
    let server = Server {
        address,
        handler: handler.clone(),
        drain: Rc::new(Notify::new()),
        accepted: Rc::default(),
        ended: Rc::new(Notify::new()),
    };
    let (drain, accepted, ended) =
        (server.drain.clone(), server.accepted.clone(), server.ended.clone());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.borrow_mut().0 += 1;
            let (handler, options, drain) = (handler.clone(), options.clone(), drain.clone());
            let (accepted, ended) = (accepted.clone(), ended.clone());
            tokio::task::spawn_local(async move {
                let drain = async move { drain.notified().await };
                serve(stream, Bytes::new(), Rc::default(), handler, &options, drain).await;
                accepted.borrow_mut().1 += 1;
                ended.notify_waiters();
            });
        }
    });
    server
}

/// A client that speaks bytes.
pub struct Raw {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

/// A response: head lines (lower case, without `date`), body, trailer lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Answer {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn has(&self, line: &str) -> bool {
        self.head.lines().any(|found| found == line)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Raw { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) -> &mut Raw {
        self.stream.write_all(text.as_bytes()).await.expect("write");
        self
    }

    /// Sends what may meet a closed connection.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    async fn more(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) > 0
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.more().await, "ended inside a line: {:?}", self.buffer);
        }
    }

    async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert!(self.more().await, "ended inside a body");
        }
        self.buffer.drain(..n).collect()
    }

    async fn lines(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return lines.join("\n");
            }
            if !line.starts_with("date:") {
                lines.push(line);
            }
        }
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.lines().await;
        let status: u16 =
            head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let chunked = head.lines().any(|line| line == "transfer-encoding: chunked");
        let mut answer = Answer { head: head.clone(), body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        } else if let Some(length) = length {
            answer.body = self.take(length.parse().expect("length")).await;
        } else if chunked {
            loop {
                let size = usize::from_str_radix(&self.line().await, 16).expect("size");
                if size == 0 {
                    break;
                }
                answer.body.extend(self.take(size).await);
                assert_eq!(self.line().await, "");
            }
            answer.trailers = self.lines().await;
        } else {
            while self.more().await {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer
    }

    /// Waits for the end of the connection; what came before it.
    pub async fn end(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }
}

/// Answers with method, path, host, body and trailers of the request.
pub async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let host = parts.headers.get("host").map_or("-", |host| host.to_str().unwrap_or("?"));
    let mut text = format!("{} {} {host}", parts.method, parts.uri);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => text.push_str(&format!(" data={}", String::from_utf8_lossy(&data))),
                Err(frame) => text.push_str(&format!(" trailers={:?}", frame.into_trailers().ok())),
            },
            Err(error) => text.push_str(&format!(" error={error}")),
        }
    }
    Response::new(Body::full(text))
}
