//! From the slice to a snapshot: bundles read and checked, certificates parsed.

use crate::tls::ClientConfigs;
use http_proxy::tls::ServerConfig;
use http_proxy::tls::{CertifiedPem, server_config};
use policy_bundle::Platform;
use slice::apigee::ApiProxySlice;
use std::sync::Arc;

/// One generation.
pub struct Snapshot {
    pub(crate) platform: Platform,
    pub(crate) organization: Arc<str>,
    pub(crate) project: Arc<str>,
    /// None where no host is published.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) clients: ClientConfigs,
}

/// The server's TLS configuration and the PEM texts that it was made of.
pub(crate) struct ServerTls {
    chain: String,
    key: String,
    config: Arc<ServerConfig>,
}

/// Compiles a slice.
///
/// # Errors
/// Every mistake in every bundle, one a line.
pub(crate) fn compile(
    slice: &ApiProxySlice,
    kept: &mut Option<ServerTls>,
) -> Result<Snapshot, String> {
    let platform = Platform::compile(&slice.organization, |deployment| {
        policy_bundle::read(&deployment.bundle)
    })
    .map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let tls = match slice.northbound {
        None => None,
        Some(_) => Some(northbound(slice, kept)?),
    };
    Ok(Snapshot {
        platform,
        organization: slice.organization.name.as_str().into(),
        project: slice.organization.project.as_str().into(),
        tls,
        clients: ClientConfigs::new(&slice.trust)?,
    })
}

fn northbound(
    slice: &ApiProxySlice,
    kept: &mut Option<ServerTls>,
) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = (&slice.certificate, &slice.private_key);
    if let Some(kept) = kept
        && kept.chain == *chain
        && kept.key == *key
    {
        return Ok(kept.config.clone());
    }
    let config = server_config(&[CertifiedPem { chain, key }], &["h2", "http/1.1"])
        .map_err(|error| format!("the northbound certificate: {error}"))?;
    *kept = Some(ServerTls { chain: chain.clone(), key: key.clone(), config: config.clone() });
    Ok(config)
}
