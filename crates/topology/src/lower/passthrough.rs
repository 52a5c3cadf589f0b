//! Backend services of passthrough Network Load Balancers (scheme INTERNAL), instance groups and
//! groups of VMs without a port.

use super::Lowering;
use super::rules::same_region;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::backends::{
    BackendService, BalancingMode, InstanceGroup, NetworkEndpointGroup, NetworkEndpointType,
    Persistence, Protocol, SessionAffinity, TrackingMode,
};
use crate::model::{Item, Scope};
use crate::reference::{Place, parts};
use names::SelfLink;
use slice::load_balancer as lb;

/// A group that a backend names.
pub(crate) enum Group<'m> {
    /// A network endpoint group.
    Endpoints(&'m Item<NetworkEndpointGroup>),
    /// An instance group.
    Instances(&'m Item<InstanceGroup>),
}

impl Group<'_> {
    pub(crate) fn link(&self) -> &SelfLink {
        match self {
            Group::Endpoints(item) => &item.link,
            Group::Instances(item) => &item.link,
        }
    }

    pub(crate) fn project(&self) -> &str {
        match self {
            Group::Endpoints(item) => &item.project,
            Group::Instances(item) => &item.project,
        }
    }

    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Group::Endpoints(item) => item.place.region(),
            Group::Instances(item) => item.place.region(),
        }
    }

    /// None: an instance group.
    pub(crate) fn kind(&self) -> Option<NetworkEndpointType> {
        match self {
            Group::Endpoints(item) => Some(item.raw.network_endpoint_type.value),
            Group::Instances(_) => None,
        }
    }
}

impl<'m> Lowering<'m> {
    /// The group that a backend names; a short name is that of a network endpoint group, or else
    /// of an instance group.
    pub(crate) fn group_of(
        &self,
        reference: &Text,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<Group<'m>> {
        let model = self.model;
        let collection = parts(reference).and_then(|parts| parts.collection);
        let instances = match collection {
            Some(collection) => collection == "instanceGroups",
            None => {
                model.seek(&model.network_endpoint_groups, reference, scope).is_err()
                    && model.seek(&model.instance_groups, reference, scope).is_ok()
            }
        };
        match instances {
            true => {
                model.find(&model.instance_groups, reference, scope, findings).map(Group::Instances)
            }
            false => model
                .find(&model.network_endpoint_groups, reference, scope, findings)
                .map(Group::Endpoints),
        }
    }

    /// All instance groups.
    pub(crate) fn instance_groups(&mut self, findings: &mut Findings) {
        for item in &self.model.instance_groups.items {
            let raw = &item.raw;
            let mut all = lb::InstanceEndpoints::default();
            for name in &raw.instances {
                if let Some(address) = self.vm(name, &item.scope(), item.place.region(), findings) {
                    if all.addresses.contains(&address) {
                        let what = format!("`{}` stands in the group twice", name.value);
                        findings.error(
                            Code::DuplicateEntry,
                            name.at,
                            what,
                            "remove one of the two",
                        );
                    }
                    all.addresses.push(address);
                }
            }
            all.named_ports = raw
                .named_ports
                .iter()
                .map(|named| lb::NamedPort {
                    name: named.name.value.clone(),
                    port: u16::try_from(named.port.value.0).unwrap_or(u16::MAX),
                })
                .collect();
            self.topology.load_balancing.network_endpoint_groups.push(lb::NetworkEndpointGroup {
                self_link: item.link.clone(),
                endpoints: lb::Endpoints::Instances(all),
            });
        }
    }

    /// The address of a VM that a group names.
    pub(crate) fn vm(
        &self,
        name: &Text,
        scope: &Scope,
        region: Option<&str>,
        findings: &mut Findings,
    ) -> Option<std::net::Ipv4Addr> {
        let model = self.model;
        let vm = model.find(&model.instances, name, scope, findings)?;
        if vm.place.region() != region {
            findings.error(
                Code::RegionMismatch,
                name.at,
                format!("`{}` is not in the region of what names it", vm.link),
                "name a VM of the same region",
            );
        }
        Some(self.addresses.placed.get(&vm.link)?.address)
    }

    /// A backend service with scheme INTERNAL.
    pub(crate) fn passthrough_service(
        &self,
        item: &Item<BackendService>,
        findings: &mut Findings,
    ) -> lb::PassthroughService {
        let raw = &item.raw;
        let protocol = match raw.protocol.as_ref().map(|protocol| (protocol.value, protocol.at)) {
            Some((Protocol::Udp, _)) => lb::PassthroughProtocol::Udp,
            Some((Protocol::Unspecified, _)) => lb::PassthroughProtocol::Unspecified,
            Some((Protocol::Tcp, _)) | None => lb::PassthroughProtocol::Tcp,
            Some((_, at)) => {
                findings.error(
                    Code::InvalidValue,
                    at,
                    "a passthrough load balancer takes TCP, UDP or UNSPECIFIED",
                    "write one of these, or loadBalancingScheme: INTERNAL_MANAGED",
                );
                lb::PassthroughProtocol::Tcp
            }
        };
        not_for_passthrough(raw, findings);
        not_drained(raw, findings);
        let mut backends: Vec<lb::PassthroughBackend> = Vec::with_capacity(raw.backends.len());
        for backend in &raw.backends {
            let Some(group) = self.group_of(&backend.group, &item.scope(), findings) else {
                continue;
            };
            self.group_fits(item, &group, &backend.group, findings);
            if !matches!(group.kind(), None | Some(NetworkEndpointType::GceVmIp)) {
                findings.error(
                    Code::BackendGroup,
                    backend.group.at,
                    "the groups of a passthrough load balancer are instance groups, or network endpoint groups of type GCE_VM_IP",
                    "name such a group",
                );
            }
            if backends.iter().any(|one| one.group == *group.link()) {
                findings.error(
                    Code::DuplicateEntry,
                    backend.group.at,
                    format!(
                        "the group `{}` stands in the backend service twice",
                        group.link().name()
                    ),
                    "remove one of the two",
                );
            }
            if let Some(mode) = backend
                .balancing_mode
                .as_ref()
                .filter(|mode| mode.value != BalancingMode::Connection)
            {
                findings.error(
                    Code::InvalidValue,
                    mode.at,
                    "the balancing mode of a passthrough load balancer's group is CONNECTION",
                    "write balancingMode: CONNECTION",
                );
            }
            for (name, max) in backend.maxima() {
                if let Some(max) = max {
                    findings.error(
                        Code::ConflictingFields,
                        max.at,
                        format!("`{name}` does not go with a passthrough load balancer, which has no target capacity"),
                        format!("remove `{name}`"),
                    );
                }
            }
            backends.push(lb::PassthroughBackend {
                group: group.link().clone(),
                failover: backend.failover.as_ref().is_some_and(|failover| failover.value),
            });
        }
        if raw.backends.is_empty() && !raw.faulty {
            findings.warning(
                Code::NoEffect,
                raw.at,
                format!(
                    "the backend service `{}` has no backend; packets are dropped",
                    item.name()
                ),
                "add backends: [{group: NAME}]",
            );
        }
        let health_check = self.health_check_of(item, findings);
        let mut lowered = self.topology.load_balancing.health_checks.iter();
        let check = lowered.find(|check| Some(&check.self_link) == health_check.as_ref());
        if let (Some(check), Some(references)) = (check, &raw.health_checks)
            && check.port.is_none()
        {
            findings.error(
                Code::HealthCheck,
                references.at,
                format!(
                    "`{}` asks the serving port, and a passthrough load balancer has none",
                    check.self_link.name()
                ),
                "write USE_FIXED_PORT with `port` in the health check",
            );
        }
        let checks = raw.health_checks.as_ref().is_none_or(|checks| checks.is_empty());
        if health_check.is_none() && checks && !raw.faulty {
            findings.warning(
                Code::HealthCheck,
                raw.at,
                format!("the backend service `{}` has no health check; Google refuses that, here every VM counts as healthy", item.name()),
                "add healthChecks: [NAME]",
            );
        }
        let policy = raw.failover_policy.as_ref();
        let ratio = policy.and_then(|policy| policy.failover_ratio.as_ref());
        if let Some(ratio) = ratio.filter(|ratio| ratio.value.0 > 1.0) {
            findings.error(
                Code::InvalidValue,
                ratio.at,
                format!("{} is no share; it goes from 0.0 to 1.0", ratio.value.0),
                "write a number from 0.0 to 1.0",
            );
        }
        let tracking = raw.connection_tracking_policy.as_ref();
        let mode = tracking.and_then(|tracking| tracking.tracking_mode.as_ref());
        let per_session = mode.filter(|mode| mode.value == TrackingMode::PerSession);
        if let Some(mode) = per_session {
            findings.warning(
                Code::NotYetHonoured,
                mode.at,
                "sessions are not remembered: each connection is tracked by itself, and a new one goes where the hash of its session affinity leads",
                "write trackingMode: PER_CONNECTION to silence this warning",
            );
        }
        lb::PassthroughService {
            self_link: item.link.clone(),
            protocol,
            backends,
            health_check,
            session_affinity: packet_affinity(raw, findings),
            connection_tracking: lb::ConnectionTracking {
                per_session: per_session.is_some(),
                persistence: match tracking.and_then(|tracking| tracking.persistence) {
                    None | Some(Persistence::Default) => lb::Persistence::DefaultForProtocol,
                    Some(Persistence::Never) => lb::Persistence::NeverPersist,
                    Some(Persistence::Always) => lb::Persistence::AlwaysPersist,
                },
            },
            failover_policy: lb::FailoverPolicy {
                failover_ratio: ratio.map_or(0.0, |ratio| ratio.value.0),
                drop_traffic_if_unhealthy: policy
                    .and_then(|policy| policy.drop_traffic_if_unhealthy)
                    .unwrap_or(false),
                disable_connection_drain_on_failover: policy
                    .and_then(|policy| policy.disable_connection_drain_on_failover)
                    .unwrap_or(false),
            },
        }
    }

    /// Region and project of a group go with those of the backend service.
    pub(crate) fn group_fits(
        &self,
        item: &Item<BackendService>,
        group: &Group<'_>,
        reference: &Text,
        findings: &mut Findings,
    ) {
        // A global backend service takes one serverless group of each region.
        if item.place != Place::Global && group.region() != item.place.region() {
            findings.error(
                Code::RegionMismatch,
                reference.at,
                format!(
                    "the backend service is in {}, the group `{}` is not",
                    item.region(),
                    group.link()
                ),
                "name a group of the same region",
            );
        }
        if group.project() != &*item.project {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("the group `{}` is in another project; a backend service, its group and the Cloud Run service share one project", group.link()),
                format!("declare the group in project {}", item.project),
            );
        }
    }

    /// The backend service that a forwarding rule with scheme INTERNAL names.
    pub(crate) fn passthrough_of(
        &self,
        rule: &Item<crate::fields::psc::ForwardingRule>,
        reference: &Text,
        protocol: lb::RuleProtocol,
        findings: &mut Findings,
    ) -> Option<SelfLink> {
        let model = self.model;
        let service = model.find(&model.backend_services, reference, &rule.scope(), findings)?;
        same_region(rule, service, reference, findings);
        let all = &self.topology.load_balancing.passthrough_services;
        let Some(lowered) = all.iter().find(|one| one.self_link == service.link) else {
            findings.error(
                Code::BackendGroup,
                reference.at,
                format!("`{}` has another load balancing scheme; a forwarding rule with scheme INTERNAL needs a backend service with it", service.name()),
                "write loadBalancingScheme: INTERNAL in the backend service",
            );
            return None;
        };
        let fits = match lowered.protocol {
            lb::PassthroughProtocol::Tcp => protocol == lb::RuleProtocol::Tcp,
            lb::PassthroughProtocol::Udp => protocol == lb::RuleProtocol::Udp,
            lb::PassthroughProtocol::Unspecified => protocol == lb::RuleProtocol::L3Default,
        };
        if !fits {
            findings.error(
                Code::ConflictingFields,
                reference.at,
                format!("IPProtocol {protocol} does not go with the protocol of `{}`: TCP goes with TCP, UDP with UDP, L3_DEFAULT with UNSPECIFIED", service.name()),
                "change one of the two",
            );
        }
        Some(service.link.clone())
    }
}

/// `sessionAffinity` of a passthrough load balancer.
fn packet_affinity(raw: &BackendService, findings: &mut Findings) -> lb::PacketAffinity {
    let Some(affinity) = &raw.session_affinity else { return lb::PacketAffinity::None };
    match affinity.value {
        SessionAffinity::None => lb::PacketAffinity::None,
        SessionAffinity::ClientIp => lb::PacketAffinity::ClientIp,
        SessionAffinity::ClientIpProto => lb::PacketAffinity::ClientIpProto,
        SessionAffinity::ClientIpPortProto => lb::PacketAffinity::ClientIpPortProto,
        SessionAffinity::ClientIpNoDestination => lb::PacketAffinity::ClientIpNoDestination,
        SessionAffinity::GeneratedCookie
        | SessionAffinity::HeaderField
        | SessionAffinity::HttpCookie
        | SessionAffinity::StrongCookie => {
            findings.error(
                Code::InvalidValue,
                affinity.at,
                "a passthrough load balancer reads no HTTP; this affinity is for Application Load Balancers",
                "write NONE, CLIENT_IP, CLIENT_IP_PROTO, CLIENT_IP_PORT_PROTO or CLIENT_IP_NO_DESTINATION",
            );
            lb::PacketAffinity::None
        }
    }
}

/// Fields that only proxies have.
fn not_for_passthrough(raw: &BackendService, findings: &mut Findings) {
    let first = |all: &[Text]| all.first().map(|text| text.at);
    let refused: [(&str, Option<Mark>); 8] = [
        ("localityLbPolicy", raw.locality_lb_policy.as_ref().map(|one| one.at)),
        ("consistentHash", raw.consistent_hash.as_ref().map(|one| one.at)),
        (
            "strongSessionAffinityCookie",
            raw.strong_session_affinity_cookie.as_ref().map(|one| one.at),
        ),
        ("outlierDetection", raw.outlier_detection.as_ref().map(|one| one.at)),
        ("circuitBreakers", raw.circuit_breakers.as_ref().map(|one| one.at)),
        ("customRequestHeaders", first(&raw.custom_request_headers)),
        ("customResponseHeaders", first(&raw.custom_response_headers)),
        ("portName", raw.port_name.as_ref().map(|one| one.at)),
    ];
    for (name, at) in refused {
        if let Some(at) = at {
            findings.error(
                Code::ConflictingFields,
                at,
                format!("`{name}` is for proxies; a passthrough load balancer changes and delays no packet"),
                format!("remove `{name}`"),
            );
        }
    }
    let idle = [
        ("timeoutSec", raw.timeout_sec.as_ref().filter(|one| one.value.0 != 30).map(|one| one.at)),
        ("logConfig", raw.log_config.as_ref().filter(|l| l.enable == Some(true)).map(|l| l.at)),
    ];
    for (name, at) in idle {
        if let Some(at) = at {
            findings.warning(
                Code::NoEffect,
                at,
                format!("`{name}` has no effect on a passthrough load balancer"),
                format!("remove `{name}`"),
            );
        }
    }
}

/// Fields that only passthrough load balancers have.
pub(crate) fn only_for_passthrough(raw: &BackendService, findings: &mut Findings) {
    let failover = raw.backends.iter().find_map(|backend| backend.failover.as_ref());
    for (name, at) in [
        ("connectionTrackingPolicy", raw.connection_tracking_policy.as_ref().map(|one| one.at)),
        ("failoverPolicy", raw.failover_policy.as_ref().map(|one| one.at)),
        ("failover", failover.filter(|failover| failover.value).map(|one| one.at)),
    ] {
        if let Some(at) = at {
            findings.error(
                Code::ConflictingFields,
                at,
                format!("`{name}` is for passthrough load balancers"),
                format!("remove `{name}`, or write loadBalancingScheme: INTERNAL"),
            );
        }
    }
}

/// Packets are not drained.
fn not_drained(raw: &BackendService, findings: &mut Findings) {
    let Some(draining) = &raw.connection_draining else { return };
    if draining.draining_timeout_sec.is_some_and(|seconds| seconds.0 > 0) {
        findings.warning(
            Code::NotYetHonoured,
            draining.at,
            "`drainingTimeoutSec` has no effect on a passthrough load balancer in this release; connections of a removed VM end at once",
            "write drainingTimeoutSec: 0 to silence this warning",
        );
    }
}
