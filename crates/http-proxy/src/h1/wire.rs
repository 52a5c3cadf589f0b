//! The bytes of a connection: a reader that holds nothing while it waits, and a writer that joins
//! what belongs together.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A connection of any kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A connection whose kind does not matter any more.
pub type BoxIo = Box<dyn Io>;

/// Stands in for a connection that was given away.
pub(crate) fn closed_io() -> BoxIo {
    Box::new(tokio::io::empty())
}

/// Most that one read takes.
const READ_MAX: usize = 64 * 1024;
/// Below this much room the thread's read buffer is renewed.
const READ_MIN: usize = 16 * 1024;
/// A read of at least this size is passed on without a copy. Smaller ones are copied, so that a
/// request's head, which lives as long as its exchange, does not keep a whole read buffer alive.
const SHARE_MIN: usize = 4 * 1024;
/// The same for what is passed on at once, such as a response.
const SHARE_MIN_FLEETING: usize = 512;

thread_local! {
    /// One read buffer per thread: a connection that waits for bytes owns none.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    /// Write buffers that nobody uses at the moment.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty write buffer.
pub(crate) fn spare_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(2 * 1024))
}

/// Takes a write buffer back: a connection that waits for nothing to be written owns none.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > 2 * WAITING_MAX {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    });
}

/// What was read and not consumed yet.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) buffer: BytesMut,
    /// Is what is read passed on at once?
    pub(crate) fleeting: bool,
}

impl Reader {
    /// Reads once. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_fill<IO: AsyncRead + Unpin + ?Sized>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.capacity() < READ_MIN {
                scratch.reserve(READ_MAX);
            }
            let read = pin!(io.read_buf(scratch)).poll(cx);
            let n = match ready!(read) {
                Ok(n) => n,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let share_min = if self.fleeting { SHARE_MIN_FLEETING } else { SHARE_MIN };
            if self.buffer.is_empty() && n >= share_min {
                self.buffer = scratch.split_to(n);
            } else {
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::from(&scratch[..n]); // of just this size
                } else {
                    self.buffer.extend_from_slice(&scratch[..n]);
                }
                scratch.clear();
            }
            Poll::Ready(Ok(n))
        })
    }

    /// Lets go of the allocation of an empty buffer.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Writes a number in decimal digits, without the machinery of formatting.
pub(crate) fn decimal(mut number: u64, buffer: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer.extend_from_slice(&digits[at..]);
}

/// Writes a number in hexadecimal digits.
pub(crate) fn hexadecimal(number: u64, buffer: &mut Vec<u8>) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        buffer.push(b"0123456789abcdef"[(number >> (4 * digit) & 15) as usize]);
    }
}

/// A piece of data up to this size is copied behind the head; a larger one is written from where
/// it is, with one vectored write.
const COPY_MAX: usize = 8 * 1024;
/// With so much waiting, the producer waits.
const WAITING_MAX: usize = 64 * 1024;
const SPARE_MAX: usize = 64;

/// What is to be written: `buffer`, then `data`, then `tail`.
#[derive(Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
    data: Bytes,
    tail: &'static [u8],
    written: usize,
    /// Has anything ever left for the socket since the last [`Writer::reset`]?
    pub(crate) touched: bool,
    unflushed: bool,
}

impl Writer {
    /// The place to append small things to; nothing may be behind it, see [`Writer::has_room`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.data.is_empty() && self.tail.is_empty());
        if self.buffer.capacity() == 0 {
            self.buffer = spare_buffer();
        }
        &mut self.buffer
    }

    /// May more be appended?
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.buffer.len() < WAITING_MAX
    }

    /// Appends data and what closes it.
    pub(crate) fn data(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPY_MAX {
            let buffer = self.buffer();
            buffer.extend_from_slice(&data);
            buffer.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.data.is_empty() && self.tail.is_empty() && !self.unflushed
    }

    /// Writes all and flushes.
    pub(crate) fn poll_flush<IO: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !(self.buffer.is_empty() && self.data.is_empty() && self.tail.is_empty()) {
            let head = &self.buffer[self.written..];
            let n = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, head))?
            } else {
                let parts = [head, &self.data, self.tail].map(IoSlice::new);
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.touched = true;
            self.unflushed = true;
            self.advance(n);
        }
        if self.unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, n: usize) {
        let head = n.min(self.buffer.len() - self.written);
        self.written += head;
        if self.written == self.buffer.len() {
            self.written = 0;
            self.buffer.clear();
            give_back(std::mem::take(&mut self.buffer));
        }
        let data = (n - head).min(self.data.len());
        let _ = self.data.split_to(data);
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
        self.tail = &self.tail[n - head - data..];
    }

    /// Forgets what was not written: the peer will not take it any more.
    pub(crate) fn abandon(&mut self) {
        *self = Writer { touched: self.touched, ..Writer::default() };
    }
}
