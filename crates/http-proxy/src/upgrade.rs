//! Connections that leave HTTP after 101 Switching Protocols (WebSocket, RFC 9110 7.8), or after a
//! successful CONNECT.

use crate::h1::{BoxIo, Reader};
use bytes::{Buf, Bytes};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The promise of a raw connection, fulfilled when the 101 has passed.
pub struct Upgrade(oneshot::Receiver<UpgradedIo>);

/// The other side of an [`Upgrade`].
pub(crate) struct Promise(oneshot::Sender<UpgradedIo>);

impl Promise {
    pub(crate) fn new() -> (Promise, Upgrade) {
        let (sender, receiver) = oneshot::channel();
        (Promise(sender), Upgrade(receiver))
    }

    /// Gives the connection over; it is closed if nobody waits for it any more.
    pub(crate) fn keep(self, io: UpgradedIo) {
        let _ = self.0.send(io);
    }
}

impl Upgrade {
    /// The connection, with whatever the peer already sent on it.
    ///
    /// # Errors
    /// When the exchange ended in any other way than with 101.
    pub async fn io(self) -> io::Result<UpgradedIo> {
        self.0.await.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}

/// A raw connection that was HTTP before.
pub struct UpgradedIo {
    io: BoxIo,
    ahead: Bytes,
    /// Of the server's side.
    lease: Option<Lease>,
}

impl UpgradedIo {
    pub(crate) fn new(io: BoxIo, ahead: Bytes) -> Self {
        UpgradedIo { io, ahead, lease: None }
    }

    /// A connection that the server still answers for: it learns of its end, and can end it.
    pub(crate) fn leased(io: BoxIo, ahead: Bytes) -> (Self, Lessor) {
        let terms = Rc::new(Terms::default());
        let lease = Some(Lease(terms.clone()));
        (UpgradedIo { io, ahead, lease }, Lessor(terms))
    }

    /// An error once the server has ended the connection.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let Some(Lease(terms)) = &self.lease else { return Ok(()) };
        if terms.cut.get() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut user = terms.user.borrow_mut();
        if !user.as_ref().is_some_and(|user| user.will_wake(cx.waker())) {
            *user = Some(cx.waker().clone());
        }
        Ok(())
    }
}

/// What the two sides of a leased connection share.
#[derive(Default)]
struct Terms {
    cut: Cell<bool>,
    given_back: Cell<bool>,
    /// Whoever reads or writes.
    user: RefCell<Option<Waker>>,
    /// Whoever waits for the end.
    owner: RefCell<Option<Waker>>,
}

/// The user's side; its drop tells the owner.
struct Lease(Rc<Terms>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.given_back.set(true);
        if let Some(owner) = self.0.owner.take() {
            owner.wake();
        }
    }
}

/// The server's side of an upgraded connection.
pub(crate) struct Lessor(Rc<Terms>);

impl Lessor {
    /// Resolves when the connection has ended.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            if self.0.given_back.get() {
                return Poll::Ready(());
            }
            self.0.owner.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Ends the connection: whoever uses it gets an error.
    pub(crate) fn cut(&self) {
        self.0.cut.set(true);
        if let Some(user) = self.0.user.take() {
            user.wake();
        }
    }
}

impl AsyncRead for UpgradedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpgradedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What passed over a bridged connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Bytes from the client to the upstream.
    pub sent: u64,
    /// Bytes from the upstream to the client.
    pub received: u64,
}

/// Carries bytes both ways between a client's upgraded connection and the upstream's, until both
/// directions have ended, one has failed, or nothing has moved for `idle`. Spawn it on the local
/// set before the 101 response is returned to the server.
pub async fn bridge_upgrade(client: Upgrade, upstream: Upgrade, idle: Duration) -> Bridged {
    let (Ok(mut client), Ok(mut upstream)) = (client.io().await, upstream.io().await) else {
        return Bridged::default();
    };
    let (mut sent, mut received) = (Direction::default(), Direction::default());
    let mut sleep = pin!(tokio::time::sleep(idle));
    let mut last = Instant::now();
    poll_fn(|cx| {
        let before = sent.moved + received.moved;
        let up = sent.poll(&mut client, &mut upstream, cx);
        let down = received.poll(&mut upstream, &mut client, cx);
        match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(())))
            | (Poll::Ready(Err(_)), _)
            | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            _ => {}
        }
        if sent.moved + received.moved > before {
            last = Instant::now();
        }
        // The timer moves only when it has run down, not with every byte.
        while sleep.as_mut().poll(cx).is_ready() {
            if last.elapsed() >= idle {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(last + idle);
        }
        Poll::Pending
    })
    .await;
    Bridged { sent: sent.moved, received: received.moved }
}

#[derive(Default)]
struct Direction {
    reader: Reader,
    ended: bool,
    done: bool,
    moved: u64,
}

impl Direction {
    /// Ready when the source has ended and the destination knows.
    fn poll(
        &mut self,
        from: &mut UpgradedIo,
        to: &mut UpgradedIo,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.done {
            if !self.reader.buffer.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.reader.buffer))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.reader.buffer.advance(n);
                self.moved += n as u64;
            } else if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.done = true;
            } else {
                match self.reader.poll_fill(from, cx) {
                    Poll::Ready(read) => self.ended = read? == 0,
                    Poll::Pending => {
                        self.reader.rest();
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
