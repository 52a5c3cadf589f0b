//! What programs are told when connections, workloads or backends change, and the kernel with them.

use super::Supervisor;
use crate::child::Child;
use crate::surroundings::within_reach;
use names::{NetworkId, SelfLink};
use runtime::wire::ToProgram;
use slice::{ConnectionState, Notice, Role};
use std::collections::HashMap;
use std::time::Duration;

impl Supervisor {
    /// The gateways of loopback isolation decide by the world as it is.
    fn show(&self) {
        if !self.surroundings.has_gateways() {
            return;
        }
        let states = self.connections.values().flatten();
        let opening = states.filter(|state| state.opens());
        let running = self.workloads.iter().map(|running| &running.workload);
        let fabric = self.fabric.clone().with_workloads(running);
        self.surroundings.show(fabric, opening.map(|state| state.endpoint.clone()).collect());
    }

    /// Endpoints that became accepted answer; others fall silent; both ends are told.
    pub(super) fn connections_changed(&mut self) {
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
    pub(super) fn forward(&mut self, network: &NetworkId) {
        let states = self.backends.get(network).map(Vec::as_slice);
        let all = crate::forward::passed(&self.topology, network, states);
        if let Err(error) = self.surroundings.forward(network, all) {
            eprintln!("postern: {error}");
        }
    }

    /// Tells those who have endpoints how these stand, if it is not what they were told last.
    pub(super) fn tell_connections(&mut self) {
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
    pub(super) fn health_changed(&mut self) {
        let states: Vec<_> = self.backends.values().flatten().cloned().collect();
        let unhealthy = managed_zone::unhealthy(&self.topology.load_balancing, &states);
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

    /// Tells those who have to know of the workloads of one network. Nobody waits: instances come
    /// and go by the hundred, and each takes longer to be born than its network to hear of it.
    pub(crate) fn tell_network(&self, of: &NetworkId) {
        self.show();
        for child in self.children.values() {
            let within = |own| within_reach(Some(own), &self.topology).contains(of);
            if child.id.network.as_ref().is_some_and(within) {
                self.tell_workloads_to(child);
            }
        }
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
}
