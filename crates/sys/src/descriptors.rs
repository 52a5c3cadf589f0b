//! File descriptors that cross a Unix socket (SCM_RIGHTS) or an `exec`.

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// At most this many descriptors travel in one message.
const DESCRIPTORS_MAX: usize = 8;

/// Sends bytes and up to eight descriptors in one message over a Unix stream socket.
///
/// # Errors
/// Those of `sendmsg(2)`; `WouldBlock` on a non-blocking socket. A short count is possible, and
/// the descriptors went with the first byte.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], pass: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = pass.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?)
}

/// What one message brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes; none: the end.
    pub bytes: usize,
    /// The descriptors that came with them, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// More came than this process has room for (or than eight): the kernel has closed them.
    pub lost: bool,
}

/// Receives bytes, and the descriptors that came with them.
///
/// # Errors
/// Those of `recvmsg(2)`; `WouldBlock` on a non-blocking socket.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    let lost = message.flags.contains(MsgFlags::MSG_CTRUNC);
    // Of a message that is cut short nothing is read: each one here carries one descriptor at the most.
    if !lost {
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                descriptors.extend(raw.into_iter().map(own));
            }
        }
    }
    Ok(Received { bytes: message.bytes, descriptors, lost })
}

/// Takes ownership of a descriptor that this process inherited under a number agreed with its
/// parent (`--control-fd 3`). To be called once per number.
///
/// # Errors
/// `EBADF` if no such descriptor is open.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    #[allow(unsafe_code, reason = "borrowed only to ask the kernel whether it is open")]
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(probe, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(own(number))
}

fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the number was just received from the kernel, or inherited and agreed on, and
    // nothing else in this process owns it.
    #[allow(unsafe_code, reason = "the kernel gave us the descriptor")]
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (left, right) = UnixStream::pair().expect("a socket pair");
        let (mut far, near) = UnixStream::pair().expect("a socket pair");
        assert_eq!(send(left.as_fd(), b"x", &[near.as_fd()]).expect("sent"), 1);
        drop(near);
        let mut bytes = [0; 16];
        let mut received = receive(right.as_fd(), &mut bytes).expect("received");
        assert_eq!((received.bytes, received.descriptors.len(), received.lost), (1, 1, false));
        let mut near = UnixStream::from(received.descriptors.remove(0));
        near.write_all(b"through").expect("written");
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }
}
