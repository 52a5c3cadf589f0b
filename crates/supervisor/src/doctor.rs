//! `postern doctor`: what this machine can do, found out by trying, and how to enable the rest.

use nix::unistd::{getgid, getuid};
use serde::Serialize;
use std::io;
use std::process::ExitCode;
use sys::{Fork, NamespaceKind};

/// Makes the user, PID, mount and IPC namespaces of a supervisor around this single-threaded
/// process (the PID namespace is its children's).
///
/// # Errors
/// What the kernel says.
pub fn make_namespaces() -> io::Result<()> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    sys::unshare(&[NamespaceKind::User])?;
    sys::write_identity_map(uid, gid)?;
    sys::unshare(&[NamespaceKind::Mount, NamespaceKind::Pid, NamespaceKind::Ipc])
}

/// Does it work here? Tried in a child.
pub fn namespaces_work() -> bool {
    tried_inside(|| sys::new_network_namespace().map(|_| ())).is_ok()
        && tried_inside(crate::workload::trial_of_proc).is_ok()
}

/// Tries something inside the namespaces of a supervisor: in a child of the process that made
/// them, since that process itself can have no second thread any more.
fn tried_inside(work: impl FnOnce() -> io::Result<()>) -> Result<(), String> {
    tried(|| {
        make_namespaces()?;
        match sys::fork()? {
            Fork::Parent(child) => match sys::reap(Some(child))? {
                Some((_, 0)) => Ok(()),
                Some((_, errno)) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            Fork::Child => std::process::exit(errno_of(work())),
        }
    })
}

fn errno_of(result: io::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(nix::libc::EIO),
    }
}

/// Tries something in a child process, so that nothing of it stays.
fn tried(work: impl FnOnce() -> io::Result<()>) -> Result<(), String> {
    match sys::fork().map_err(|error| error.to_string())? {
        Fork::Parent(child) => match sys::reap(Some(child)) {
            Ok(Some((_, 0))) => Ok(()),
            Ok(Some((_, errno))) => Err(io::Error::from_raw_os_error(errno).to_string()),
            Ok(None) => Err("the trial vanished".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        Fork::Child => std::process::exit(errno_of(work())),
    }
}

/// One finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    what: &'static str,
    works: bool,
    /// What the kernel said, or what was found.
    detail: String,
    /// How to enable it.
    fix: Option<&'static str>,
}

fn finding(what: &'static str, result: Result<String, String>, fix: &'static str) -> Finding {
    let works = result.is_ok();
    let detail = result.unwrap_or_else(|error| error);
    Finding { what, works, detail, fix: (!works).then_some(fix) }
}

fn findings() -> Vec<Finding> {
    let ok = |result: Result<(), String>| result.map(|()| "yes".to_owned());
    let program = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
            .map(|file| file.display().to_string())
            .ok_or_else(|| "not found".to_owned())
    };
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let limit: u16 = limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    vec![
        finding(
            "user namespaces",
            ok(tried(|| sys::unshare(&[NamespaceKind::User]))),
            "sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces above 0; in a container: --security-opt seccomp=unconfined",
        ),
        finding(
            "network namespaces",
            ok(tried_inside(|| sys::new_network_namespace().map(|_| ()))),
            "as for user namespaces; sysctl user.max_net_namespaces above 0",
        ),
        finding(
            "veth pairs and any-IP routes",
            ok(tried_inside(crate::namespaces::trial)),
            "a kernel with CONFIG_VETH (modprobe veth)",
        ),
        finding(
            "a fresh /proc for workloads",
            ok(tried_inside(crate::workload::trial_of_proc)),
            "in a container: --security-opt systempaths=unconfined",
        ),
        finding(
            "a writable /tmp of their own for containers",
            ok(tried_inside(crate::stage::trial_of_tmp)),
            "a kernel with overlayfs in user namespaces (Linux 5.11); until then containers write to the host's /tmp",
        ),
        finding(
            "limits of containers (control groups)",
            crate::limits::Groups::make(std::process::id()).describe(),
            "version 2: systemd-run --user --scope -p Delegate=yes postern up …; version 1: root",
        ),
        finding(
            "loopback isolation",
            std::net::TcpListener::bind("127.64.0.1:0")
                .map(|_| "127.0.0.0/8 can be bound".to_owned())
                .map_err(|error| error.to_string()),
            "an operating system whose loopback network is all of 127.0.0.0/8",
        ),
        finding(
            "ports below 1024 in loopback isolation",
            if limit <= 53 || getuid().is_root() {
                Ok("yes".to_owned())
            } else {
                Err(format!("first free port is {limit}; 443 becomes 20443"))
            },
            "sysctl net.ipv4.ip_unprivileged_port_start=0",
        ),
        finding("curl", program("curl"), "install the package curl"),
        finding(
            "nft (firewall rules in namespaces)",
            crate::nft::program()
                .map(|file| file.display().to_string())
                .ok_or_else(|| "not found".to_owned()),
            "install the package nftables",
        ),
    ]
}

/// Runs the command.
pub fn run(json: bool) -> ExitCode {
    let findings = findings();
    let netns = findings.iter().take(4).all(|finding| finding.works);
    if json {
        let value = serde_json::json!({
            "defaultIsolation": if netns { "netns" } else { "loopback" },
            "findings": findings,
            "loopbackCannotShow": LOOPBACK_CANNOT_SHOW,
        });
        println!("{value:#}");
        return ExitCode::SUCCESS;
    }
    for finding in &findings {
        let mark = if finding.works { "ok  " } else { "MISS" };
        println!("{mark} {}: {}", finding.what, finding.detail);
        if let Some(fix) = finding.fix {
            println!("     to enable: {fix}");
        }
    }
    println!("\n`postern up` uses {} isolation here.", if netns { "netns" } else { "loopback" });
    println!("What loopback isolation cannot show:");
    for limit in LOOPBACK_CANNOT_SHOW {
        println!("  - {limit}");
    }
    ExitCode::SUCCESS
}

/// Said by `doctor`, so that nobody is surprised.
const LOOPBACK_CANNOT_SHOW: [&str; 7] = [
    "isolation by the kernel: only `exec` sessions (through their proxy) and the programs are in a network",
    "name resolution by the system's resolver, raw DNS clients on port 53, UDP and ICMP from a session",
    "startup scripts of declared VMs",
    "Cloud Run instances with ports of their own: each gets a free port in PORT, and a sidecar's port is the host's",
    "volumes of Cloud Run instances, which `up` refuses by name; names of their containers; a /tmp of their own",
    "identities that the kernel vouches for: any process of this machine that finds a session's proxy speaks as that session",
    "workloads that are kept from the state directory and from other processes",
];
