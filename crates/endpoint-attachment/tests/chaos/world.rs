//! The world of the chaos test: topology files, programs as processes of their own, and what these
//! hold.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that is waited for may take longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

const REGION: &str = "europe-west1";

/// What the files say.
#[derive(Clone, Debug)]
pub struct Files {
    pub consumers: usize,
    /// Consumers from this one on are rejected.
    pub rejected_from: usize,
    /// Which of the two targets is published.
    pub target: usize,
    /// Where the two targets of each producer network really are.
    pub targets: Vec<SocketAddr>,
    /// Consumers are spread over so many producer networks.
    pub producers: usize,
    /// The port of every endpoint.
    pub port: u16,
}

impl Files {
    /// Where the endpoint of a consumer really is.
    pub fn endpoint(&self, consumer: usize) -> SocketAddr {
        SocketAddr::from(([127, 30, (consumer / 250) as u8, (consumer % 250 + 1) as u8], self.port))
    }

    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        for producer in 0..self.producers {
            self.write_producer(folder, producer);
        }
        for number in 0..self.consumers {
            self.write_consumer(folder, number);
        }
    }

    fn write_producer(&self, folder: &Path, producer: usize) {
        let own = |consumer: &usize| consumer % self.producers == producer;
        let rules = [0, 1].map(|target| {
            json!({
                "name": format!("target-{target}"), "loadBalancingScheme": "INTERNAL_MANAGED",
                "IPProtocol": "TCP", "portRange": "80", "network": "lb", "subnetwork": "lb",
                "IPAddress": format!("10.0.0.{}", 10 + target), "target": "targetHttpProxies/any",
            })
        });
        let placed =
            |declared: &str, actual: String| json!({"declared": declared, "actual": actual});
        let mut placements: Vec<Value> = (0..2)
            .map(|target| {
                let at = self.targets[2 * producer + target].to_string();
                placed(&format!("10.0.0.{}:80", 10 + target), at)
            })
            .collect();
        // NAT addresses are given out from the lowest on.
        placements.extend(
            (2..self.consumers + 2)
                .map(|host| placed(&format!("10.0.2.{host}:0"), format!("127.31.2.{host}:0"))),
        );
        let consumer = |number: usize| json!({"projectIdOrNum": format!("consumer-{number:03}"), "connectionLimit": 5});
        let rejected: Vec<String> = (self.rejected_from..self.consumers)
            .filter(own)
            .map(|n| format!("consumer-{n:03}"))
            .collect();
        let document = json!({
            "project": format!("producer-{producer}"), "region": REGION,
            "networks": [{"name": "lb"}],
            "subnetworks": [
                {"name": "lb", "ipCidrRange": "10.0.0.0/24", "network": "lb", "region": REGION},
                {"name": "proxy-only", "ipCidrRange": "10.0.1.0/24", "network": "lb", "region": REGION,
                 "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE"},
                {"name": "nat", "ipCidrRange": "10.0.2.0/24", "network": "lb", "region": REGION,
                 "purpose": "PRIVATE_SERVICE_CONNECT"},
            ],
            "forwardingRules": rules,
            "targetHttpProxies": [{"name": "any", "urlMap": "any"}],
            "urlMaps": [{"name": "any", "defaultService": "any"}],
            "backendServices": [{"name": "any", "loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTP"}],
            "serviceAttachments": [{
                "name": "apps", "targetService": format!("target-{}", self.target),
                "connectionPreference": "ACCEPT_MANUAL", "reconcileConnections": true,
                "consumerAcceptLists": (0..self.consumers).filter(own).map(consumer).collect::<Vec<_>>(),
                "consumerRejectLists": rejected,
                "natSubnets": ["nat"],
            }],
            "placements": placements,
        });
        replace(&folder.join(format!("producer-{producer}.json")), &document);
    }

    fn write_consumer(&self, folder: &Path, number: usize) {
        let producer = number % self.producers;
        let document = json!({
            "project": format!("consumer-{number:03}"), "region": REGION,
            "networks": [{"name": "vpc"}],
            "subnetworks": [{"name": "vpc", "network": "vpc", "ipCidrRange": "10.0.0.0/24"}],
            "forwardingRules": [{
                "name": "apps", "network": "vpc", "subnetwork": "vpc", "IPAddress": "10.0.0.10",
                "target": format!("projects/producer-{producer}/regions/{REGION}/serviceAttachments/apps"),
            }],
            "placements": [placed("10.0.0.10:80", self.endpoint(number).to_string())],
        });
        replace(&folder.join(format!("consumer-{number:03}.json")), &document);
    }
}

fn placed(declared: &str, actual: String) -> Value {
    json!({"declared": declared, "actual": actual})
}

fn replace(path: &Path, document: &Value) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, document.to_string()).expect("written");
    std::fs::rename(&aside, path).expect("renamed");
}

/// A program in a process of its own; killed when it is dropped.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// This binary in the given role.
    pub fn spawn(role: &str, log: PathBuf, arguments: &[&str]) -> Program {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .env(super::ROLE, role)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("started");
        Program { child, log }
    }

    fn start(role: &str, network: &str, dir: &Path, number: usize) -> Program {
        let log = dir.join(format!("{role}-{number}.log"));
        let (topology, state) = (dir.join("topology"), dir.join("state"));
        let (topology, state) = (topology.to_string_lossy(), state.to_string_lossy());
        let arguments = ["--topology", &topology, "--state-dir", &state, "--network", network];
        let arguments = [&arguments[..], &["--drain-seconds", "120"]].concat();
        let program = Program::spawn(role, log, &arguments);
        wait(&format!("{role} {network} listens"), || program.says("\"listening\""));
        program
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    pub fn says(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    /// Descriptors of sockets, descriptors of pipes, resident memory in KiB.
    pub fn holds(&self) -> (usize, usize, usize) {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let links = std::fs::read_dir(proc.join("fd")).expect("it runs").flatten();
        let links: Vec<PathBuf> =
            links.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        let of = |kind: &str| {
            links.iter().filter(|link| link.to_string_lossy().starts_with(kind)).count()
        };
        let status = std::fs::read_to_string(proc.join("status")).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        (of("socket:"), of("pipe:"), resident.expect("VmRSS"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of it.
pub struct World {
    pub files: Files,
    pub dir: PathBuf,
    pub services: Vec<Program>,
    pub endpoints: Vec<Program>,
    /// Incarnations of the service attachment.
    started: usize,
}

impl World {
    pub fn new(dir: PathBuf, files: Files) -> World {
        files.write(&dir.join("topology"));
        std::fs::create_dir_all(dir.join("state")).expect("a folder");
        let endpoints = (0..files.consumers).map(|number| {
            let network = format!("consumer-{number:03}/vpc");
            Program::start("endpoint-attachment", &network, &dir, number)
        });
        let endpoints = endpoints.collect();
        let mut world = World { files, dir, services: Vec::new(), endpoints, started: 0 };
        world.services = world.start_services();
        world
    }

    fn start_services(&mut self) -> Vec<Program> {
        let begin = |producer: usize| {
            let network = format!("producer-{producer}/lb");
            let number = self.started + producer;
            Program::start("service-attachment", &network, &self.dir, number)
        };
        let services = (0..self.files.producers).map(begin).collect();
        self.started += self.files.producers;
        services
    }

    /// Changes the files, and lets the service attachments read them.
    pub fn change(&mut self, change: impl FnOnce(&mut Files)) {
        change(&mut self.files);
        self.files.write(&self.dir.join("topology"));
        self.services.iter().for_each(|service| service.signal(Signal::SIGHUP));
    }

    /// New service attachments take over; the old ones, told to stop, end when what they carry has
    /// ended. They are returned to be waited for.
    pub fn restart(&mut self) -> Vec<Program> {
        let next = self.start_services();
        let old = std::mem::replace(&mut self.services, next);
        old.iter().for_each(|old| old.signal(Signal::SIGTERM));
        old
    }

    /// Waits for the orderly end of a program that was told to stop.
    pub fn ended(mut old: Program) {
        wait("the old service attachment ends", || {
            old.child.try_wait().expect("a child").is_some_and(|status| {
                assert!(status.success(), "{status}");
                true
            })
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Waits for a state.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5)); // a look at a file or process, not the wait
    }
}
