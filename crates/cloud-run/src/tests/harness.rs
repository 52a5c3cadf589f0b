//! A running `cloud-run`, a host that starts plain processes, and a client that speaks raw HTTP.

use crate::CloudRun;
use crate::host::{Exits, Host, Pending};
use id_token::{Claims, SigningKey};
use names::{FrontEnd, NetworkId, Origin, SelfLink};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_protocol::{Header, Tlv};
use runtime::testing::{Place, Started};
use slice::iam::Iam;
use slice::run::{
    CloudRunSlice, Ingress, Revision, Run, Scaling, Secret, Service, ServiceAccount, TrafficTarget,
};
use slice::{
    CLOUD_RUN_CHANNEL, ContainerExit, SpawnInstance, SpawnedInstance, StartContainer,
    StartedContainer, VolumeFile,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const ACCOUNT: &str = "proxy@apis.iam.gserviceaccount.com";

/// One key for all tests: making one takes a while.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("randomness"));

/// The program and its state directory, gone at the end.
pub struct Stage {
    pub started: Started<CloudRun>,
    pub host: Arc<Processes>,
    state_dir: PathBuf,
}

impl Stage {
    pub fn new(services: Vec<Service>) -> Stage {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let state_dir =
            std::env::temp_dir().join(format!("cloud-run-{}-{number}", std::process::id()));
        let mut stage = Stage::at(state_dir, Vec::new());
        stage.reload(services);
        stage
    }

    /// Ends everything and begins anew in the same state directory. No service may want an instance
    /// by itself: the host is there a moment later.
    pub fn restart(mut self, services: Vec<Service>) -> Stage {
        let state_dir = std::mem::take(&mut self.state_dir);
        drop(self);
        Stage::at(state_dir, services)
    }

    fn at(state_dir: PathBuf, services: Vec<Service>) -> Stage {
        let place = Place {
            state_dir: state_dir.clone(),
            network: None,
            workers: 2,
            placements: Vec::new(),
        };
        let started = Started::<CloudRun>::start(slice(services), place).expect("started");
        let program = started.program().expect("running");
        let host = Arc::new(Processes { exits: Arc::clone(&program.exits), ..Default::default() });
        assert!(program.host.set(Arc::clone(&host) as Arc<dyn Host>).is_ok());
        Stage { started, host, state_dir }
    }

    pub fn reload(&mut self, services: Vec<Service>) {
        self.started.reload(slice(services)).expect("a good slice");
    }

    pub fn reload_with(&mut self, services: Vec<Service>, secrets: Vec<Secret>) {
        let slice = CloudRunSlice { secrets, ..slice(services) };
        self.started.reload(slice).expect("a good slice");
    }

    /// A reload that is refused, with what it says.
    pub fn refused(&mut self, services: Vec<Service>) -> String {
        self.started.reload(slice(services)).expect_err("refused")
    }

    /// A connection whose PROXY header says this.
    pub fn connect(&self, origin: &Origin, service: Option<&str>) -> UnixStream {
        self.connect_for(origin, service, "http/1.1")
    }

    /// For a client that speaks this to the load balancer.
    pub fn connect_for(&self, origin: &Origin, service: Option<&str>, alpn: &str) -> UnixStream {
        let context = self.started.context().expect("running");
        let mut stream =
            UnixStream::connect(context.channel(CLOUD_RUN_CHANNEL)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        stream.write_all(&head(origin, service, alpn)).expect("written");
        stream
    }

    /// One request of the internal load balancer to a service.
    pub fn ask(&self, service: &Service, request: &str) -> Answer {
        let mut stream = self.connect(&balancer(), Some(service.self_link.as_str()));
        stream.write_all(request.as_bytes()).expect("written");
        Answer::read(stream)
    }

    /// `GET` of a path, with the headers that a load balancer adds.
    pub fn get(&self, service: &Service, path: &str) -> Answer {
        self.ask(service, &get(path, ""))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.host.end();
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

/// A GET as a load balancer would forward it.
pub fn get(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: internal.example.com\r\n\
         x-forwarded-for: 10.0.2.2,10.0.0.5\r\nconnection: close\r\n{headers}\r\n"
    )
}

pub fn head(origin: &Origin, service: Option<&str>, alpn: &str) -> Vec<u8> {
    let client: SocketAddrV4 = "10.0.0.7:4000".parse().expect("an address");
    let header = Header::tcp(client, "10.0.0.5:443".parse().expect("an address"));
    let header = header.with_tlv(Tlv::ALPN, alpn.as_bytes()).expect("a protocol");
    let mut header = header.with_origin(origin).expect("an origin");
    if let Some(service) = service {
        header = header.with_service(&SelfLink::new(service), None).expect("a service");
    }
    header.encode().expect("a header")
}

pub fn balancer() -> Origin {
    Origin::InternalLoadBalancer {
        network: NetworkId::new("ilb", "ilb-network"),
        forwarding_rule: SelfLink::regional("ilb", "europe-west1", "forwardingRules", "ilb"),
    }
}

pub fn network(project: &str) -> Origin {
    Origin::Network {
        network: NetworkId::new(project, "default"),
        project: project.into(),
        front_end: FrontEnd::Public,
    }
}

/// A bearer token of [`ACCOUNT`].
pub fn token(audience: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims::of_service_account("1001", Some(ACCOUNT), audience, now);
    format!("Bearer {}", id_token::sign(&KEY, &claims).expect("signed"))
}

pub fn slice(services: Vec<Service>) -> CloudRunSlice {
    CloudRunSlice {
        services,
        service_accounts: vec![ServiceAccount {
            email: ACCOUNT.to_owned(),
            project: "apis".to_owned(),
            unique_id: "1001".to_owned(),
        }],
        iam: Iam::granting(
            "roles/run.invoker",
            "projects/ilb",
            &[&format!("serviceAccount:{ACCOUNT}")],
        ),
        front_end_certificate: String::new(),
        front_end_private_key: String::new(),
        secrets: Vec::new(),
        jwks: id_token::jwks([&*KEY]).to_string(),
    }
}

/// A public service that runs `tests/app.py`.
pub fn service(name: &str) -> Service {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests");
    let command = vec!["python3".to_owned(), "app.py".to_owned()];
    at(name, Run::Command { command, directory })
}

/// A public service that runs elsewhere.
pub fn at(name: &str, run: Run) -> Service {
    Service {
        self_link: SelfLink::new(&format!("projects/ilb/locations/europe-west1/services/{name}")),
        name: name.to_owned(),
        project: "ilb".to_owned(),
        project_number: 77,
        region: "europe-west1".to_owned(),
        hosts: vec![format!("{name}-77.europe-west1.run.app")],
        traffic: vec![TrafficTarget::latest()],
        custom_audiences: Vec::new(),
        ingress: Ingress::InternalOnly,
        invoker_iam_disabled: true,
        default_uri_disabled: false,
        internal_networks: vec![NetworkId::new("ilb", "default")],
        revision: Revision {
            timeout_seconds: 60,
            max_instances: 3,
            ..Revision::new(&format!("{name}-00001-abc"), run)
        },
        scaling: Scaling::default(),
        older_revisions: Vec::new(),
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(mut stream: impl Read) -> Answer {
        let mut bytes = Vec::new();
        // A stream that is cut short is an answer as well.
        let _ = stream.read_to_end(&mut bytes);
        let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a response head");
        let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head, body: bytes.split_off(at + 4) }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Runs containers as plain processes, each instance with a free port of the loopback.
#[derive(Default)]
pub struct Processes {
    pub exits: Arc<Mutex<Exits>>,
    running: Mutex<BTreeMap<u64, Instance>>,
    /// Names of all instances ever made.
    pub spawned: Mutex<Vec<String>>,
    /// Every container ever started.
    pub started: Mutex<Vec<StartContainer>>,
    /// Files that were written again: volume and contents.
    pub written: Mutex<Vec<(String, Vec<VolumeFile>)>>,
    /// Where the newest one listens.
    newest: Mutex<Option<SocketAddr>>,
}

struct Instance {
    address: SocketAddr,
    processes: Vec<u32>,
}

impl Processes {
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn spawned(&self) -> usize {
        self.spawned.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Names of all containers ever started.
    pub fn containers(&self) -> Vec<String> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.iter().map(|start| start.container.clone()).collect()
    }

    /// Asks the newest instance itself, past everything.
    pub fn ask_newest(&self, path: &str) -> Answer {
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = TcpStream::connect(newest.expect("an instance")).expect("connected");
        stream.write_all(get(path, "").as_bytes()).expect("written");
        Answer::read(stream)
    }

    fn signal(&self, instance: u64, signal: Signal) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in running.get(&instance).iter().flat_map(|instance| &instance.processes) {
            let _ = kill(Pid::from_raw(i32::try_from(*pid).expect("a pid")), signal);
        }
    }

    fn end(&self) {
        let all: Vec<u64> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.keys().copied().collect()
        };
        for instance in all {
            self.signal(instance, Signal::SIGKILL);
        }
    }

    fn make(&self, instance: SpawnInstance) -> Result<SpawnedInstance, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let free = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = free.local_addr().map_err(|error| error.to_string())?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = Instance { address, processes: Vec::new() };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(number, made);
        self.spawned.lock().unwrap_or_else(PoisonError::into_inner).push(instance.name);
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).replace(address);
        Ok(SpawnedInstance { instance: number, address })
    }

    fn begin(&self, start: StartContainer) -> Result<StartedContainer, String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let instance = running.get_mut(&start.instance).ok_or("the instance is gone")?;
        let Run::Command { command, directory } = &start.run else { return Err("no".to_owned()) };
        let (program, arguments) = command.split_first().ok_or("no command")?;
        let mut process = Command::new(program);
        process.args(arguments).current_dir(directory).envs(&start.env).stdin(Stdio::null());
        if start.ingress {
            process.env("PORT", instance.address.port().to_string());
        }
        let mut child = process.spawn().map_err(|error| format!("{program}: {error}"))?;
        let pid = child.id();
        instance.processes.push(pid);
        let (instance, container) = (start.instance, start.container.clone());
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        let exits = Arc::clone(&self.exits);
        std::thread::spawn(move || {
            let status = child.wait().ok().and_then(|status| status.code()).unwrap_or(137);
            let exit = ContainerExit { instance, container, status, out_of_memory: None };
            exits.lock().unwrap_or_else(PoisonError::into_inner).exited(exit);
        });
        Ok(StartedContainer { pid })
    }
}

impl Host for Processes {
    fn spawn(&self, instance: SpawnInstance) -> Pending<'_, Result<SpawnedInstance, String>> {
        Box::pin(async move { self.make(instance) })
    }

    fn start(&self, container: StartContainer) -> Pending<'_, Result<StartedContainer, String>> {
        Box::pin(async move { self.begin(container) })
    }

    fn write_files(
        &self,
        _instance: u64,
        volume: String,
        files: Vec<VolumeFile>,
    ) -> Pending<'_, Result<(), String>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push((volume, files));
        Box::pin(async { Ok(()) })
    }

    fn stop(&self, instance: u64, grace: Duration) -> Pending<'_, ()> {
        Box::pin(async move {
            let signal = if grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM };
            self.signal(instance, signal);
            self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        })
    }
}

/// Waits until something is so; fails after a minute.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
