//! What the program compiles from its slice: immutable, one per generation.

use crate::issuer::Issuer;
use http_proxy::tls::{CertifiedPem, ServerConfig};
use iam::Policies;
use names::NetworkId;
use slice::Subnetwork;
use slice::run::MetadataSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One generation of a network's metadata server.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) network: NetworkId,
    pub(crate) network_project_number: u64,
    subnetworks: Vec<Subnetwork>,
    /// The accounts and the keys.
    pub issuer: Issuer,
    /// Who may act as which account.
    pub(crate) policies: Policies,
    /// The certificate of Google's hosts for identity.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl Snapshot {
    /// Compiles a slice.
    ///
    /// # Errors
    /// If there is no signing key, or one cannot be read.
    pub fn compile(slice: MetadataSlice) -> Result<Self, String> {
        let own = slice.issuer.unwrap_or_default();
        let tls = match own.front_end_certificate.as_str() {
            "" => None,
            certificate => {
                let pem = CertifiedPem { chain: certificate, key: &own.front_end_private_key };
                let config = http_proxy::tls::server_config(&[pem], &["h2", "http/1.1"]);
                Some(config.map_err(|error| format!("Google's hosts for identity: {error}"))?)
            }
        };
        Ok(Snapshot {
            policies: Policies::new(&own.iam),
            tls,
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
