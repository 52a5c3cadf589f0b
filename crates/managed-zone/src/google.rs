//! Names that no managed zone holds: Compute Engine's internal DNS (step 4 of the resolution
//! order) and what stands here for the public DNS (step 5; private-connectivity 4.1, 4.2).

use slice::dns::{DnsInstance, ResourceRecordSet};
use slice::{METADATA_ADDRESS, PRIVATE_VIP, PUBLIC_VIP, RESTRICTED_VIP};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A zone that is made and not declared.
pub(crate) struct SyntheticZone {
    pub(crate) dns_name: String,
    pub(crate) record_sets: Vec<ResourceRecordSet>,
}

/// TTL of `metadata.google.internal` (unconfirmed).
const METADATA_TTL: u32 = 3600;
/// TTL of instance names, forward and reverse (observed).
const INSTANCE_TTL: u32 = 30;
/// TTL of Google's public addresses (observed).
const PUBLIC_TTL: u32 = 300;
/// The SOA record behind the names of Google's own zones here (unconfirmed).
const GOOGLE_SOA: &str = "ns1.google.com. dns-admin.google.com. 1 900 900 1800 60";
/// The root's SOA record, as a resolver gives it with a name that does not exist (observed; the
/// serial is a date there).
const ROOT_SOA: &str =
    "a.root-servers.net. nstld.verisign-grs.com. 2026040800 1800 900 604800 86400";
const ROOT_NS: &str = "a.root-servers.net.";
const GOOGLE_NS: &str = "ns1.google.com.";

/// The PTR records of instances, by name (4.1 step 4, and managed reverse lookup zones).
pub(crate) fn reverse_records(instances: &[&DnsInstance]) -> Vec<ResourceRecordSet> {
    let mut reverse: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for instance in instances {
        let [a, b, c, d] = instance.address.octets();
        push(&mut reverse, format!("{d}.{c}.{b}.{a}.in-addr.arpa."), internal_name(instance));
    }
    let set = |(name, rrdatas)| record_set(name, "PTR", INSTANCE_TTL, rrdatas);
    reverse.into_iter().map(set).collect()
}

/// `NAME.ZONE.c.PROJECT.internal.`
fn internal_name(instance: &DnsInstance) -> String {
    let DnsInstance { network: _, name, zone, project, address: _ } = instance;
    // A domain-scoped project id such as `example.com:p` is written `p.example.com` here.
    let project = match project.split_once(':') {
        Some((domain, id)) => format!("{id}.{domain}"),
        None => project.clone(),
    };
    format!("{name}.{zone}.c.{project}.internal.").to_ascii_lowercase()
}

/// `*.internal` and reverse names of one network with these instances.
pub(crate) fn internal_zones(instances: &[&DnsInstance]) -> Vec<SyntheticZone> {
    let mut forward: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for instance in instances {
        push(&mut forward, internal_name(instance), instance.address.to_string());
    }
    let reverse = reverse_records(instances);
    let mut internal = vec![
        record("internal.", "SOA", METADATA_TTL, GOOGLE_SOA),
        record("internal.", "NS", METADATA_TTL, GOOGLE_NS),
        address("metadata.google.internal.", METADATA_TTL, METADATA_ADDRESS),
    ];
    let set = |(name, rrdatas)| record_set(name, "A", INSTANCE_TTL, rrdatas);
    internal.extend(forward.into_iter().map(set));
    let mut zones = vec![SyntheticZone { dns_name: "internal.".to_owned(), record_sets: internal }];
    if !reverse.is_empty() {
        let mut arpa = vec![
            record("in-addr.arpa.", "SOA", METADATA_TTL, GOOGLE_SOA),
            record("in-addr.arpa.", "NS", METADATA_TTL, GOOGLE_NS),
        ];
        arpa.extend(reverse);
        zones.push(SyntheticZone { dns_name: "in-addr.arpa.".to_owned(), record_sets: arpa });
    }
    zones
}

/// The public DNS as far as Postern simulates it: Google's front ends. One address each, the
/// first of the range: the one at which a front end listens in every network.
pub(crate) fn public_zones() -> Vec<SyntheticZone> {
    let google = |dns_name: &str, addresses: &[(&str, Ipv4Addr)]| {
        let mut record_sets = vec![
            record(dns_name, "SOA", PUBLIC_TTL, GOOGLE_SOA),
            record(dns_name, "NS", PUBLIC_TTL, GOOGLE_NS),
        ];
        record_sets.extend(addresses.iter().map(|(name, to)| address(name, PUBLIC_TTL, *to)));
        SyntheticZone { dns_name: dns_name.to_owned(), record_sets }
    };
    vec![
        google("run.app.", &[("*.run.app.", PUBLIC_VIP), ("*.a.run.app.", PUBLIC_VIP)]),
        google("google.com.", &[("accounts.google.com.", PUBLIC_VIP)]),
        google(
            "googleapis.com.",
            &[
                ("googleapis.com.", PUBLIC_VIP),
                ("*.googleapis.com.", PUBLIC_VIP),
                ("private.googleapis.com.", PRIVATE_VIP),
                ("restricted.googleapis.com.", RESTRICTED_VIP),
            ],
        ),
        SyntheticZone {
            dns_name: ".".to_owned(),
            record_sets: vec![
                record(".", "SOA", 86400, ROOT_SOA),
                record(".", "NS", 518_400, ROOT_NS),
            ],
        },
    ]
}

fn push(sets: &mut BTreeMap<String, Vec<String>>, name: String, value: String) {
    let values = sets.entry(name).or_default();
    if !values.contains(&value) {
        values.push(value);
    }
}

fn address(name: &str, ttl: u32, to: Ipv4Addr) -> ResourceRecordSet {
    record(name, "A", ttl, &to.to_string())
}

fn record(name: &str, record_type: &str, ttl: u32, value: &str) -> ResourceRecordSet {
    record_set(name.to_owned(), record_type, ttl, vec![value.to_owned()])
}

fn record_set(
    name: String,
    record_type: &str,
    ttl: u32,
    rrdatas: Vec<String>,
) -> ResourceRecordSet {
    ResourceRecordSet {
        name,
        record_type: record_type.to_owned(),
        ttl,
        rrdatas,
        routing_policy: None,
    }
}
