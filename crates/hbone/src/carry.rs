//! Carries bytes both ways between a TCP connection and a tunnel, as one task.
//!
//! A direction reads a socket only when HTTP/2 has room for what it reads, and reserves that room
//! only when there is something to read, so that idle tunnels take none of the connection's window.
//! Bytes are read straight into what becomes the DATA frame. Nothing is held for a tunnel that
//! waits; what the socket does not take is held as received, and its window not given back.

use crate::Tunnel;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use net::splice::{Carried, Cut, End, Side, reset};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// The most that one read takes, and becomes a DATA frame.
const READ_BYTES: usize = 64 * 1024;
/// Smaller reads are copied, so that they keep no large buffer alive while they wait.
const SMALL: usize = 4 * 1024;
/// Reads of one direction before other tasks of the thread get their turn.
const ROUNDS_MAX: u32 = 16;
/// As in `net::splice`.
const IDLE_LOOKS: u32 = 4;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// What a tunnel is carried under.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Which end is the tunnel.
    pub tunnel: Side,
    /// Goes to the socket before anything else.
    pub first: Vec<u8>,
    /// Ends the connection when nothing moves for so long; none: the other side looks after that.
    pub idle_timeout: Option<Duration>,
    /// Ends it from outside.
    pub cut: Option<&'a Cut>,
}

/// Carries bytes until both ends are done, one breaks, or the terms end it. A broken end resets the
/// other one: RST and RST_STREAM (CONNECT_ERROR) are the same thing (RFC 9113 8.5).
pub async fn carry(socket: TcpStream, tunnel: Tunnel, terms: Terms<'_>) -> Carried {
    let Terms { tunnel: side, first, idle_timeout, cut } = terms;
    let Tunnel { mut send, mut recv, held, _slot } = tunnel;
    let other = if side == Side::Client { Side::Target } else { Side::Client };
    let mut out = Outward::default();
    let mut inward = Inward { first: Bytes::from(first), held, ..Inward::default() };
    let mut closing = Closing { socket: &socket, closed: false };
    let mut watch: Option<Watch<'_>> = None;
    let mut idle = idle_timeout.map(Idle::new);
    let mut cutting = pin!(async {
        match cut {
            Some(cut) => cut.wait().await,
            None => std::future::pending().await,
        }
    });
    let end = poll_fn(|cx| {
        if cutting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Cut);
        }
        if let Some(idle) = &mut idle
            && idle.poll((out.bytes, inward.bytes), cx).is_ready()
        {
            return Poll::Ready(End::Idle);
        }
        let outward = out.poll(&socket, &mut send, cx);
        let inwardly = inward.poll(&mut recv, &socket, cx);
        match (outward, inwardly) {
            (Poll::Ready(Err(Fault::Tunnel)), _) | (_, Poll::Ready(Err(Fault::Tunnel))) => {
                return Poll::Ready(End::Broken(side, ErrorKind::ConnectionReset));
            }
            (Poll::Ready(Err(Fault::Socket(kind))), _)
            | (Poll::Ready(Ok(())), Poll::Ready(Err(Fault::Socket(kind)))) => {
                return Poll::Ready(End::Broken(other, kind));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Ok(())), Poll::Pending) => {
                if send.poll_reset(cx).is_ready() {
                    return Poll::Ready(End::Broken(side, ErrorKind::ConnectionReset));
                }
            }
            // A socket that takes nothing more may have sent something before it broke: that is
            // still carried, and ends by itself.
            (Poll::Pending, _) if !out.blocked => return Poll::Pending,
            (Poll::Pending, _) => {}
        }
        // The socket is not being read, because it has said that it is done or because the tunnel
        // takes nothing: a reset shows by this alone.
        let socket = &socket;
        let watch = watch
            .get_or_insert_with(|| Box::pin(async move { socket.ready(Interest::ERROR).await }));
        let watched = ready!(watch.as_mut().poll(cx));
        let error = watched.err().or_else(|| socket.take_error().ok().flatten());
        let kind = error.map_or(ErrorKind::ConnectionReset, |error| error.kind());
        Poll::Ready(End::Broken(other, kind))
    })
    .await;
    closing.closed = end == End::Closed;
    if !closing.closed {
        send.send_reset(Reason::CONNECT_ERROR);
    }
    let (to_tunnel, to_socket) = (out.bytes, inward.bytes);
    match side {
        Side::Client => Carried { to_target: to_socket, to_client: to_tunnel, end },
        Side::Target => Carried { to_target: to_tunnel, to_client: to_socket, end },
    }
}

/// Any end but an orderly one is a reset, also that of a task that is dropped: an end of stream
/// would say that all had been carried. (The tunnel resets itself when it is dropped.)
struct Closing<'a> {
    socket: &'a TcpStream,
    closed: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if !self.closed {
            reset(self.socket);
        }
    }
}

type Watch<'a> = Pin<Box<dyn Future<Output = io::Result<tokio::io::Ready>> + Send + 'a>>;

/// Looks now and then whether anything has moved.
struct Idle {
    sleep: Pin<Box<Sleep>>,
    tick: Duration,
    moved: (u64, u64),
    quiet: u32,
}

impl Idle {
    fn new(timeout: Duration) -> Self {
        let tick = timeout / IDLE_LOOKS;
        Idle { sleep: Box::pin(sleep(tick)), tick, moved: (0, 0), quiet: 0 }
    }

    fn poll(&mut self, moved: (u64, u64), cx: &mut Context<'_>) -> Poll<()> {
        while self.quiet < IDLE_LOOKS {
            ready!(self.sleep.as_mut().poll(cx));
            self.quiet = if moved == self.moved { self.quiet + 1 } else { 0 };
            self.moved = moved;
            self.sleep.as_mut().reset(Instant::now() + self.tick);
        }
        Poll::Ready(())
    }
}

/// Which end of a direction failed.
#[derive(Clone, Copy)]
enum Fault {
    Socket(ErrorKind),
    Tunnel,
}

type Outcome = Result<(), Fault>;

/// From the socket into the tunnel.
#[derive(Default)]
struct Outward {
    bytes: u64,
    reserved: bool,
    /// Waits for room in the tunnel, and does not look at the socket.
    blocked: bool,
    outcome: Option<Outcome>,
}

impl Outward {
    fn poll(
        &mut self,
        from: &TcpStream,
        to: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome {
            return Poll::Ready(outcome);
        }
        let outcome = ready!(self.advance(from, to, cx));
        self.outcome = Some(outcome);
        Poll::Ready(outcome)
    }

    fn advance(
        &mut self,
        from: &TcpStream,
        to: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        for _ in 0..ROUNDS_MAX {
            self.blocked = false;
            match from.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Socket(error.kind()))),
                Poll::Pending => {
                    if std::mem::take(&mut self.reserved) {
                        to.reserve_capacity(0);
                    }
                    // A reset by the peer, or the end of the connection.
                    ready!(to.poll_reset(cx)).ok();
                    return Poll::Ready(Err(Fault::Tunnel));
                }
            }
            if to.capacity() == 0 {
                to.reserve_capacity(READ_BYTES);
                (self.reserved, self.blocked) = (true, true);
                while to.capacity() == 0 {
                    match ready!(to.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Poll::Ready(Err(Fault::Tunnel)),
                    }
                }
            }
            self.blocked = false;
            let bytes = match read(from, to.capacity().min(READ_BYTES)) {
                Ok(bytes) => bytes,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => continue,
                    kind => return Poll::Ready(Err(Fault::Socket(kind))),
                },
            };
            let (length, ended) = (bytes.len(), bytes.is_empty());
            if to.send_data(bytes, ended).is_err() {
                return Poll::Ready(Err(Fault::Tunnel));
            }
            self.bytes += length as u64;
            if ended {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// One read of at most `most` bytes; nothing at the end.
fn read(from: &TcpStream, most: usize) -> io::Result<Bytes> {
    BUFFER.with_borrow_mut(|buffer| {
        // Frees nothing and copies nothing while earlier reads are still on their way.
        buffer.reserve(most);
        let length = {
            let mut limited = (&mut *buffer).limit(most);
            from.try_read_buf(&mut limited)?
        };
        if length <= SMALL {
            let bytes = Bytes::copy_from_slice(buffer);
            buffer.clear();
            return Ok(bytes);
        }
        Ok(buffer.split().freeze())
    })
}

/// From the tunnel to the socket.
#[derive(Default)]
struct Inward {
    bytes: u64,
    /// Not the tunnel's own, and in front of them.
    first: Bytes,
    held: Bytes,
    ended: bool,
    outcome: Option<Outcome>,
}

impl Inward {
    fn poll(
        &mut self,
        from: &mut RecvStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome {
            return Poll::Ready(outcome);
        }
        let outcome = ready!(self.advance(from, to, cx));
        (self.first, self.held) = Default::default();
        self.outcome = Some(outcome);
        Poll::Ready(outcome)
    }

    fn advance(
        &mut self,
        from: &mut RecvStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        for _ in 0..ROUNDS_MAX {
            while !(self.first.is_empty() && self.held.is_empty()) {
                let slices = [IoSlice::new(&self.first), IoSlice::new(&self.held)];
                let taken = match to.try_write_vectored(&slices) {
                    Ok(taken) => taken,
                    Err(error) => match error.kind() {
                        ErrorKind::Interrupted => continue,
                        ErrorKind::WouldBlock => match ready!(to.poll_write_ready(cx)) {
                            Ok(()) => continue,
                            Err(error) => return Poll::Ready(Err(Fault::Socket(error.kind()))),
                        },
                        kind => return Poll::Ready(Err(Fault::Socket(kind))),
                    },
                };
                let of_first = taken.min(self.first.len());
                self.first.advance(of_first);
                let taken = taken - of_first;
                self.held.advance(taken);
                self.bytes += taken as u64;
                // An error means that the stream is no more, which the next read says.
                let _ = from.flow_control().release_capacity(taken);
            }
            if self.ended {
                // An error here is a broken connection, which the other direction reports.
                let _ = SockRef::from(to).shutdown(Shutdown::Write);
                return Poll::Ready(Ok(()));
            }
            match ready!(from.poll_data(cx)) {
                Some(Ok(bytes)) => self.held = bytes,
                Some(Err(_)) => return Poll::Ready(Err(Fault::Tunnel)),
                None => self.ended = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
