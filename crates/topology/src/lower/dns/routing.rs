//! Routing policies of record sets: their load balancers are forwarding rules of the topology.

use super::Lowering;
use super::network_of;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::dns::{GeoPolicy, HealthCheckedTargets, LoadBalancerTarget, RoutingPolicy};
use crate::model::Scope;
use crate::names_rules::check_region;
use crate::reference::last_segment;
use slice::dns;

impl Lowering<'_> {
    /// Nothing where a mistake was reported.
    pub(super) fn routing_policy(
        &self,
        raw: &RoutingPolicy,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<dns::RoutingPolicy> {
        match (&raw.wrr, &raw.geo, &raw.primary_backup) {
            (Some(wrr), None, None) => {
                let mut items = Vec::with_capacity(wrr.items.len());
                for item in &wrr.items {
                    let checked = item.health_checked_targets.as_ref();
                    items.push(dns::WrrItem {
                        weight: item.weight.0,
                        rrdatas: texts(&item.rrdatas),
                        health_checked_targets: self.targets(checked, scope, findings)?,
                    });
                }
                Some(dns::RoutingPolicy::Wrr(items))
            }
            (None, Some(geo), None) => {
                self.geo_policy(geo, scope, findings).map(dns::RoutingPolicy::Geo)
            }
            (None, None, Some(policy)) => {
                let backup = self.geo_policy(&policy.backup_geo_targets, scope, findings);
                let primary = self.targets(Some(&policy.primary_targets), scope, findings)?;
                Some(dns::RoutingPolicy::PrimaryBackup(dns::PrimaryBackup {
                    primary,
                    backup: backup?,
                    trickle_traffic: policy.trickle_traffic.as_ref().map_or(0.0, |share| share.0),
                }))
            }
            _ => {
                if !raw.faulty {
                    findings.error(
                        Code::RoutingPolicy,
                        raw.at,
                        "a routing policy has exactly one of wrr, geo and primaryBackup; they cannot be combined",
                        "keep one of them; only the backup of a primaryBackup policy is a geo policy",
                    );
                }
                None
            }
        }
    }

    fn geo_policy(
        &self,
        raw: &GeoPolicy,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<dns::GeoPolicy> {
        let mut items = Vec::with_capacity(raw.items.len());
        for item in &raw.items {
            check_region(&item.location, item.location.at, findings);
            let checked = item.health_checked_targets.as_ref();
            items.push(dns::GeoItem {
                location: item.location.value.clone(),
                rrdatas: texts(&item.rrdatas),
                health_checked_targets: self.targets(checked, scope, findings)?,
            });
        }
        Some(dns::GeoPolicy { items, enable_fencing: raw.enable_fencing.unwrap_or(false) })
    }

    fn targets(
        &self,
        raw: Option<&HealthCheckedTargets>,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<Vec<dns::HealthCheckedTarget>> {
        let raw = raw.map_or(&[][..], |raw| &raw.internal_load_balancers);
        let targets: Vec<_> =
            raw.iter().map(|target| self.target(target, scope, findings)).collect();
        targets.into_iter().collect()
    }

    /// The target "must match the configuration of the load balancer located at the target's IP
    /// address, port, and region" (`RRSetRoutingPolicyLoadBalancerTarget`).
    fn target(
        &self,
        raw: &LoadBalancerTarget,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<dns::HealthCheckedTarget> {
        let network = network_of(self, &raw.network_url, scope, findings)?;
        let address = raw.ip_address.value;
        let Some(port) = raw.port.value.0.parse::<u16>().ok().filter(|port| *port > 0) else {
            findings.error(
                Code::InvalidValue,
                raw.port.at,
                format!("`{}` is no port", raw.port.value.0),
                "write a number from 1 to 65535",
            );
            return None;
        };
        let rules = &self.model.forwarding_rules.items;
        let rule = rules.iter().find(|rule| {
            let placed = self.addresses.placed.get(&rule.link);
            !self.endpoint_rules.contains(&rule.link)
                && placed.is_some_and(|at| at.network == network && at.address == address)
        });
        let Some(rule) = rule else {
            findings.error(
                Code::RoutingPolicy,
                raw.ip_address.at,
                format!("no forwarding rule of {network} has the address {address}"),
                "write the address of an internal load balancer's forwarding rule",
            );
            return None;
        };
        for (what, written, is) in
            [("region", &raw.region, rule.region()), ("project", &raw.project, &*rule.project)]
        {
            let other = written.as_ref().filter(|text| last_segment(text) != is);
            if let Some(other) = other {
                findings.error(
                    Code::RoutingPolicy,
                    other.at,
                    format!("`{}` is in the {what} {is}, not in {}", rule.name(), other.value),
                    format!("write {what}: {is}"),
                );
            }
        }
        Some(dns::HealthCheckedTarget {
            address,
            port,
            network,
            forwarding_rule: rule.link.clone(),
        })
    }
}

fn texts(all: &[Text]) -> Vec<String> {
    all.iter().map(|text| text.value.clone()).collect()
}
