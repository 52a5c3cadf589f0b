//! What `status` shows, gathered from the supervisor's state.

use crate::child::Child;
use crate::protocol::{ListenerStatus, Live, ProgramStatus, Reply, Status, WorkloadStatus};
use crate::supervise::Supervisor;
use slice::Bind;
use std::path::Path;

/// Everything that runs.
pub fn of(supervisor: &Supervisor) -> Status {
    let ca = supervisor.options.state_dir.join("keys").join("ca.pem");
    let workloads = supervisor.workloads.iter().map(|running| WorkloadStatus {
        workload: running.workload.clone(),
        pid: running.processes.values().next().copied().map(host_pid),
        actual: running.actual,
    });
    let connections: Vec<_> = supervisor.connections.values().flatten().cloned().collect();
    let topology = &supervisor.topology;
    Status {
        service_attachments: crate::connected::service_attachments(topology, &connections),
        endpoint_attachments: crate::connected::endpoint_attachments(topology, &connections),
        topology: supervisor.options.topology.clone(),
        isolation: supervisor.surroundings.name().to_owned(),
        generation: supervisor.generation,
        last_refusal: supervisor.last_refusal.clone(),
        pid: supervisor.options.host_pid,
        state_dir: supervisor.options.state_dir.clone(),
        try_it: try_it(supervisor, &ca),
        ca,
        programs: supervisor.children.values().map(program).collect(),
        workloads: workloads.collect(),
        connections,
        services: supervisor.services.clone(),
        backends: supervisor.backends.values().flatten().cloned().collect(),
    }
}

/// What `explain` needs of the running world.
pub fn live(supervisor: &Supervisor) -> Reply {
    match supervisor.store.jwks() {
        Err(error) => Reply::Failed(error),
        Ok(jwks) => Reply::Live(Box::new(Live {
            topology: Box::new(supervisor.topology.clone()),
            workloads: supervisor.workloads.iter().map(|r| r.workload.clone()).collect(),
            connections: supervisor.connections.values().flatten().cloned().collect(),
            services: supervisor.services.clone(),
            backends: supervisor.backends.values().flatten().cloned().collect(),
            jwks,
        })),
    }
}

fn program(child: &Child) -> ProgramStatus {
    let state = match (&child.process, child.start_at) {
        (Some(process), _) if process.host_pid.is_none() => "starting",
        (Some(_), _) => "running",
        (None, Some(_)) => "backing off",
        (None, None) => "stopped",
    };
    let listener = |kept: &crate::child::Kept| {
        let (protocol, declared) = match &kept.listen.bind {
            Bind::Tcp(_, declared) => ("tcp", declared.to_string()),
            Bind::Udp(_, declared) => ("udp", declared.to_string()),
            Bind::Channel(name) => ("unix", name.clone()),
            Bind::Host(address) => ("tcp", address.to_string()),
        };
        ListenerStatus {
            key: kept.listen.key.clone(),
            protocol: protocol.to_owned(),
            actual: kept.actual.map_or_else(|| declared.clone(), |actual| actual.to_string()),
            declared,
        }
    };
    ProgramStatus {
        program: child.id.role.program().to_owned(),
        network: child.id.network.clone(),
        state: state.to_owned(),
        pid: child.process.as_ref().and_then(|process| process.host_pid),
        restarts: child.starts.saturating_sub(1),
        generation: child.generation,
        built_generation: child.built,
        listeners: child.listeners.values().map(listener).collect(),
    }
}

/// The host's number of a process of ours: the one in `/proc` whose innermost number, in our own
/// PID namespace, is this.
fn host_pid(pid: u32) -> u32 {
    let own = std::fs::read_link("/proc/self/ns/pid").ok();
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten().find_map(|entry| {
        let outer: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let innermost: u32 = line.split_whitespace().next_back()?.parse().ok()?;
        let namespace = std::fs::read_link(entry.path().join("ns/pid")).ok();
        (innermost == pid && namespace == own).then_some(outer)
    });
    found.unwrap_or(pid)
}

/// One line that works when pasted: the first expectation of a client of the northbound host that
/// is to be answered 200.
fn try_it(supervisor: &Supervisor, ca: &Path) -> Option<String> {
    let organizations = &supervisor.topology.organizations;
    let groups: Vec<_> = organizations.iter().flat_map(|own| &own.environment_groups).collect();
    let published =
        |host: &str| groups.iter().any(|group| group.hostnames.iter().any(|h| h == host));
    let mut expectations = supervisor.topology.expectations.iter();
    let (expectation, host, path) = expectations.find_map(|expectation| {
        let rest = expectation.url.strip_prefix("https://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.split(':').next()?;
        let fits = expectation.from == "internet" && expectation.status == Some(200);
        (fits && published(host)).then(|| (expectation, host, format!("/{path}")))
    })?;
    let published = |child: &Child| child.listeners.get("northbound").and_then(|kept| kept.actual);
    let address = supervisor.children.values().find_map(published)?;
    let headers: String =
        expectation.headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
    let method = match expectation.method.as_str() {
        "GET" => String::new(),
        method => format!(" -X {method}"),
    };
    Some(format!(
        "curl --cacert {} --resolve {host}:{port}:{ip}{method}{headers} https://{host}:{port}{path}",
        ca.display(),
        port = address.port(),
        ip = address.ip(),
    ))
}
