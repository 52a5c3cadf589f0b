//! Where Cloud Run instances are: each has a leaf of its own, outside of every VPC network, with a
//! second address in the network that its revision egresses into (cloud-run 4).

use crate::supervise::Supervisor;
use crate::workloads::{Kind, Running};
use names::NetworkId;
use slice::run::{VpcAccess, VpcEgress};
use slice::{SpawnInstance, Workload};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

impl Supervisor {
    /// Makes an instance's leaf and tells those who have to know who is there. Answers with its
    /// number and where `cloud-run` reaches it.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn place_instance(
        &mut self,
        spawn: &SpawnInstance,
    ) -> Result<(u64, SocketAddr), String> {
        let internet = NetworkId::internet();
        let failed = |error: std::io::Error| format!("{}: {error}", spawn.name);
        // It has this address in any case: `cloud-run` reaches it there.
        let own = vpc::instance_address(|address| self.workloads.is_running(&internet, address))
            .ok_or("no instance address is free")?;
        let (network, address, tags, outside) = match &spawn.vpc_access {
            None => (internet, own, Vec::new(), None),
            Some(access) => {
                let outside = (access.egress == VpcEgress::PrivateRangesOnly).then_some(own);
                let address = self.egress_address(access)?;
                (access.network.clone(), address, access.tags.clone(), outside)
            }
        };
        let platform = (address != own).then_some(own);
        let actual =
            self.surroundings.instance_address(own, spawn.container_port).map_err(failed)?;
        let workload = Workload {
            name: spawn.name.clone(),
            network: network.clone(),
            address,
            project: spawn.project.clone(),
            project_number: spawn.project_number,
            zone: format!("{}-1", spawn.region),
            region: spawn.region.clone(),
            tags,
            service_account: spawn.service_account.clone(),
            instance_id: spawn.instance_id.clone(),
            serverless: true,
            outside,
            metadata: BTreeMap::new(),
        };
        let leaf = self.surroundings.add_leaf(&workload, platform).map_err(failed)?;
        let number = self.workloads.add(Running {
            workload,
            kind: Kind::Instance,
            namespace: leaf.namespace,
            platform,
            pid: None,
            actual: Some(actual),
            gateway: None,
        });
        self.tell_network(&network);
        Ok((number, actual))
    }

    fn egress_address(&self, access: &VpcAccess) -> Result<Ipv4Addr, String> {
        let VpcAccess { network, subnetwork, .. } = access;
        let declared = self.topology.networks.iter().find(|known| known.id == *network);
        let declared = declared.ok_or_else(|| format!("there is no network {network}"))?;
        let taken = |address| {
            self.workloads.is_running(network, address)
                || vpc::is_declared(&self.topology, network, address)
        };
        vpc::egress_address(declared, subnetwork, taken)
            .ok_or_else(|| format!("{subnetwork} has no free address for an instance"))
    }
}
