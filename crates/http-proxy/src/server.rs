//! The server: one connection in either version, and what a handler is.

use crate::body::{Body, Incoming};
use crate::error::HeadError;
use crate::flush::DelayedFlush;
use crate::tls::TlsInfo;
use crate::upgrade::Upgrade;
use bytes::Bytes;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddrV4;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection before its first request.
#[derive(Clone, Debug, Default)]
pub struct ConnectionInfo {
    /// The client, as the fabric vouches for it.
    pub peer: Option<SocketAddrV4>,
    /// The listener's declared address.
    pub local: Option<SocketAddrV4>,
    /// TLS, where the connection has it.
    pub tls: Option<TlsInfo>,
}

/// Answers the requests of one connection.
pub trait Handler: 'static {
    /// One request, one response. Dropped where the client goes away first, which cancels what the
    /// handler awaits.
    fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<ConnectionInfo>,
    ) -> impl Future<Output = Response<Body>>;

    /// A request head that the server refused by itself: for the log and the counters.
    fn refused(&self, _error: &HeadError) {}
}

/// The bounds of a server connection.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Largest request head, request line included.
    pub header_bytes_max: usize,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// How long a connection without a request stays.
    pub keep_alive: Duration,
    /// How long a client may neither send nor take a byte of a body that waits for it.
    pub stall_timeout: Duration,
    /// Take HTTP/2, by ALPN or, without TLS, by its preface.
    pub http2: bool,
    /// Requests at once on an HTTP/2 connection.
    pub h2_streams_max: u32,
}

impl Default for ServerOptions {
    /// 60 KiB of head (private-connectivity 2.1), 610 s of keep-alive (2.1), 100 streams.
    fn default() -> Self {
        ServerOptions {
            header_bytes_max: 60 * 1024,
            header_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(610),
            stall_timeout: Duration::from_secs(300),
            http2: true,
            h2_streams_max: 100,
        }
    }
}

/// Serves one connection until it ends. `prefix` is what was already read from it. When `drain`
/// resolves, requests in flight end and nothing new is taken: HTTP/1.1 answers with
/// `connection: close`, HTTP/2 sends GOAWAY.
pub async fn serve<IO, H>(
    io: IO,
    prefix: Bytes,
    info: Rc<ConnectionInfo>,
    handler: Rc<H>,
    options: &ServerOptions,
    drain: impl Future<Output = ()> + 'static,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let h2 =
        options.http2 && info.tls.as_ref().is_some_and(|tls| tls.alpn.as_deref() == Some("h2"));
    let service = service_fn({
        let handler = handler.clone();
        move |mut request: Request<hyper::body::Incoming>| {
            let (handler, info) = (handler.clone(), info.clone());
            async move {
                let upgrade = request
                    .extensions_mut()
                    .remove::<hyper::upgrade::OnUpgrade>()
                    .map(Upgrade::hyper);
                let request = request.map(|body| Incoming::hyper(body).with_upgrade(upgrade));
                Ok::<_, Infallible>(handler.handle(request, &info).await)
            }
        }
    });
    let io = Prefixed { prefix, io };
    let mut drain = pin!(drain);
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.h2_streams_max)
            .max_header_list_size(options.header_bytes_max as u32);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(DelayedFlush::new(io)), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = drain.as_mut() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(options.keep_alive)
            .max_header_size(options.header_bytes_max);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
        tokio::select! {
            _ = connection.as_mut() => return,
            () = drain.as_mut() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// Spawns on the local set.
#[derive(Clone)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A connection of which some bytes were read already.
pub(crate) struct Prefixed<IO> {
    pub(crate) prefix: Bytes,
    pub(crate) io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
