//! Datagrams between two programs of one machine: a lane.
//!
//! A lane is a pair of Unix sockets of type `SOCK_SEQPACKET`, which keep the boundaries of messages,
//! their order, and a bound: who sends more than the other end takes loses it, as on any network.
//! Each message is a PROXY v2 header, which says who sent the datagram to whom, and the datagram.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::net::{UdpSocket, UnixDatagram};

/// The head with which the far end of a lane is handed over: a PROXY v2 header that speaks for
/// nobody (`LOCAL`), where that of a connection names its two ends.
pub const LANE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The largest message: the largest datagram of IPv4, and a header as large as [`crate::HEAD_MAX`].
pub const PACKET_MAX: usize = 65_535 + crate::HEAD_MAX;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer, which holds one message.
pub fn with_buffer<R>(with: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(PACKET_MAX, 0); // the first time only
        with(buffer)
    })
}

/// One end of a lane. What is done to it is the same as for a datagram socket.
#[derive(Debug)]
pub struct Packets(UnixDatagram);

impl Packets {
    /// A lane: this end of it, and the one to be handed over.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub fn pair() -> io::Result<(Packets, OwnedFd)> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Packets::new(near)?, far))
    }

    /// The end that was handed over.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn new(end: OwnedFd) -> io::Result<Packets> {
        let end = std::os::unix::net::UnixDatagram::from(end);
        end.set_nonblocking(true)?;
        Ok(Packets(UnixDatagram::from_std(end)?))
    }

    /// Waits until there is something to receive, the end of the lane included.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Receives one message; 0 is the end of the lane.
    ///
    /// # Errors
    /// `WouldBlock` while there is none; `ConnectionReset` when the other end went away with
    /// messages unread; others of `recv(2)`.
    pub fn try_receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_recv(bytes)
    }

    /// Sends one message in two parts.
    ///
    /// # Errors
    /// `WouldBlock` when the other end is behind; `BrokenPipe` or `ConnectionReset` when it is gone;
    /// others of `sendmsg(2)`.
    pub fn try_send(&self, header: &[u8], datagram: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(header), IoSlice::new(datagram)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &parts, &[], flags, None)?;
        Ok(())
    }
}

/// Sends one datagram on a non-blocking UDP socket, to the one that it is connected to or to
/// another. Not through the reactor, which would have to be told first that the socket is writable.
///
/// # Errors
/// `WouldBlock` when the buffer is full; others of `sendto(2)`.
pub fn send(socket: &UdpSocket, datagram: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match to {
        Some(to) => socket.send_to(datagram, &to.into()),
        None => socket.send(datagram),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[tokio::test]
    async fn messages_keep_their_boundaries_and_the_lane_its_bound() {
        let (near, far) = Packets::pair().expect("a pair");
        let far = Packets::new(far).expect("an end");
        let mut bytes = vec![0; PACKET_MAX];
        near.try_send(b"header", b"").expect("sent");
        near.try_send(b"header", &[7; 65_507]).expect("sent");
        far.readable().await.expect("there is one");
        assert_eq!(far.try_receive(&mut bytes).expect("the first"), 6);
        assert_eq!(far.try_receive(&mut bytes).expect("the second"), 6 + 65_507);
        assert_eq!(bytes[6 + 65_506], 7);
        let error = far.try_receive(&mut bytes).expect_err("no third");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let full = loop {
            if let Err(error) = near.try_send(b"header", &[7; 1000]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        drop(near);
        let mut count = 0;
        loop {
            far.readable().await.expect("readable");
            match far.try_receive(&mut bytes).expect("a message or the end") {
                0 => break,
                length => assert_eq!(length, 1006),
            }
            count += 1;
        }
        assert!(count > 10);
    }
}
