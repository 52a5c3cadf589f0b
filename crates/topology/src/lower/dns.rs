//! Managed zones and record sets (private-connectivity 4.2).

use super::Lowering;
use super::psc::network_of;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::{ManagedZone, ResourceRecordSet, Visibility};
use crate::model::Item;
use managed_zone::{Problem, ZoneError};
use names::{NetworkId, SelfLink};
use slice::dns;
use std::collections::HashMap;

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
            None => {
                let (sets, written) = record_sets(&raw.rrsets, findings);
                let zone = dns::ManagedZone {
                    self_link: item.link.clone(),
                    dns_name: dns_name?,
                    networks,
                    kind: dns::ZoneKind::Private(sets),
                };
                for error in managed_zone::check(&zone) {
                    report(&error, raw.at, &written, findings);
                }
                return Some(zone);
            }
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

/// The record sets of a zone and where each of them stands in the file. What is wrong with names
/// and data is said by [`managed_zone::check`], which is what the resolver goes by.
fn record_sets<'z>(
    raw: &'z [ResourceRecordSet],
    findings: &mut Findings,
) -> (Vec<dns::ResourceRecordSet>, Vec<&'z ResourceRecordSet>) {
    let mut all = Vec::with_capacity(raw.len());
    let mut written = Vec::with_capacity(raw.len());
    for record in raw {
        if !record.name.ends_with('.') {
            findings.error(
                Code::DnsName,
                record.name.at,
                format!(
                    "`{}` does not end with a dot; record names are fully qualified",
                    record.name.value
                ),
                format!("write `{}.`", record.name.value),
            );
            continue;
        }
        if record.faulty && record.rrdatas.is_empty() {
            continue;
        }
        written.push(record);
        all.push(dns::ResourceRecordSet {
            name: record.name.to_ascii_lowercase(),
            record_type: record.record_type.to_ascii_uppercase(),
            ttl: record.ttl.map_or(TTL_DEFAULT, |ttl| u32::try_from(ttl.0).unwrap_or(TTL_DEFAULT)),
            rrdatas: record.rrdatas.iter().map(|data| data.value.clone()).collect(),
            routing_policy: None,
        });
    }
    (all, written)
}

/// A mistake in a zone's records, where it stands in the file.
fn report(error: &ZoneError, zone: Mark, written: &[&ResourceRecordSet], findings: &mut Findings) {
    let record = error.record_set.and_then(|index| written.get(index));
    let whole = record.map_or(zone, |record| record.at);
    let name = record.map_or(zone, |record| record.name.at);
    let of_type = record.map_or(zone, |record| record.record_type.at);
    let data = record.zip(error.rrdata).and_then(|(record, index)| record.rrdatas.get(index));
    let data = data.map_or(whole, |data| data.at);
    let (code, at, fix) = match &error.problem {
        Problem::Name(_) => (Code::DnsName, name, "write a name such as api.internal.example.com."),
        Problem::OutsideZone(_) => {
            (Code::RecordOutsideZone, name, "correct the name, or put the record into its own zone")
        }
        Problem::Type(_) => (Code::RecordData, of_type, "correct the type"),
        Problem::Ttl(_) => (Code::InvalidValue, whole, "write a shorter ttl, such as 300"),
        Problem::NoData => (Code::MissingField, whole, "add rrdatas: [DATA]"),
        Problem::Rdata(_) => (Code::RecordData, data, "write the data in presentation format"),
        Problem::DuplicateValue => (Code::DuplicateEntry, data, "remove one of the two"),
        Problem::DuplicateRecordSet => {
            (Code::RecordConflict, name, "put all data into one record set")
        }
        Problem::CnameBesideOthers => {
            (Code::RecordConflict, name, "remove the CNAME or the other records of the name")
        }
        Problem::NotSingle(_) => (Code::RecordConflict, name, "keep one record"),
        Problem::SoaBelowApex => (Code::RecordConflict, name, "remove the record set"),
        Problem::RoutingType(_) => (Code::RecordData, of_type, "write rrdatas instead"),
        Problem::RoutingItems(_) => (Code::MissingField, whole, "add the items and their data"),
        Problem::RoutingLocation(_) => (Code::DuplicateEntry, whole, "keep one item for a region"),
        Problem::Weight(_) | Problem::Trickle(_) => {
            (Code::InvalidValue, whole, "write a number such as 0.5")
        }
        Problem::DataAndRouting => (Code::ConflictingFields, whole, "keep one of the two"),
        Problem::WildcardNs => (Code::RecordConflict, name, "remove the record set"),
        Problem::NotTheRulesName(_) => (Code::RecordOutsideZone, name, "write the rule's dnsName"),
        Problem::NotInLocalData(_) => (Code::RecordConflict, of_type, "remove the record set"),
        Problem::RecordSetSize(_) => (Code::ListTooLong, whole, "use several names"),
        Problem::ZoneSize => (Code::ListTooLong, zone, "split the zone"),
    };
    let what = match error.record.as_str() {
        "" => error.problem.to_string(),
        record => format!("{record}: {}", error.problem),
    };
    findings.error(code, at, what, fix);
}
