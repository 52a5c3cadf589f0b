//! An accepted socket handed from one program to another over a Unix stream socket, with a few
//! bytes that say whose it is. One message: a length of two bytes (big endian), the head, and the
//! socket attached to the first byte.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The largest head, in bytes: a PROXY v2 header with its TLVs fits many times.
pub const HEAD_MAX: usize = 4096;
/// What one read takes at the most. Heads without unusual TLVs are a quarter of it.
const FIRST_READ: usize = 512;

/// Hands a socket over. The caller may close its own copy afterwards.
///
/// The channel is a non-blocking socket of the standard library, not one of the reactor's: that
/// would wake this thread whenever the other end has read something.
///
/// # Errors
/// `InvalidInput` for a head over [`HEAD_MAX`]; those of `sendmsg(2)`. After an error the channel
/// must not be used again.
pub async fn hand_over(
    channel: &std::os::unix::net::UnixStream,
    head: &[u8],
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    if head.len() > HEAD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the head is too large"));
    }
    let mut message = Vec::with_capacity(head.len() + 2);
    message.extend_from_slice(&(head.len() as u16).to_be_bytes());
    message.extend_from_slice(head);
    let mut sent = 0;
    while sent < message.len() {
        let attach = [socket];
        let attach = if sent == 0 { &attach[..] } else { &[] };
        match sys::send(channel.as_fd(), &message[sent..], attach) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The reactor may know it for as long as it is full.
                UnixStream::from_std(channel.try_clone()?)?.writable().await?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the next socket over; `None` at the orderly end of the channel. A socket that this process
/// has no free descriptor for is lost, and closed by the kernel: its head comes without it, and the
/// channel goes on.
///
/// # Errors
/// `InvalidData` for a message that was sent without exactly one socket or with a head over [`HEAD_MAX`],
/// `UnexpectedEof` in the middle of one; those of `recvmsg(2)`.
pub async fn take_over(channel: &UnixStream) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut message = Vec::new();
    let (mut sockets, mut lost) = (Vec::new(), false);
    // Usually one read takes it all. It cannot take more: the kernel ends a read where the sockets
    // of the next message begin.
    let mut wanted = FIRST_READ;
    loop {
        let read = || receive(channel, &mut message, wanted);
        let received = channel.async_io(Interest::READABLE, read).await?;
        let count = received.bytes;
        sockets.extend(received.descriptors);
        lost |= received.lost;
        let Some((length, head)) = message.split_first_chunk() else {
            match (count, message.len()) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => wanted = 1,
            }
            continue;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > HEAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too large"));
        }
        match length.checked_sub(head.len()) {
            Some(0) => break,
            Some(_) if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(missing) => wanted = missing,
            None => {
                let what = "a message whose socket is not at its first byte";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
    match (sockets.pop(), lost) {
        (socket @ Some(_), false) | (socket @ None, true) if sockets.is_empty() => {
            message.drain(..2);
            Ok(Some((message, socket)))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not exactly one socket")),
    }
}

/// Reads once, at most `wanted` bytes, behind what is there.
fn receive(channel: &UnixStream, have: &mut Vec<u8>, wanted: usize) -> io::Result<sys::Received> {
    let mut bytes = [0; FIRST_READ];
    let room = wanted.min(FIRST_READ);
    let received = sys::receive(channel.as_fd(), &mut bytes[..room])?;
    have.extend_from_slice(&bytes[..received.bytes]);
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A sending and a receiving end.
    fn channel() -> (std::os::unix::net::UnixStream, UnixStream) {
        let (left, right) = std::os::unix::net::UnixStream::pair().expect("a pair");
        left.set_nonblocking(true).expect("non-blocking");
        right.set_nonblocking(true).expect("non-blocking");
        (left, UnixStream::from_std(right).expect("a stream"))
    }

    #[tokio::test]
    async fn sockets_arrive_in_order_with_their_heads() {
        let (left, right) = channel();
        let mut far_ends = Vec::new();
        for number in 0..3u8 {
            let (near, far) = UnixStream::pair().expect("a pair");
            hand_over(&left, &vec![number; usize::from(number) * 1000], near.as_fd())
                .await
                .expect("handed over");
            far_ends.push(far);
        }
        drop(left);
        for (number, mut far) in far_ends.into_iter().enumerate() {
            let (head, socket) = take_over(&right).await.expect("taken").expect("one more");
            assert_eq!(head, vec![number as u8; number * 1000]);
            let near = std::os::unix::net::UnixStream::from(socket.expect("a socket"));
            let mut near = UnixStream::from_std(near).expect("non-blocking");
            near.write_all(b"hello").await.expect("written");
            drop(near);
            let mut text = String::new();
            far.read_to_string(&mut text).await.expect("read");
            assert_eq!(text, "hello");
        }
        assert!(take_over(&right).await.expect("the end").is_none());
    }

    #[tokio::test]
    async fn a_full_channel_is_waited_for() {
        let (left, right) = channel();
        let (near, _far) = UnixStream::pair().expect("a pair");
        const MESSAGES: usize = 500;
        let give = async {
            for _ in 0..MESSAGES {
                hand_over(&left, &[0; HEAD_MAX], near.as_fd()).await.expect("handed over");
            }
        };
        let take = async {
            for _ in 0..MESSAGES {
                let (head, _) = take_over(&right).await.expect("whole").expect("one more");
                assert_eq!(head.len(), HEAD_MAX);
            }
        };
        tokio::join!(give, take);
    }

    #[tokio::test]
    async fn a_message_in_pieces_is_put_together_and_its_end_told_from_the_next_one() {
        for cut in 1..4 {
            let (left, right) = channel();
            let (near, _far) = UnixStream::pair().expect("a pair");
            let message = [0, 2, b'a', b'b'];
            let taken = async { take_over(&right).await.map(|taken| taken.map(|(head, _)| head)) };
            let sent = async {
                sys::send(left.as_fd(), &message[..cut], &[near.as_fd()]).expect("sent");
                tokio::task::yield_now().await;
                sys::send(left.as_fd(), &message[cut..], &[]).expect("sent");
                hand_over(&left, b"next", near.as_fd()).await.expect("handed over");
            };
            let (taken, ()) = tokio::join!(taken, sent);
            assert_eq!(taken.expect("whole"), Some(b"ab".to_vec()), "cut at {cut}");
            let (next, _) = take_over(&right).await.expect("whole").expect("one more");
            assert_eq!(next, b"next");
            sys::send(left.as_fd(), &message[..cut], &[near.as_fd()]).expect("sent");
            drop(left);
            let error = take_over(&right).await.expect_err("cut off");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_head_without_a_socket_is_refused() {
        let (mut left, right) = UnixStream::pair().expect("a pair");
        left.write_all(&[0, 1, b'x']).await.expect("written");
        let error = take_over(&right).await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
