//! The supervisor: one thread that owns everything and takes events from one queue.

use crate::child::{Child, Kept, Launch, ProgramId};
use crate::events::Event;
use crate::protocol::{Ask, Reply};
use crate::surroundings::{Places, Surroundings, within_reach};
use crate::workloads::Workloads;
use crate::{health, slices, status};
use names::{NetworkId, SelfLink};
use runtime::wire::{FromProgram, ToProgram};
use slice::{Bind, ConnectionState, Listen, Notice, Report, Role, Topology};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use vpc::{Fabric, Plan};

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
    prepared: BTreeMap<ProgramId, Result<(), String>>,
    pongs: BTreeSet<(ProgramId, u64)>,
    metrics: BTreeMap<ProgramId, String>,
    pings: u64,
    stopping: bool,
    /// A generation is being prepared or committed.
    installing: bool,
    /// Connection states were reported that nobody was told about yet.
    connections_untold: bool,
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
            prepared: BTreeMap::new(),
            pongs: BTreeSet::new(),
            metrics: BTreeMap::new(),
            pings: 0,
            stopping: false,
            installing: false,
            connections_untold: false,
        })
    }

    /// Serves events until the end.
    pub fn run(mut self) {
        let mut tidied = Instant::now();
        loop {
            let event = match self.deferred.pop_front() {
                Some(event) => Some(event),
                None => self.next(Some(self.next_start().unwrap_or(tidied + HOUSEKEEPING))),
            };
            if tidied.elapsed() >= HOUSEKEEPING {
                tidied = Instant::now();
                self.housekeep();
            }
            match event {
                Some(Event::Stop) => break,
                Some(Event::Asked(Ask::Down, connection)) => {
                    self.stop();
                    answer(
                        &connection,
                        &Reply::Done { generation: self.generation, text: String::new() },
                    );
                    self.tidy();
                    return;
                }
                Some(Event::Asked(ask, connection)) => self.asked(ask, &connection),
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
        }
        self.stop();
        self.tidy();
    }

    /// Bounds the logs, and reaps orphans: process 1 of a PID namespace inherits them.
    fn housekeep(&self) {
        crate::state_dir::bound_logs(&self.options.state_dir);
        let children = self.children.values().filter_map(|child| child.process.as_ref());
        let mut known: BTreeSet<u32> = children.map(|process| process.pid).collect();
        known.extend(self.workloads.iter().filter_map(|running| running.pid));
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
            Event::WorkloadEnded(number, status) => self.workload_ended(number, status),
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
            FromProgram::Prepared { error, .. } => {
                self.prepared.insert(id.clone(), error.map_or(Ok(()), Err));
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
            self.workloads.kill_instances();
        }
        self.prepared
            .insert(id.clone(), Err(format!("it ended with status {status}; see `postern logs`")));
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

    fn prepare_message(
        &self,
        child: &Child,
        generation: u64,
        open: Vec<Listen>,
        close: Vec<String>,
    ) -> ToProgram {
        let Places { sockets, hosts, placed } = self.surroundings.places(&child.id, &self.topology);
        let source = self.workloads.source_of(&child.id);
        ToProgram::Prepare {
            generation,
            slice: child.slice.clone(),
            open,
            close,
            placements: sockets,
            hosts,
            placed,
            source,
        }
    }

    /// Reads the files and puts them into force, or changes nothing.
    ///
    /// # Errors
    /// All diagnostics, or what a program or the kernel said.
    pub fn reload(&mut self) -> Result<String, String> {
        let loaded = topology::load(&self.options.topology);
        let text: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let text = text.join("\n");
        let outcome = match loaded.topology {
            // All networks are here, wherever a deployment would have them.
            Some(mut topology) => {
                topology.hosts.clear();
                self.check(&topology).and_then(|()| self.install(topology))
            }
            None => Err(text.clone()),
        };
        self.last_refusal = outcome.as_ref().err().cloned();
        outcome.map(|()| text)
    }

    /// What no program of its own would find: problems across programs, URL-map tests that fail
    /// (private-connectivity 2.6 "update succeeds only if all pass"), and what this mode cannot do.
    fn check(&self, topology: &Topology) -> Result<(), String> {
        let world = path::World::compile(topology, None).map_err(|problems| problems.join("\n"))?;
        let failures: Vec<String> =
            world.url_map_test_failures().iter().map(ToString::to_string).collect();
        if !failures.is_empty() {
            return Err(failures.join("\n"));
        }
        self.surroundings.can_run(topology)
    }

    /// Puts a topology into force: prepare everything aside, commit, take away what is gone.
    ///
    /// # Errors
    /// What refused; nothing has changed then.
    pub fn install(&mut self, topology: Topology) -> Result<(), String> {
        let generation = self.generation + 1;
        let fabric = Fabric::compile(&topology);
        let mut aside = BTreeMap::new();
        self.installing = true;
        let built = self
            .surroundings
            .grow(&topology, &self.plans(&fabric, &topology))
            .and_then(|()| self.prepare(&topology, generation, &mut aside));
        if let Err(error) = built {
            self.installing = false;
            self.abort(generation, &aside);
            return Err(error);
        }
        let there = |id: &ProgramId| match &id.network {
            Some(network) => topology.networks.iter().any(|own| own.id == *network),
            None => true,
        };
        // Service attachments whose network is gone have committed that their connections are
        // CLOSED when they end.
        let serverless = crate::surroundings::serverless();
        let last_word = |id: &ProgramId| !there(id) && id.network.as_ref() != Some(&serverless);
        let gone: BTreeSet<ProgramId> = self
            .children
            .keys()
            .filter(|id| !aside.contains_key(*id) || last_word(id))
            .cloned()
            .collect();
        self.topology = topology;
        self.fabric = fabric;
        self.generation = generation;
        let mut asked = BTreeSet::new();
        for (id, change) in aside {
            if let Some(child) = self.children.get_mut(&id) {
                if !change.asked {
                    // What it has in force is what the new generation says too.
                    child.generation = generation;
                    continue;
                }
                child.told.clear();
                child.built = generation;
                child.slice = change.slice;
                child.places = change.places;
                for key in &change.close {
                    child.listeners.remove(key);
                }
                child.listeners.extend(change.open);
                asked.insert(id);
            }
        }
        for role in COMMIT_ORDER {
            let group: Vec<ProgramId> = self
                .children
                .keys()
                .filter(|id| id.role == role && asked.contains(*id))
                .cloned()
                .collect();
            for id in &group {
                if let Some(child) = self.children.get(id) {
                    child.send(&ToProgram::Commit { generation }, &[]);
                }
            }
            let late = |this: &Self, id: &ProgramId| {
                let child = this.children.get(id);
                child.is_some_and(|child| child.generation != generation && child.process.is_some())
            };
            if !self.wait(ANSWER_MAX, |this| !group.iter().any(|id| late(this, id))) {
                for id in group.iter().filter(|id| late(self, id)) {
                    eprintln!(
                        "postern: {id} did not commit generation {generation}; it is started again"
                    );
                    if let Some(child) = self.children.get(id) {
                        child.kill();
                    }
                }
            }
        }
        for id in gone.iter().rev() {
            if let Some(child) = self.children.remove(id) {
                child.send(&ToProgram::Stop, &[]);
            }
            if let (Role::InternalLb, Some(network)) = (id.role, &id.network) {
                self.backends.remove(network);
            }
        }
        self.forget_connections();
        self.settle_workloads();
        self.installing = false;
        let plans = self.plans(&self.fabric, &self.topology);
        if let Err(error) = self.surroundings.shrink(&self.topology, &plans) {
            // The generation is in force; what could not be taken away is tried again next time.
            eprintln!("postern: {error}");
        }
        self.connections_changed();
        self.health_changed();
        Ok(())
    }

    /// The programs of a topology, and the service attachments of networks that have none any more
    /// but endpoints that were connected: they have to say that those are CLOSED, and to remember it.
    fn programs(&self, topology: &Topology) -> Vec<ProgramId> {
        let mut all = slices::programs(topology);
        let endpoints: BTreeSet<&str> =
            topology.endpoints.iter().map(|endpoint| endpoint.self_link.as_str()).collect();
        let known = self.connections.iter().chain(&self.remembered);
        for (network, states) in known {
            let id = ProgramId { role: Role::ServiceAttachment, network: Some(network.clone()) };
            let still = states.iter().any(|state| endpoints.contains(state.endpoint.as_str()));
            let possible = self.children.contains_key(&id)
                || topology.networks.iter().any(|own| own.id == *network);
            if still && possible && !all.contains(&id) {
                all.push(id);
            }
        }
        all
    }

    /// Forgets the connections of networks without a service attachment whose endpoints are gone:
    /// nobody else would.
    fn forget_connections(&mut self) {
        self.remembered.clear();
        let endpoints: BTreeSet<&str> =
            self.topology.endpoints.iter().map(|endpoint| endpoint.self_link.as_str()).collect();
        let children = &self.children;
        let state_dir = &self.options.state_dir;
        self.connections.retain(|network, states| {
            let id = ProgramId { role: Role::ServiceAttachment, network: Some(network.clone()) };
            if children.contains_key(&id) {
                return true;
            }
            states.retain(|state| endpoints.contains(state.endpoint.as_str()));
            if states.is_empty() {
                crate::state_dir::forget(state_dir, network);
            }
            !states.is_empty()
        });
    }

    /// Starts what is new and lets every program build the generation aside.
    fn prepare(
        &mut self,
        topology: &Topology,
        generation: u64,
        aside: &mut BTreeMap<ProgramId, Change>,
    ) -> Result<(), String> {
        let bound: HashMap<&Bind, &Kept> = self
            .children
            .values()
            .flat_map(|child| child.listeners.values())
            .map(|kept| (&kept.listen.bind, kept))
            .collect();
        for id in self.programs(topology) {
            let (slice, wanted) = slices::cut(
                &id,
                topology,
                &self.store,
                self.options.northbound,
                self.surroundings.forwards(),
            )?;
            let known = self.children.get(&id);
            let is = |key: &str, listen: &Listen| {
                known
                    .and_then(|child| child.listeners.get(key))
                    .is_some_and(|kept| kept.listen == *listen)
            };
            let mut change = Change { slice, ..Change::default() };
            for listen in wanted.iter().filter(|listen| !is(&listen.key, listen)) {
                // A socket that is already bound there goes on under its new name.
                let kept = match bound.get(&listen.bind) {
                    Some(kept) => kept.renamed(listen),
                    None => self.surroundings.bind(listen, &self.options.state_dir),
                };
                let kept = kept.map_err(|error| cannot_listen(&id, listen, &error))?;
                change.open.insert(listen.key.clone(), kept);
            }
            if let Some(child) = known {
                let stays = |key: &String| wanted.iter().any(|listen| listen.key == *key);
                change.close = child.listeners.keys().filter(|key| !stays(key)).cloned().collect();
            }
            aside.insert(id, change);
        }
        self.prepared.clear();
        for (id, change) in aside.iter_mut() {
            // Only now: the listeners of others may have places since then.
            change.places = self.surroundings.places(id, topology);
            change.asked = self.children.get(id).is_none_or(|child| change.is_new_to(child));
        }
        let asked = aside.iter().filter(|(_, change)| change.asked);
        let ids: Vec<ProgramId> = asked.map(|(id, _)| id.clone()).collect();
        for id in &ids {
            if !self.children.contains_key(id) {
                self.children.insert(id.clone(), Child::new(id.clone()));
            }
            let child = self.children.get(id);
            // A process that has committed nothing yet is given all that its predecessor had.
            let settled = child.is_some_and(|c| c.process.is_some() && c.generation > 0);
            if child.is_none_or(|child| child.process.is_none()) {
                self.surroundings.ready_for(id, topology, &mut self.workloads)?;
                self.launch(id).map_err(|error| format!("{id}: {error}"))?;
            }
            let (Some(child), Some(change)) = (self.children.get(id), aside.get(id)) else {
                continue;
            };
            let mut open: Vec<(Listen, _)> = change
                .open
                .values()
                .map(|kept| (kept.listen.clone(), kept.socket.as_fd()))
                .collect();
            if !settled {
                let old = child.listeners.values().filter(|kept| {
                    !change.close.contains(&kept.listen.key)
                        && !change.open.contains_key(&kept.listen.key)
                });
                open.extend(old.map(|kept| (kept.listen.clone(), kept.socket.as_fd())));
            }
            let (listens, descriptors): (Vec<Listen>, Vec<_>) = open.into_iter().unzip();
            let Places { sockets, hosts, placed } = change.places.clone();
            let source = self.workloads.source_of(id);
            let message = ToProgram::Prepare {
                generation,
                slice: change.slice.clone(),
                open: listens,
                close: change.close.clone(),
                placements: sockets,
                hosts,
                placed,
                source,
            };
            child.send(&message, &descriptors);
        }
        let all = self.wait(ANSWER_MAX, |this| ids.iter().all(|id| this.prepared.contains_key(id)));
        let refused: Vec<String> = ids
            .iter()
            .filter_map(|id| match self.prepared.get(id) {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(format!("{id}: {error}")),
                None => Some(format!("{id}: no answer within {} s", ANSWER_MAX.as_secs())),
            })
            .collect();
        if all && refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
    }

    /// Takes everything back that a refused generation has begun.
    fn abort(&mut self, generation: u64, aside: &BTreeMap<ProgramId, Change>) {
        for id in aside.keys() {
            let fresh = self.children.get(id).is_some_and(|child| child.slice.is_empty());
            if fresh {
                if let Some(child) = self.children.remove(id) {
                    child.send(&ToProgram::Stop, &[]);
                }
            } else if let Some(child) = self.children.get(id) {
                child.send(&ToProgram::Abort { generation }, &[]);
                if child.generation == 0 {
                    // Started for the refused generation: it begins again with the one in force.
                    child.kill();
                }
            }
        }
        let plans = self.plans(&self.fabric, &self.topology);
        // What cannot be taken back here is taken back by the next reload that is good.
        if let Err(error) = self.surroundings.shrink(&self.topology, &plans) {
            eprintln!("postern: {error}");
        }
    }

    /// The routes of every network, under the connection states as they are.
    fn plans(&self, fabric: &Fabric, topology: &Topology) -> BTreeMap<NetworkId, Plan> {
        let accepted: BTreeSet<&str> = self
            .connections
            .values()
            .flatten()
            .filter(|state| state.status.carries_traffic())
            .map(|state| state.endpoint.as_str())
            .collect();
        topology
            .networks
            .iter()
            .map(|network| {
                let plan =
                    fabric.plan(&network.id, |endpoint| accepted.contains(endpoint.as_str()));
                (network.id.clone(), plan)
            })
            .collect()
    }

    /// The gateways of loopback isolation decide by the world as it is.
    fn show(&self) {
        let states = self.connections.values().flatten();
        let carrying = states.filter(|state| state.status.carries_traffic());
        let running = self.workloads.iter().map(|running| &running.workload);
        let fabric = self.fabric.clone().with_workloads(running);
        self.surroundings.show(fabric, carrying.map(|state| state.endpoint.clone()).collect());
    }

    /// Endpoints that became accepted answer; others fall silent; both ends are told.
    fn connections_changed(&mut self) {
        self.connections_untold = false;
        let plans = self.plans(&self.fabric, &self.topology);
        // In the middle of a commit nothing is taken away: others still point at it.
        let followed = match self.installing {
            true => self.surroundings.grow(&self.topology, &plans),
            false => self.surroundings.follow(&plans),
        };
        if let Err(error) = followed {
            eprintln!("postern: {error}");
        }
        let networks: Vec<_> = self.topology.networks.iter().map(|own| own.id.clone()).collect();
        networks.iter().for_each(|network| self.forward(network));
        self.show();
        self.tell_connections();
    }

    /// Passthrough rules of a network, by the health of their VMs as it is known.
    fn forward(&mut self, network: &NetworkId) {
        let states = self.backends.get(network).map(Vec::as_slice);
        let all = crate::forward::passed(&self.topology, network, states);
        if let Err(error) = self.surroundings.forward(network, all) {
            eprintln!("postern: {error}");
        }
    }

    /// Tells those who have endpoints how these stand, if it is not what they were told last.
    fn tell_connections(&mut self) {
        let endpoints = self.topology.endpoints.iter();
        let network_of: HashMap<&SelfLink, &NetworkId> =
            endpoints.map(|endpoint| (&endpoint.self_link, &endpoint.network)).collect();
        let mut by_network: HashMap<&NetworkId, Vec<&ConnectionState>> = HashMap::new();
        for state in self.connections.values().flatten() {
            if let Some(network) = network_of.get(&state.endpoint) {
                by_network.entry(network).or_default().push(state);
            }
        }
        for child in self.children.values_mut() {
            if !matches!(child.id.role, Role::EndpointAttachment | Role::InternalLb) {
                continue;
            }
            let states = child.id.network.as_ref().and_then(|network| by_network.get(network));
            let states = states.map(Vec::as_slice).unwrap_or_default();
            if !states.iter().copied().eq(&child.told) {
                child.told = states.iter().copied().cloned().collect();
                child.send(&ToProgram::Notice(Notice::Connections(child.told.clone())), &[]);
            }
        }
    }

    /// Tells the resolvers which load balancers are ill, if that is news.
    fn health_changed(&mut self) {
        let states: Vec<_> = self.backends.values().flatten().cloned().collect();
        let unhealthy = health::unhealthy(&self.topology.load_balancing, &states);
        if unhealthy == self.unhealthy {
            return;
        }
        self.unhealthy = unhealthy;
        for child in self.children.values().filter(|child| child.id.role == Role::PrivateDns) {
            child.send(&ToProgram::Notice(self.unhealthy_notice()), &[]);
        }
    }

    fn unhealthy_notice(&self) -> Notice {
        Notice::Unhealthy(self.unhealthy.iter().cloned().collect())
    }

    /// Tells every program the workloads of its network, and waits until they know.
    pub(crate) fn tell_workloads(&mut self) {
        self.show();
        for child in self.children.values() {
            self.tell_workloads_to(child);
        }
        self.pings += 1;
        let number = self.pings;
        for child in self.children.values() {
            child.send(&ToProgram::Ping { id: number }, &[]);
        }
        self.wait(Duration::from_secs(2), |this| {
            this.children.values().all(|child| {
                child.process.is_none() || this.pongs.contains(&(child.id.clone(), number))
            })
        });
        self.pongs.retain(|(_, pong)| *pong > number);
    }

    pub(crate) fn tell_workloads_to(&self, child: &Child) {
        if child.id.network.is_none() {
            return;
        }
        let places = self.surroundings.places(&child.id, &self.topology);
        if places.placed {
            child.send(&ToProgram::Hosts(places.hosts), &[]);
        }
        // Workloads of peers arrive here too, with their region.
        let networks = within_reach(child.id.network.as_ref(), &self.topology);
        let workloads = networks.iter().flat_map(|network| self.workloads.of(network)).collect();
        child.send(&ToProgram::Notice(Notice::Workloads(workloads)), &[]);
        if child.id.role == Role::PrivateDns && !self.unhealthy.is_empty() {
            child.send(&ToProgram::Notice(self.unhealthy_notice()), &[]);
        }
    }

    fn asked(&mut self, ask: Ask, connection: &UnixStream) {
        match ask {
            Ask::Status => answer(connection, &Reply::Status(Box::new(status::of(self)))),
            Ask::Live => answer(connection, &status::live(self)),
            Ask::Reload => {
                let reply = match self.reload() {
                    Ok(text) => Reply::Done { generation: self.generation, text },
                    Err(error) => Reply::Failed(format!(
                        "{error}\nreload refused: generation {} stays in force",
                        self.generation
                    )),
                };
                answer(connection, &reply);
            }
            Ask::Exec(request) => self.open_session(&request, connection),
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
                answer(connection, &Reply::Metrics(texts));
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

    /// Leaves the state directory as it was found: with keys, the history of PSC connections, and
    /// nothing else.
    fn tidy(&self) {
        crate::state_dir::clear(&self.options.state_dir);
    }
}

fn cannot_listen(id: &ProgramId, listen: &Listen, error: &std::io::Error) -> String {
    let (place, hint) = match &listen.bind {
        Bind::Host(address) => {
            (address.to_string(), "; `--northbound 127.0.0.1:0` takes any free port")
        }
        Bind::Tcp(_, address) | Bind::Udp(_, address) => (address.to_string(), ""),
        Bind::Channel(name) => (name.clone(), ""),
    };
    format!("{id}: cannot listen on {place} ({}): {error}{hint}", listen.key)
}

/// What a generation changes in one program.
#[derive(Default)]
struct Change {
    slice: String,
    open: BTreeMap<String, Kept>,
    close: Vec<String>,
    places: Places,
    /// Does the program have to build it? Not if nothing is new to it.
    asked: bool,
}

impl Change {
    fn is_new_to(&self, child: &Child) -> bool {
        let settled = child.process.is_some() && child.generation > 0;
        // A bundle's files are not in the slice, which only says where they are.
        let reads_files = child.id.role == Role::ApiProxy;
        let same = self.open.is_empty() && self.close.is_empty() && self.slice == child.slice;
        !settled || reads_files || !same || self.places != child.places
    }
}

/// Answers a command; one that has gone away needs no answer.
pub(crate) fn answer(connection: &UnixStream, reply: &Reply) {
    let _ = runtime::wire::send(connection, reply, &[]);
}
