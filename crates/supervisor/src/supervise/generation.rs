//! Generations: reads the files, prepares every program aside, commits, takes away what is gone.

use super::{ANSWER_MAX, COMMIT_ORDER, Supervisor};
use crate::child::{Child, Kept, ProgramId};
use crate::slices;
use crate::surroundings::Places;
use names::NetworkId;
use runtime::wire::ToProgram;
use slice::{Bind, Listen, Role, Topology};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use vpc::{Fabric, Plan};

impl Supervisor {
    pub(super) fn prepare_message(
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
            Some(network) if !network.is_internet() => {
                topology.networks.iter().any(|own| own.id == *network)
            }
            _ => true,
        };
        // Service attachments whose network is gone have committed that their connections are
        // CLOSED when they end.
        let gone: BTreeSet<ProgramId> = self
            .children
            .keys()
            .filter(|id| !aside.contains_key(*id) || !there(id))
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
        if let Err(error) = self.surroundings.shrink(&self.topology, &plans, &self.workloads) {
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
        self.prepared.begin(generation);
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
        let all = self.wait(ANSWER_MAX, |this| ids.iter().all(|id| this.prepared.of(id).is_some()));
        let refused: Vec<String> = ids
            .iter()
            .filter_map(|id| match self.prepared.of(id) {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(format!("{id}: {error}")),
                None => {
                    // A refused generation's number is given again: what it may still say must
                    // not count for that one.
                    if let Some(child) = self.children.get(id) {
                        child.kill();
                    }
                    Some(format!("{id}: no answer within {} s", ANSWER_MAX.as_secs()))
                }
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
        if let Err(error) = self.surroundings.shrink(&self.topology, &plans, &self.workloads) {
            eprintln!("postern: {error}");
        }
    }

    /// The routes of every network, under the connection states as they are.
    pub(super) fn plans(&self, fabric: &Fabric, topology: &Topology) -> BTreeMap<NetworkId, Plan> {
        let accepted: BTreeSet<&str> = self
            .connections
            .values()
            .flatten()
            .filter(|state| state.opens())
            .map(|state| state.endpoint.as_str())
            .collect();
        let internet = NetworkId::internet();
        let networks = topology.networks.iter().map(|network| &network.id).chain([&internet]);
        let plan = |network| fabric.plan(network, |endpoint| accepted.contains(endpoint.as_str()));
        networks.map(|network| (network.clone(), plan(network))).collect()
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
