//! Startup, liveness and readiness probes with their defaults and bounds (cloud-run 2.3).

use super::Template;
use crate::decode::{At, Int};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Container, Probe, Times};
use slice::run;

/// What kind of probe it is, with the bounds of its seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn field(self) -> &'static str {
        match self {
            Kind::Startup => "startupProbe",
            Kind::Liveness => "livenessProbe",
            Kind::Readiness => "readinessProbe",
        }
    }

    /// Longest delay, period and timeout.
    fn longest(self) -> i64 {
        match self {
            Kind::Startup => 240,
            Kind::Liveness | Kind::Readiness => 3600,
        }
    }
}

/// All that a starting container may take, in seconds.
const START_MAX: i64 = 240;

/// The probes of a container: startup, liveness, readiness.
pub(super) fn lower(
    template: &Template<'_>,
    raw: &Container,
    container: &mut run::Container,
    findings: &mut Findings,
) {
    let port = container.port.map(|port| port.number);
    let mut one =
        |probe: &Option<Probe>, kind| probe.as_ref().and_then(|p| read(p, kind, port, findings));
    container.startup_probe = one(&raw.startup_probe, Kind::Startup);
    container.liveness_probe = one(&raw.liveness_probe, Kind::Liveness);
    container.readiness_probe = one(&raw.readiness_probe, Kind::Readiness);
    if let Some(readiness) = &raw.readiness_probe {
        template.needs_beta(readiness.at, findings);
    }
}

fn error(at: Mark, what: String, fix: &str, findings: &mut Findings) {
    findings.error(Code::ServiceProbe, at, what, fix);
}

fn read(
    raw: &Probe,
    kind: Kind,
    container_port: Option<u16>,
    findings: &mut Findings,
) -> Option<run::Probe> {
    let field = kind.field();
    let before = findings.errors();
    let action = action(raw, kind, container_port, findings);
    let longest = kind.longest();
    let initial_delay_seconds =
        number(&raw.initial_delay_seconds, "initialDelaySeconds", (0, longest), 0, findings);
    let period_seconds = number(&raw.period_seconds, "periodSeconds", (1, longest), 10, findings);
    let timeout_seconds = number(&raw.timeout_seconds, "timeoutSeconds", (1, longest), 1, findings);
    let most = i64::from(i32::MAX);
    let failure_threshold =
        number(&raw.failure_threshold, "failureThreshold", (1, most), 3, findings);
    let successes = if kind == Kind::Readiness { 2 } else { 1 };
    let success_threshold =
        number(&raw.success_threshold, "successThreshold", (1, most), successes, findings);
    if timeout_seconds > period_seconds {
        error(
            raw.timeout_seconds.as_ref().map_or(raw.at, |text| text.at),
            format!(
                "`{field}`: timeoutSeconds {timeout_seconds} is more than periodSeconds {period_seconds}"
            ),
            "let a probe end before the next one begins",
            findings,
        );
    }
    if kind == Kind::Startup && failure_threshold.saturating_mul(period_seconds) > START_MAX {
        error(
            raw.at,
            format!(
                "`{field}`: failureThreshold {failure_threshold} × periodSeconds {period_seconds} is more than {START_MAX} seconds"
            ),
            "lower one of the two; an instance has 240 seconds to start",
            findings,
        );
    }
    if kind != Kind::Readiness && success_threshold != 1 {
        error(
            raw.success_threshold.as_ref().map_or(raw.at, |text| text.at),
            format!("`{field}`: successThreshold is 1"),
            "remove it",
            findings,
        );
    }
    if kind == Kind::Readiness && initial_delay_seconds != 0 {
        error(
            raw.initial_delay_seconds.as_ref().map_or(raw.at, |text| text.at),
            format!("`{field}` has no initialDelaySeconds"),
            "remove it; readiness is asked for once the startup probe has passed",
            findings,
        );
    }
    let action = action?;
    if findings.errors() > before {
        return None;
    }
    let seconds = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Some(run::Probe {
        action,
        initial_delay_seconds: seconds(initial_delay_seconds),
        timeout_seconds: seconds(timeout_seconds),
        period_seconds: seconds(period_seconds),
        failure_threshold: seconds(failure_threshold),
        success_threshold: seconds(success_threshold),
    })
}

/// A number within bounds; 0 means its default, as in protocol buffers.
fn number(
    written: &Option<Times>,
    name: &str,
    (least, most): (i64, i64),
    default: i64,
    findings: &mut Findings,
) -> i64 {
    match written.as_ref().map(|written| (written.at, written.value.0)) {
        None | Some((_, 0)) => default,
        Some((_, value)) if (least..=most).contains(&value) => value,
        Some((at, value)) => {
            error(
                at,
                format!("{name} {value} is out of bounds; it takes {least} to {most}"),
                "write a number in these bounds",
                findings,
            );
            default
        }
    }
}

fn action(
    raw: &Probe,
    kind: Kind,
    container_port: Option<u16>,
    findings: &mut Findings,
) -> Option<run::ProbeAction> {
    let field = kind.field();
    let kinds = [raw.http_get.is_some(), raw.tcp_socket.is_some(), raw.grpc.is_some()];
    if kinds.iter().filter(|there| **there).count() != 1 {
        if !raw.faulty {
            error(
                raw.at,
                format!("`{field}` has none or several of httpGet, tcpSocket and grpc"),
                "write one of them",
                findings,
            );
        }
        return None;
    }
    if let Some(http) = &raw.http_get {
        let port = port(http.port.as_ref(), http.at, field, container_port, findings)?;
        let path = http.path.as_ref().filter(|path| !path.is_empty());
        if let Some(path) = path.filter(|path| !path.starts_with('/')) {
            error(
                path.at,
                format!("the path `{}` begins with no slash", path.value),
                "write a path such as /healthz",
                findings,
            );
        }
        let headers = http.http_headers.iter().filter_map(|header| {
            let value = header.value.as_ref().map(|value| value.value.clone()).unwrap_or_default();
            let good = http::HeaderName::try_from(header.name.as_str()).is_ok()
                && http::HeaderValue::try_from(value.as_str()).is_ok();
            if !good {
                error(
                    header.name.at,
                    format!("`{}: {value}` is no header", header.name.value),
                    "correct it",
                    findings,
                );
            }
            good.then(|| (header.name.value.clone(), value))
        });
        return Some(run::ProbeAction::Http {
            port,
            headers: headers.collect(),
            path: path.map_or_else(|| "/".to_owned(), |path| path.value.clone()),
        });
    }
    if let Some(grpc) = &raw.grpc {
        let service = grpc.service.as_ref().map(|service| service.value.clone());
        let port = port(grpc.port.as_ref(), grpc.at, field, container_port, findings)?;
        return Some(run::ProbeAction::Grpc { port, service: service.unwrap_or_default() });
    }
    let tcp = raw.tcp_socket.as_ref()?;
    if kind == Kind::Readiness {
        error(
            tcp.at,
            format!("`{field}` knows httpGet and grpc only"),
            "write httpGet or grpc",
            findings,
        );
    }
    let port = port(tcp.port.as_ref(), tcp.at, field, container_port, findings)?;
    Some(run::ProbeAction::Tcp { port })
}

/// The port that is asked: the container's own where none is written.
fn port(
    written: Option<&At<Int<0, 65535>>>,
    at: Mark,
    field: &str,
    container_port: Option<u16>,
    findings: &mut Findings,
) -> Option<u16> {
    let written = written.and_then(|port| u16::try_from(port.value.0).ok());
    let port = written.filter(|port| *port != 0).or(container_port);
    if port.is_none() {
        error(
            at,
            format!("`{field}` has no port, and neither has the container"),
            "add `port`",
            findings,
        );
    }
    port
}
