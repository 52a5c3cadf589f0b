//! Tables for people.

use crate::protocol::Status;
use runtime::log::civil;
use slice::{ConditionState, ServiceState};
use std::fmt::Write;

/// How many changes of a connection are shown; `--json` has all that are remembered.
const HISTORY_SHOWN: usize = 4;

/// `status`, and what `up` prints.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} is up: {} isolation, generation {}, supervisor {}",
        status.topology.display(),
        status.isolation,
        status.generation,
        status.pid
    );
    if let Some(refusal) = &status.last_refusal {
        let _ = writeln!(text, "the last reload was refused:\n{refusal}");
    }
    let mut rows = vec![["NETWORK", "PROGRAM", "PID", "STATE", "LISTENS ON"].map(str::to_owned)];
    for program in &status.programs {
        let mut listeners: Vec<String> = program
            .listeners
            .iter()
            .filter(|listener| listener.protocol != "unix")
            .map(|listener| {
                if listener.declared == listener.actual {
                    format!("{} {}", listener.protocol, listener.declared)
                } else {
                    format!("{} {} → {}", listener.protocol, listener.declared, listener.actual)
                }
            })
            .collect();
        if listeners.len() > 6 {
            let more = listeners.len() - 6;
            listeners.truncate(6);
            listeners.push(format!("and {more} more"));
        }
        let mut state = program.state.clone();
        if program.restarts > 0 {
            let _ = write!(state, " (restarted {}×)", program.restarts);
        }
        rows.push([
            program.network.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            program.program.clone(),
            program.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            state,
            listeners.join(", "),
        ]);
    }
    rows[1..].sort();
    text.push_str(&table(&rows));
    if !status.workloads.is_empty() {
        let mut rows =
            vec![["NETWORK", "WORKLOAD", "ADDRESS", "PID", "SERVICE ACCOUNT"].map(str::to_owned)];
        for workload in &status.workloads {
            rows.push([
                workload.workload.network.to_string(),
                workload.workload.name.clone(),
                workload.workload.address.to_string(),
                workload.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                workload.workload.service_account.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        let _ = writeln!(text);
        text.push_str(&table(&rows));
    }
    if !status.services.is_empty() {
        let mut rows = vec![["CLOUD RUN SERVICE", "INSTANCES", "REVISION"].map(str::to_owned)];
        for state in &status.services {
            let (service, instances) = (state.service.to_string(), state.instances.to_string());
            rows.push([service, instances, state.text.clone()]);
        }
        let _ = writeln!(text);
        text.push_str(&table(&rows));
        revisions(&status.services, &mut text);
    }
    if !status.backends.is_empty() {
        let mut rows = vec![["BACKEND SERVICE", "ENDPOINT", "HEALTH"].map(str::to_owned)];
        for state in &status.backends {
            let ejected = if state.ejected { ", ejected" } else { "" };
            rows.push([
                state.backend_service.to_string(),
                state.endpoint.clone(),
                format!("{}{ejected}", state.health_state),
            ]);
        }
        let _ = writeln!(text);
        text.push_str(&table(&rows));
    }
    if !status.connections.is_empty() {
        let mut rows =
            vec![["PSC ENDPOINT", "SERVICE ATTACHMENT", "STATUS", "NAT", "WHY"].map(str::to_owned)];
        for connection in &status.connections {
            rows.push([
                connection.endpoint.to_string(),
                connection.service_attachment.name().to_owned(),
                connection.status.to_string(),
                match connection.nat_ips.is_empty() {
                    true => "-".to_owned(),
                    false => joined(&connection.nat_ips),
                },
                connection.reason.map_or_else(String::new, |reason| reason.to_string()),
            ]);
        }
        let _ = writeln!(text);
        text.push_str(&table(&rows));
        // What became of those that are not as they were at first, the latest changes last.
        for connection in status.connections.iter().filter(|one| one.history.len() > 1) {
            let _ = writeln!(text, "{}:", connection.endpoint);
            let from = connection.history.len().saturating_sub(HISTORY_SHOWN);
            for change in &connection.history[from..] {
                let (time, to, why) = (civil(change.time), change.to, &change.why);
                let _ = writeln!(text, "  {time}  {to}: {why}");
            }
        }
    }
    let _ = writeln!(text, "\nCA certificate: {}", status.ca.display());
    if let Some(line) = &status.try_it {
        let _ = writeln!(text, "Try it:\n  {line}");
    }
    text
}

/// The revisions of services that have more than one, or one that does not start.
fn revisions(services: &[ServiceState], text: &mut String) {
    let heading = ["REVISION", "TRAFFIC", "TAGS", "INSTANCES", "READY"].map(str::to_owned);
    let mut rows = vec![heading];
    let mut messages = Vec::new();
    for service in services.iter().filter(|one| one.revisions.len() > 1 || !one.starts) {
        for one in &service.revisions {
            let ready = match one.ready {
                ConditionState::ConditionSucceeded => "True",
                ConditionState::ConditionFailed => "False",
                ConditionState::ConditionPending | ConditionState::ConditionReconciling => {
                    "Unknown"
                }
            };
            let tags = one.tags.join(",");
            rows.push([
                one.name.clone(),
                format!("{} %", one.percent),
                if tags.is_empty() { "-".to_owned() } else { tags },
                one.instances.to_string(),
                match &one.reason {
                    Some(reason) => format!("{ready} ({reason})"),
                    None => ready.to_owned(),
                },
            ]);
            if one.ready == ConditionState::ConditionFailed {
                messages.push(one.message.as_str());
            }
        }
    }
    if rows.len() > 1 {
        let _ = writeln!(text);
        text.push_str(&table(&rows));
        for message in messages {
            let _ = writeln!(text, "{message}");
        }
    }
}

fn joined(all: &[std::net::Ipv4Addr]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
