//! A connection that must end when its endpoint has drained.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ends all connections of this thread to one endpoint.
#[derive(Default)]
pub struct Cut {
    is_cut: Cell<bool>,
    /// Of connections that wait for something to read, each at a place of its own.
    wakers: RefCell<Vec<Option<Waker>>>,
}

impl Cut {
    pub fn cut(&self) {
        self.is_cut.set(true);
        self.wakers.take().into_iter().flatten().for_each(Waker::wake);
    }
}

/// See the module.
pub struct Tracked<IO> {
    io: IO,
    cut: Rc<Cut>,
    place: Option<usize>,
}

impl<IO> Tracked<IO> {
    pub fn new(io: IO, cut: Rc<Cut>) -> Self {
        Tracked { io, cut, place: None }
    }

    fn check(&self) -> io::Result<()> {
        match self.cut.is_cut.get() {
            true => Err(ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    fn wait(&mut self, waker: &Waker) {
        let mut wakers = self.cut.wakers.borrow_mut();
        let free = || wakers.iter().position(Option::is_none).unwrap_or(wakers.len());
        let place = self.place.unwrap_or_else(free);
        if place == wakers.len() {
            wakers.push(None);
        }
        match &mut wakers[place] {
            Some(known) => known.clone_from(waker),
            free => *free = Some(waker.clone()),
        }
        self.place = Some(place);
    }
}

impl<IO> Drop for Tracked<IO> {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && let Some(waker) = self.cut.wakers.borrow_mut().get_mut(place)
        {
            *waker = None;
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tracked<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_pending() {
            self.wait(cx.waker());
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tracked<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
