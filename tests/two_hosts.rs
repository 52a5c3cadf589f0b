//! The deployment of `topology/two-hosts`, as its README has it: two hosts (network namespaces) with
//! nothing between them but one link, on which port 15008 passes and nothing else. Its scripts start
//! the real programs; clients and targets are plain sockets.

mod common;

use common::{have, postern, root, scratch};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 80);
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 80);
const SHOP: &str = "shop-project/shop-network";
const GUEST: &str = "guest-project/guest-network";
const BANK: &str = "bank-project/bank-network";

/// Nothing here takes so long unless it hangs.
const LONG: Duration = Duration::from_secs(90);

/// Both hosts, their link, and what runs on them.
struct Hosts {
    dir: PathBuf,
    left: Namespace,
    right: Namespace,
    children: Vec<(Child, PathBuf)>,
}

/// A network namespace, held by a process.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sleep", "infinity"]);
        Namespace(command.spawn().expect("unshare runs"))
    }

    /// Beside another one, in its user namespace.
    fn beside(&self) -> Self {
        let mut command = self.command("unshare");
        command.args(["--net", "sleep", "infinity"]);
        Namespace(command.spawn().expect("unshare runs"))
    }

    /// Waits until the namespace is one of its own.
    fn ready(self, other: &Path) -> Self {
        let own = || fs::read_link(format!("/proc/{}/ns/net", self.0.id()));
        let sleeps = || {
            let name = fs::read_to_string(format!("/proc/{}/comm", self.0.id()));
            name.is_ok_and(|name| name.trim() == "sleep")
        };
        let other = fs::read_link(other).expect("a namespace");
        wait("a namespace", || sleeps() && own().is_ok_and(|own| own != other));
        self
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.0.id().to_string();
        command.args(["--preserve-credentials", "--user", "--net", "--target", &pid, program]);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a program"));
        let output = command.args(words).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
    }

    /// Runs `work` on a thread that is in the namespace for life. (A test's process has many
    /// threads and cannot enter a user namespace: the sockets are made by a child that can, and are
    /// passed on. `python3` is that child.)
    fn socket(&self, script: &str) -> std::os::fd::OwnedFd {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut command = self.command("python3");
        let passed = format!(
            "import socket, sys\n{script}\nc = socket.socket(fileno=0)\nsocket.send_fds(c, [b'x'], [s.fileno()])\n"
        );
        command.args(["-c", &passed]).stdin(Stdio::from(std::os::fd::OwnedFd::from(far)));
        let output = command.output().expect("python3 runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        near.set_nonblocking(true).expect("a socket");
        let mut received =
            sys::receive(std::os::fd::AsFd::as_fd(&near), &mut [0]).expect("a socket");
        received.descriptors.pop().expect("a socket")
    }

    fn listen(&self, at: SocketAddrV4) -> TcpListener {
        let (ip, port) = (at.ip(), at.port());
        TcpListener::from(self.socket(&format!(
            "s = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\ns.setsockopt(socket.SOL_IP, 15, 1)\ns.bind(('{ip}', {port}))\ns.listen(1024)"
        )))
    }

    fn connect(&self, to: SocketAddrV4) -> TcpStream {
        let (ip, port) = (to.ip(), to.port());
        let socket = self.socket(&format!("s = socket.create_connection(('{ip}', {port}))"));
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(LONG)).expect("a socket");
        stream
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < until, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Hosts {
    /// The hosts with their link; none, loudly, where this machine cannot make them.
    fn new() -> Option<Self> {
        if !have(&["ip", "nft", "unshare", "nsenter", "python3", "curl"]) || !common::namespaces() {
            return None;
        }
        let left = Namespace::new().ready(Path::new("/proc/self/ns/net"));
        let of_left = PathBuf::from(format!("/proc/{}/ns/net", left.0.id()));
        let right = left.beside().ready(&of_left);
        let hosts = Hosts { dir: scratch(), left, right, children: Vec::new() };
        let Hosts { left, right, dir, .. } = &hosts;
        left.run(&format!("ip link add veth0 type veth peer name veth0 netns {}", right.0.id()));
        for (host, address) in [(left, "192.0.2.6/24"), (right, "192.0.2.7/24")] {
            host.run("ip link set lo up");
            host.run(&format!("ip address add {address} dev veth0"));
            host.run("ip link set veth0 up");
            // Both ways: new connections to port 15008, and what belongs to one.
            let rules = dir.join("narrow.nft");
            fs::write(&rules, NARROW).expect("written");
            host.run(&format!("nft -f {}", rules.display()));
        }
        copy(&root().join("topology/two-hosts"), &dir.join("files"));
        Some(hosts)
    }

    fn state(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Issues a certificate and puts it where the README says, the key first.
    fn certify(&self, network: &str, program: &str, host: &str) {
        let fresh = self.dir.join("fresh");
        let mut command = postern();
        command.arg("--state-dir").arg(self.dir.join("ca"));
        command.args(["certificate", "--network", network, "--program", program, "--out"]);
        let output = command.arg(&fresh).output().expect("postern runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let to = self.state(host).join("identity");
        let to = to.join(format!("{program}@{}", network.replace('/', "_")));
        fs::create_dir_all(&to).expect("a directory");
        for name in ["ca.pem", "key.pem", "certificate.pem"] {
            let aside = to.join("aside");
            fs::copy(fresh.join(name), &aside).expect("copied");
            fs::rename(&aside, to.join(name)).expect("renamed");
        }
    }

    fn certify_all(&self) {
        self.certify(SHOP, "endpoint-attachment", "shop");
        self.certify(GUEST, "endpoint-attachment", "guest");
        self.certify(BANK, "service-attachment", "bank");
    }

    /// Starts one of the example's scripts on a host; its log is `NAME.log`.
    fn start(&mut self, host: &str, state: &str, script: &str, arguments: &[&str]) {
        let namespace = if host == "left" { &self.left } else { &self.right };
        let log = self.dir.join(format!("{state}.log"));
        let out = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let programs = Path::new(env!("CARGO_BIN_EXE_postern")).parent().expect("a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = namespace.command("sh");
        command.arg(self.dir.join("files").join(script)).args(arguments);
        command.env("PATH", format!("{}:{path}", programs.display()));
        command.env("STATE", self.state(state));
        command.stdout(out.try_clone().expect("a log")).stderr(out).process_group(0);
        self.children.push((command.spawn().expect("sh runs"), log));
    }

    fn log(&self, state: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{state}.log"))).unwrap_or_default()
    }

    fn wait_log(&self, state: &str, text: &str) {
        wait(&format!("{text:?} in the log of {state}"), || self.log(state).contains(text));
    }

    /// Stops all programs.
    fn stop(&mut self) {
        for (mut child, _) in self.children.drain(..) {
            let group = nix::unistd::Pid::from_raw(child.id() as i32);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// The narrow link.
const NARROW: &str = "
table inet narrow {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    tcp dport 15008 accept
    ct state established,related accept
  }
  chain output {
    type filter hook output priority 0; policy drop;
    oifname \"lo\" accept
    tcp dport 15008 accept
    ct state established,related accept
  }
}";

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            for state in ["shop", "guest", "bank"] {
                let log = self.log(state);
                let lines: Vec<_> = log.lines().collect();
                let last = lines.len().saturating_sub(25);
                eprintln!("--- {state}\n{}", lines[last..].join("\n"));
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &there);
        } else {
            fs::copy(entry.path(), there).expect("copied");
        }
    }
}

/// The address of the right host is left away, and the left one's networks take it in.
const RENDEZVOUS: &str = "
hosts:
- name: left
  networks:
  - {network: shop-project/shop-network, rendezvous: \"192.0.2.6:15008\"}
- name: right
  networks:
  - {network: bank-project/bank-network}
- name: elsewhere
  networks:
  - {network: guest-project/guest-network, rendezvous: \"192.0.2.8:15008\"}
";

fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Takes the next connection of the target, and checks that it comes from a NAT address.
fn accept(target: &TcpListener) -> TcpStream {
    let (stream, from) = target.accept().expect("a connection");
    assert!(from.ip().to_string().starts_with("10.0.2."), "{from} is a NAT address");
    stream.set_read_timeout(Some(LONG)).expect("a socket");
    stream
}

/// Bytes both ways with half-close, and resets both ways.
fn faithful(hosts: &Hosts, target: &TcpListener) {
    let (up, down) = (pattern(9_000_000, 1), pattern(7_000_000, 2));
    let mut client = hosts.left.connect(ENDPOINT);
    let mut server = accept(target);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&up).expect("written");
            client.shutdown(Shutdown::Write).expect("shut down");
            let mut got = Vec::new();
            client.read_to_end(&mut got).expect("read");
            assert!(got == down, "{} of {} bytes down", got.len(), down.len());
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).expect("read");
        assert!(got == up, "{} of {} bytes up", got.len(), up.len());
        // Half-closed by the client: the other half still carries all.
        server.write_all(&down).expect("written");
        drop(server);
    });
    // A reset by the client, and one by the target.
    let client = hosts.left.connect(ENDPOINT);
    let mut server = accept(target);
    net::splice::reset(&client);
    drop(client);
    let error = server.read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut client = hosts.left.connect(ENDPOINT);
    let server = accept(target);
    net::splice::reset(&server);
    drop(server);
    let error = client.read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A client that is refused: the reset comes with the reason in the endpoint's log.
fn refused(hosts: &Hosts, state: &str, reason: &str) {
    let mut client = hosts.left.connect(ENDPOINT);
    let error = client.read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{reason}");
    hosts.wait_log(state, reason);
}

#[test]
fn a_consumer_dials_a_producer_on_another_host() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.certify_all();
    hosts.start("right", "bank", "right.sh", &["service-attachment"]);
    hosts.wait_log("bank", "\"listener\":\"hbone\"");
    hosts.start("left", "shop", "left.sh", &["shop"]);
    hosts.wait_log("shop", "listening");
    let target = hosts.right.listen(TARGET);
    faithful(&hosts, &target);

    // The link passes nothing but port 15008.
    let mut probe = hosts.left.command("python3");
    let script =
        "import socket\ns = socket.socket()\ns.settimeout(1)\ns.connect(('192.0.2.7', 80))";
    probe.args(["-c", script]).stderr(Stdio::null());
    assert!(!probe.status().expect("python3 runs").success());

    // Rotation under load: connections open before go on, new ones get the new certificates.
    let mut first = hosts.left.connect(ENDPOINT);
    let mut first_server = accept(&target);
    let (stop, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let mut buffer = [0; 4096];
            loop {
                let count = first_server.read(&mut buffer).expect("the connection goes on");
                if count == 0 {
                    return;
                }
                first_server.write_all(&buffer[..count]).expect("the connection goes on");
            }
        });
        let load = scope.spawn(|| {
            let bytes = pattern(4096, 3);
            let mut got = vec![0; 4096];
            while !stop.load(Ordering::Relaxed) {
                first.write_all(&bytes).expect("the connection goes on");
                first.read_exact(&mut got).expect("the connection goes on");
                assert!(got == bytes);
                moved.fetch_add(1, Ordering::Relaxed);
            }
            first.shutdown(Shutdown::Write).expect("shut down");
        });
        for _ in 0..3 {
            let before = moved.load(Ordering::Relaxed);
            hosts.certify_all();
            let mut client = hosts.left.connect(ENDPOINT);
            let mut server = accept(&target);
            client.write_all(b"new").expect("written");
            server.read_exact(&mut [0; 3]).expect("read");
            wait("bytes on the old connection", || moved.load(Ordering::Relaxed) > before + 10);
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load ends well");
        echo.join().expect("the echo ends well");
    });

    // Another network's key: the handshake succeeds, and it may not speak for the shop's endpoint.
    let identity = hosts.state("shop").join("identity");
    hosts.certify(SHOP, "service-attachment", "shop");
    let own = identity.join("endpoint-attachment@shop-project_shop-network");
    let other = identity.join("service-attachment@shop-project_shop-network");
    let kept = identity.join("kept");
    fs::rename(&own, &kept).expect("renamed");
    fs::rename(&other, &own).expect("renamed");
    // Not taken at all: it is not this program's. The last good one stays in force.
    hosts.left.connect(ENDPOINT);
    accept(&target);
    hosts.wait_log("shop", "is not endpoint-attachment of shop-project/shop-network");
    fs::remove_dir_all(&own).expect("removed");
    fs::rename(&kept, &own).expect("renamed");

    // The link is cut: what is carried is reset once nobody answers. Restored: it goes on.
    let mut client = hosts.left.connect(ENDPOINT);
    let mut server = accept(&target);
    hosts.left.run("ip link set veth0 down");
    for end in [&mut client, &mut server] {
        let error = end.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    refused(&hosts, "shop", "PEER_UNREACHABLE");
    hosts.left.run("ip link set veth0 up");
    faithful(&hosts, &target);

    // The documented whole: load balancer and machine behind it, by curl.
    drop(target);
    hosts.start("right", "bank-rest", "right.sh", &["internal-lb", "ledger"]);
    let curl = || {
        let mut command = hosts.left.command("curl");
        command.args(["-s", "--max-time", "20", "http://10.0.0.9/balance"]);
        String::from_utf8_lossy(&command.output().expect("curl runs").stdout).into_owned()
    };
    wait("the balance", || curl().contains("\"balance\": 42"));
}

#[test]
fn who_is_not_admitted_or_not_who_he_says_is_refused_across_hosts() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.certify_all();
    hosts.start("right", "bank", "right.sh", &["service-attachment"]);
    hosts.wait_log("bank", "\"listener\":\"hbone\"");
    hosts.start("left", "guest", "left.sh", &["guest"]);
    hosts.wait_log("guest", "listening");
    let target = hosts.right.listen(TARGET);
    target.set_nonblocking(true).expect("a socket");
    // Not on the list.
    refused(&hosts, "guest", "PSC_CONNECTION_NOT_ACCEPTED");
    hosts.wait_log("bank", "PSC_CONNECTION_NOT_ACCEPTED");
    // A guest who says that his is the shop's endpoint: his files tell him so, his certificate not.
    hosts.stop();
    let files = hosts.dir.join("files/shop.yaml");
    let text = fs::read_to_string(&files).expect("read");
    let swapped =
        text.replace("shop-", "other-").replace("guest-", "shop-").replace("other-", "guest-");
    hosts.start("right", "bank", "right.sh", &["service-attachment"]);
    wait("both generations", || hosts.log("bank").matches("\"listener\":\"hbone\"").count() == 2);
    fs::write(&files, swapped).expect("written");
    // Its directory holds what was issued for the guest.
    let identity = hosts.state("guest").join("identity");
    let guest = identity.join("endpoint-attachment@guest-project_guest-network");
    let shop = identity.join("endpoint-attachment@shop-project_shop-network");
    fs::rename(guest, shop).expect("renamed");
    hosts.start("left", "guest", "left.sh", &["shop"]);
    hosts.wait_log("guest", "guest-network/endpoint-attachment is not endpoint-attachment of shop");
    // Nothing of it reached the target.
    assert_eq!(target.accept().expect_err("nobody").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_producer_dials_out_to_a_consumer_on_another_host() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.certify_all();
    fs::write(hosts.dir.join("files/hosts.yaml"), RENDEZVOUS).expect("written");
    // The producer comes first, and finds nobody.
    hosts.start("right", "bank", "right.sh", &["service-attachment"]);
    hosts.wait_log("bank", "a consumer cannot be dialled");
    hosts.start("left", "shop", "left.sh", &["shop"]);
    hosts.wait_log("shop", "a producer has dialled in");
    let target = hosts.right.listen(TARGET);
    faithful(&hosts, &target);
    // Cut and restored.
    let mut client = hosts.left.connect(ENDPOINT);
    let mut server = accept(&target);
    hosts.right.run("ip link set veth0 down");
    for end in [&mut client, &mut server] {
        let error = end.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    refused(&hosts, "shop", "PEER_UNREACHABLE");
    hosts.right.run("ip link set veth0 up");
    let dialled = hosts.log("shop").matches("a producer has dialled in").count();
    wait("another dial", || {
        hosts.log("shop").matches("a producer has dialled in").count() > dialled
    });
    faithful(&hosts, &target);
    // Rotated.
    hosts.certify_all();
    faithful(&hosts, &target);
}
