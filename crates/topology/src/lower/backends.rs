//! Backend services and network endpoint groups (private-connectivity 2.10, 3.1 to 3.3).

use super::Lowering;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::load_balancing::{
    Backend, BackendService, CloudRun, NetworkEndpointGroup, NetworkEndpointType, Protocol,
};
use crate::fields::psc::LoadBalancingScheme;
use crate::model::Item;
use slice::load_balancer as lb;
use std::net::SocketAddrV4;
use std::sync::Arc;
use url_map::{CustomHeader, Placeholder, UrlMask};

impl Lowering<'_> {
    /// May a URL map lead to this backend service?
    pub(crate) fn backend_service_usable(
        &self,
        backend: &Item<BackendService>,
        reference: &Text,
        findings: &mut Findings,
    ) {
        let scheme = backend.raw.load_balancing_scheme.as_ref();
        if scheme.is_some_and(|scheme| scheme.value != LoadBalancingScheme::InternalManaged) {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("`{}` has another load balancing scheme; an internal Application Load Balancer needs INTERNAL_MANAGED", backend.name()),
                "write loadBalancingScheme: INTERNAL_MANAGED in the backend service",
            );
        }
    }

    /// All backend services.
    pub(crate) fn backend_services(&mut self, findings: &mut Findings) {
        for item in &self.model.backend_services.items {
            if let Some(service) = self.backend_service(item, findings) {
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
        let model = self.model;
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
                Protocol::Http | Protocol::Https | Protocol::Http2 | Protocol::H2c
            )
        {
            findings.error(
                Code::InvalidValue,
                protocol.at,
                "an Application Load Balancer speaks HTTP, HTTPS, HTTP2 or H2C to its backends",
                "write one of these",
            );
        }
        let mut groups = Vec::with_capacity(raw.backends.len());
        let mut serverless = 0;
        for backend in &raw.backends {
            let stores = &model.network_endpoint_groups;
            if backend.group.contains("/instanceGroups/") {
                findings.error(
                    Code::NotYetSupported,
                    backend.group.at,
                    "instance groups are not supported yet",
                    "use a network endpoint group of type SERVERLESS or NON_GCP_PRIVATE_IP_PORT",
                );
                continue;
            }
            let Some(group) = model.find(stores, &backend.group, &item.scope(), findings) else {
                continue;
            };
            if group.place.region() != item.place.region() {
                findings.error(
                    Code::RegionMismatch,
                    backend.group.at,
                    format!(
                        "the backend service is in {}, the group `{}` is not",
                        item.region(),
                        group.link
                    ),
                    "name a group of the same region",
                );
            }
            if group.project != item.project {
                findings.error(
                    Code::BackendGroup,
                    backend.group.at,
                    format!("the group `{}` is in another project; a backend service, its group and the Cloud Run service share one project", group.link),
                    format!("declare the group in project {}", item.project),
                );
            }
            if groups.contains(&group.link) {
                findings.error(
                    Code::DuplicateEntry,
                    backend.group.at,
                    format!("the group `{}` stands in the backend service twice", group.name()),
                    "remove one of the two",
                );
            }
            if group.raw.network_endpoint_type.value == NetworkEndpointType::Serverless {
                serverless += 1;
            } else {
                not_balanced(backend, findings);
            }
            capacity(backend, findings);
            groups.push(group.link.clone());
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
        if serverless > 0 {
            self.serverless_rules(item, serverless, groups.len(), findings);
        } else {
            for (field, harmless) in [
                (raw.session_affinity.as_ref(), "NONE"),
                (raw.locality_lb_policy.as_ref(), "ROUND_ROBIN"),
            ] {
                if let Some(text) = field.filter(|text| text.as_str() != harmless) {
                    findings.warning(
                        Code::NotYetHonoured,
                        text.at,
                        format!(
                            "`{}` has no effect in this release; requests go round robin",
                            text.value
                        ),
                        format!("write {harmless} to silence this warning"),
                    );
                }
            }
            if let Some(checks) = raw.health_checks.as_ref().filter(|checks| !checks.is_empty()) {
                findings.warning(
                    Code::NotYetHonoured,
                    checks.at,
                    "health checks have no effect in this release; every endpoint counts as healthy",
                    "remove `healthChecks` to silence this warning",
                );
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
            _ => lb::Protocol::Http,
        };
        let timeout = raw.timeout_sec.as_ref().map_or(30, |timeout| timeout.value.0);
        Some(lb::BackendService {
            self_link: item.link.clone(),
            protocol,
            timeout_sec: (serverless == 0).then(|| u32::try_from(timeout).unwrap_or(u32::MAX)),
            backends: groups.into_iter().map(lb::Backend::new).collect(),
            health_check: None,
            locality_lb_policy: lb::LocalityLbPolicy::default(),
            session_affinity: lb::SessionAffinity::default(),
            outlier_detection: None,
            circuit_breakers: None,
            draining_timeout_sec: 0,
            log_config: None,
            custom_request_headers: lines(&raw.custom_request_headers),
            custom_response_headers: lines(&raw.custom_response_headers),
        })
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
        if serverless > 1 {
            let at = raw.backends.get(1).map_or(raw.at, |backend| backend.at);
            refuse(
                at,
                "a regional backend service takes exactly one serverless network endpoint group",
                "use one group with a URL mask, or one backend service per group and path rules",
            );
        } else if groups > serverless {
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
        if let Some(affinity) = raw.session_affinity.as_ref().filter(|a| a.as_str() != "NONE") {
            refuse(
                affinity.at,
                "session affinity is not supported for a backend service with serverless groups",
                "remove `sessionAffinity`",
            );
        }
        let policy = raw.locality_lb_policy.as_ref();
        if let Some(policy) = policy.filter(|policy| policy.as_str() != "ROUND_ROBIN") {
            refuse(
                policy.at,
                "a locality policy is not supported for a backend service with serverless groups",
                "remove `localityLbPolicy`",
            );
        }
    }

    /// All network endpoint groups.
    pub(crate) fn network_endpoint_groups(&mut self, findings: &mut Findings) {
        for item in &self.model.network_endpoint_groups.items {
            if let Some(endpoints) = self.endpoints_of(item, findings) {
                let group = lb::NetworkEndpointGroup { self_link: item.link.clone(), endpoints };
                self.topology.load_balancing.network_endpoint_groups.push(group);
            }
        }
    }

    fn endpoints_of(
        &self,
        item: &Item<NetworkEndpointGroup>,
        findings: &mut Findings,
    ) -> Option<lb::Endpoints> {
        let raw = &item.raw;
        match raw.network_endpoint_type.value {
            NetworkEndpointType::Serverless => {
                for (at, field) in [
                    (raw.network.as_ref().map(|text| text.at), "network"),
                    (raw.subnetwork.as_ref().map(|text| text.at), "subnetwork"),
                    (raw.default_port.as_ref().map(|port| port.at), "defaultPort"),
                    (raw.network_endpoints.first().map(|endpoint| endpoint.at), "networkEndpoints"),
                ] {
                    if let Some(at) = at {
                        findings.error(
                            Code::ConflictingFields,
                            at,
                            format!("a serverless group has no `{field}`"),
                            format!("remove `{field}`"),
                        );
                    }
                }
                let Some(cloud_run) = &raw.cloud_run else {
                    if !raw.faulty {
                        findings.error(
                            Code::MissingField,
                            raw.at,
                            "`cloudRun` is missing; a serverless group leads to Cloud Run",
                            "add cloudRun: {service: NAME} or cloudRun: {urlMask: \"/<service>\"}",
                        );
                    }
                    return None;
                };
                self.cloud_run(item, cloud_run, findings).map(lb::Endpoints::CloudRun)
            }
            NetworkEndpointType::NonGcpPrivateIpPort => {
                let mut all = Vec::with_capacity(raw.network_endpoints.len());
                for endpoint in &raw.network_endpoints {
                    let Some(port) = endpoint.port.as_ref().or(raw.default_port.as_ref()) else {
                        findings.error(
                            Code::MissingField,
                            endpoint.at,
                            "the endpoint has no `port`, and the group no `defaultPort`",
                            "add `port`",
                        );
                        continue;
                    };
                    let port = u16::try_from(port.value.0).unwrap_or(u16::MAX);
                    let address = SocketAddrV4::new(endpoint.ip_address.value, port);
                    if all.contains(&address) && all.len() < 1000 {
                        findings.error(
                            Code::DuplicateEntry,
                            endpoint.at,
                            format!("{address} stands in the group twice"),
                            "remove one of the two",
                        );
                    }
                    all.push(address);
                }
                Some(lb::Endpoints::Addresses {
                    network_endpoint_type: "NON_GCP_PRIVATE_IP_PORT".to_owned(),
                    endpoints: all,
                })
            }
            _ => {
                findings.error(
                    Code::NotYetSupported,
                    raw.network_endpoint_type.at,
                    "groups of this type are not supported yet",
                    "use SERVERLESS or NON_GCP_PRIVATE_IP_PORT",
                );
                None
            }
        }
    }

    fn cloud_run(
        &self,
        item: &Item<NetworkEndpointGroup>,
        raw: &CloudRun,
        findings: &mut Findings,
    ) -> Option<lb::CloudRunEndpoints> {
        for text in raw.service.iter().chain(&raw.tag) {
            if !crate::names_rules::is_rfc1035(text, 63) {
                findings.error(
                    Code::InvalidName,
                    text.at,
                    format!("`{}` is no name of a service or tag; 1 to 63 lower-case letters, digits and hyphens, a letter first", text.value),
                    "write the short name, not a URL",
                );
            }
        }
        let mask = match raw.url_mask.as_ref().map(|mask| (mask, UrlMask::parse(mask))) {
            Some((mask, Err(why))) => {
                findings.error(
                    Code::UrlMask,
                    mask.at,
                    format!("the URL mask `{}` is not well-formed: {why}", mask.value),
                    "write a mask such as /<service>, example.com/<service>/<tag> or <tag>.<service>.example.com",
                );
                return None;
            }
            Some((_, Ok(mask))) => Some(mask),
            None => None,
        };
        let masked = |placeholder| mask.as_ref().is_some_and(|mask| mask.has(placeholder));
        let fixed = [
            ("service", Placeholder::Service, raw.service.as_ref()),
            ("tag", Placeholder::Tag, raw.tag.as_ref()),
        ];
        for (word, placeholder, text) in fixed {
            if let Some(text) = text
                && masked(placeholder)
            {
                findings.error(
                    Code::ConflictingFields,
                    text.at,
                    format!(
                        "the {word} is fixed, and the URL mask has <{word}> too; only one can count"
                    ),
                    format!("remove `{word}`, or <{word}> from the mask"),
                );
            }
        }
        if raw.service.is_none() && !masked(Placeholder::Service) {
            if !raw.faulty {
                findings.error(
                    Code::UrlMask,
                    raw.url_mask.as_ref().map_or(raw.at, |mask| mask.at),
                    "neither `service` nor a URL mask with <service> says which service is meant",
                    "add `service`, or <service> to the mask",
                );
            }
            return None;
        }
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        Some(lb::CloudRunEndpoints {
            project: item.project.to_string(),
            region: item.region().to_owned(),
            service: text(&raw.service),
            tag: text(&raw.tag),
            url_mask: text(&raw.url_mask),
            services: Arc::default(),
        })
    }
}

/// A capacity other than the whole one. Zero drains the backend, and ignoring that would send it
/// requests.
fn capacity(backend: &Backend, findings: &mut Findings) {
    let Some(scaler) = &backend.capacity_scaler else { return };
    if scaler.value.0 == 0.0 {
        findings.error(
            Code::NotYetSupported,
            scaler.at,
            "`capacityScaler` 0 is not supported yet; without it a drained backend would get requests",
            "remove the backend, or write 1",
        );
    } else if scaler.value.0 != 1.0 {
        findings.warning(
            Code::NotYetHonoured,
            scaler.at,
            "`capacityScaler` is known, but has no effect in this release",
            "write 1 to silence this warning",
        );
    }
}

/// Warns of what would distribute requests over groups that are not serverless. RATE alone, which
/// such groups need, distributes nothing; its maximum does.
fn not_balanced(backend: &Backend, findings: &mut Findings) {
    let mode = backend.balancing_mode.as_ref();
    let mode = mode.filter(|mode| mode.as_str() != "RATE").map(|mode| ("balancingMode", mode.at));
    let maxima = [
        ("maxUtilization", &backend.max_utilization),
        ("maxRate", &backend.max_rate),
        ("maxRatePerEndpoint", &backend.max_rate_per_endpoint),
        ("maxRatePerInstance", &backend.max_rate_per_instance),
        ("maxConnections", &backend.max_connections),
        ("maxConnectionsPerEndpoint", &backend.max_connections_per_endpoint),
        ("maxConnectionsPerInstance", &backend.max_connections_per_instance),
    ];
    let maxima = maxima.into_iter().filter_map(|(name, max)| Some((name, max.as_ref()?.at)));
    for (name, at) in mode.into_iter().chain(maxima) {
        findings.warning(
            Code::NotYetHonoured,
            at,
            format!(
                "`{name}` is known, but has no effect in this release; requests go round robin"
            ),
            "remove it to silence this warning; nothing else depends on it here",
        );
    }
}
