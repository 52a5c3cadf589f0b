//! The server: one connection in either version, and what a handler is.

use crate::body::{Body, Incoming};
use crate::error::HeadError;
use crate::h1::{BoxIo, Reader};
use crate::tls::TlsInfo;
use bytes::Bytes;
use http::{Request, Response};
use std::future::{Future, poll_fn};
use std::net::SocketAddrV4;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// How long a closing connection or stream is read empty, so that its last response is not lost to a reset:
/// at most so long altogether (a client that sends a whole large body before it reads the refusal),
/// and so long without a byte.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(30);
pub(crate) const LINGER: Duration = Duration::from_secs(2);

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

/// The words of an HTTP/1.1 status line, where a response has this in its extensions. HTTP/2 has
/// none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonPhrase(pub http::HeaderValue);

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
    /// How long an upgraded connection goes on after the drain has begun.
    pub upgraded_grace: Duration,
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
            upgraded_grace: Duration::from_secs(5),
            http2: true,
            h2_streams_max: 100,
        }
    }
}

/// Serves one connection until it ends. `prefix` is what was already read from it. When `drain`
/// resolves, requests in flight end and nothing new is taken: HTTP/1.1 answers with
/// `connection: close`, HTTP/2 sends GOAWAY. An upgraded connection is served until it ends.
pub fn serve<IO, H>(
    io: IO,
    prefix: Bytes,
    info: Rc<ConnectionInfo>,
    handler: Rc<H>,
    options: &ServerOptions,
    drain: impl Future<Output = ()> + 'static,
) -> impl Future<Output = ()>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    // Boxed before the future begins, so that its state has no room for a whole TLS stream.
    serve_boxed(Box::new(io), prefix, info, handler, options, drain)
}

/// As [`serve`], for a connection whose kind was forgotten already.
pub async fn serve_boxed<H: Handler>(
    mut io: BoxIo,
    prefix: Bytes,
    info: Rc<ConnectionInfo>,
    handler: Rc<H>,
    options: &ServerOptions,
    drain: impl Future<Output = ()> + 'static,
) {
    let mut drain = pin!(drain);
    let mut reader = Reader { buffer: prefix.into(), ..Reader::default() };
    let alpn = info.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    let mut since = Instant::now();
    let h2 = match alpn {
        Some(protocol) => options.http2 && protocol == "h2",
        None if options.http2 => {
            tokio::select! {
                biased;
                h2 = chooses_http2(&mut io, &mut reader, &mut since, options) => h2,
                () = drain.as_mut() => return,
            }
        }
        None => false,
    };
    if h2 {
        let io = Prefixed { prefix: reader.buffer.freeze(), io };
        // Boxed, so that the many HTTP/1.1 connections do not hold its room.
        Box::pin(crate::h2::serve(io, &info, &handler, options, drain)).await;
    } else {
        crate::h1::serve(io, reader, since, &info, &handler, options, drain).await;
    }
}

/// Waits for a first byte as long as for a request, and for what decides the version as long as for
/// a head. In the end `since` is when the waiting began that is still not over.
async fn chooses_http2(
    io: &mut BoxIo,
    reader: &mut Reader,
    since: &mut Instant,
    options: &ServerOptions,
) -> bool {
    if reader.buffer.is_empty() {
        // Errors and the end come again, to whoever reads next.
        let first = poll_fn(|cx| reader.poll_fill(&mut **io, cx));
        if !matches!(timeout_at(*since + options.keep_alive, first).await, Ok(Ok(1..))) {
            return false;
        }
        *since = Instant::now();
    }
    let deadline = *since + options.header_timeout;
    timeout_at(deadline, has_preface(io, reader)).await.unwrap_or(false)
}

/// Reads until it is known whether the connection begins with HTTP/2's preface.
async fn has_preface(io: &mut BoxIo, reader: &mut Reader) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    loop {
        if reader.buffer.starts_with(PREFACE) {
            return true;
        }
        if !PREFACE.starts_with(&reader.buffer) {
            return false;
        }
        // Errors and the end come again, to whoever reads next.
        let read = poll_fn(|cx| reader.poll_fill(&mut **io, cx)).await;
        if !matches!(read, Ok(1..)) {
            return false;
        }
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
