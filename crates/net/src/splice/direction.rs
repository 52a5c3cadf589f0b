//! One of the two directions: what is received from one end and delivered to the other.

use super::pipe::Pipe;
use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The thread's buffer. What fills it is taken for bulk.
pub(super) const BUFFER_BYTES: usize = 4096;
/// Reads of one direction before other tasks of the thread get their turn.
const ROUNDS_MAX: u32 = 16;

thread_local! {
    static BUFFER: RefCell<[u8; BUFFER_BYTES]> = const { RefCell::new([0; BUFFER_BYTES]) };
}

/// Which end of a direction failed.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    From(ErrorKind),
    To(ErrorKind),
}

/// One of the two directions.
#[derive(Default)]
pub(super) struct Direction {
    /// Bytes delivered.
    pub(super) bytes: u64,
    /// Bytes of the held ones that are not the sender's.
    uncounted: usize,
    held: Held,
    bulk: bool,
    /// Something was sent to the receiver, after which Nagle's algorithm could hold back the next.
    sent: bool,
    /// And so it was turned off.
    pub(super) prompt: bool,
    /// The other direction is over: an end of stream is followed by the close of both sockets, which
    /// says it too.
    pub(super) last: bool,
    /// The sender is done.
    ended: bool,
    /// The sender's socket is known to be dead: what ends there is not an end of stream. The kernel
    /// tells an error once only, and it may have told it to who wrote.
    pub(super) broken: Option<ErrorKind>,
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
    pub(super) fn begin(&mut self, mut first: Vec<u8>, from: &TcpStream) -> io::Result<()> {
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

    /// Does it wait for the sender? Else it waits for the receiver, or is over.
    pub(super) fn is_reading(&self) -> bool {
        self.outcome.is_none() && matches!(self.held, Held::Nothing)
    }

    pub(super) fn poll(
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
                if let Some(kind) = self.broken {
                    return Poll::Ready(Err(Fault::From(kind)));
                }
                if !self.last {
                    // An error here is a broken connection, which the other direction reports.
                    let _ = SockRef::from(to).shutdown(Shutdown::Write);
                }
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

    /// To be called before each write: the first one goes out at once by itself.
    fn be_prompt(&mut self, to: &TcpStream) {
        if self.sent && !self.prompt {
            self.prompt = true;
            // Other kinds of socket know no delay.
            let _ = to.set_nodelay(true);
        }
        self.sent = true;
    }

    /// Delivers all that is held.
    fn deliver(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.held, Held::Nothing) {
            self.be_prompt(to);
        }
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
            if count > 0 {
                self.be_prompt(to);
            }
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
