//! Namespaces: made by a thread, held by a descriptor, entered by a thread once and for life.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kinds of namespace that Postern enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceKind {
    /// Users and capabilities.
    User,
    /// Network.
    Network,
    /// Process ids (of children).
    Pid,
    /// Mounts.
    Mount,
    /// System V IPC.
    Ipc,
    /// Host name.
    Uts,
}

impl NamespaceKind {
    fn flag(self) -> CloneFlags {
        match self {
            NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
            NamespaceKind::Network => CloneFlags::CLONE_NEWNET,
            NamespaceKind::Pid => CloneFlags::CLONE_NEWPID,
            NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
            NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
            NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }

    fn file(self) -> &'static str {
        match self {
            NamespaceKind::User => "/proc/thread-self/ns/user",
            NamespaceKind::Network => "/proc/thread-self/ns/net",
            NamespaceKind::Pid => "/proc/thread-self/ns/pid_for_children",
            NamespaceKind::Mount => "/proc/thread-self/ns/mnt",
            NamespaceKind::Ipc => "/proc/thread-self/ns/ipc",
            NamespaceKind::Uts => "/proc/thread-self/ns/uts",
        }
    }
}

/// A handle on the calling thread's own namespace.
///
/// # Errors
/// Without `/proc`.
pub fn current(kind: NamespaceKind) -> io::Result<OwnedFd> {
    Ok(File::open(kind.file())?.into())
}

/// Puts the calling thread (for `Pid`: its future children) into a namespace.
///
/// # Errors
/// Those of `setns(2)`: `EPERM` without the capability, `EINVAL` for `User` in a threaded process.
pub fn enter(namespace: BorrowedFd<'_>, kind: NamespaceKind) -> io::Result<()> {
    Ok(setns(namespace, kind.flag())?)
}

/// Gives the calling thread new namespaces of these kinds.
///
/// # Errors
/// Those of `unshare(2)`.
pub fn unshare(kinds: &[NamespaceKind]) -> io::Result<()> {
    let flags = kinds.iter().fold(CloneFlags::empty(), |all, kind| all | kind.flag());
    Ok(nix::sched::unshare(flags)?)
}

/// Makes an anonymous network namespace; it lives as long as the descriptor or a process in it.
/// The calling thread stays where it is: rootless it could not come back, so a thread is made for
/// the purpose.
///
/// # Errors
/// Those of `unshare(2)`.
pub fn new_network_namespace() -> io::Result<OwnedFd> {
    on_own_thread(|| {
        unshare(&[NamespaceKind::Network])?;
        current(NamespaceKind::Network)
    })
}

/// Runs a function on a thread of its own inside a network namespace. Sockets made there stay
/// there, whoever uses them afterwards.
///
/// # Errors
/// Those of `setns(2)`, and the function's own.
pub fn in_network_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = namespace.as_fd();
    on_own_thread(move || {
        enter(namespace, NamespaceKind::Network)?;
        work()
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}
