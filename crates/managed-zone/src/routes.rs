//! Routing policies as files say them, checked and compiled to [`Routing`].

use crate::compile::{Problem, record};
use crate::record_type::RecordType;
use crate::routing::{Geo, Item, Routing};
use crate::targets::Targets;
use slice::dns::{GeoPolicy, HealthCheckedTarget, RoutingPolicy};
use std::collections::HashSet;

/// Compiles the policy of a record set of this type and TTL.
pub(crate) fn compile(
    record_type: RecordType,
    ttl: u32,
    policy: &RoutingPolicy,
    targets: &mut Targets,
) -> Result<Routing, Problem> {
    // The types that the page on routing policies of Cloud DNS names.
    if !matches!(
        record_type,
        RecordType::A
            | RecordType::AAAA
            | RecordType::CNAME
            | RecordType::MX
            | RecordType::SRV
            | RecordType::TXT
    ) {
        return Err(Problem::RoutingType(record_type));
    }
    let mut compiling = Compiling { record_type, ttl, targets };
    match policy {
        RoutingPolicy::Wrr(items) => {
            let mut all = Vec::with_capacity(items.len());
            for item in items {
                if !(item.weight.is_finite() && item.weight >= 0.0) {
                    return Err(Problem::Weight(item.weight.to_string()));
                }
                all.push((
                    item.weight,
                    compiling.item(&item.rrdatas, &item.health_checked_targets)?,
                ));
            }
            if all.is_empty() {
                return Err(Problem::RoutingItems("no items"));
            }
            Ok(Routing::Wrr(all))
        }
        RoutingPolicy::Geo(geo) => Ok(Routing::Geo(compiling.geo(geo)?)),
        RoutingPolicy::PrimaryBackup(policy) => {
            let trickle = policy.trickle_traffic;
            if !(0.0..=1.0).contains(&trickle) {
                return Err(Problem::Trickle(trickle.to_string()));
            }
            let primary = compiling.item(&[], &policy.primary)?;
            Ok(Routing::PrimaryBackup { primary, backup: compiling.geo(&policy.backup)?, trickle })
        }
    }
}

struct Compiling<'t> {
    record_type: RecordType,
    ttl: u32,
    targets: &'t mut Targets,
}

impl Compiling<'_> {
    fn geo(&mut self, policy: &GeoPolicy) -> Result<Geo, Problem> {
        let mut items: Vec<(Box<str>, Item)> = Vec::with_capacity(policy.items.len());
        for item in &policy.items {
            if items.iter().any(|(location, _)| **location == *item.location) {
                return Err(Problem::RoutingLocation(item.location.clone()));
            }
            let compiled = self.item(&item.rrdatas, &item.health_checked_targets)?;
            items.push((item.location.as_str().into(), compiled));
        }
        if items.is_empty() {
            return Err(Problem::RoutingItems("no items for any location"));
        }
        Ok(Geo { items, fenced: policy.enable_fencing })
    }

    fn item(
        &mut self,
        rrdatas: &[String],
        checked: &[HealthCheckedTarget],
    ) -> Result<Item, Problem> {
        if rrdatas.is_empty() && checked.is_empty() {
            return Err(Problem::RoutingItems("an item without rrdatas and targets"));
        }
        if !checked.is_empty() && self.record_type != RecordType::A {
            // AAAA targets would be IPv6 addresses, which load balancers do not have here.
            return Err(Problem::RoutingItems("health checked targets, which A records have only"));
        }
        if self.record_type == RecordType::CNAME && rrdatas.len() > 1 {
            return Err(Problem::NotSingle(RecordType::CNAME));
        }
        let mut item = Item::default();
        let mut values = HashSet::new();
        for text in rrdatas {
            let mut wire = Vec::new();
            record(self.record_type, self.ttl, text, &mut wire).map_err(Problem::Rdata)?;
            if !values.insert(wire.clone()) {
                return Err(Problem::DuplicateValue);
            }
            item.records.push((wire.into_boxed_slice(), None));
        }
        for target in checked {
            let mut wire = Vec::new();
            let text = target.address.to_string();
            record(self.record_type, self.ttl, &text, &mut wire).map_err(Problem::Rdata)?;
            if !values.insert(wire.clone()) {
                return Err(Problem::DuplicateValue);
            }
            item.records.push((wire.into_boxed_slice(), Some(self.targets.add(target))));
        }
        Ok(item)
    }
}
