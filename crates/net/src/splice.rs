//! Carries bytes both ways between two TCP connections, as one task, and so that each end sees
//! what the other did: end of stream as end of stream, reset as reset.
//!
//! How bytes move (performance, advice 1): a direction reads into a small buffer that belongs to
//! the thread, which is cheapest for small messages. A read that fills it turns the direction to
//! `splice(2)` through a pipe, so that bulk data never enters this process; a splice that moves
//! less than the buffer would hold turns it back. While a connection waits it holds neither buffer
//! nor pipe; only what the receiving end does not take is kept, at most one of them per direction.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The thread's buffer. What fills it is taken for bulk.
const BUFFER_BYTES: usize = 4096;
/// The size asked for a pipe; the kernel's limits may give less.
const PIPE_BYTES: usize = 512 * 1024;
/// Pipes that a thread keeps for later.
const PIPES_MAX: usize = 32;
/// Reads of one direction before other tasks of the thread get their turn.
const ROUNDS_MAX: u32 = 16;
/// A connection is looked at this often within its idle timeout, which is exact to this part.
const IDLE_LOOKS: u32 = 4;

thread_local! {
    static BUFFER: RefCell<[u8; BUFFER_BYTES]> = const { RefCell::new([0; BUFFER_BYTES]) };
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

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
    if let Err(error) = up.begin(first, &client) {
        reset(&target);
        let end = End::Broken(Side::Client, error.kind());
        return Carried { to_target: 0, to_client: 0, end };
    }
    let end = {
        let mut ends = Ends { client: &client, target: &target, watch: None };
        let tick = idle_timeout / IDLE_LOOKS;
        let mut timer = pin!(tokio::time::sleep(tick));
        let mut member = Member { cut, place: None };
        let mut moved = (0, 0);
        let mut quiet = 0;
        poll_fn(|cx| {
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
        .await
    };
    if end != End::Closed {
        reset(&client);
        reset(&target);
    }
    Carried { to_target: up.bytes, to_client: down.bytes, end }
}

/// Makes the close of this socket a reset: the peer sees RST, and nothing that is still unsent.
pub fn reset(socket: &impl AsFd) {
    // An error means that the socket is no more, which is what was wanted.
    let _ = SockRef::from(&socket.as_fd()).set_linger(Some(Duration::ZERO));
}

/// Ends connections from outside, all that carry under the same handle at once; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cut: AtomicBool,
    members: Mutex<Members>,
}

/// The tasks that carry, each at a place of its own.
#[derive(Debug, Default)]
struct Members {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Cut {
    /// Ends every connection that carries under this handle, now and later.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.members().wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// Has [`Cut::cut`] been called?
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// How many connections carry under this handle.
    pub fn carrying(&self) -> usize {
        let members = self.members();
        members.wakers.len() - members.free.len()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in a [`Cut`], given back on drop.
struct Member<'a> {
    cut: &'a Cut,
    place: Option<(usize, Waker)>,
}

impl Member<'_> {
    /// Lets `waker` be woken by the cut; true if it was not known yet.
    fn join(&mut self, waker: &Waker) -> bool {
        if self.place.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            return false;
        }
        let mut members = self.cut.members();
        let place = match self.place {
            Some((place, _)) => place,
            None => members.free.pop().unwrap_or(members.wakers.len()),
        };
        if place == members.wakers.len() {
            members.wakers.push(None);
        }
        members.wakers[place] = Some(waker.clone());
        self.place = Some((place, waker.clone()));
        true
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if let Some((place, _)) = self.place {
            let mut members = self.cut.members();
            members.wakers[place] = None;
            members.free.push(place);
        }
    }
}

/// Both sockets, and the watch over one that will not be read any more.
struct Ends<'a> {
    client: &'a TcpStream,
    target: &'a TcpStream,
    watch: Option<Watch<'a>>,
}

type Watch<'a> = Pin<Box<dyn Future<Output = io::Result<tokio::io::Ready>> + Send + 'a>>;

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
        let downward = down.poll(self.target, self.client, cx);
        if let Poll::Ready(Err(Fault::From(kind))) = downward {
            return Poll::Ready(End::Broken(Side::Target, kind));
        }
        match (upward, downward) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Closed),
            // An end that takes nothing more may have sent something before it broke: that is
            // still carried, and ends by itself, for the socket is dead.
            (Poll::Ready(Err(Fault::To(_))), Poll::Pending)
            | (Poll::Pending, Poll::Ready(Err(Fault::To(_)))) => Poll::Pending,
            (Poll::Ready(Err(Fault::To(kind))), _) => Poll::Ready(End::Broken(Side::Target, kind)),
            (_, Poll::Ready(Err(Fault::To(kind)))) => Poll::Ready(End::Broken(Side::Client, kind)),
            (Poll::Ready(Ok(())), Poll::Pending) => self.watch(Side::Client, cx),
            (Poll::Pending, Poll::Ready(Ok(()))) => self.watch(Side::Target, cx),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            (Poll::Ready(Err(Fault::From(_))), _) | (_, Poll::Ready(Err(Fault::From(_)))) => {
                Poll::Pending // returned above
            }
        }
    }

    /// Waits for a reset by an end that has said that it is done, and so is read no more.
    fn watch(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<End> {
        let socket: &'a TcpStream = match side {
            Side::Client => self.client,
            Side::Target => self.target,
        };
        let watch = self
            .watch
            .get_or_insert_with(|| Box::pin(async move { socket.ready(Interest::ERROR).await }));
        let watched = ready!(watch.as_mut().poll(cx));
        let error = watched.err().or_else(|| socket.take_error().ok().flatten());
        let kind = error.map_or(ErrorKind::ConnectionReset, |error| error.kind());
        Poll::Ready(End::Broken(side, kind))
    }
}

/// Which end of a direction failed.
#[derive(Clone, Copy)]
enum Fault {
    From(ErrorKind),
    To(ErrorKind),
}

/// One of the two directions.
#[derive(Default)]
struct Direction {
    /// Bytes delivered.
    bytes: u64,
    /// Bytes of the held ones that are not the sender's.
    uncounted: usize,
    held: Held,
    bulk: bool,
    /// The sender is done.
    ended: bool,
    /// The outcome, once there is one.
    outcome: Option<Result<(), Fault>>,
}

/// What was received and not yet taken by the other end.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    /// From this place on.
    Bytes(Vec<u8>, usize),
    Pipe(Pipe),
}

impl Direction {
    /// Puts `first` in front, and behind it what the sender has sent by now.
    fn begin(&mut self, mut first: Vec<u8>, from: &TcpStream) -> io::Result<()> {
        if first.is_empty() {
            return Ok(());
        }
        self.uncounted = first.len();
        let received = BUFFER.with_borrow_mut(|buffer| {
            match recv(from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    first.extend_from_slice(&buffer[..count]);
                    Ok(())
                }
                // End of stream is found again by the next read, an error is not.
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
                Err(error) => Err(error),
            }
        });
        self.held = Held::Bytes(first, 0);
        Ok(received?)
    }

    fn poll(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        if let Some(outcome) = self.outcome {
            return Poll::Ready(outcome);
        }
        let outcome = ready!(self.advance(from, to, cx));
        self.held = Held::Nothing;
        self.outcome = Some(outcome);
        Poll::Ready(outcome)
    }

    fn advance(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..ROUNDS_MAX {
            if let Err(error) = ready!(self.deliver(to, cx)) {
                return Poll::Ready(Err(Fault::To(error.kind())));
            }
            if self.ended {
                // An error here is a broken connection, which the other direction reports.
                let _ = SockRef::from(to).shutdown(Shutdown::Write);
                return Poll::Ready(Ok(()));
            }
            let received = if self.bulk {
                ready!(self.receive_bulk(from, cx))
            } else {
                ready!(self.receive(from, to, cx))?
            };
            if let Err(error) = received {
                return Poll::Ready(Err(Fault::From(error.kind())));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Delivers all that is held.
    fn deliver(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(bytes, at) => {
                    let rest = &bytes[*at..];
                    let count = ready!(poll_io(to, Interest::WRITABLE, cx, || write(to, rest)))?;
                    *at += count;
                    let whole = *at == bytes.len();
                    let uncounted = count.min(self.uncounted);
                    self.uncounted -= uncounted;
                    self.bytes += (count - uncounted) as u64;
                    if whole {
                        self.held = Held::Nothing;
                    }
                }
                Held::Pipe(pipe) => {
                    let count = ready!(poll_io(to, Interest::WRITABLE, cx, || {
                        Ok((move_bytes(&pipe.read, to, pipe.holds)?, true))
                    }))?;
                    if count == 0 {
                        return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                    }
                    pipe.holds -= count;
                    self.bytes += count as u64;
                    if pipe.holds == 0
                        && let Held::Pipe(pipe) = std::mem::take(&mut self.held)
                    {
                        pipe.give_back();
                    }
                }
            }
        }
    }

    /// One read into the thread's buffer, and the write of it; what is not taken is held.
    fn receive(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<io::Result<()>, Fault>> {
        BUFFER.with_borrow_mut(|buffer| {
            let received = ready!(poll_io(from, Interest::READABLE, cx, || {
                let count = recv(from.as_raw_fd(), buffer, MsgFlags::empty())?;
                // Less than asked for: the socket is drained, and epoll tells when there is more.
                Ok((count, count == 0 || count == BUFFER_BYTES))
            }));
            let count = match received {
                Ok(count) => count,
                Err(error) => return Poll::Ready(Ok(Err(error))),
            };
            self.ended = count == 0;
            self.bulk = count == BUFFER_BYTES;
            let mut at = 0;
            while at < count {
                let rest = &buffer[at..count];
                match poll_io(to, Interest::WRITABLE, cx, || write(to, rest)) {
                    Poll::Ready(Ok(taken)) => {
                        at += taken;
                        self.bytes += taken as u64;
                    }
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(Fault::To(error.kind())));
                    }
                    Poll::Pending => {
                        self.held = Held::Bytes(rest.to_vec(), 0);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(Ok(())))
        })
    }

    /// One splice into a pipe, which is then held.
    fn receive_bulk(&mut self, from: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No pipe while there is nothing to put into it.
        ready!(from.poll_read_ready(cx))?;
        let mut pipe = match Pipe::take() {
            Ok(pipe) => pipe,
            Err(_) => {
                // No descriptors left: small reads need none.
                self.bulk = false;
                return Poll::Ready(Ok(()));
            }
        };
        let received = poll_io(from, Interest::READABLE, cx, || {
            Ok((move_bytes(from, &pipe.write, pipe.capacity)?, true))
        });
        match received {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.bulk = count >= BUFFER_BYTES;
                pipe.holds = count;
                self.held = Held::Pipe(pipe);
                Poll::Ready(Ok(()))
            }
            other => {
                pipe.give_back();
                self.ended = matches!(other, Poll::Ready(Ok(_)));
                other.map_ok(|_| ())
            }
        }
    }
}

/// Performs `operation` when the socket is ready for it. The operation returns a count, and whether
/// the socket may be ready for more: if it is not, the next call waits for an event instead of
/// finding out by a system call.
fn poll_io(
    socket: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
    mut operation: impl FnMut() -> nix::Result<(usize, bool)>,
) -> Poll<io::Result<usize>> {
    // Once to find the readiness outdated, once more for an event in between.
    for _ in 0..3 {
        if interest.is_readable() {
            ready!(socket.poll_read_ready(cx))?;
        } else {
            ready!(socket.poll_write_ready(cx))?;
        }
        let mut done = None;
        // Readiness is taken back only if no event came since before the operation.
        let result = socket.try_io(interest, || match operation() {
            Ok((count, true)) => Ok(count),
            Ok((count, false)) => {
                done = Some(count);
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        });
        match (done, result) {
            (Some(count), _) | (None, Ok(count)) => return Poll::Ready(Ok(count)),
            (None, Err(error)) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                _ => return Poll::Ready(Err(error)),
            },
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn write(to: &TcpStream, bytes: &[u8]) -> nix::Result<(usize, bool)> {
    let count = send(to.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?;
    Ok((count, count == bytes.len()))
}

fn move_bytes(from: &impl AsFd, to: &impl AsFd, count: usize) -> nix::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    splice(from.as_fd(), None, to.as_fd(), None, count, flags)
}

/// A pipe for [`splice`], empty whenever it is in the pool.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    holds: usize,
}

impl Pipe {
    fn take() -> io::Result<Pipe> {
        if let Some(pipe) = PIPES.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let size = FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32);
        // Over the user's limit the pipe keeps the size that it has.
        let capacity = fcntl(&write, size).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ))?;
        let capacity = usize::try_from(capacity).unwrap_or(BUFFER_BYTES);
        Ok(Pipe { read, write, capacity, holds: 0 })
    }

    /// Into the pool; a pipe with bytes in it is closed, for they are nobody else's.
    fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.holds == 0 && pipes.len() < PIPES_MAX {
                pipes.push(self);
            }
        });
    }
}
