//! Pipes, kept by the thread.

use super::direction::BUFFER_BYTES;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

/// The size asked for a pipe; the kernel's limits may give less.
const PIPE_BYTES: usize = 512 * 1024;
/// Pipes that a thread keeps for later.
const PIPES_KEPT_MAX: usize = 32;
/// Pipes of a thread at all, so that slow receivers take neither all descriptors nor all memory; who
/// gets none is carried in small pieces.
const PIPES_MAX: usize = 1024;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static ALL: Cell<usize> = const { Cell::new(0) };
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
        if ALL.get() >= PIPES_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let size = FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32);
        // Over the user's limit the pipe keeps the size that it has.
        let capacity = fcntl(&write, size).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ))?;
        let capacity = usize::try_from(capacity).unwrap_or(BUFFER_BYTES);
        ALL.set(ALL.get() + 1);
        Ok(Pipe { read, write, capacity, holds: 0 })
    }

    /// Into the pool; a pipe with bytes in it is closed, for they are nobody else's.
    pub(super) fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.holds == 0 && pipes.len() < PIPES_KEPT_MAX {
                pipes.push(self);
            }
        });
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // No thread local is left when the thread itself ends.
        let _ = ALL.try_with(|all| all.set(all.get().saturating_sub(1)));
    }
}
