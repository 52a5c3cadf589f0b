//! What runs in leaves: declared VMs, `exec` sessions, Cloud Run instances, the API proxy's
//! runtime.

use crate::child::{ProgramId, exit_code, log_path, open_log, spawn_thread};
use crate::events::{Command as Asking, Event};
use crate::gateway::{self, Gateway};
use crate::limits::{self, Group};
use crate::output::Origin;
use crate::protocol::{ExecRequest, Reply, Session};
use crate::supervise::Supervisor;
use crate::surroundings::{Leaf, Surroundings};
use crate::volumes::Volumes;
use crate::workload::{CA_FILE, ContainerStage, Identity, Spec, trust_environment};
use names::NetworkId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slice::run::{Mount, Resources};
use slice::{Instance, MemoryUse, Role, Topology, Workload};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use sys::{Inheritance, NamespaceKind};

/// All workloads, by number.
#[derive(Debug, Default)]
pub struct Workloads {
    next: u64,
    all: BTreeMap<u64, Running>,
}

/// What a workload is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The API proxy's runtime.
    Runtime,
    /// A declared VM, as it was declared when it was started.
    Vm(Box<Instance>),
    /// An `exec` session.
    Session,
    /// A Cloud Run instance.
    Instance,
}

/// A workload.
#[derive(Debug)]
pub struct Running {
    /// As the network knows it.
    pub workload: Workload,
    /// What it is.
    pub kind: Kind,
    /// Its leaf.
    pub namespace: Option<OwnedFd>,
    /// The address at which `cloud-run` reaches an instance that has another one in a VPC network.
    pub platform: Option<Ipv4Addr>,
    /// The outermost process of each of its programs, in the supervisor's numbering: an instance's
    /// by the container's name, a VM's startup script under the empty one.
    pub processes: BTreeMap<String, u32>,
    /// An instance that ends with its last container.
    pub stopping: bool,
    /// An instance's volumes, where something can be mounted.
    pub volumes: Option<Volumes>,
    /// Names of an instance's containers.
    pub hosts: Vec<String>,
    /// Where it is really reached, if somebody has to know.
    pub actual: Option<SocketAddr>,
    /// Its way into the network, where it has no namespace.
    pub gateway: Option<Gateway>,
}

/// What is started in a workload's leaf.
#[derive(Debug)]
pub struct Launch {
    /// Its name among the workload's processes.
    pub process: String,
    /// What its log is called.
    pub label: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// What it gets beside the base environment.
    pub environment: BTreeMap<String, String>,
    /// Whose log entries its lines are; none: they stay as they are.
    pub origin: Option<Origin>,
    /// Of a container: its mounts, and what it may use.
    pub container: Option<(Vec<Mount>, Resources)>,
}

impl Workloads {
    /// The workloads of a network.
    pub fn of(&self, network: &NetworkId) -> Vec<Workload> {
        let theirs = self.all.values().filter(|running| running.workload.network == *network);
        theirs.map(|running| running.workload.clone()).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        self.all.values()
    }

    /// Is any process of a workload left?
    pub fn any_process(&self) -> bool {
        self.all.values().any(|running| !running.processes.is_empty())
    }

    /// Asks every process to end.
    pub fn terminate(&self) {
        self.signal_all(Signal::SIGTERM);
    }

    /// Ends every process.
    pub fn kill(&self) {
        self.signal_all(Signal::SIGKILL);
    }

    /// The numbers of all Cloud Run instances.
    pub fn instances(&self) -> Vec<u64> {
        let instances = self.all.iter().filter(|(_, running)| running.kind == Kind::Instance);
        instances.map(|(number, _)| *number).collect()
    }

    /// A workload.
    pub fn get(&self, number: u64) -> Option<&Running> {
        self.all.get(&number)
    }

    /// A workload.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Running> {
        self.all.get_mut(&number)
    }

    fn signal_all(&self, signal: Signal) {
        for running in self.all.values() {
            running.signal(signal);
        }
    }

    /// Takes a workload away.
    pub fn remove(&mut self, number: u64, surroundings: &mut Surroundings) -> Option<Running> {
        let running = self.all.remove(&number)?;
        running.signal(Signal::SIGKILL);
        surroundings.remove_leaf(&running.workload.network, running.workload.address);
        if let Some(address) = running.platform {
            surroundings.remove_leaf(&NetworkId::internet(), address);
        }
        Some(running)
    }

    pub(crate) fn add(&mut self, running: Running) -> u64 {
        self.next += 1;
        self.all.insert(self.next, running);
        self.next
    }

    /// The address from which a program dials, where that is not its network's router.
    pub fn source_of(&self, id: &ProgramId) -> Option<Ipv4Addr> {
        let network = id.network.as_ref().filter(|_| id.role == Role::ApiProxy)?;
        let runtime =
            self.all.values().find(|r| r.kind == Kind::Runtime && r.workload.network == *network);
        runtime.map(|running| running.workload.address)
    }

    /// Does the API proxy's runtime of this network have its leaf?
    pub fn has_runtime(&self, network: &NetworkId) -> bool {
        self.all.values().any(|r| r.kind == Kind::Runtime && r.workload.network == *network)
    }

    /// Makes the leaf of the API proxy's runtime.
    ///
    /// # Errors
    /// A sentence.
    pub fn add_runtime(
        &mut self,
        network: &NetworkId,
        topology: &Topology,
        surroundings: &mut Surroundings,
    ) -> Result<Leaf, String> {
        let organization = topology
            .organizations
            .iter()
            .find(|organization| organization.network == *network)
            .ok_or_else(|| format!("no organisation runs in {network}"))?;
        let project = &organization.apigee_project_id;
        let mut workload =
            self.describe(network, topology, Some(&organization.region), "api-proxy", project)?;
        workload.name = "api-proxy".to_owned();
        let leaf = surroundings
            .add_leaf(&workload, None)
            .map_err(|error| format!("api-proxy@{network}: {error}"))?;
        let namespace = Surroundings::share(leaf.namespace.as_ref()).map_err(|e| e.to_string())?;
        let actual = leaf.actual.map(|address| SocketAddr::from((address, 0)));
        self.add(Running {
            workload,
            kind: Kind::Runtime,
            namespace,
            platform: None,
            processes: BTreeMap::new(),
            stopping: false,
            volumes: None,
            hosts: Vec::new(),
            actual,
            gateway: None,
        });
        Ok(leaf)
    }

    /// A workload with the next free address of a subnetwork.
    fn describe(
        &self,
        network: &NetworkId,
        topology: &Topology,
        region: Option<&str>,
        name: &str,
        project: &str,
    ) -> Result<Workload, String> {
        let taken = |address| {
            self.is_running(network, address) || vpc::is_declared(topology, network, address)
        };
        let (region, address) = if network.is_internet() {
            let address = vpc::internet_address(taken).ok_or("no public address is free")?;
            (region.unwrap_or_default(), address)
        } else {
            let declared = topology.networks.iter().find(|known| known.id == *network);
            let declared = declared.ok_or_else(|| {
                format!("there is no network {network}; there are {}", names_of(topology))
            })?;
            let place = region.map_or_else(String::new, |region| format!(" in {region}"));
            let (subnetwork, address) = vpc::session_address(declared, region, taken)
                .ok_or_else(|| format!("{network} has no subnetwork with a free address{place}"))?;
            (subnetwork.region.as_str(), address)
        };
        Ok(Workload {
            name: format!("{name}-{}", self.next + 1),
            network: network.clone(),
            address,
            project: project.to_owned(),
            project_number: topology.projects.get(project).map_or(0, |p| p.number),
            region: region.to_owned(),
            zone: if region.is_empty() { String::new() } else { format!("{region}-b") },
            tags: Vec::new(),
            service_account: None,
            instance_id: instance_id(network, self.next + 1),
            serverless: false,
            outside: None,
            metadata: BTreeMap::new(),
        })
    }

    pub(crate) fn is_running(&self, network: &NetworkId, address: Ipv4Addr) -> bool {
        self.all.values().any(|running| {
            (running.workload.network == *network && running.workload.address == address)
                || (network.is_internet() && running.platform == Some(address))
        })
    }

    fn by_vm(&self, name: &str, network: Option<&NetworkId>) -> Option<&Running> {
        self.all.values().find(|running| {
            matches!(&running.kind, Kind::Vm(vm) if vm.name == name)
                && network.is_none_or(|network| running.workload.network == *network)
        })
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.processes.values().filter_map(|pid| i32::try_from(*pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

fn names_of(topology: &Topology) -> String {
    let names: Vec<String> =
        topology.networks.iter().map(|network| network.id.to_string()).collect();
    names.join(", ")
}

/// A stable number of the length that Compute Engine gives instances.
fn instance_id(network: &NetworkId, number: u64) -> String {
    let seed = format!("{network}/{number}");
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}", 1_000_000_000_000_000_000 + hash % 8_000_000_000_000_000_000)
}

impl Supervisor {
    /// Starts declared VMs that are new, stops those that are gone or have changed.
    pub(crate) fn settle_workloads(&mut self) {
        let declared: Vec<(NetworkId, Instance)> = self
            .topology
            .networks
            .iter()
            .flat_map(|network| network.instances.iter().map(|vm| (network.id.clone(), vm.clone())))
            .collect();
        let is_declared = |running: &Running| match &running.kind {
            Kind::Vm(vm) => declared
                .iter()
                .any(|(network, d)| *network == running.workload.network && *d == **vm),
            Kind::Runtime => {
                self.topology.organizations.iter().any(|o| o.network == running.workload.network)
            }
            Kind::Session | Kind::Instance => true,
        };
        let gone: Vec<u64> = self
            .workloads
            .all
            .iter()
            .filter(|(_, running)| !is_declared(running))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.workloads.remove(number, &mut self.surroundings);
        }
        let mut started = Vec::new();
        for (network, vm) in declared {
            if self.workloads.by_vm(&vm.name, Some(&network)).is_some() {
                continue;
            }
            match self.add_vm(&network, vm) {
                Ok(number) => started.push(number),
                Err(error) => eprintln!("postern: {error}"),
            }
        }
        self.tell_workloads();
        for number in started {
            if let Err(error) = self.boot(number) {
                eprintln!("postern: {error}");
            }
        }
    }

    fn add_vm(&mut self, network: &NetworkId, vm: Instance) -> Result<u64, String> {
        let workload = Workload {
            name: format!("vm/{}", vm.name),
            network: network.clone(),
            address: vm.address,
            project: vm.project.clone(),
            project_number: self.topology.projects.get(&vm.project).map_or(0, |p| p.number),
            region: vm.region.clone(),
            zone: vm.zone.clone(),
            tags: vm.tags.clone(),
            service_account: vm.service_account.clone(),
            instance_id: instance_id(network, u64::from(u32::from(vm.address))),
            serverless: false,
            outside: None,
            metadata: vm.metadata.clone(),
        };
        let leaf = self
            .surroundings
            .add_leaf(&workload, None)
            .map_err(|error| format!("instance {}: {error}", vm.name))?;
        let actual = leaf.actual.map(|address| SocketAddr::from((address, 0)));
        let kind = Kind::Vm(Box::new(vm));
        Ok(self.workloads.add(Running {
            workload,
            kind,
            namespace: leaf.namespace,
            platform: None,
            processes: BTreeMap::new(),
            stopping: false,
            volumes: None,
            hosts: Vec::new(),
            actual,
            gateway: None,
        }))
    }

    /// Runs a VM's startup script.
    fn boot(&mut self, number: u64) -> Result<(), String> {
        let Some(running) = self.workloads.all.get(&number) else { return Ok(()) };
        let Kind::Vm(vm) = &running.kind else { return Ok(()) };
        let Some(script) = vm.metadata.get("startup-script") else { return Ok(()) };
        if running.namespace.is_none() {
            eprintln!(
                "postern: instance {}: startup scripts do not run in loopback isolation",
                vm.name
            );
            return Ok(());
        }
        let command = vec!["bash".to_owned(), "-c".to_owned(), script.clone()];
        let directory = Some(vm.directory.clone());
        let launch = Launch {
            process: String::new(),
            label: running.workload.name.clone(),
            command,
            directory,
            environment: BTreeMap::new(),
            origin: None,
            container: None,
        };
        self.start_workload(number, launch).map(|_| ())
    }

    /// Starts a process in a workload's leaf.
    pub(crate) fn start_workload(&mut self, number: u64, start: Launch) -> Result<u32, String> {
        let Launch { process: name, label, command, directory, environment, container, origin } =
            start;
        let failed = |error: std::io::Error| format!("{label}: {error}");
        let Some(running) = self.workloads.all.get_mut(&number) else {
            return Err(format!("{label}: it is gone"));
        };
        let mut all = base_environment(&self.options.binaries);
        all.extend(trust_environment(&ca_path(&self.options.state_dir, running)));
        if running.namespace.is_none() && running.gateway.is_none() {
            running.gateway = self.surroundings.open_gateway(&running.workload).map_err(failed)?;
        }
        all.extend(
            running.gateway.iter().flat_map(|gateway| gateway::environment(gateway.address)),
        );
        all.extend(environment);
        let spec = Spec {
            command,
            directory,
            environment: all,
            state_dir: self.options.state_dir.clone(),
            ca: self.store.ca_pem().to_owned(),
            separate: running.namespace.is_some(),
            identity: Identity::of(&running.workload),
            container: match &container {
                Some((mounts, resources)) => Some(ContainerStage {
                    bounds: running.volumes.as_ref().map_or(Ok(Vec::new()), |v| v.bind(mounts))?,
                    scratch: match &mut running.volumes {
                        Some(volumes) => Some(volumes.scratch().map_err(failed)?),
                        None => None,
                    },
                    hosts: running.hosts.clone(),
                    data_max: (!self.groups.bound_memory()).then(|| limits::data_max(resources)),
                }),
                None => None,
            },
        };
        let group = match &container {
            Some((_, resources)) => {
                let group = format!("{number}-{}", group_name(&name));
                Some(self.groups.add(&group, resources).map_err(failed)?)
            }
            None => None,
        };
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        let log = open_log(&log_path(&self.options.state_dir, &label)).map_err(failed)?;
        let [stdout, stderr] = self.output.pipes(log, origin).map_err(failed)?;
        let own = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(own);
        process
            .arg("workload-init")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let network = Surroundings::share(running.namespace.as_ref()).map_err(failed)?;
        let descriptors = vec![(theirs.into(), 3)];
        sys::inherit(&mut process, Inheritance { network, descriptors, ..Inheritance::default() });
        let mut child = process.spawn().map_err(failed)?;
        drop(process);
        let text = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        let pid = child.id();
        // It reads before it does anything, so all that it will start is in its group.
        let entered = group.as_ref().map_or(Ok(()), |group| group.enter(pid));
        if let Err(error) = entered.and_then(|()| ours.write_all(&text)) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(error));
        }
        running.processes.insert(name.clone(), pid);
        let events = self.events.clone();
        spawn_thread("wait", move || {
            let status = child.wait().map_or(-1, exit_code);
            let memory = group.and_then(Group::finish);
            let _ = events.send(Event::WorkloadEnded(number, name, status, memory));
        })
        .map_err(failed)?;
        Ok(pid)
    }

    pub(crate) fn workload_ended(
        &mut self,
        number: u64,
        process: String,
        status: i32,
        memory: Option<MemoryUse>,
    ) {
        let Some(running) = self.workloads.all.get_mut(&number) else { return };
        running.processes.remove(&process);
        if running.kind != Kind::Instance {
            eprintln!("postern: {} ended with status {status}", running.workload.name);
            return;
        }
        self.container_ended(number, process, status, memory);
    }

    /// Makes a leaf for an `exec` session, and answers with what has to be entered.
    pub(crate) fn open_session(&mut self, request: &ExecRequest, command: Asking) {
        let (number, own) = match self.session_leaf(request) {
            Ok(found) => found,
            Err(error) => return command.answer(Reply::Failed(error)),
        };
        if own {
            self.tell_workloads();
        }
        if let Err(error) = self.enter(number, own, &command.connection) {
            if own {
                self.workloads.remove(number, &mut self.surroundings);
                self.tell_workloads();
            }
            command.answer(Reply::Failed(error));
        }
    }

    /// Sends a command what it has to enter, and watches for its end.
    fn enter(&self, number: u64, own: bool, connection: &UnixStream) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("the session cannot be opened: {error}");
        let running = self.workloads.all.get(&number).ok_or("the session has ended")?;
        let mut descriptors = Vec::new();
        if let Some(namespace) = &running.namespace {
            for kind in [NamespaceKind::User, NamespaceKind::Pid] {
                descriptors.push(sys::current(kind).map_err(failed)?);
            }
            descriptors.extend(Surroundings::share(Some(namespace)).map_err(failed)?);
        }
        let mut environment: BTreeMap<String, String> =
            trust_environment(&ca_path(&self.options.state_dir, running)).collect();
        let gateway = self.surroundings.open_gateway(&running.workload).map_err(failed)?;
        environment
            .extend(gateway.iter().flat_map(|gateway| gateway::environment(gateway.address)));
        let session = Session {
            workload: running.workload.clone(),
            environment,
            ca: self.store.ca_pem().to_owned(),
            separate: running.namespace.is_some(),
        };
        let watched = connection.try_clone().map_err(failed)?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        runtime::wire::send(connection, &Reply::Session(Box::new(session)), &borrowed)
            .map_err(failed)?;
        let number = if own { number } else { 0 };
        crate::events::watch_session(number, gateway, watched, self.events.clone()).map_err(failed)
    }

    /// The session's workload, and whether it is the session's own (a declared VM's is not).
    fn session_leaf(&mut self, request: &ExecRequest) -> Result<(u64, bool), String> {
        if let Some(name) = &request.instance {
            let found = self.workloads.all.iter().find(|(_, running)| {
                matches!(&running.kind, Kind::Vm(vm) if vm.name == *name)
                    && request.network.as_ref().is_none_or(|n| *n == running.workload.network)
            });
            let (number, _) = found.ok_or_else(|| format!("there is no instance `{name}`"))?;
            return Ok((*number, false));
        }
        let network = request.network.as_ref().ok_or("give --network PROJECT/NETWORK")?;
        let account = match &request.service_account {
            None => None,
            Some(email) => {
                let known = self.topology.service_accounts.iter().find(|a| a.email == *email);
                Some(known.ok_or_else(|| {
                    format!("there is no service account `{email}` in the topology")
                })?)
            }
        };
        // Whoever is in no network is in the project of his account, or in none.
        let project = match (network.is_internet(), account) {
            (true, Some(account)) => &account.project,
            _ => &*network.project,
        };
        let region = request.region.as_deref();
        let mut workload =
            self.workloads.describe(network, &self.topology, region, "exec", project)?;
        workload.service_account = account.map(|account| account.email.clone());
        workload.tags = request.tags.clone();
        let leaf = self
            .surroundings
            .add_leaf(&workload, None)
            .map_err(|error| format!("{network}: {error}"))?;
        let actual = leaf.actual.map(|address| SocketAddr::from((address, 0)));
        let kind = Kind::Session;
        let namespace = leaf.namespace;
        Ok((
            self.workloads.add(Running {
                workload,
                kind,
                namespace,
                platform: None,
                processes: BTreeMap::new(),
                stopping: false,
                volumes: None,
                hosts: Vec::new(),
                actual,
                gateway: None,
            }),
            true,
        ))
    }
}

/// A container's name as the name of a control group.
fn group_name(container: &str) -> String {
    container.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
}

/// Where a workload sees the CA bundle: in the hidden state directory, or where it really is.
fn ca_path(state_dir: &std::path::Path, running: &Running) -> PathBuf {
    match running.namespace {
        Some(_) => state_dir.join(CA_FILE),
        None => state_dir.join("keys/ca.pem"),
    }
}

/// The environment of workloads that the supervisor starts: enough to find programs, nothing of
/// the user's own.
fn base_environment(binaries: &std::path::Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let mut environment = BTreeMap::new();
    environment.insert("PATH".to_owned(), format!("{path}:{}", binaries.display()));
    for name in ["HOME", "LANG", "TMPDIR"] {
        if let Ok(value) = std::env::var(name) {
            environment.insert(name.to_owned(), value);
        }
    }
    environment
}
