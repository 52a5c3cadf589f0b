//! The supervisor: one thread that owns everything and takes events from one queue.

mod generation;
mod prepared;
mod roll_out;
mod tell;

use crate::child::{Child, Launch, ProgramId};
use crate::events::{Command, Event};
use crate::output::Output;
use crate::protocol::{Ask, Reply};
use crate::status;
use crate::surroundings::Surroundings;
use crate::workloads::Workloads;
use names::{NetworkId, SelfLink};
use prepared::Prepared;
use runtime::wire::{FromProgram, ToProgram};
use slice::{ConnectionState, Report, Role, Topology};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use vpc::Fabric;

/// A program that does not answer within this time has failed the generation.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a stopping world may drain.
const STOP_MAX: Duration = Duration::from_secs(12);

/// How often logs are bounded and orphans reaped.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// In this order generations are committed: who serves before those who point at it.
const COMMIT_ORDER: [Role; 8] = [
    Role::Metadata,
    Role::CloudRun,
    Role::InternalLb,
    Role::ServiceAttachment,
    Role::EndpointAttachment,
    Role::GoogleFrontEnd,
    Role::PrivateDns,
    Role::ApiProxy,
];

/// What stays the same for the life of the supervisor.
#[derive(Clone, Debug)]
pub struct Options {
    /// The topology, absolute.
    pub topology: PathBuf,
    /// State directory, absolute.
    pub state_dir: PathBuf,
    /// The folder of the binaries.
    pub binaries: PathBuf,
    /// Worker threads of each program.
    pub workers: usize,
    /// Where the northbound host is published instead of where the topology says.
    pub northbound: Option<SocketAddr>,
    /// This process as the host sees it.
    pub host_pid: u32,
}

/// The state.
pub struct Supervisor {
    pub(crate) options: Options,
    pub(crate) store: keys::Store,
    pub(crate) topology: Topology,
    pub(crate) fabric: Fabric,
    pub(crate) generation: u64,
    pub(crate) last_refusal: Option<String>,
    pub(crate) surroundings: Surroundings,
    pub(crate) children: BTreeMap<ProgramId, Child>,
    pub(crate) workloads: Workloads,
    /// Bounds of containers.
    pub(crate) groups: crate::limits::Groups,
    /// Connection states by producer network.
    pub(crate) connections: BTreeMap<NetworkId, Vec<ConnectionState>>,
    /// What an earlier run left of PSC connections, until the first generation is in force.
    remembered: BTreeMap<NetworkId, Vec<ConnectionState>>,
    pub(crate) services: Vec<slice::ServiceState>,
    /// The endpoints of load balancers, by network.
    pub(crate) backends: BTreeMap<NetworkId, Vec<slice::BackendState>>,
    /// Forwarding rules whose load balancers are ill.
    unhealthy: BTreeSet<SelfLink>,
    pub(crate) events: Sender<Event>,
    queue: Receiver<Event>,
    /// Questions that came in the middle of a transaction.
    deferred: VecDeque<Event>,
    prepared: Prepared,
    pongs: BTreeSet<(ProgramId, u64)>,
    metrics: BTreeMap<ProgramId, String>,
    pings: u64,
    stopping: bool,
    /// A generation is being prepared or committed.
    installing: bool,
    /// Connection states were reported that nobody was told about yet.
    connections_untold: bool,
    /// Reads what workloads write.
    pub(crate) output: Output,
    /// Reloads that are answered when new revisions have started.
    waiting: Vec<roll_out::Waiting>,
}

impl Supervisor {
    /// An empty world.
    ///
    /// # Errors
    /// Keys that cannot be made or read.
    pub fn new(
        options: Options,
        surroundings: Surroundings,
        events: Sender<Event>,
        queue: Receiver<Event>,
    ) -> Result<Self, String> {
        Ok(Supervisor {
            store: keys::Store::open(&options.state_dir)?,
            topology: Topology::default(),
            fabric: Fabric::default(),
            generation: 0,
            last_refusal: None,
            surroundings,
            children: BTreeMap::new(),
            workloads: Workloads::default(),
            groups: crate::limits::Groups::make(options.host_pid),
            remembered: crate::state_dir::histories(&options.state_dir)
                .into_iter()
                .map(|kept| (kept.network, kept.connections))
                .collect(),
            options,
            connections: BTreeMap::new(),
            services: Vec::new(),
            backends: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            events,
            queue,
            deferred: VecDeque::new(),
            prepared: Prepared::default(),
            pongs: BTreeSet::new(),
            metrics: BTreeMap::new(),
            pings: 0,
            stopping: false,
            installing: false,
            connections_untold: false,
            output: Output::start().map_err(|error| format!("the log's thread: {error}"))?,
            waiting: Vec::new(),
        })
    }

    /// Serves events until the end.
    pub fn run(mut self) {
        let mut tidied = Instant::now();
        loop {
            let event = match self.deferred.pop_front() {
                Some(event) => Some(event),
                None => {
                    let housekeeping = self.next_start().unwrap_or(tidied + HOUSEKEEPING);
                    let roll_out = self.next_roll_out();
                    self.next(Some(roll_out.map_or(housekeeping, |at| at.min(housekeeping))))
                }
            };
            if tidied.elapsed() >= HOUSEKEEPING {
                tidied = Instant::now();
                self.housekeep();
                // Cutting every slice again rotates the keys; the programs get them together.
                if self.store.rotation_is_due()
                    && let Err(error) = self.install(self.topology.clone())
                {
                    eprintln!("postern: the new signing keys are not in force:\n{error}");
                }
            }
            match event {
                Some(Event::Stop) => break,
                Some(Event::Asked(Ask::Down, command)) => {
                    self.stop();
                    let text = String::new();
                    command.answer_here(&Reply::Done { generation: self.generation, text });
                    self.tidy();
                    return;
                }
                Some(Event::Asked(ask, command)) => self.asked(ask, command),
                Some(Event::Reload) => {
                    if let Err(error) = self.reload() {
                        eprintln!(
                            "postern: reload refused, generation {} stays in force:\n{error}",
                            self.generation
                        );
                    }
                }
                Some(event) => self.handle(event),
                None => {}
            }
            self.start_due();
            self.rolled_out();
        }
        self.stop();
        self.tidy();
    }

    /// Bounds the logs, and reaps orphans: process 1 of a PID namespace inherits them.
    fn housekeep(&self) {
        crate::state_dir::bound_logs(&self.options.state_dir);
        let children = self.children.values().filter_map(|child| child.process.as_ref());
        let mut known: BTreeSet<u32> = children.map(|process| process.pid).collect();
        known.extend(self.workloads.iter().flat_map(|running| running.processes.values()));
        crate::child::reap_orphans(&known);
    }

    /// The next event, or none at the given time. What many programs reported one after the other is
    /// acted on once, when no more comes.
    fn next(&mut self, until: Option<Instant>) -> Option<Event> {
        if self.connections_untold {
            match self.queue.try_recv() {
                Ok(event) => return Some(event),
                Err(_) => self.connections_changed(),
            }
        }
        let Some(until) = until else { return self.queue.recv().ok() };
        let patience = until.saturating_duration_since(Instant::now());
        match self.queue.recv_timeout(patience) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
        }
    }

    /// Handles events until the condition holds; questions wait. False after `patience`.
    fn wait(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + patience;
        while !done(self) {
            match self.next(Some(until)) {
                Some(
                    event @ (Event::Asked(..)
                    | Event::SessionClosed(_)
                    | Event::Stop
                    | Event::Reload),
                ) => {
                    self.deferred.push_back(event);
                }
                Some(event) => self.handle(event),
                None => return false,
            }
        }
        if self.connections_untold {
            self.connections_changed();
        }
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Program(id, incarnation, message) => {
                if self.children.get(&id).is_some_and(|child| child.incarnation == incarnation) {
                    self.program_said(&id, message);
                }
            }
            Event::ProgramEnded(id, incarnation, status) => {
                self.program_ended(&id, incarnation, status)
            }
            Event::WorkloadEnded(number, process, status, memory) => {
                self.workload_ended(number, process, status, memory)
            }
            Event::GraceOver(number) => self.grace_over(number),
            Event::SessionClosed(number) => {
                if self.workloads.remove(number, &mut self.surroundings).is_some() {
                    self.tell_workloads();
                }
            }
            Event::Asked(..) | Event::Stop | Event::Reload => self.deferred.push_back(event),
        }
    }

    fn program_said(&mut self, id: &ProgramId, message: FromProgram) {
        match message {
            FromProgram::Hello { pid } => {
                if let Some(process) = self.children.get_mut(id).and_then(|c| c.process.as_mut()) {
                    process.host_pid = Some(pid);
                }
            }
            FromProgram::Prepared { generation, error } => {
                self.prepared.said(id, generation, error);
            }
            FromProgram::Committed { generation } => {
                if let Some(child) = self.children.get_mut(id) {
                    child.generation = generation;
                }
            }
            FromProgram::Pong { id: number } => {
                self.pongs.insert((id.clone(), number));
            }
            FromProgram::Metrics { text, .. } => {
                self.metrics.insert(id.clone(), text);
            }
            FromProgram::Report(Report::Services(services)) => self.services = services,
            FromProgram::Report(Report::Backends(states)) => {
                if let Some(network) = &id.network {
                    self.backends.insert(network.clone(), states);
                    let network = network.clone();
                    self.forward(&network);
                    self.health_changed();
                }
            }
            FromProgram::Report(Report::Connections(states)) => {
                if let Some(network) = &id.network {
                    self.connections.insert(network.clone(), states);
                    self.connections_untold = true;
                }
            }
            FromProgram::Request { id: number, request } => {
                let result = self.workload_request(request);
                if let Some(child) = self.children.get(id) {
                    child.send(&ToProgram::Answer { id: number, result }, &[]);
                }
            }
        }
    }

    fn program_ended(&mut self, id: &ProgramId, incarnation: u32, status: i32) {
        let Some(child) = self.children.get_mut(id) else { return };
        if child.incarnation != incarnation {
            return;
        }
        let pause = child.ended();
        if self.stopping {
            child.start_at = None;
            return;
        }
        if id.role == Role::CloudRun {
            // The next process knows nothing of them.
            self.kill_instances();
        }
        self.prepared.ended(id, format!("it ended with status {status}; see `postern logs`"));
        let _ = writeln!(
            std::io::stderr(),
            "postern: {id} ended with status {status}; it is started again in {} ms",
            pause.as_millis()
        );
    }

    /// When the next program is due to be started again.
    fn next_start(&self) -> Option<Instant> {
        self.children.values().filter_map(|child| child.start_at).min()
    }

    /// Starts programs whose pause is over, with all listeners and the generation in force.
    fn start_due(&mut self) {
        let now = Instant::now();
        let due: Vec<ProgramId> = self
            .children
            .values()
            .filter(|child| child.start_at.is_some_and(|at| at <= now))
            .map(|child| child.id.clone())
            .collect();
        for id in due {
            if let Err(error) = self.launch(&id) {
                eprintln!("postern: {id} cannot be started: {error}");
                if let Some(child) = self.children.get_mut(&id) {
                    child.ended();
                }
                continue;
            }
            let Some(child) = self.children.get(&id) else { continue };
            let generation = self.generation;
            let (open, descriptors) = child.all_listeners();
            let prepare = self.prepare_message(child, generation, open, Vec::new());
            child.send(&prepare, &descriptors);
            child.send(&ToProgram::Commit { generation }, &[]);
            self.tell_workloads_to(child);
        }
        self.tell_connections();
    }

    fn launch(&mut self, id: &ProgramId) -> std::io::Result<()> {
        let namespace = self.surroundings.namespace_of(id)?;
        let launch = Launch {
            state_dir: &self.options.state_dir,
            binaries: &self.options.binaries,
            namespace,
            workers: self.options.workers,
            events: &self.events,
        };
        match self.children.get_mut(id) {
            Some(child) => child.start(launch),
            None => Ok(()),
        }
    }

    fn asked(&mut self, ask: Ask, command: Command) {
        match ask {
            Ask::Status => command.answer(Reply::Status(Box::new(status::of(self)))),
            Ask::Live => command.answer(status::live(self)),
            Ask::Reload => match self.reload() {
                Ok(text) => self.answer_when_rolled_out(command, text),
                Err(error) => command.answer(Reply::Failed(format!(
                    "{error}\nreload refused: generation {} stays in force",
                    self.generation
                ))),
            },
            Ask::Exec(request) => self.open_session(&request, command),
            Ask::Metrics => {
                self.metrics.clear();
                for child in self.children.values() {
                    child.send(&ToProgram::Metrics { id: 0 }, &[]);
                }
                self.wait(Duration::from_secs(2), |this| {
                    this.children.values().all(|child| {
                        child.process.is_none() || this.metrics.contains_key(&child.id)
                    })
                });
                let texts = std::mem::take(&mut self.metrics);
                let texts = texts.into_iter().map(|(id, text)| (id.to_string(), text)).collect();
                command.answer(Reply::Metrics(texts));
            }
            Ask::Down => self.deferred.push_back(Event::Stop),
        }
    }

    /// Ends everything: programs drain, workloads get SIGTERM, what is left is killed.
    fn stop(&mut self) {
        self.stopping = true;
        for role in COMMIT_ORDER.iter().rev() {
            for child in self.children.values().filter(|child| child.id.role == *role) {
                child.send(&ToProgram::Stop, &[]);
            }
        }
        // Instances go on until the requests in flight through `cloud-run` have ended.
        self.wait(STOP_MAX, |this| this.children.values().all(|child| child.process.is_none()));
        self.workloads.terminate();
        self.wait(STOP_MAX, |this| !this.workloads.any_process());
        self.workloads.kill();
        for child in self.children.values() {
            child.kill();
        }
        self.wait(Duration::from_secs(2), |this| {
            this.children.values().all(|child| child.process.is_none())
                && !this.workloads.any_process()
        });
    }

    /// Ends a world that did not come up.
    pub fn give_up(mut self) {
        self.stop();
    }

    /// Leaves the state directory as it was found: with keys, histories, and nothing else.
    fn tidy(&self) {
        crate::state_dir::clear(&self.options.state_dir);
    }
}
