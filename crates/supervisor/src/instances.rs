//! Cloud Run instances: each has a leaf of its own, outside of every VPC network, with a second
//! address in the network that its revision egresses into (cloud-run 4). `cloud-run` asks for an
//! instance first and then for its containers, one by one.

use crate::child::spawn_thread;
use crate::events::Event;
use crate::output::Origin;
use crate::supervise::Supervisor;
use crate::workloads::{Kind, Launch, Running};
use names::NetworkId;
use nix::sys::signal::Signal;
use runtime::wire::{Answer, Request, ToProgram};
use slice::run::{Run, VpcAccess, VpcEgress};
use slice::{
    ContainerExit, Notice, Role, SpawnInstance, SpawnedInstance, StartContainer, StartedContainer,
    Workload,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

impl Supervisor {
    pub(crate) fn workload_request(&mut self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Spawn(instance) => self.spawn_instance(&instance).map(Answer::Spawned),
            Request::Start(container) => self.start_container(*container).map(Answer::Started),
            Request::WriteFiles { instance, volume, .. } => {
                Err(format!("instance {instance} has no volume {volume}"))
            }
            Request::Stop { instance, grace_ms } => {
                self.stop_instance(instance, Duration::from_millis(grace_ms))?;
                Ok(Answer::Done)
            }
        }
    }

    fn spawn_instance(&mut self, spawn: &SpawnInstance) -> Result<SpawnedInstance, String> {
        if let Some(volume) = spawn.volumes.first() {
            return Err(format!("volume {} cannot be mounted", volume.name));
        }
        let (instance, address) = self.place_instance(spawn)?;
        Ok(SpawnedInstance { instance, address })
    }

    fn start_container(&mut self, start: StartContainer) -> Result<StartedContainer, String> {
        let running = self.workloads.get(start.instance).filter(|running| !running.stopping);
        let running = running.ok_or_else(|| format!("instance {} is gone", start.instance))?;
        let name = &running.workload.name;
        // One log for all instances of a revision: there are not more and more of them.
        let revision = name.split('/').next().unwrap_or_default();
        let label = match start.ingress {
            true => format!("cloud-run.{revision}"),
            false => format!("cloud-run.{revision}.{}", start.container),
        };
        let origin = Origin {
            project: running.workload.project.clone(),
            location: running.workload.region.clone(),
            service: start.env.get("K_SERVICE").cloned().unwrap_or_default(),
            revision: revision.to_owned(),
            instance_id: running.workload.instance_id.clone(),
            container: (!start.ingress).then(|| start.container.clone()),
        };
        let (command, directory) = match start.run {
            Run::Command { command, directory } => (command, directory),
            Run::Url(url) => return Err(format!("{label}: it runs already, at {url}")),
            Run::Container { .. } | Run::Mock { .. } => {
                return Err(format!("{label}: this kind of image does not run here"));
            }
        };
        let mut environment = start.env;
        if let Some(address) = running.actual.filter(|_| start.ingress) {
            environment.insert("PORT".to_owned(), address.port().to_string());
        }
        let launch = Launch {
            process: start.container,
            label,
            command,
            directory: Some(start.working_directory.unwrap_or(directory)),
            environment,
            origin: Some(origin),
        };
        let pid = self.start_workload(start.instance, launch)?;
        Ok(StartedContainer { pid })
    }

    /// `cloud-run` learns that a container has ended; with the last one of an instance that is
    /// being stopped goes the instance.
    pub(crate) fn container_ended(&mut self, instance: u64, container: String, status: i32) {
        let exit = ContainerExit { instance, container, status, out_of_memory: None };
        let notice = Notice::ContainerExited(exit);
        for child in self.children.values().filter(|child| child.id.role == Role::CloudRun) {
            child.send(&ToProgram::Notice(notice.clone()), &[]);
        }
        let running = self.workloads.get(instance);
        if running.is_some_and(|running| running.stopping && running.processes.is_empty()) {
            self.remove_instance(instance);
        }
    }

    fn remove_instance(&mut self, instance: u64) {
        if let Some(running) = self.workloads.remove(instance, &mut self.surroundings) {
            self.tell_network(&running.workload.network);
        }
    }

    /// SIGTERM, and SIGKILL after the grace.
    fn stop_instance(&mut self, instance: u64, grace: Duration) -> Result<(), String> {
        let Some(running) = self.workloads.get_mut(instance) else { return Ok(()) };
        running.stopping = true;
        if running.processes.is_empty() {
            self.remove_instance(instance);
            return Ok(());
        }
        running.signal(if grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM });
        let events = self.events.clone();
        spawn_thread("grace", move || {
            std::thread::sleep(grace);
            let _ = events.send(Event::GraceOver(instance));
        })
        .map_err(|error| error.to_string())
    }

    /// SIGKILL for an instance that did not use its grace.
    pub(crate) fn grace_over(&mut self, instance: u64) {
        if let Some(running) = self.workloads.get(instance) {
            running.signal(Signal::SIGKILL);
        }
    }

    /// Ends every instance at once.
    pub(crate) fn kill_instances(&mut self) {
        for instance in self.workloads.instances() {
            // Without grace there is nothing that can fail but the thread that would kill again.
            let _ = self.stop_instance(instance, Duration::ZERO);
        }
    }

    /// Makes an instance's leaf and tells those who have to know who is there. Answers with its
    /// number and where `cloud-run` reaches it.
    ///
    /// # Errors
    /// A sentence.
    fn place_instance(&mut self, spawn: &SpawnInstance) -> Result<(u64, SocketAddr), String> {
        let internet = NetworkId::internet();
        let failed = |error: std::io::Error| format!("{}: {error}", spawn.name);
        // It has this address in any case: `cloud-run` reaches it there.
        let own = vpc::instance_address(|address| self.workloads.is_running(&internet, address))
            .ok_or("no instance address is free")?;
        let (network, address, tags, outside) = match &spawn.vpc_access {
            None => (internet, own, Vec::new(), None),
            Some(access) => {
                let outside = (access.egress == VpcEgress::PrivateRangesOnly).then_some(own);
                let address = self.egress_address(access)?;
                (access.network.clone(), address, access.tags.clone(), outside)
            }
        };
        let platform = (address != own).then_some(own);
        let actual =
            self.surroundings.instance_address(own, spawn.container_port).map_err(failed)?;
        let workload = Workload {
            name: spawn.name.clone(),
            network: network.clone(),
            address,
            project: spawn.project.clone(),
            project_number: spawn.project_number,
            zone: format!("{}-1", spawn.region),
            region: spawn.region.clone(),
            tags,
            service_account: spawn.service_account.clone(),
            instance_id: spawn.instance_id.clone(),
            serverless: true,
            outside,
            metadata: BTreeMap::new(),
        };
        let leaf = self.surroundings.add_leaf(&workload, platform).map_err(failed)?;
        let number = self.workloads.add(Running {
            workload,
            kind: Kind::Instance,
            namespace: leaf.namespace,
            platform,
            processes: BTreeMap::new(),
            stopping: false,
            actual: Some(actual),
            gateway: None,
        });
        self.tell_network(&network);
        Ok((number, actual))
    }

    fn egress_address(&self, access: &VpcAccess) -> Result<Ipv4Addr, String> {
        let VpcAccess { network, subnetwork, .. } = access;
        let declared = self.topology.networks.iter().find(|known| known.id == *network);
        let declared = declared.ok_or_else(|| format!("there is no network {network}"))?;
        let taken = |address| {
            self.workloads.is_running(network, address)
                || vpc::is_declared(&self.topology, network, address)
        };
        vpc::egress_address(declared, subnetwork, taken)
            .ok_or_else(|| format!("{subnetwork} has no free address for an instance"))
    }
}
