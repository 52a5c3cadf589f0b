//! What the program compiles from its slice: immutable, one per generation.

use crate::issuer::Issuer;
use names::NetworkId;
use slice::Subnetwork;
use slice::run::MetadataSlice;
use std::net::Ipv4Addr;

/// One generation of a network's metadata server.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) network: NetworkId,
    pub(crate) network_project_number: u64,
    subnetworks: Vec<Subnetwork>,
    /// The accounts and the keys.
    pub issuer: Issuer,
}

impl Snapshot {
    /// Compiles a slice.
    ///
    /// # Errors
    /// If there is no signing key, or one cannot be read.
    pub fn compile(slice: MetadataSlice) -> Result<Self, String> {
        Ok(Snapshot {
            network: slice.network,
            network_project_number: slice.network_project_number,
            subnetworks: slice.subnetworks,
            issuer: Issuer::new(&slice.signing_keys, slice.service_accounts)?,
        })
    }

    pub(crate) fn subnetwork(&self, address: Ipv4Addr) -> Option<&Subnetwork> {
        self.subnetworks.iter().find(|subnetwork| subnetwork.range.contains(&address))
    }
}
