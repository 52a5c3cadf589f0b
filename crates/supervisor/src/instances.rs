//! Cloud Run instances: each has a leaf of its own, outside of every VPC network, with a second
//! address in the network that its revision egresses into (cloud-run 4). `cloud-run` asks for an
//! instance first and then for its containers, one by one.

use crate::child::spawn_thread;
use crate::events::Event;
use crate::output::Origin;
use crate::supervise::Supervisor;
use crate::volumes::Volumes;
use crate::workloads::{Kind, Launch, Running};
use names::NetworkId;
use nix::sys::signal::Signal;
use runtime::wire::{Answer, Request, ToProgram};
use slice::run::{Run, VpcAccess, VpcEgress};
use slice::{
    ContainerExit, MemoryUse, Notice, Role, SpawnInstance, SpawnedInstance, StartContainer,
    StartedContainer, Workload,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

impl Supervisor {
    pub(crate) fn workload_request(&mut self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Spawn(instance) => self.spawn_instance(&instance).map(Answer::Spawned),
            Request::Start(container) => self.start_container(*container).map(Answer::Started),
            Request::WriteFiles { instance, volume, files } => {
                // One that has just gone needs none.
                let running = self.workloads.get(instance).and_then(|r| r.volumes.as_ref());
                running.map_or(Ok(()), |volumes| volumes.write(&volume, &files))?;
                Ok(Answer::Done)
            }
            Request::Stop { instance, grace_ms } => {
                self.stop_instance(instance, Duration::from_millis(grace_ms))?;
                Ok(Answer::Done)
            }
        }
    }

    fn spawn_instance(&mut self, spawn: &SpawnInstance) -> Result<SpawnedInstance, String> {
        let (instance, address) = self.place_instance(spawn)?;
        let running = self.workloads.get_mut(instance).ok_or("the instance is gone")?;
        running.hosts = spawn.containers.clone();
        // Without namespaces nothing can be mounted, which `up` says of those that ask for it.
        if running.namespace.is_some() {
            match Volumes::make(&self.options.state_dir, instance, &spawn.volumes) {
                Ok(volumes) => running.volumes = Some(volumes),
                Err(error) => {
                    self.remove_instance(instance);
                    return Err(format!("{}: {error}", spawn.name));
                }
            }
        }
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
            container: Some((start.mounts, start.resources)),
        };
        let pid = self.start_workload(start.instance, launch)?;
        Ok(StartedContainer { pid })
    }

    /// `cloud-run` learns that a container has ended; with the last one of an instance that is
    /// being stopped goes the instance.
    pub(crate) fn container_ended(
        &mut self,
        instance: u64,
        container: String,
        status: i32,
        out_of_memory: Option<MemoryUse>,
    ) {
        let exit = ContainerExit { instance, container, status, out_of_memory };
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
            volumes: None,
            hosts: Vec::new(),
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
