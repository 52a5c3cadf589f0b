//! One child program of the supervisor: its process, its control channel, its listeners.

use names::NetworkId;
use runtime::wire::{self, FromProgram, ToProgram};
use slice::{ConnectionState, Listen, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use sys::Inheritance;

use crate::events::Event;
use crate::surroundings::Places;

/// The first pause before a program that died is started again, and the longest.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// A program that does not read its channel for so long is stuck.
const SEND_MAX: Duration = Duration::from_secs(10);
/// A program that lived this long begins with the first pause again.
const SETTLED: Duration = Duration::from_secs(30);

/// Which program, where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramId {
    /// Which.
    pub role: Role,
    /// Where; none: beside the networks.
    pub network: Option<NetworkId>,
}

impl std::fmt::Display for ProgramId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&wire::label(self.role, self.network.as_ref()))
    }
}

/// A listener that the supervisor keeps a duplicate of, so that a program that dies loses no
/// waiting connection.
#[derive(Debug)]
pub struct Kept {
    /// What it is.
    pub listen: Listen,
    /// The socket.
    pub socket: OwnedFd,
    /// Where it is really bound; none for a Unix socket.
    pub actual: Option<SocketAddr>,
}

impl Kept {
    /// The same socket under another name.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn renamed(&self, listen: &Listen) -> io::Result<Kept> {
        let socket = self.socket.try_clone()?;
        Ok(Kept { listen: listen.clone(), socket, actual: self.actual })
    }
}

/// A program.
#[derive(Debug)]
pub struct Child {
    /// Which.
    pub id: ProgramId,
    /// Numbers processes, over all programs, so that a late message of a dead one is not taken for
    /// the new one's, even if the program was removed and added again in between.
    pub incarnation: u32,
    /// How often it was started.
    pub starts: u32,
    /// The running process.
    pub process: Option<Process>,
    /// Its listeners by key.
    pub listeners: BTreeMap<String, Kept>,
    /// Its slice of the generation in force, as JSON; empty before the first one.
    pub slice: String,
    /// Where declared addresses are bound for the generation in force.
    pub places: Places,
    /// What the running process was told last of connections.
    pub told: Vec<ConnectionState>,
    /// When to start it again.
    pub start_at: Option<Instant>,
    /// The generation that the running process has put into force.
    pub generation: u64,
    /// The last generation that it was asked to build.
    pub built: u64,
    back_off: Duration,
    started: Instant,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// Process id in the supervisor's namespace.
    pub pid: u32,
    /// As the host sees it, once the program has said so.
    pub host_pid: Option<u32>,
    channel: UnixStream,
}

/// How a program is started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// State directory.
    pub state_dir: &'a Path,
    /// The folder of the binaries.
    pub binaries: &'a Path,
    /// The namespace in which it starts.
    pub namespace: Option<OwnedFd>,
    /// Worker threads.
    pub workers: usize,
    /// Where messages go.
    pub events: &'a Sender<Event>,
}

impl Child {
    /// A program that is not started yet.
    pub fn new(id: ProgramId) -> Self {
        Child {
            id,
            incarnation: 0,
            starts: 0,
            process: None,
            listeners: BTreeMap::new(),
            slice: String::new(),
            places: Places::default(),
            told: Vec::new(),
            start_at: None,
            generation: 0,
            built: 0,
            back_off: BACK_OFF,
            started: Instant::now(),
        }
    }

    /// Starts the process, and threads that pass on its messages and its end.
    ///
    /// # Errors
    /// Those of `fork(2)` and `exec(2)`.
    pub fn start(&mut self, launch: Launch<'_>) -> io::Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        self.incarnation = NEXT.fetch_add(1, Ordering::Relaxed);
        self.starts += 1;
        let (ours, theirs) = UnixStream::pair()?;
        // One stuck program must not hold up the supervisor's only thread.
        ours.set_write_timeout(Some(SEND_MAX))?;
        let program = launch.binaries.join(self.id.role.program());
        let log = open_log(&log_path(launch.state_dir, &self.id.to_string()))?;
        let mut command = Command::new(&program);
        command
            .arg("--control-fd=3")
            .arg(format!("--state-dir={}", launch.state_dir.display()))
            .arg(format!("--workers={}", launch.workers))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(network) = &self.id.network {
            command.arg(format!("--network={network}"));
        }
        use std::os::unix::process::CommandExt;
        // Ctrl-C on the terminal is for the supervisor, which stops programs in order.
        command.process_group(0);
        // The issuer alone looks after the keys of accounts.
        let hidden = match self.id.role {
            _ if launch.namespace.is_none() => vec![],
            Role::Metadata => vec![launch.state_dir.join("keys")],
            _ => ["keys", keys::ACCOUNTS].map(|name| launch.state_dir.join(name)).into(),
        };
        let inheritance = Inheritance {
            hidden,
            network: launch.namespace,
            descriptors: vec![(theirs.into(), 3)],
            unprivileged: true,
        };
        sys::inherit(&mut command, inheritance);
        let mut process = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        })?;
        // The command holds our copy of the program's end; without it gone we would never see
        // the end of the channel.
        drop(command);
        let (id, incarnation) = (self.id.clone(), self.incarnation);
        let (reader, events) = (ours.try_clone()?, launch.events.clone());
        spawn_thread("channel", {
            let (id, events) = (id.clone(), events.clone());
            move || {
                while let Ok(Some((message, _))) = wire::receive::<FromProgram>(&reader) {
                    if events.send(Event::Program(id.clone(), incarnation, message)).is_err() {
                        return;
                    }
                }
            }
        })?;
        self.process = Some(Process { pid: process.id(), host_pid: None, channel: ours });
        self.started = Instant::now();
        self.start_at = None;
        self.generation = 0;
        self.told.clear();
        spawn_thread("wait", move || {
            let status = process.wait().map_or(-1, exit_code);
            let _ = events.send(Event::ProgramEnded(id, incarnation, status));
        })
    }

    /// Sends a message; a program that does not take it is dead or stuck, and is ended.
    pub fn send(&self, message: &ToProgram, descriptors: &[BorrowedFd<'_>]) {
        let Some(process) = &self.process else { return };
        if wire::send(&process.channel, message, descriptors).is_err() {
            self.kill();
        }
    }

    /// Ends the process, if it still runs.
    pub fn kill(&self) {
        let pid = self.process.as_ref().and_then(|process| i32::try_from(process.pid).ok());
        if let Some(pid) = pid {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }

    /// The listeners that a new process has to be given: all.
    pub fn all_listeners(&self) -> (Vec<Listen>, Vec<BorrowedFd<'_>>) {
        let listens = self.listeners.values().map(|kept| kept.listen.clone()).collect();
        (listens, self.listeners.values().map(|kept| kept.socket.as_fd()).collect())
    }

    /// Notes the end of the process; how long to wait before the next one.
    pub fn ended(&mut self) -> Duration {
        self.process = None;
        if self.started.elapsed() > SETTLED {
            self.back_off = BACK_OFF;
        }
        let pause = self.back_off;
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        self.start_at = Some(Instant::now() + pause);
        pause
    }
}

/// Exit status, or 128 + signal.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The log file of a program or a workload.
pub fn log_path(state_dir: &Path, label: &str) -> PathBuf {
    let name: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-@.".contains(c) { c } else { '.' })
        .collect();
    state_dir.join("logs").join(format!("{name}.log"))
}

/// Opens a log file for appending.
///
/// # Errors
/// Those of `open(2)`.
pub fn open_log(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A named thread.
///
/// # Errors
/// Those of `pthread_create(3)`.
pub fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(|_| ())
}

/// Reaps ended processes that are nobody's: not those that a thread of ours waits for.
pub fn reap_orphans(known: &BTreeSet<u32>) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(Some(pid)) = waitid(Id::All, look).map(|status| status.pid()) {
        let is_known = u32::try_from(pid.as_raw()).is_ok_and(|pid| known.contains(&pid));
        if is_known || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}
