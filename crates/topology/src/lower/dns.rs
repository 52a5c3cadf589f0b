//! Managed zones and record sets (private-connectivity 4.2).

use super::Lowering;
use super::psc::network_of;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::{ManagedZone, ResourceRecordSet, Visibility};
use crate::model::Item;
use names::{NetworkId, SelfLink};
use slice::dns;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Default TTL of a record set, seconds, where the file names none.
const TTL_DEFAULT: u32 = 300;

/// Who bound a name to a network first.
pub(crate) type Bound = HashMap<(NetworkId, String), Mark>;

impl Lowering<'_> {
    /// All managed zones.
    pub(crate) fn zones(&mut self, bound: &mut Bound, findings: &mut Findings) {
        for item in &self.model.managed_zones.items {
            if let Some(zone) = self.zone(item, bound, findings) {
                self.topology.zones.push(zone);
            }
        }
    }

    fn zone(
        &self,
        item: &Item<ManagedZone>,
        bound: &mut Bound,
        findings: &mut Findings,
    ) -> Option<dns::ManagedZone> {
        let raw = &item.raw;
        match &raw.visibility {
            Some(visibility) if visibility.value == Visibility::Private => {}
            Some(visibility) => {
                findings.warning(
                    Code::NotYetHonoured,
                    visibility.at,
                    format!("`{}` is a public zone; only private zones are answered", item.name()),
                    "write visibility: private, or remove the zone to silence this warning",
                );
                return None;
            }
            // The API's default is public; a zone with networks means to be private.
            None if raw.private_visibility_config.is_some() || raw.peering_config.is_some() => {}
            None => {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        format!("`{}` says neither visibility nor networks; Google's default is a public zone", item.name()),
                        "add visibility: private and privateVisibilityConfig: {networks: [{networkUrl: NETWORK}]}",
                    );
                }
                return None;
            }
        }
        let dns_name = zone_name(&raw.dns_name, findings);
        let config = raw.private_visibility_config.as_ref();
        let mut networks = Vec::new();
        for network in config.iter().flat_map(|config| &config.networks) {
            let Some(id) = network_of(self, &network.network_url, &item.scope(), findings) else {
                continue;
            };
            if let Some(name) = &dns_name {
                bind(bound, &id, name, network.at, findings);
            }
            if !networks.contains(&id) {
                networks.push(id);
            }
        }
        if config.is_none_or(|config| config.networks.is_empty()) && !raw.faulty {
            findings.warning(
                Code::NoEffect,
                raw.at,
                format!("no network sees the zone `{}`", item.name()),
                "add privateVisibilityConfig: {networks: [{networkUrl: NETWORK}]}",
            );
        }
        let kind = match &raw.peering_config {
            Some(peering) => {
                if let Some(record) = raw.rrsets.first() {
                    findings.error(
                        Code::ConflictingFields,
                        record.at,
                        "a peering zone has no records of its own; names are resolved as the target network",
                        "put the records into a private zone of the target network",
                    );
                }
                let target = &peering.target_network.network_url;
                let target_id = network_of(self, target, &item.scope(), findings)?;
                if networks.contains(&target_id) {
                    findings.error(
                        Code::PeeringInvalid,
                        target.at,
                        format!("the zone leads from {target_id} to itself"),
                        "name another network as target",
                    );
                }
                dns::ZoneKind::Peering(target_id)
            }
            None => dns::ZoneKind::Private(record_sets(&raw.rrsets, dns_name.as_deref(), findings)),
        };
        Some(dns::ManagedZone { self_link: item.link.clone(), dns_name: dns_name?, networks, kind })
    }

    /// A peering zone that does not stand in `managedZones`: an Apigee DNS zone or peered domain.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn peering_zone(
        &mut self,
        self_link: SelfLink,
        name: &Text,
        from: &NetworkId,
        to: NetworkId,
        bound: &mut Bound,
        findings: &mut Findings,
    ) {
        let Some(dns_name) = zone_name(name, findings) else { return };
        bind(bound, from, &dns_name, name.at, findings);
        self.topology.zones.push(dns::ManagedZone {
            self_link,
            dns_name,
            networks: vec![from.clone()],
            kind: dns::ZoneKind::Peering(to),
        });
    }
}

/// Two zones with one name may not be bound to one network.
fn bind(bound: &mut Bound, network: &NetworkId, name: &str, at: Mark, findings: &mut Findings) {
    if let Some(first) = bound.insert((network.clone(), name.to_owned()), at) {
        let first = findings.position(first);
        findings.error(
            Code::ZoneConflict,
            at,
            format!("{network} sees a zone `{name}` already, at {first}; a network sees one zone of each name"),
            "bind the two zones to different networks (split horizon), or put the records into one zone",
        );
    }
}

/// A fully qualified name with its trailing dot, lower-cased.
fn zone_name(text: &Text, findings: &mut Findings) -> Option<String> {
    let Some(bare) = text.strip_suffix('.') else {
        findings.error(
            Code::DnsName,
            text.at,
            format!("`{}` does not end with a dot; zone names are fully qualified", text.value),
            format!("write `{}.`", text.value),
        );
        return None;
    };
    if !crate::names_rules::is_hostname(bare) {
        findings.error(
            Code::DnsName,
            text.at,
            format!("`{}` is no DNS name", text.value),
            "write a name such as internal.example.com.",
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn record_sets(
    raw: &[ResourceRecordSet],
    zone: Option<&str>,
    findings: &mut Findings,
) -> Vec<dns::ResourceRecordSet> {
    /// What a name holds so far.
    struct Name {
        at: Mark,
        cname: bool,
        types: Vec<String>,
    }
    let mut names: HashMap<String, Name> = HashMap::with_capacity(raw.len());
    let mut all = Vec::with_capacity(raw.len());
    for record in raw {
        let name = record.name.to_ascii_lowercase();
        let record_type = record.record_type.to_ascii_uppercase();
        if let Some(zone) = zone
            && !owner_name(&record.name, &name, zone, findings)
        {
            continue;
        }
        let cname = record_type == "CNAME";
        match names.get_mut(&name) {
            Some(other) if other.types.contains(&record_type) => {
                let first = findings.position(other.at);
                findings.error(
                    Code::RecordConflict,
                    record.name.at,
                    format!("`{name}` has a record set of type {record_type} already, at {first}"),
                    "put all data into one record set",
                );
                continue;
            }
            Some(other) if cname || other.cname => {
                let first = findings.position(other.at);
                findings.error(
                    Code::RecordConflict,
                    record.name.at,
                    format!("`{name}` has a CNAME and other records ({first}); a CNAME stands alone at its name"),
                    "remove the CNAME or the others",
                );
                continue;
            }
            Some(other) => other.types.push(record_type.clone()),
            None => {
                let types = vec![record_type.clone()];
                names.insert(name.clone(), Name { at: record.name.at, cname, types });
            }
        }
        if cname && zone == Some(name.as_str()) {
            findings.error(
                Code::RecordConflict,
                record.name.at,
                "a CNAME cannot stand at the top of a zone, which has SOA and NS records",
                "write an A record",
            );
        }
        let known = data_rules(record, &record_type, findings);
        if !known {
            continue;
        }
        all.push(dns::ResourceRecordSet {
            name,
            record_type,
            ttl: record.ttl.map_or(TTL_DEFAULT, |ttl| u32::try_from(ttl.0).unwrap_or(TTL_DEFAULT)),
            rrdatas: record.rrdatas.iter().map(|data| data.value.clone()).collect(),
        });
    }
    all
}

/// Is the owner name fully qualified, a name, and in the zone?
fn owner_name(written: &Text, name: &str, zone: &str, findings: &mut Findings) -> bool {
    let Some(bare) = name.strip_suffix('.') else {
        findings.error(
            Code::DnsName,
            written.at,
            format!(
                "`{}` does not end with a dot; record names are fully qualified",
                written.value
            ),
            format!("write `{}.`", written.value),
        );
        return false;
    };
    if !crate::names_rules::is_hostname(bare.strip_prefix("*.").unwrap_or(bare)) {
        findings.error(
            Code::DnsName,
            written.at,
            format!("`{}` is no DNS name", written.value),
            "write a name such as api.internal.example.com.",
        );
        return false;
    }
    let inside = name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if !inside {
        findings.error(
            Code::RecordOutsideZone,
            written.at,
            format!("`{}` is not in the zone `{zone}`", written.value),
            format!("write a name that ends with `.{zone}`, or put the record into its own zone"),
        );
    }
    inside
}

/// Does the data fit the type? Types that a private zone cannot have are refused (4.2).
fn data_rules(record: &ResourceRecordSet, record_type: &str, findings: &mut Findings) -> bool {
    const TYPES: &[&str] = &[
        "A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SOA", "SPF", "SRV",
        "SSHFP", "SVCB", "TLSA", "TXT",
    ];
    if !TYPES.contains(&record_type) {
        findings.error(
            Code::RecordData,
            record.record_type.at,
            format!("a private zone has no records of type `{}`", *record.record_type),
            format!("write one of {}", TYPES.join(", ")),
        );
        return false;
    }
    let before = findings.errors();
    if record.rrdatas.is_empty() && !record.faulty {
        findings.error(
            Code::MissingField,
            record.at,
            format!("the record set `{}` has no `rrdatas`; it would answer nothing", *record.name),
            "add rrdatas: [DATA]",
        );
    }
    if record_type == "CNAME" && record.rrdatas.len() > 1 {
        findings.error(
            Code::RecordData,
            record.rrdatas[1].at,
            "a CNAME has exactly one target",
            "remove the others",
        );
    }
    for (index, data) in record.rrdatas.iter().enumerate() {
        let text = data.trim();
        let name = |text: &str| {
            text == "." || text.strip_suffix('.').is_some_and(crate::names_rules::is_hostname)
        };
        let number = |text: &str| text.parse::<u16>().is_ok();
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (good, form) = match record_type {
            "A" => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            "AAAA" => (text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            "CNAME" | "PTR" | "NS" => (name(text), "a name with its trailing dot"),
            "MX" => (
                matches!(fields.as_slice(), [preference, host] if number(preference) && name(host)),
                "`PREFERENCE NAME.`",
            ),
            "SRV" => (
                matches!(fields.as_slice(), [priority, weight, port, host]
                    if number(priority) && number(weight) && number(port) && name(host)),
                "`PRIORITY WEIGHT PORT NAME.`",
            ),
            _ => (!text.is_empty(), "data in presentation format"),
        };
        if !good {
            findings.error(
                Code::RecordData,
                data.at,
                format!("`{}` does not fit type {record_type}", data.value),
                format!("write {form}"),
            );
        }
        // A handful is compared; long sets are left to the resolver, which does not mind.
        if index < 64 && record.rrdatas[..index].iter().any(|other| other.value == data.value) {
            findings.error(
                Code::DuplicateEntry,
                data.at,
                format!("`{}` stands in the record set twice", data.value),
                "remove one of the two",
            );
        }
    }
    findings.errors() == before
}
