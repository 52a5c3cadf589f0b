//! An accepted socket handed from one program to another over a Unix stream socket, with a few
//! bytes that say whose it is. One message: a length of two bytes (big endian), the head, and the
//! socket attached to the first byte.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The largest head, in bytes: a PROXY v2 header with its TLVs fits many times.
pub const HEAD_MAX: usize = 4096;

/// Hands a socket over. The caller may close its own copy afterwards.
///
/// # Errors
/// `InvalidInput` for a head over [`HEAD_MAX`]; those of `sendmsg(2)`. After an error the channel
/// must not be used again.
pub async fn hand_over(
    channel: &UnixStream,
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
        let rest = &message[sent..];
        sent += channel
            .async_io(Interest::WRITABLE, || sys::send(channel.as_fd(), rest, attach))
            .await?;
    }
    Ok(())
}

/// Takes the next socket over; `None` at the orderly end of the channel.
///
/// # Errors
/// `InvalidData` for a message without exactly one socket or with a head over [`HEAD_MAX`],
/// `UnexpectedEof` in the middle of one; those of `recvmsg(2)`.
pub async fn take_over(channel: &UnixStream) -> io::Result<Option<(Vec<u8>, OwnedFd)>> {
    let mut length = [0; 2];
    let mut sockets = Vec::new();
    if !fill(channel, &mut length, &mut sockets).await? {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes(length));
    if length > HEAD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too large"));
    }
    let mut head = vec![0; length];
    if length > 0 && !fill(channel, &mut head, &mut sockets).await? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match sockets.pop() {
        Some(socket) if sockets.is_empty() => Ok(Some((head, socket))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not exactly one socket")),
    }
}

/// Fills `bytes`; false if the stream ended before the first one.
async fn fill(
    channel: &UnixStream,
    bytes: &mut [u8],
    sockets: &mut Vec<OwnedFd>,
) -> io::Result<bool> {
    let mut have = 0;
    while have < bytes.len() {
        let rest = &mut bytes[have..];
        let (count, passed) = channel
            .async_io(Interest::READABLE, || sys::receive(channel.as_fd(), &mut *rest))
            .await?;
        sockets.extend(passed);
        match (count, have) {
            (0, 0) => return Ok(false),
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => have += count,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn sockets_arrive_in_order_with_their_heads() {
        let (left, right) = UnixStream::pair().expect("a pair");
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
            let near = std::os::unix::net::UnixStream::from(socket);
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
    async fn a_head_without_a_socket_is_refused() {
        let (mut left, right) = UnixStream::pair().expect("a pair");
        left.write_all(&[0, 1, b'x']).await.expect("written");
        let error = take_over(&right).await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
