//! How processes are born, what they inherit, and how they are reaped.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The parent, with the child's process id.
    Parent(i32),
    /// The child.
    Child,
}

/// Forks a process that has one thread only.
///
/// # Errors
/// `InvalidInput` if the process has more threads (the child could deadlock on a lock that a
/// vanished thread holds); those of `fork(2)`.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "fork needs a single thread"));
    }
    // SAFETY: checked just above that no other thread exists, so no lock can be held by one.
    #[allow(unsafe_code, reason = "single-threaded, see above")]
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child.as_raw())),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// What a child process gets from us beside its arguments.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// The network namespace in which it starts.
    pub network: Option<OwnedFd>,
    /// Descriptors, and the numbers under which it finds them.
    pub descriptors: Vec<(OwnedFd, RawFd)>,
    /// Folders that it finds empty (needs the right to mount).
    pub hidden: Vec<PathBuf>,
    /// Give up every capability and the right to regain one.
    pub unprivileged: bool,
}

/// Arranges that the child of `command` starts with this inheritance, and dies with its parent.
pub fn inherit(command: &mut Command, what: Inheritance) {
    let hidden = what.hidden.into_iter();
    let hidden: Vec<CString> =
        hidden.filter_map(|path| CString::new(path.into_os_string().into_vec()).ok()).collect();
    let prepare = move || {
        // Only system calls from here on: the child of a threaded process must not allocate.
        if let Some(network) = &what.network {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?;
        }
        prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
        if !hidden.is_empty() {
            hide(&hidden)?;
        }
        // Above every number that is asked for, so that no `dup2` overwrites a source.
        for (descriptor, number) in &what.descriptors {
            if descriptor.as_raw_fd() == *number {
                clear_close_on_exec(descriptor)?;
            } else {
                duplicate_onto(descriptor, *number)?;
            }
        }
        if what.unprivileged {
            drop_capabilities()?;
            no_new_privileges()?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls on values that live in it; it takes no lock. The
    // capability calls format nothing unless they fail.
    #[allow(unsafe_code, reason = "async-signal-safe closure, see above")]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Puts an empty read-only folder over each, for this process and its children alone.
fn hide(paths: &[CString]) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&CStr>;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in paths {
        mount(Some(c"tmpfs"), path.as_c_str(), Some(c"tmpfs"), flags, none)?;
    }
    Ok(())
}

fn clear_close_on_exec(descriptor: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

fn duplicate_onto(descriptor: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: `dup2` onto a number that the parent chose for this child; nothing in the child
    // owns that number yet (the process is about to exec).
    #[allow(unsafe_code, reason = "the child owns nothing under this number")]
    match unsafe { nix::libc::dup2(descriptor.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Asks the kernel to kill this process when its parent dies.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn kill_on_parent_death() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Some(Signal::SIGKILL))?)
}

/// No program that this process executes can gain privileges.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Gives up every capability, the bounding and the ambient set included.
///
/// # Errors
/// Those of `capset(2)` and `prctl(2)`.
pub fn drop_capabilities() -> io::Result<()> {
    use caps::CapSet;
    let failed = |_| io::Error::last_os_error();
    // Dropping from the bounding set needs CAP_SETPCAP: a process without it has nothing to lose.
    let may = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP);
    if may.map_err(failed)? {
        caps::clear(None, CapSet::Ambient).map_err(failed)?;
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::clear(None, CapSet::Effective).map_err(failed)?;
    caps::clear(None, CapSet::Permitted).map_err(failed)
}

/// In a new user namespace: maps the user and group that made it to root, and nobody else.
///
/// # Errors
/// Those of the files in `/proc/self`.
pub fn write_identity_map(uid: u32, gid: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Waits for any child, or for this one; its exit status, or 128 + the signal that ended it.
/// `None` once there is no child left.
///
/// # Errors
/// Those of `waitpid(2)` other than `ECHILD` and `EINTR`.
pub fn reap(child: Option<i32>) -> io::Result<Option<(i32, i32)>> {
    loop {
        match waitpid(child.map(Pid::from_raw), None) {
            Ok(WaitStatus::Exited(pid, status)) => return Ok(Some((pid.as_raw(), status))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Ok(Some((pid.as_raw(), 128 + signal as i32)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A write to a closed pipe ends this process, as users of `| head` expect of a command.
pub fn end_on_broken_pipe() {
    // SAFETY: sets a default disposition; no handler code is installed.
    #[allow(unsafe_code, reason = "SIG_DFL runs no code of ours")]
    let _ =
        unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
}
