//! Names that Private Service Connect endpoints get by themselves (private-connectivity 1.6).

use super::{Bound, Lowering};
use crate::diagnostic::{Code, Findings, Mark};
use names::{NetworkId, SelfLink};
use slice::dns::{ManagedZone, ResourceRecordSet, ZoneKind};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// TTL of automatic records, seconds (unconfirmed).
const TTL: u32 = 300;

/// Below this name stand the names of endpoints for Google APIs: `SERVICE-ENDPOINT.p.googleapis.com`.
const GOOGLE_APIS: &str = "p.googleapis.com.";

/// The services that get such a name: commonly used ones, which the documentation describes so and
/// does not list (unconfirmed).
const SERVICES: &[&str] = &[
    "aiplatform",
    "artifactregistry",
    "bigquery",
    "bigquerystorage",
    "bigtable",
    "cloudbuild",
    "cloudfunctions",
    "cloudkms",
    "cloudresourcemanager",
    "compute",
    "container",
    "containerregistry",
    "datastore",
    "dns",
    "firestore",
    "iam",
    "iamcredentials",
    "logging",
    "monitoring",
    "oauth2",
    "pubsub",
    "run",
    "secretmanager",
    "servicedirectory",
    "spanner",
    "sqladmin",
    "storage",
    "sts",
    "workflows",
];

/// One automatic zone.
#[derive(Default)]
struct Names {
    at: Option<Mark>,
    records: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Lowering<'_> {
    /// The automatic zones, one for each network and domain. Comes after all other zones: those
    /// that are declared win.
    pub(crate) fn automatic_zones(&mut self, bound: &mut Bound, findings: &mut Findings) {
        let mut zones: BTreeMap<(NetworkId, String), Names> = BTreeMap::new();
        let mut add = |network: &NetworkId, domain: &str, name: String, at, address| {
            let zone = zones.entry((network.clone(), domain.to_owned())).or_default();
            zone.at = zone.at.or(at);
            zone.records.entry(name).or_default().push(address);
        };
        for (at, endpoint) in &self.endpoints {
            let Some(name) = &endpoint.automatic_dns_name else { continue };
            let name = name.to_ascii_lowercase();
            if let Some((_, domain)) = name.split_once('.').filter(|(_, rest)| !rest.is_empty()) {
                add(&endpoint.network, domain, name.clone(), Some(*at), endpoint.address);
            }
        }
        for endpoint in &self.topology.google_apis_endpoints {
            if endpoint.automatic_dns {
                for service in SERVICES {
                    let name = format!("{service}-{}.{GOOGLE_APIS}", endpoint.self_link.name());
                    add(&endpoint.network, GOOGLE_APIS, name, None, endpoint.address);
                }
            }
        }
        for ((network, dns_name), names) in zones {
            if let Some(first) = bound.get(&(network.clone(), dns_name.clone())) {
                let declared = findings.position(*first);
                findings.warning(
                    Code::NoEffect,
                    names.at.unwrap_or(*first),
                    format!("{network} sees a zone `{dns_name}` already, at {declared}; the endpoint's automatic name is not in it"),
                    "add the endpoint's record to that zone, or set noAutomateDnsZone: true",
                );
                continue;
            }
            let record = |(name, addresses): (String, Vec<Ipv4Addr>)| ResourceRecordSet {
                name,
                record_type: "A".to_owned(),
                ttl: TTL,
                rrdatas: addresses.iter().map(ToString::to_string).collect(),
                routing_policy: None,
            };
            self.topology.zones.push(ManagedZone {
                self_link: zone_link(&network, &dns_name),
                kind: ZoneKind::Private(names.records.into_iter().map(record).collect()),
                dns_name,
                networks: vec![network],
            });
        }
    }
}

/// What the Service Directory zone is called that holds the names (unconfirmed).
fn zone_link(network: &NetworkId, dns_name: &str) -> SelfLink {
    let domain = dns_name.trim_end_matches('.').replace('.', "-");
    let (project, name) = (&network.project, &network.name);
    SelfLink::new(&format!("projects/{project}/managedZones/{name}--{domain}"))
}
