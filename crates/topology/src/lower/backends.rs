//! Backend services: their groups, and what serverless ones do not allow (private-connectivity 2.10).

use super::Lowering;
use super::balancing::{
    GroupKind, balanced, circuit_breakers, is_probed, log_config, one_kind, outlier_detection,
    session_affinity,
};
use super::passthrough::{Group, only_for_passthrough};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::backends::{
    BackendService, LocalityLbPolicy, NetworkEndpointType, Protocol, SessionAffinity,
};
use crate::fields::psc::LoadBalancingScheme;
use crate::model::Item;
use crate::reference::Place;
use slice::load_balancer as lb;
use std::collections::HashSet;
use url_map::CustomHeader;

fn is_serverless(kind: GroupKind) -> bool {
    kind == Some(NetworkEndpointType::Serverless)
}

impl Lowering<'_> {
    /// May a URL map lead to this backend service?
    pub(crate) fn backend_service_usable(
        &self,
        backend: &Item<BackendService>,
        reference: &Text,
        findings: &mut Findings,
    ) {
        let protocol = backend.raw.protocol.as_ref().map(|protocol| protocol.value);
        if protocol == Some(Protocol::Tcp) {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("`{}` has protocol TCP, and is for target TCP proxies", backend.name()),
                "write protocol: HTTP, HTTPS, HTTP2 or H2C in the backend service",
            );
        }
        let scheme = backend.raw.load_balancing_scheme.as_ref();
        if scheme.is_some_and(|scheme| {
            !matches!(
                scheme.value,
                LoadBalancingScheme::InternalManaged | LoadBalancingScheme::ExternalManaged
            )
        }) {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("`{}` has another load balancing scheme; an Application Load Balancer needs INTERNAL_MANAGED or EXTERNAL_MANAGED", backend.name()),
                "write loadBalancingScheme: INTERNAL_MANAGED (or EXTERNAL_MANAGED) in the backend service",
            );
        }
    }

    /// All backend services.
    pub(crate) fn backend_services(&mut self, findings: &mut Findings) {
        for item in &self.model.backend_services.items {
            let scheme = item.raw.load_balancing_scheme.as_ref().map(|scheme| scheme.value);
            if scheme == Some(LoadBalancingScheme::Internal) {
                let service = self.passthrough_service(item, findings);
                self.topology.load_balancing.passthrough_services.push(service);
            } else if let Some(service) = self.backend_service(item, findings) {
                self.topology.load_balancing.backend_services.push(service);
            }
        }
    }

    fn backend_service(
        &self,
        item: &Item<BackendService>,
        findings: &mut Findings,
    ) -> Option<lb::BackendService> {
        let raw = &item.raw;
        only_for_passthrough(raw, findings);
        if raw.load_balancing_scheme.is_none() && !raw.faulty {
            findings.error(
                Code::MissingField,
                raw.at,
                format!("the backend service `{}` has no `loadBalancingScheme`; without it Google makes an external one", item.name()),
                "add loadBalancingScheme: INTERNAL_MANAGED",
            );
        }
        if let Some(protocol) = &raw.protocol
            && !matches!(
                protocol.value,
                Protocol::Http | Protocol::Https | Protocol::Http2 | Protocol::H2c | Protocol::Tcp
            )
        {
            findings.error(
                Code::InvalidValue,
                protocol.at,
                "an Application Load Balancer speaks HTTP, HTTPS, HTTP2 or H2C to its backends, a proxy Network Load Balancer TCP",
                "write one of these",
            );
        }
        let mut groups = Vec::with_capacity(raw.backends.len());
        let mut serverless = 0;
        let mut kinds: Vec<(GroupKind, Mark)> = Vec::new();
        let tcp = raw.protocol.as_ref().is_some_and(|protocol| protocol.value == Protocol::Tcp);
        for backend in &raw.backends {
            let Some(group) = self.group_of(&backend.group, &item.scope(), findings) else {
                continue;
            };
            self.group_fits(item, &group, &backend.group, findings);
            let link = group.link();
            if groups.iter().any(|one: &lb::Backend| one.group == *link) {
                findings.error(
                    Code::DuplicateEntry,
                    backend.group.at,
                    format!("the group `{}` stands in the backend service twice", link.name()),
                    "remove one of the two",
                );
            }
            let kind = group.kind();
            self.kind_fits(&group, tcp, raw, &backend.group, findings);
            kinds.push((kind, backend.at));
            if kind == Some(NetworkEndpointType::Serverless) {
                serverless += 1;
            }
            groups.push(balanced(backend, link.clone(), kind, tcp, findings));
        }
        if raw.backends.is_empty() && !raw.faulty {
            findings.warning(
                Code::NoEffect,
                raw.at,
                format!(
                    "the backend service `{}` has no backend; requests that come here get 503",
                    item.name()
                ),
                "add backends: [{group: NAME}]",
            );
        }
        let health_check = self.health_check_of(item, findings);
        let external = raw.load_balancing_scheme.as_ref().map(|scheme| scheme.value)
            == Some(LoadBalancingScheme::ExternalManaged);
        if external && let Some((_, at)) = kinds.iter().find(|(kind, _)| !is_serverless(*kind)) {
            findings.error(
                Code::NotYetSupported,
                *at,
                "an external load balancer leads to serverless groups alone in this release",
                "use a group of type SERVERLESS, or an internal load balancer",
            );
        }
        if serverless > 0 {
            self.serverless_rules(item, serverless, kinds.len(), findings);
        } else {
            one_kind(&kinds, findings);
            if health_check.is_none()
                && raw.health_checks.as_ref().is_none_or(|checks| checks.is_empty())
                && kinds.iter().any(|(kind, _)| is_probed(*kind))
                && !raw.faulty
            {
                findings.warning(
                    Code::HealthCheck,
                    raw.at,
                    format!("the backend service `{}` has no health check; Google refuses that for zonal and hybrid groups, here every endpoint counts as healthy", item.name()),
                    "add healthChecks: [NAME]",
                );
            }
        }
        for (headers, what) in [
            (&raw.custom_request_headers, "custom request headers"),
            (&raw.custom_response_headers, "custom response headers"),
        ] {
            self.limit(headers.len(), 16, raw.at, what, findings);
            for header in headers.iter() {
                self.limit(header.len(), 8192, header.at, "bytes in a custom header", findings);
            }
        }
        for header in raw.custom_request_headers.iter().chain(&raw.custom_response_headers) {
            if let Err(why) = CustomHeader::parse(header) {
                findings.error(
                    Code::InvalidValue,
                    header.at,
                    format!("the custom header `{}` {why}", header.value),
                    "write `Name: value`",
                );
            }
        }
        let lines = |lines: &[Text]| lines.iter().map(|line| line.value.clone()).collect();
        let protocol = match raw.protocol.as_ref().map(|protocol| protocol.value) {
            Some(Protocol::Https) => lb::Protocol::Https,
            Some(Protocol::Http2) => lb::Protocol::Http2,
            Some(Protocol::H2c) => lb::Protocol::H2c,
            Some(Protocol::Tcp) => lb::Protocol::Tcp,
            _ => lb::Protocol::Http,
        };
        let timeout = raw.timeout_sec.as_ref().map_or(30, |timeout| timeout.value.0);
        Some(lb::BackendService {
            self_link: item.link.clone(),
            protocol,
            port_name: raw
                .port_name
                .as_ref()
                .map_or_else(|| "http".to_owned(), |name| name.value.clone()),
            timeout_sec: (serverless == 0).then(|| u32::try_from(timeout).unwrap_or(u32::MAX)),
            backends: groups,
            health_check,
            locality_lb_policy: self.locality_lb_policy(raw, findings),
            session_affinity: session_affinity(raw, findings),
            outlier_detection: raw
                .outlier_detection
                .as_ref()
                .map(|raw| outlier_detection(raw, findings)),
            circuit_breakers: raw.circuit_breakers.as_ref().map(circuit_breakers),
            security_policy: self.security_policy_of(item, findings),
            draining_timeout_sec: raw
                .connection_draining
                .as_ref()
                .and_then(|raw| raw.draining_timeout_sec)
                .map_or(0, |seconds| seconds.0.unsigned_abs() as u32),
            log_config: raw.log_config.as_ref().map(|raw| log_config(raw, findings)),
            custom_request_headers: lines(&raw.custom_request_headers),
            custom_response_headers: lines(&raw.custom_response_headers),
        })
    }

    /// Kinds of group that a proxy cannot speak to, or not by this protocol.
    fn kind_fits(
        &self,
        group: &Group<'_>,
        tcp: bool,
        raw: &BackendService,
        reference: &Text,
        findings: &mut Findings,
    ) {
        if group.kind() == Some(NetworkEndpointType::Serverless) && tcp {
            findings.error(
                Code::ServerlessBackend,
                reference.at,
                "Cloud Run takes requests; a backend service with protocol TCP has no serverless group",
                "use an Application Load Balancer",
            );
        }
        if group.kind() == Some(NetworkEndpointType::GceVmIp) {
            findings.error(
                Code::BackendGroup,
                reference.at,
                "a group of type GCE_VM_IP has no ports; it is for passthrough load balancers",
                "use a group of type GCE_VM_IP_PORT, or loadBalancingScheme: INTERNAL",
            );
        }
        if let Group::Instances(item) = group {
            let name = raw.port_name.as_ref().map_or("http", |name| name.as_str());
            if !item.raw.named_ports.iter().any(|port| port.name.value == name) && !item.raw.faulty
            {
                findings.error(
                    Code::BackendGroup,
                    raw.port_name.as_ref().map_or(reference.at, |name| name.at),
                    format!("the instance group `{}` has no port named `{name}`; nobody would be asked", item.name()),
                    format!("add namedPorts: [{{name: {name}, port: 80}}] to the group, or write another portName"),
                );
            }
        }
    }

    /// What a serverless backend does not allow (2.10).
    fn serverless_rules(
        &self,
        item: &Item<BackendService>,
        serverless: usize,
        groups: usize,
        findings: &mut Findings,
    ) {
        let raw = &item.raw;
        let mut refuse = |at, what: &str, fix: &str| {
            findings.error(Code::ServerlessBackend, at, what.to_owned(), fix.to_owned());
        };
        let regions: HashSet<_> = raw
            .backends
            .iter()
            .filter_map(|one| self.group_of(&one.group, &item.scope(), &mut Findings::default()))
            .map(|group| group.region().map(str::to_owned))
            .collect();
        if serverless > 1 && item.place == Place::Global {
            if regions.len() < serverless {
                refuse(
                    raw.backends.get(1).map_or(raw.at, |backend| backend.at),
                    "a global backend service takes one serverless network endpoint group of each region",
                    "use one group with a URL mask, or one backend service per group and path rules",
                );
            }
        } else if serverless > 1 {
            let at = raw.backends.get(1).map_or(raw.at, |backend| backend.at);
            refuse(
                at,
                "a regional backend service takes exactly one serverless network endpoint group",
                "use one group with a URL mask, or one backend service per group and path rules",
            );
        }
        if groups > serverless {
            refuse(
                raw.at,
                "serverless groups do not mix with other kinds in one backend service",
                "use one backend service per kind",
            );
        }
        if let Some(timeout) = &raw.timeout_sec {
            // An export carries the API's default, which nobody set.
            if !(item.exported && timeout.value.0 == 30) {
                refuse(
                    timeout.at,
                    "Timeout sec is not supported for a backend service with Serverless network endpoint groups.",
                    "remove `timeoutSec`; it is fixed at 60 minutes, and Cloud Run's own timeout holds",
                );
            }
        }
        if let Some(checks) = raw.health_checks.as_ref().filter(|checks| !checks.is_empty()) {
            refuse(
                checks.at,
                "health checks are not supported for a backend service with serverless groups",
                "remove `healthChecks`",
            );
        }
        if let Some(affinity) =
            raw.session_affinity.as_ref().filter(|a| a.value != SessionAffinity::None)
        {
            refuse(
                affinity.at,
                "session affinity is not supported for a backend service with serverless groups",
                "remove `sessionAffinity`",
            );
        }
        if let Some(detection) = &raw.outlier_detection {
            refuse(
                detection.at,
                "outlier detection is not supported for a regional backend service with serverless groups",
                "remove `outlierDetection`",
            );
        }
        let policy = raw.locality_lb_policy.as_ref();
        if let Some(policy) = policy.filter(|policy| policy.value != LocalityLbPolicy::RoundRobin) {
            refuse(
                policy.at,
                "a locality policy is not supported for a backend service with serverless groups",
                "remove `localityLbPolicy`",
            );
        }
        let breakers = raw.circuit_breakers.as_ref().map(|raw| (raw.at, "circuitBreakers"));
        let draining = raw.connection_draining.as_ref();
        let draining = draining.filter(|raw| raw.draining_timeout_sec.is_some_and(|s| s.0 != 0));
        let draining = draining.map(|raw| (raw.at, "connectionDraining"));
        for (at, what) in breakers.into_iter().chain(draining) {
            findings.warning(
                Code::NoEffect,
                at,
                format!("`{what}` has no effect on a backend service with serverless groups"),
                format!("remove `{what}`"),
            );
        }
    }
}
