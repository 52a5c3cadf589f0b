//! Health checks, with the API's defaults.

use super::Lowering;
use super::rules::same_region;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings};
use crate::fields::backends::{
    BackendService, GrpcHealthCheck, HealthCheck, HealthCheckType, HttpHealthCheck,
    PortSpecification, ProxyHeader, TcpHealthCheck,
};
use crate::fields::network::Port;
use crate::model::Item;
use http::uri::{Authority, PathAndQuery};
use names::SelfLink;
use slice::load_balancer as lb;
use std::time::Duration;

impl Lowering<'_> {
    /// The one health check of a backend service.
    pub(crate) fn health_check_of(
        &self,
        item: &Item<BackendService>,
        findings: &mut Findings,
    ) -> Option<SelfLink> {
        let checks = item.raw.health_checks.as_ref()?;
        if let Some(second) = checks.get(1) {
            findings.error(
                Code::ListTooLong,
                second.at,
                "a backend service takes one health check",
                "remove the others",
            );
        }
        let reference = checks.first()?;
        let stores = &self.model.health_checks;
        let check = self.model.find(stores, reference, &item.scope(), findings)?;
        same_region(item, check, reference, findings);
        Some(check.link.clone())
    }

    /// All health checks.
    pub(crate) fn health_checks(&mut self, findings: &mut Findings) {
        for item in &self.model.health_checks.items {
            let check = health_check(item, findings);
            self.topology.load_balancing.health_checks.extend(check);
        }
    }
}

/// The part of a health check that its type asks for, with its port.
struct Part<'h> {
    port: Option<&'h At<Port>>,
    specification: Option<&'h At<PortSpecification>>,
    proxy_header: bool,
    probe: lb::Probe,
}

fn text(text: Option<&Text>, default: &str) -> String {
    text.map_or_else(|| default.to_owned(), |text| text.value.clone())
}

fn http(raw: Option<&HttpHealthCheck>, protocol: lb::Protocol) -> Part<'_> {
    Part {
        port: raw.and_then(|raw| raw.port.as_ref()),
        specification: raw.and_then(|raw| raw.port_specification.as_ref()),
        proxy_header: raw.is_some_and(|raw| raw.proxy_header == Some(ProxyHeader::ProxyV1)),
        probe: lb::Probe::Http {
            protocol,
            host: text(raw.and_then(|raw| raw.host.as_ref()), ""),
            request_path: text(raw.and_then(|raw| raw.request_path.as_ref()), "/"),
            response: text(raw.and_then(|raw| raw.response.as_ref()), ""),
        },
    }
}

fn tcp(raw: Option<&TcpHealthCheck>, tls: bool) -> Part<'_> {
    Part {
        port: raw.and_then(|raw| raw.port.as_ref()),
        specification: raw.and_then(|raw| raw.port_specification.as_ref()),
        proxy_header: raw.is_some_and(|raw| raw.proxy_header == Some(ProxyHeader::ProxyV1)),
        probe: lb::Probe::Tcp {
            tls,
            request: text(raw.and_then(|raw| raw.request.as_ref()), ""),
            response: text(raw.and_then(|raw| raw.response.as_ref()), ""),
        },
    }
}

fn grpc(raw: Option<&GrpcHealthCheck>, tls: bool) -> Part<'_> {
    Part {
        port: raw.and_then(|raw| raw.port.as_ref()),
        specification: raw.and_then(|raw| raw.port_specification.as_ref()),
        proxy_header: false,
        probe: lb::Probe::Grpc {
            service_name: text(raw.and_then(|raw| raw.grpc_service_name.as_ref()), ""),
            tls,
        },
    }
}

fn health_check(item: &Item<HealthCheck>, findings: &mut Findings) -> Option<lb::HealthCheck> {
    let raw = &item.raw;
    let kind = raw.check_type.value;
    for (given, of, name) in [
        (raw.http_health_check.as_ref().map(|x| x.at), HealthCheckType::Http, "httpHealthCheck"),
        (raw.https_health_check.as_ref().map(|x| x.at), HealthCheckType::Https, "httpsHealthCheck"),
        (raw.http2_health_check.as_ref().map(|x| x.at), HealthCheckType::Http2, "http2HealthCheck"),
        (raw.tcp_health_check.as_ref().map(|x| x.at), HealthCheckType::Tcp, "tcpHealthCheck"),
        (raw.ssl_health_check.as_ref().map(|x| x.at), HealthCheckType::Ssl, "sslHealthCheck"),
        (raw.grpc_health_check.as_ref().map(|x| x.at), HealthCheckType::Grpc, "grpcHealthCheck"),
        (
            raw.grpc_tls_health_check.as_ref().map(|x| x.at),
            HealthCheckType::GrpcWithTls,
            "grpcTlsHealthCheck",
        ),
    ] {
        if let Some(at) = given.filter(|_| of != kind) {
            findings.error(
                Code::HealthCheck,
                at,
                format!("`{name}` does not go with the health check's `type`"),
                "remove it, or change `type`",
            );
        }
    }
    let (part, default_port) = match kind {
        HealthCheckType::Http => (http(raw.http_health_check.as_ref(), lb::Protocol::Http), 80),
        HealthCheckType::Https => (http(raw.https_health_check.as_ref(), lb::Protocol::Https), 443),
        HealthCheckType::Http2 => (http(raw.http2_health_check.as_ref(), lb::Protocol::Http2), 443),
        HealthCheckType::Tcp => (tcp(raw.tcp_health_check.as_ref(), false), 80),
        HealthCheckType::Ssl => (tcp(raw.ssl_health_check.as_ref(), true), 443),
        HealthCheckType::Grpc => (grpc(raw.grpc_health_check.as_ref(), false), 80),
        HealthCheckType::GrpcWithTls => (grpc(raw.grpc_tls_health_check.as_ref(), true), 443),
    };
    let written = part.port.map(|port| u16::try_from(port.value.0).unwrap_or(u16::MAX));
    let port = match (part.specification.map(|one| (one.value, one.at)), written) {
        (Some((PortSpecification::Serving, at)), Some(_)) => {
            findings.error(
                Code::ConflictingFields,
                at,
                "USE_SERVING_PORT does not go with `port`",
                "remove `port`",
            );
            None
        }
        (Some((PortSpecification::Serving, _)), None) => None,
        (Some((PortSpecification::Named, at)), _) => {
            findings.error(
                Code::HealthCheck,
                at,
                "network endpoint groups have no named ports",
                "write USE_SERVING_PORT, or USE_FIXED_PORT with `port`",
            );
            None
        }
        // "If neither is specified, the port is 80", 443 with TLS.
        (_, written) => Some(written.unwrap_or(default_port)),
    };
    let seconds = |value: i64| Duration::from_secs(value.unsigned_abs());
    let interval = raw.check_interval_sec.as_ref().map_or(5, |value| value.value.0);
    let timeout = raw.timeout_sec.as_ref().map_or(5, |value| value.value.0);
    if timeout > interval {
        let at = raw.timeout_sec.as_ref().map_or(raw.at, |value| value.at);
        findings.error(
            Code::HealthCheck,
            at,
            format!("timeoutSec ({timeout}) is more than checkIntervalSec ({interval})"),
            "write a timeout of at most the interval",
        );
    }
    if let lb::Probe::Http { request_path, host, .. } = &part.probe {
        // What the prober would not be able to send.
        if !request_path.starts_with('/') || request_path.parse::<PathAndQuery>().is_err() {
            findings.error(
                Code::HealthCheck,
                raw.at,
                format!("requestPath `{request_path}` is no path"),
                "write a path that begins with `/`, without blanks",
            );
        }
        if !host.is_empty() && host.parse::<Authority>().is_err() {
            findings.error(
                Code::HealthCheck,
                raw.at,
                format!("host `{host}` is no host name"),
                "write a host name, with a port if need be",
            );
        }
    }
    Some(lb::HealthCheck {
        self_link: item.link.clone(),
        probe: part.probe,
        port,
        proxy_header: part.proxy_header,
        check_interval: seconds(interval),
        timeout: seconds(timeout),
        healthy_threshold: raw.healthy_threshold.map_or(2, |n| n.0.unsigned_abs() as u32),
        unhealthy_threshold: raw.unhealthy_threshold.map_or(2, |n| n.0.unsigned_abs() as u32),
        log: raw.log_config.as_ref().and_then(|raw| raw.enable).unwrap_or(false),
    })
}
