//! Carries bytes both ways between two TCP connections, as one task, and so that each end sees
//! what the other did: end of stream as end of stream, reset as reset.
//!
//! How bytes move (performance, advice 1): a direction reads into a small buffer that belongs to
//! the thread, which is cheapest for small messages. A read that fills it turns the direction to
//! `splice(2)` through a pipe, so that bulk data never enters this process; a splice that moves
//! less than the buffer would hold turns it back. While a connection waits it holds neither buffer
//! nor pipe; only what the receiving end does not take is kept, at most one of them per direction.
//!
//! A reset overtakes what is kept, as it does on a wire: an end that is not being read from, because
//! it has said that it is done or because the other one takes nothing, is watched for it.

mod cut;
mod direction;
mod pipe;

pub use cut::Cut;
pub(crate) use cut::Member;
use direction::{Direction, Fault};

use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection is looked at this often within its idle timeout, which is exact to this part.
const IDLE_LOOKS: u32 = 4;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Client,
    /// Who was dialled for it.
    Target,
}

/// How a carried connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both ends said that they were done.
    Closed,
    /// One end broke the connection; the other was reset.
    Broken(Side, ErrorKind),
    /// Nothing moved for the idle timeout; both ends were reset.
    Idle,
    /// [`Cut::cut`] was called; both ends were reset.
    Cut,
}

/// What was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the client that the target's socket took, without those of `first`.
    pub to_target: u64,
    /// Bytes from the target that the client's socket took.
    pub to_client: u64,
    /// How it ended.
    pub end: End,
}

/// Carries bytes between `client` and `target` until both are done, one breaks, nothing moves for
/// `idle_timeout`, or `cut` is cut.
///
/// `first` (a PROXY header, say) goes to the target before anything else, in one write with what
/// the client has sent by now.
pub async fn carry(
    client: TcpStream,
    target: TcpStream,
    first: Vec<u8>,
    idle_timeout: Duration,
    cut: &Cut,
) -> Carried {
    let mut up = Direction::default();
    let mut down = Direction::default();
    // The accepted socket has its listener's options: Nagle's algorithm is off.
    down.prompt = true;
    if let Err(error) = up.begin(first, &client) {
        reset(&client);
        reset(&target);
        let end = End::Broken(Side::Client, error.kind());
        return Carried { to_target: 0, to_client: 0, end };
    }
    let mut ends = Ends { client: &client, target: &target, watches: [None, None], closed: false };
    let tick = idle_timeout / IDLE_LOOKS;
    let mut timer = pin!(tokio::time::sleep(tick));
    let mut member = Member::new(cut);
    let mut moved = (0, 0);
    let mut quiet = 0;
    let end = poll_fn(|cx| {
        // Once per task, not once per message: this waker stays the same.
        if member.join(cx.waker()) || timer.is_elapsed() {
            while timer.as_mut().poll(cx).is_ready() {
                let now = (up.bytes, down.bytes);
                quiet = if now == moved { quiet + 1 } else { 0 };
                moved = now;
                if quiet >= IDLE_LOOKS {
                    return Poll::Ready(End::Idle);
                }
                timer.as_mut().reset(tokio::time::Instant::now() + tick);
            }
        }
        if cut.is_cut() {
            return Poll::Ready(End::Cut);
        }
        ends.poll(&mut up, &mut down, cx)
    })
    .await;
    ends.closed = end == End::Closed;
    Carried { to_target: up.bytes, to_client: down.bytes, end }
}

/// Makes the close of this socket a reset: the peer sees RST, and nothing that is still unsent.
pub fn reset(socket: &impl AsFd) {
    // An error means that the socket is no more, which is what was wanted.
    let _ = SockRef::from(&socket.as_fd()).set_linger(Some(Duration::ZERO));
}

/// Both sockets, and the watches over those that are not being read.
struct Ends<'a> {
    client: &'a TcpStream,
    target: &'a TcpStream,
    watches: [Option<Watch<'a>>; 2],
    /// Both ends were done. Any other end is a reset, also that of a task that is dropped: an end of
    /// stream would say that all had been carried.
    closed: bool,
}

type Watch<'a> = Pin<Box<dyn Future<Output = io::Result<tokio::io::Ready>> + Send + 'a>>;

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if !self.closed {
            reset(self.client);
            reset(self.target);
        }
    }
}

impl<'a> Ends<'a> {
    fn poll(
        &mut self,
        up: &mut Direction,
        down: &mut Direction,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        let upward = up.poll(self.client, self.target, cx);
        if let Poll::Ready(Err(Fault::From(kind))) = upward {
            return Poll::Ready(End::Broken(Side::Client, kind));
        }
        if let Poll::Ready(Err(Fault::To(kind))) = upward {
            down.broken = Some(kind);
        }
        down.last = matches!(upward, Poll::Ready(Ok(())));
        let downward = down.poll(self.target, self.client, cx);
        up.last = matches!(downward, Poll::Ready(Ok(())));
        if let Poll::Ready(Err(Fault::To(kind))) = downward {
            up.broken = Some(kind);
        }
        match (upward, downward) {
            (_, Poll::Ready(Err(Fault::From(kind)))) => {
                return Poll::Ready(End::Broken(Side::Target, kind));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            // An end that takes nothing more may have sent something before it broke: that is
            // still carried, and ends by itself, for the socket is dead.
            (Poll::Ready(Err(Fault::To(_))), Poll::Pending)
            | (Poll::Pending, Poll::Ready(Err(Fault::To(_)))) => {}
            (Poll::Ready(Err(Fault::To(kind))), _) => {
                return Poll::Ready(End::Broken(Side::Target, kind));
            }
            (_, Poll::Ready(Err(Fault::To(kind)))) => {
                return Poll::Ready(End::Broken(Side::Client, kind));
            }
            _ => {}
        }
        for (side, direction) in [(Side::Client, up), (Side::Target, down)] {
            if !direction.is_reading()
                && let Poll::Ready(end) = self.watch(side, cx)
            {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }

    /// Waits for a reset by an end that is not being read.
    fn watch(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<End> {
        let socket: &'a TcpStream = match side {
            Side::Client => self.client,
            Side::Target => self.target,
        };
        let watch = self.watches[side as usize]
            .get_or_insert_with(|| Box::pin(async move { socket.ready(Interest::ERROR).await }));
        watch.as_mut().poll(cx).map(|watched| {
            let error = watched.err().or_else(|| socket.take_error().ok().flatten());
            let kind = error.map_or(ErrorKind::ConnectionReset, |error| error.kind());
            End::Broken(side, kind)
        })
    }
}
