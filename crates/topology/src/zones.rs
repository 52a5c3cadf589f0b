//! Exported record sets find their zone: exports of `gcloud dns record-sets` do not say it.

use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::dns::ResourceRecordSet;
use crate::model::{Model, Scope};
use std::collections::HashMap;

/// Puts each exported record set into the zone with the longest name that contains it: of the same
/// file if there is one, otherwise of the same project.
pub(crate) fn place_record_sets(
    record_sets: Vec<(ResourceRecordSet, Scope, Mark)>,
    model: &mut Model,
    findings: &mut Findings,
) {
    if record_sets.is_empty() || model.managed_zones.has_broken() {
        // A zone that could not be read may be theirs.
        return;
    }
    let mut zones: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, zone) in model.managed_zones.items.iter().enumerate() {
        zones.entry(zone.raw.dns_name.to_ascii_lowercase()).or_default().push(index);
    }
    for (record_set, scope, at) in record_sets {
        let name = record_set.name.to_ascii_lowercase();
        let mut suffix = name.as_str();
        let candidates = loop {
            if let Some(all) = zones.get(suffix) {
                break all.as_slice();
            }
            match suffix.split_once('.') {
                Some((_, rest)) if !rest.is_empty() => suffix = rest,
                _ => break &[],
            }
        };
        let items = &model.managed_zones.items;
        let in_file = |index: &&usize| items[**index].raw.at.file == at.file;
        let in_project = |index: &&usize| {
            scope.project.as_ref().is_none_or(|project| items[**index].project == *project)
        };
        let mut own = candidates.iter().filter(in_file);
        let chosen = match (own.next(), own.next()) {
            (Some(index), None) => Some(*index),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let mut all = candidates.iter().filter(in_project);
                all.next().filter(|_| all.next().is_none()).copied()
            }
        };
        match chosen {
            Some(index) => model.managed_zones.items[index].raw.rrsets.push(record_set),
            None if candidates.is_empty() => findings.error(
                Code::RecordZone,
                record_set.name.at,
                format!("no zone contains `{}`; the record set belongs nowhere", *record_set.name),
                "export the zone too (gcloud dns managed-zones describe), or write the records under the zone's `rrsets`",
            ),
            None => findings.error(
                Code::RecordZone,
                record_set.name.at,
                format!("more than one zone contains `{}`; the export does not say which is meant", *record_set.name),
                "put zone and records into one file, or write the records under the zone's `rrsets`",
            ),
        }
    }
}
