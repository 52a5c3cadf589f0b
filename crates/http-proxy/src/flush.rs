//! Puts the flush of an HTTP/2 connection off for a moment, so that frames of several streams leave
//! in one TLS record and one system call (performance, advice 4).

use crate::h1::{give_back, spare_buffer};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a flush is put off: the task goes to the end of the run queue each time, so other
/// streams may add their frames.
const POSTPONED_MAX: u8 = 8;
/// With so much waiting the flush is not put off: one full TLS record holds 16 KiB.
const WAITING_MAX: usize = 12 * 1024;
/// Never more than this in the buffer; beyond it a write waits for the connection.
const BUFFER_MAX: usize = 64 * 1024;

/// A connection whose writes are gathered.
pub struct DelayedFlush<IO> {
    io: IO,
    waiting: Vec<u8>,
    written: usize,
    postponed: u8,
}

impl<IO> DelayedFlush<IO> {
    /// Wraps a connection.
    pub fn new(io: IO) -> Self {
        DelayedFlush { io, waiting: Vec::new(), written: 0, postponed: 0 }
    }
}

impl<IO: AsyncWrite + Unpin> DelayedFlush<IO> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.written = 0;
        self.postponed = 0;
        give_back(std::mem::take(&mut self.waiting));
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for DelayedFlush<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for DelayedFlush<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() + buf.len() > BUFFER_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting = spare_buffer();
        }
        let n = buf.len().min(BUFFER_MAX);
        self.waiting.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.waiting.len() - self.written;
        if waiting > 0 && waiting < WAITING_MAX && self.postponed < POSTPONED_MAX {
            self.postponed += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
