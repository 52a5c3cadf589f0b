//! The birth of a workload: a program of the user's in a leaf namespace, that cannot walk out.
//!
//! Three processes: the outer one (`postern exec` itself, or `postern workload-init` started by the
//! supervisor) makes PID and mount namespaces; the second is process 1 in there and reaps; the
//! third gives up every capability and becomes the user's program (DESIGN.md 3 "Workloads cannot
//! walk out").

use crate::volumes::Bound;
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use slice::Workload;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use sys::{Fork, NamespaceKind};

/// What is to run, and what it may see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory; none: where the caller is.
    pub directory: Option<PathBuf>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// The state directory: hidden, but for the CA bundle.
    pub state_dir: PathBuf,
    /// The CA bundle, PEM, shown as `ca.pem` in the hidden state directory.
    pub ca: String,
    /// Separate it from the host: namespaces, no capabilities. Not in loopback isolation.
    pub separate: bool,
    /// What it is called where it is.
    pub identity: Identity,
    /// A container's own: none for other workloads.
    #[serde(default)]
    pub container: Option<ContainerStage>,
}

/// What a container has beyond other workloads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStage {
    /// Its volumes.
    pub bounds: Vec<Bound>,
    /// A folder in memory for its own file system; none where nothing can be mounted.
    pub scratch: Option<PathBuf>,
    /// Names of the instance's containers, each at 127.0.0.1 (1.1).
    pub hosts: Vec<String>,
    /// A bound for the data of each process, in bytes, where nothing better bounds memory.
    pub data_max: Option<u64>,
}

/// A workload's own name in its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Host name.
    name: String,
    /// Its address.
    address: Ipv4Addr,
    /// Domains in which its resolver looks for short names.
    search: String,
}

impl Identity {
    /// From what the network knows of it: Compute Engine's names for VMs and sessions.
    pub fn of(workload: &Workload) -> Self {
        let own = workload
            .name
            .rsplit_once('/')
            .map_or(workload.name.as_str(), |(kind, name)| if kind == "vm" { name } else { kind });
        let Workload { zone, project, address, .. } = workload;
        Identity {
            name: own.to_owned(),
            address: *address,
            search: slice::search_domains(zone, project).join(" "),
        }
    }
}

/// The namespaces that an outside process has to enter first (`postern exec`).
#[derive(Debug, Default)]
pub struct Entrance {
    /// The supervisor's user namespace; none where it has not made one.
    pub user: Option<OwnedFd>,
    /// The supervisor's PID namespace.
    pub pid: Option<OwnedFd>,
    /// The leaf's network namespace.
    pub network: Option<OwnedFd>,
}

/// Name of the CA bundle inside the state directory.
pub const CA_FILE: &str = "ca.pem";

/// Environment variables that point programs to the CA bundle (google-clients, head).
pub fn trust_environment(ca: &Path) -> impl Iterator<Item = (String, String)> {
    let ca = ca.to_string_lossy().into_owned();
    [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "NODE_EXTRA_CA_CERTS",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    ]
    .into_iter()
    .map(move |name| (name.to_owned(), ca.clone()))
}

/// Runs the workload to its end; the exit code is the program's, or 128 + its signal; 126 and 127
/// as a shell has them.
pub fn run(spec: &Spec, entrance: Entrance) -> ExitCode {
    match born(spec, entrance) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(error) => {
            eprintln!("postern: {}: {error}", spec.command.first().map_or("", String::as_str));
            ExitCode::from(126)
        }
    }
}

fn born(spec: &Spec, entrance: Entrance) -> io::Result<i32> {
    // Signals wait until there is somebody to pass them to.
    let signals = passed_on();
    signals.thread_block()?;
    if !spec.separate {
        return match sys::fork()? {
            Fork::Parent(child) => attend(child, &signals),
            Fork::Child => Err(become_program(spec, &signals)),
        };
    }
    let step = |what: &str, result: io::Result<()>| {
        result.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
    };
    let entrances = [
        (&entrance.user, NamespaceKind::User),
        (&entrance.network, NamespaceKind::Network),
        (&entrance.pid, NamespaceKind::Pid),
    ];
    for (namespace, kind) in entrances {
        if let Some(namespace) = namespace {
            step("cannot enter the network", sys::enter(namespace.as_fd(), kind))?;
        }
    }
    if entrance.pid.is_some() {
        // The PID namespace is for children: the rest happens in one.
        return match sys::fork()? {
            Fork::Parent(child) => attend(child, &signals),
            Fork::Child => {
                sys::kill_on_parent_death()?;
                leave(separate(spec, &signals))
            }
        };
    }
    separate(spec, &signals)
}

/// Makes the workload's own namespaces and its process 1.
fn separate(spec: &Spec, signals: &SigSet) -> io::Result<i32> {
    sys::unshare(&[
        NamespaceKind::Mount,
        NamespaceKind::Pid,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
    ])?;
    match sys::fork()? {
        Fork::Parent(child) => attend(child, signals),
        Fork::Child => {
            sys::kill_on_parent_death()?;
            leave(first_process(spec, signals))
        }
    }
}

/// Ends a forked child without running the parent's destructors.
fn leave(outcome: io::Result<i32>) -> ! {
    let status = outcome.unwrap_or_else(|error| {
        eprintln!("postern: {error}");
        126
    });
    std::process::exit(status)
}

/// Process 1 of the workload: sets the stage, starts the program, reaps.
fn first_process(spec: &Spec, signals: &SigSet) -> io::Result<i32> {
    set_stage(spec)?;
    match sys::fork()? {
        Fork::Parent(child) => attend(child, signals),
        Fork::Child => {
            sys::drop_capabilities()?;
            sys::no_new_privileges()?;
            leave(Err(become_program(spec, signals)))
        }
    }
}

/// Becomes the user's program; returns only if that fails.
fn become_program(spec: &Spec, signals: &SigSet) -> io::Error {
    if let Err(errno) = signals.thread_unblock() {
        return errno.into();
    }
    let Some((program, arguments)) = spec.command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no command");
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&spec.environment);
    if let Some(directory) = &spec.directory {
        command.current_dir(directory);
    }
    if let Some(bytes) = spec.container.as_ref().and_then(|container| container.data_max)
        && let Err(errno) = setrlimit(Resource::RLIMIT_DATA, bytes, bytes)
    {
        return errno.into();
    }
    let error = command.exec();
    let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    eprintln!("postern: {program}: {error}");
    std::process::exit(status)
}

/// A program whose file has capabilities (`ping` of Debian has `cap_net_raw=ep`) cannot be executed
/// by whoever may not have them. On a file system that is mounted `nosuid` they count for nothing,
/// and `ping` does without. Best effort: a mount that may not be changed stays as it is.
fn without_file_capabilities() {
    use nix::sys::statvfs::{FsFlags, statvfs};
    for path in ["/", "/usr", "/bin", "/sbin", "/usr/bin", "/usr/local"] {
        let Ok(known) = statvfs(path) else { continue };
        // What the mount forbids already has to be said again.
        let kept = [
            (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ];
        let kept = kept.into_iter().filter(|(has, _)| known.flags().contains(*has));
        let flags = kept.fold(MsFlags::MS_NOSUID, |all, (_, flag)| all | flag);
        let none = None::<&str>;
        // Not every one of them is a mount.
        let _ = mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, none);
    }
}

/// The file system as the workload sees it: its own `/proc`, its resolver, no state directory.
fn set_stage(spec: &Spec) -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    without_file_capabilities();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let container = spec.container.as_ref();
    if let Some(container) = container
        && let Some(scratch) = &container.scratch
    {
        crate::stage::set(&container.bounds, scratch)?;
    }
    // Without a fresh /proc the workload would see, and reach through, the processes of others.
    // Where parts of /proc are masked (inside some containers) the kernel refuses one: `doctor`.
    mount(Some("proc"), "/proc", Some("proc"), flags, none)?;
    mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none)?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, "/proc/sys", none, read_only | flags, none)?;
    hide_daemons(flags)?;
    let dir = spec.state_dir.as_path();
    // It may have been below what has just been hidden.
    std::fs::create_dir_all(dir)?;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("mode=0755,size=1m"))?;
    std::fs::write(dir.join(CA_FILE), &spec.ca)?;
    let Identity { name, address, search } = &spec.identity;
    nix::unistd::sethostname(name)?;
    let resolver = format!(
        "# written by postern\nnameserver 169.254.169.254\nsearch {search}\noptions timeout:2\n"
    );
    shadow(dir, "resolv.conf", "/etc/resolv.conf", &resolver)?;
    // Only files and DNS: no module that would ask a daemon of the host.
    let modules = "hosts: files dns\npasswd: files\ngroup: files\n";
    shadow(dir, "nsswitch.conf", "/etc/nsswitch.conf", modules)?;
    let mut hosts = format!(
        "127.0.0.1 localhost\n{address} {name}\n169.254.169.254 metadata.google.internal metadata\n"
    );
    for container in container.iter().flat_map(|container| &container.hosts) {
        hosts.push_str(&format!("127.0.0.1 {container}\n"));
    }
    shadow(dir, "hosts", "/etc/hosts", &hosts)?;
    let remount = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, dir, none, remount, none)?)
}

/// Daemons of the host that would do the user's bidding outside of the network.
fn hide_daemons(flags: MsFlags) -> io::Result<()> {
    // Control groups too: whoever is root in name could lift his own limits there.
    for folder in ["/run/user", "/run/dbus", "/run/systemd", "/sys/fs/cgroup"] {
        if Path::new(folder).is_dir() {
            mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("mode=0755,size=1m"))?;
        }
    }
    for socket in ["/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock"]
    {
        if Path::new(socket).exists() {
            mount(Some("/dev/null"), socket, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
    }
    Ok(())
}

/// Puts a file of ours over one of the host's, if the host has it.
fn shadow(dir: &Path, name: &str, over: &str, text: &str) -> io::Result<()> {
    let file = dir.join(name);
    std::fs::write(&file, text)?;
    let none = None::<&str>;
    // /etc/resolv.conf may be a link into a folder of /run that has just been hidden.
    match std::fs::canonicalize(over) {
        Ok(target) => Ok(mount(Some(&file), &target, none, MsFlags::MS_BIND, none)?),
        Err(_) => match std::fs::read_link(over) {
            Ok(link) => {
                let target = Path::new(over).parent().unwrap_or(Path::new("/")).join(link);
                if let Some(folder) = target.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                std::fs::write(target, text)
            }
            Err(_) => Ok(()),
        },
    }
}

/// Signals that are meant for the program.
fn passed_on() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ] {
        signals.add(signal);
    }
    signals
}

/// Waits for the child's end, reaping whatever else ends, passing signals on.
fn attend(child: i32, signals: &SigSet) -> io::Result<i32> {
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == child => return Ok(status),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                    return Ok(128 + signal as i32);
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        match signals.wait()? {
            // A terminal gives these to the whole foreground group, the program included.
            Signal::SIGINT | Signal::SIGQUIT | Signal::SIGCHLD => {}
            signal => {
                let _ = kill(Pid::from_raw(child), signal);
            }
        }
    }
}

/// Mounts a fresh `/proc` in a new PID namespace, for `doctor`.
///
/// # Errors
/// What the kernel says.
pub fn trial_of_proc() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?)
}

/// `postern workload-init`: the outer process of a workload that the supervisor starts; the
/// specification comes over descriptor 3, and the network namespace is the one it is in.
pub fn init() -> ExitCode {
    use std::io::Read;
    let mut text = Vec::new();
    let read = sys::adopt(3).and_then(|descriptor| {
        std::os::unix::net::UnixStream::from(descriptor).read_to_end(&mut text)
    });
    let spec = read.and_then(|_| Ok(serde_json::from_slice::<Spec>(&text)?));
    match spec {
        Ok(spec) => run(&spec, Entrance::default()),
        Err(error) => {
            eprintln!("postern: workload-init is started by the supervisor: {error}");
            ExitCode::from(2)
        }
    }
}
