//! Pipes, kept by the thread.

use super::direction::BUFFER_BYTES;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

/// The size asked for a pipe; the kernel's limits may give less.
const PIPE_BYTES: usize = 512 * 1024;
/// Pipes that a thread keeps for later.
const PIPES_MAX: usize = 32;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe for `splice(2)`, empty whenever it is in the pool.
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) capacity: usize,
    pub(super) holds: usize,
}

impl Pipe {
    pub(super) fn take() -> io::Result<Pipe> {
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
    pub(super) fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.holds == 0 && pipes.len() < PIPES_MAX {
                pipes.push(self);
            }
        });
    }
}
