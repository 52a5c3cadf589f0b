//! `postern certificate`: the identity with which a program speaks to other hosts.

use hbone::{Credentials, Identity};
use names::NetworkId;
use slice::Role;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// The network.
    pub network: NetworkId,
    /// The program.
    pub role: Role,
    /// The trust domain.
    pub trust_domain: String,
    /// How long it is good.
    pub hours: u32,
    /// Where it goes, if not below the state directory.
    pub out: Option<PathBuf>,
}

/// Issues it by the CA of the state directory, and prints where it is.
pub fn run(state_dir: &Path, request: &Request) -> ExitCode {
    match issue(state_dir, request) {
        Ok((identity, directory)) => {
            println!("{identity}");
            println!("{}", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn issue(state_dir: &Path, request: &Request) -> Result<(Identity, PathBuf), String> {
    let Request { network, role, trust_domain, hours, out } = request;
    let identity = Identity::new(trust_domain, network, *role).map_err(|e| e.to_string())?;
    keys::make_private(state_dir)?;
    let store = keys::Store::open(state_dir)?;
    let lifetime = Duration::from_secs(u64::from(*hours) * 3600);
    let (chain, key) = store.issue_identity(&identity.to_string(), lifetime)?;
    let directory =
        out.clone().unwrap_or_else(|| Credentials::directory(state_dir, network, *role));
    if out.is_none() {
        keys::make_private(&state_dir.join("identity"))?;
    }
    keys::make_private(&directory)?;
    keys::write_atomically(&directory.join("ca.pem"), store.ca_pem())?;
    // A running program takes a key and a certificate that fit together, and so not this half.
    keys::write_atomically(&directory.join("key.pem"), &key)?;
    keys::write_atomically(&directory.join("certificate.pem"), &chain)?;
    Ok((identity, directory))
}
