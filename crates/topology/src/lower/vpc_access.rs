//! Direct VPC egress of Cloud Run revisions (cloud-run 3.4 `vpcAccess`, 4).

use super::Lowering;
use super::fabric::{Location, locate};
use super::firewalls::check_tag;
use crate::diagnostic::{Code, Findings};
use crate::fields::cloud_run::{Service, VpcAccess, VpcEgress};
use crate::model::{Item, Scope};
use names::NetworkId;
use slice::{Purpose, run};

/// A revision has one interface in a VPC network (3.4).
const INTERFACES_MAX: usize = 1;

impl Lowering<'_> {
    /// The instances' way into a VPC network.
    pub(super) fn vpc_access(
        &self,
        raw: Option<&VpcAccess>,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<run::VpcAccess> {
        let raw = raw?;
        if let Some(second) = raw.network_interfaces.get(INTERFACES_MAX) {
            findings.error(
                Code::ListTooLong,
                second.at,
                "a revision has at most one network interface",
                "keep one",
            );
        }
        let Some(interface) = raw.network_interfaces.first() else {
            if let Some(egress) = &raw.egress {
                findings.warning(
                    Code::NoEffect,
                    egress.at,
                    "`egress` says what goes into a VPC network, and none is named",
                    "add networkInterfaces: [{network: NETWORK, subnetwork: SUBNETWORK}], or remove it",
                );
            }
            return None;
        };
        for tag in &interface.tags {
            check_tag(tag, findings);
        }
        let location = Location {
            network: interface.network.as_ref(),
            subnetwork: interface.subnetwork.as_ref(),
            address: None,
            scope: scope.clone(),
            at: interface.at,
            called: "the service",
        };
        let (network, index) = locate(self.model, &self.fabric, &location, findings)?;
        let subnet = &self.fabric.nets.get(&network)?.subnets[index];
        if subnet.purpose != Purpose::Private {
            let at = interface.subnetwork.as_ref().map_or(interface.at, |text| text.at);
            findings.error(
                Code::SubnetPurpose,
                at,
                format!("{} is not for workloads", subnet.link),
                "name a subnetwork with purpose PRIVATE",
            );
            return None;
        }
        Some(run::VpcAccess {
            network,
            subnetwork: subnet.link.clone(),
            tags: interface.tags.iter().map(|tag| tag.value.clone()).collect(),
            egress: match raw.egress.as_ref().map(|egress| egress.value) {
                Some(VpcEgress::AllTraffic) => run::VpcEgress::AllTraffic,
                Some(VpcEgress::PrivateRangesOnly) | None => run::VpcEgress::PrivateRangesOnly,
            },
        })
    }

    /// The networks that count as internal sources: those of the service's own project, and the one
    /// that it egresses into (4).
    pub(super) fn internal_networks(
        &self,
        item: &Item<Service>,
        access: Option<&run::VpcAccess>,
    ) -> Vec<NetworkId> {
        let own = self.fabric.order.iter().filter(|id| *id.project == *item.project);
        let mut networks: Vec<NetworkId> = own.cloned().collect();
        if let Some(access) = access.filter(|access| !networks.contains(&access.network)) {
            networks.push(access.network.clone());
        }
        networks
    }
}
