//! From a slice to a snapshot: the URL maps compiled, and beside them what serving needs and would
//! otherwise be made for every request (labels, TLS, headers).

use crate::backends::{Backends, Kept};
use crate::headers::Ids;
use crate::l4::Fronts;
use crate::logging::Logging;
use http::header::{HeaderName, HeaderValue};
use http_proxy::ServerOptions;
use http_proxy::tls::{CertifiedPem, ClientPolicy, Policy, ServerConfig, ServerTls, server_config};
use names::{NetworkId, Origin, SelfLink};
use slice::load_balancer::{
    ForwardingRule, InternalLbSlice, LogConfig, ServerTlsPolicy, SslCertificate, SslPolicy,
    TargetProxy, TlsVersion,
};
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use url_map::{CustomHeader, Piece};

/// ALPN on a target HTTPS proxy; HTTP/2 has no other way in (private-connectivity 2.1).
const ALPN: &[&str] = &["h2", "http/1.1"];

/// One generation, compiled.
pub struct Snapshot {
    pub(crate) url_maps: url_map::Snapshot,
    pub(crate) fronts: Vec<Front>,
    places: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    /// Beside `url_maps.backend_services()`.
    pub(crate) services: Vec<Service>,
    /// Their endpoints.
    pub(crate) backends: Backends,
    /// Network Load Balancers.
    pub(crate) network: Fronts,
}

/// A forwarding rule at work.
pub struct Front {
    /// The forwarding rule, which is also the listener's key.
    pub link: Arc<str>,
    /// What `cloud-run` is told.
    pub origin: Origin,
    /// Address and port, as declared.
    pub address: SocketAddrV4,
    /// Do its connections begin with a PROXY header?
    pub accepts_proxy_header: bool,
    /// None: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Bounds of its connections.
    pub options: ServerOptions,
    /// The beginning of its log entries, as JSON: a comma, `logName`, `resource`, open at the end
    /// of the labels.
    pub log_head: String,
    /// What stands before a trace's id, as JSON: a comma, `trace`, the open text.
    pub trace_head: String,
    /// Has its log `statusDetails`, as those of global external load balancers (2.9)?
    pub status_details: bool,
    /// The labels of its metrics.
    pub labels: Vec<(&'static str, String)>,
    /// Its number in the keys of metrics.
    pub number: u32,
    /// Its URL map's seed, and how many requests there were.
    seeded: Option<(u64, AtomicU64)>,
}

impl Front {
    /// The random number of a request: from the map's seed, so that every run throws the same, or
    /// from the worker's source.
    pub(crate) fn roll(&self, ids: &Ids) -> u64 {
        match &self.seeded {
            None => ids.roll(),
            Some((seed, requests)) => {
                let nth = requests.fetch_add(1, Ordering::Relaxed);
                seed.wrapping_add(nth.wrapping_mul(0xd134_2543_de82_ef95))
            }
        }
    }
}

/// A backend service at work.
pub struct Service {
    /// Its canonical name.
    pub link: SelfLink,
    /// Headers for every request.
    pub request_headers: Vec<AddedHeader>,
    /// Headers for every answer.
    pub response_headers: Vec<AddedHeader>,
    /// Its labels of the log entry's resource, as JSON, beginning with a comma.
    pub resource: String,
    /// The same, for metrics.
    pub labels: Vec<(&'static str, String)>,
    /// What of its requests is logged.
    pub logging: Logging,
    /// What is asked before its backends are.
    pub policy: Option<Arc<security_policy::Policy>>,
    /// Its number in the keys of metrics.
    pub number: u32,
}

/// A custom header of a backend service.
pub struct AddedHeader {
    /// Name.
    pub name: HeaderName,
    /// Value.
    pub value: AddedValue,
}

/// The value of a custom header.
pub enum AddedValue {
    /// Without variables.
    Fixed(HeaderValue),
    /// To be rendered for each request.
    Rendered(CustomHeader),
}

/// Configurations in use, by their content: one that has not changed keeps its ticket keys.
#[derive(Default)]
pub struct TlsConfigs(HashMap<TlsContent, Weak<ServerConfig>>);

/// What makes two configurations different.
#[derive(PartialEq, Eq, Hash)]
struct TlsContent {
    /// PEM of chain and key.
    certificates: Vec<(String, String)>,
    ssl_policy: Option<SslPolicy>,
    server_tls_policy: Option<ServerTlsPolicy>,
}

/// Compiles a slice.
///
/// # Errors
/// All defects of the URL maps, or the first certificate that cannot be served.
pub fn compile(
    slice: InternalLbSlice,
    tls: &mut TlsConfigs,
    numbers: &mut Numbers,
    kept: &Arc<Kept>,
) -> Result<Snapshot, String> {
    let network_fronts = Fronts::compile(&slice)?;
    let InternalLbSlice { network, load_balancing, .. } = slice;
    let url_maps = url_map::Snapshot::compile(&load_balancing)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let backends = Backends::compile(&load_balancing, kept)?;
    let policies = load_balancing
        .security_policies
        .iter()
        .map(|raw| {
            let policy = security_policy::Policy::compile(raw).map_err(|defects| {
                let all = defects.iter().map(|(priority, why)| format!("rule {priority}: {why}"));
                format!("{}: {}", raw.self_link, all.collect::<Vec<_>>().join("; "))
            })?;
            Ok((&raw.self_link, Arc::new(policy)))
        })
        .collect::<Result<HashMap<_, _>, String>>()?;
    let services = url_maps
        .backend_services()
        .iter()
        .zip(&load_balancing.backend_services)
        .map(|(service, raw)| {
            let policy = raw.security_policy.as_ref().map(|link| {
                policies.get(link).cloned().ok_or_else(|| format!("there is no {link}"))
            });
            let policy = policy.transpose()?;
            compile_service(service, raw.log_config.as_ref(), policy, numbers)
        })
        .collect::<Result<_, _>>()?;
    let fronts = load_balancing
        .forwarding_rules
        .iter()
        .map(|rule| {
            let map = load_balancing.url_maps.iter().find(|m| m.self_link == rule.target.url_map);
            compile_front(&network, rule, map.and_then(|map| map.seed), tls, numbers)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let places = fronts.iter().enumerate().map(|(n, front)| (front.link.clone(), n)).collect();
    tls.0.retain(|_, config| config.strong_count() > 0);
    Ok(Snapshot { url_maps, fronts, places, services, backends, network: network_fronts })
}

impl Snapshot {
    /// The front of a listener, and its place in `fronts`. `hint` is where it was the last time.
    pub(crate) fn front(&self, link: &str, hint: usize) -> Option<(usize, &Front)> {
        let place = match self.fronts.get(hint) {
            Some(front) if *front.link == *link => hint,
            _ => *self.places.get(link)?,
        };
        self.fronts.get(place).map(|front| (place, front))
    }
}

fn compile_front(
    network: &NetworkId,
    rule: &ForwardingRule,
    seed: Option<u64>,
    tls: &mut TlsConfigs,
    numbers: &mut Numbers,
) -> Result<Front, String> {
    let link = &rule.self_link;
    let target = &rule.target;
    // As the product names them: global external, regional external and internal ones.
    let global = rule.is_external() && link.is_global();
    let (resource_type, log) = match (global, rule.is_external()) {
        (true, _) => ("http_load_balancer", "requests"),
        (_, true) => ("http_external_regional_lb_rule", "loadbalancing.googleapis.com%2Frequests"),
        (_, false) => ("internal_http_lb_rule", "loadbalancing.googleapis.com%2Frequests"),
    };
    let mut labels = vec![("project_id", link.project().to_owned())];
    match global {
        true => labels.push(("zone", rule.region.clone())),
        false => labels.push(("region", rule.region.clone())),
    }
    if !rule.is_external() {
        labels.push(("network_name", network.name.to_string()));
    }
    labels.extend([
        ("forwarding_rule_name", link.name().to_owned()),
        ("target_proxy_name", target.self_link.name().to_owned()),
        ("url_map_name", target.url_map.name().to_owned()),
    ]);
    let resource = json_of(&labels);
    let resource = resource.trim_end_matches('}');
    Ok(Front {
        link: link.as_str().into(),
        origin: rule.origin(),
        address: SocketAddrV4::new(rule.address, rule.port),
        accepts_proxy_header: target.accept_proxy_protocol,
        tls: match target.https {
            true => Some(tls.get(link, target)?),
            false => None,
        },
        options: ServerOptions {
            keep_alive: Duration::from_secs(target.http_keep_alive_timeout_sec.into()),
            http2: target.https,
            ..ServerOptions::default()
        },
        log_head: format!(
            ",\"logName\":\"projects/{}/logs/{log}\",\
             \"resource\":{{\"type\":\"{resource_type}\",\"labels\":{resource}",
            link.project()
        ),
        status_details: global,
        trace_head: format!(",\"trace\":\"projects/{}/traces/", link.project()),
        number: number(numbers, link, &labels),
        labels,
        seeded: seed.map(|seed| (seed, AtomicU64::new(0))),
    })
}

fn compile_service(
    service: &url_map::BackendService,
    log_config: Option<&LogConfig>,
    policy: Option<Arc<security_policy::Policy>>,
    numbers: &mut Numbers,
) -> Result<Service, String> {
    let added = |headers: &[CustomHeader]| {
        let refused =
            |header: &CustomHeader| format!("{}: header {}", service.self_link, header.name);
        headers
            .iter()
            .map(|header| {
                let name = HeaderName::try_from(&header.name).map_err(|_| refused(header))?;
                let fixed = header.value.iter().all(|piece| matches!(piece, Piece::Text(_)));
                let value = if fixed {
                    let text = header.render(|_, _| {});
                    AddedValue::Fixed(HeaderValue::try_from(text).map_err(|_| refused(header))?)
                } else {
                    AddedValue::Rendered(header.clone())
                };
                Ok(AddedHeader { name, value })
            })
            .collect::<Result<Vec<_>, String>>()
    };
    let mut labels = vec![
        ("backend_target_name", service.self_link.name().to_owned()),
        ("backend_target_type", "BACKEND_SERVICE".to_owned()),
    ];
    if let Some(group) = &service.group {
        labels.push(("backend_name", group.name().to_owned()));
        labels.push(("backend_type", "NETWORK_ENDPOINT_GROUP".to_owned()));
        let zone =
            group.as_str().split_once("/zones/").and_then(|(_, rest)| rest.split('/').next());
        let (scope, kind) = match zone {
            Some(zone) => (zone, "ZONE"),
            None => (group.region(), "REGION"),
        };
        labels.push(("backend_scope", scope.to_owned()));
        labels.push(("backend_scope_type", kind.to_owned()));
    }
    let resource = json_of(&labels);
    let number = number(numbers, &service.self_link, &labels);
    Ok(Service {
        link: service.self_link.clone(),
        request_headers: added(&service.request_headers)?,
        response_headers: added(&service.response_headers)?,
        resource: format!(",{}", &resource[1..resource.len() - 1]),
        labels,
        logging: Logging::compile(log_config)
            .map_err(|error| format!("{}: {error}", service.self_link))?,
        policy,
        number,
    })
}

/// Labels as a JSON object.
fn json_of(labels: &[(&'static str, String)]) -> String {
    let labels: serde_json::Map<_, _> =
        labels.iter().map(|(name, value)| (name.to_string(), value.as_str().into())).collect();
    serde_json::Value::Object(labels).to_string()
}

/// A number for every set of labels that has been in force; it grows with edits, not with requests.
pub type Numbers = HashMap<(SelfLink, Vec<(&'static str, String)>), u32>;

/// The number of a resource with these labels, so that one that changes counts under its new
/// ones; 0 stands for none.
fn number(numbers: &mut Numbers, link: &SelfLink, labels: &[(&'static str, String)]) -> u32 {
    let next = u32::try_from(numbers.len() + 1).unwrap_or(u32::MAX);
    *numbers.entry((link.clone(), labels.to_vec())).or_insert(next)
}

impl TlsConfigs {
    fn get(&mut self, rule: &SelfLink, target: &TargetProxy) -> Result<Arc<ServerConfig>, String> {
        let key = TlsContent {
            certificates: target
                .ssl_certificates
                .iter()
                .map(|one| (one.certificate.clone(), one.private_key.clone()))
                .collect(),
            ssl_policy: target.ssl_policy.clone(),
            server_tls_policy: target.server_tls_policy.clone(),
        };
        if let Some(config) = self.0.get(&key).and_then(Weak::upgrade) {
            return Ok(config);
        }
        // One by one first, to name the one that is wrong.
        for certificate in &target.ssl_certificates {
            let pem = pem(certificate);
            server_config(&[pem], ALPN)
                .map_err(|error| format!("{}: {error}", certificate.self_link))?;
        }
        let certificates: Vec<_> = target.ssl_certificates.iter().map(pem).collect();
        let policy = target.ssl_policy.as_ref().map(|policy| Policy {
            tls13_only: policy.min_tls_version == TlsVersion::Tls13,
            cipher_suites: &policy.features,
        });
        let clients = target.server_tls_policy.as_ref().map(|policy| ClientPolicy {
            allow_invalid_or_missing: policy.allow_invalid_or_missing,
            trust_anchors: &policy.trust_anchors,
            intermediate_cas: &policy.intermediate_cas,
            allowlisted_certificates: &policy.allowlisted_certificates,
        });
        let tls = ServerTls { certificates: &certificates, alpn: ALPN, policy, clients };
        let config = tls.config().map_err(|error| format!("{rule}: {error}"))?;
        self.0.insert(key, Arc::downgrade(&config));
        Ok(config)
    }
}

fn pem(certificate: &SslCertificate) -> CertifiedPem<'_> {
    CertifiedPem { chain: &certificate.certificate, key: &certificate.private_key }
}
