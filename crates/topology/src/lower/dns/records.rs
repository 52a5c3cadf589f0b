//! Record sets, and what is wrong with them.

use super::Lowering;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::ResourceRecordSet;
use crate::model::Scope;
use managed_zone::{Problem, ZoneError};
use slice::dns;

/// Default TTL of a record set, seconds, where the file names none.
const TTL_DEFAULT: u32 = 300;

impl Lowering<'_> {
    /// The record sets of a zone and where each of them stands in the file. What is wrong with names
    /// and data is said by [`managed_zone::check`], which is what the resolver goes by.
    pub(super) fn record_sets<'z>(
        &self,
        raw: &'z [ResourceRecordSet],
        scope: &Scope,
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
            let routing_policy = match &record.routing_policy {
                None => None,
                Some(policy) => match self.routing_policy(policy, scope, findings) {
                    Some(policy) => Some(Box::new(policy)),
                    None => continue,
                },
            };
            written.push(record);
            all.push(dns::ResourceRecordSet {
                name: record.name.to_ascii_lowercase(),
                record_type: record.record_type.to_ascii_uppercase(),
                ttl: record
                    .ttl
                    .map_or(TTL_DEFAULT, |ttl| u32::try_from(ttl.0).unwrap_or(TTL_DEFAULT)),
                rrdatas: record.rrdatas.iter().map(|data| data.value.clone()).collect(),
                routing_policy,
            });
        }
        (all, written)
    }
}

/// A mistake in a zone's records, where it stands in the file.
pub(super) fn report(
    error: &ZoneError,
    zone: Mark,
    written: &[&ResourceRecordSet],
    findings: &mut Findings,
) {
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
        Problem::RoutingType(_) => (Code::RoutingPolicy, of_type, "write rrdatas instead"),
        Problem::RoutingItems(_) => (Code::RoutingPolicy, whole, "add the items and their data"),
        Problem::RoutingLocation(_) => (Code::RoutingPolicy, whole, "keep one item for a region"),
        Problem::Weight(_) | Problem::Trickle(_) => {
            (Code::RoutingPolicy, whole, "write a number such as 0.5")
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
