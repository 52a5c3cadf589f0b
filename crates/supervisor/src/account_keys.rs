//! `postern keys`: keys of service accounts, and the rotation of the issuer's own.

use crate::client;
use keys::AccountKeys;
use slice::Topology;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes a key file for a service account of the topology, or of the one that runs; prints where
/// it is. It is good at once.
pub fn create(
    state_dir: &Path,
    email: &str,
    topology: Option<&Path>,
    out: Option<PathBuf>,
) -> ExitCode {
    done(topology_of(state_dir, topology).and_then(|topology| {
        let account = topology
            .service_accounts
            .iter()
            .find(|account| account.email.eq_ignore_ascii_case(email))
            .ok_or_else(|| format!("the topology has no service account {email}"))?;
        keys::make_private(state_dir)?;
        keys::Store::open(state_dir)?;
        let made = AccountKeys::new(state_dir).create(account)?;
        let path = match out {
            None => made.path,
            Some(out) => {
                keys::write_atomically(&out, &made.json)?;
                out
            }
        };
        println!("{}", path.display());
        Ok(())
    }))
}

/// Lets the next signing key sign, and tells the programs that run.
pub fn rotate(state_dir: &Path) -> ExitCode {
    let rotated = keys::Store::open(state_dir).and_then(|store| store.rotate_signing_keys());
    match rotated {
        Ok(ring) => println!("{} signs; {} is next", ring.signs, ring.next),
        Err(error) => return done(Err(error)),
    }
    if client::live(state_dir).is_some() { client::reload(state_dir) } else { ExitCode::SUCCESS }
}

fn topology_of(state_dir: &Path, given: Option<&Path>) -> Result<Topology, String> {
    match given {
        Some(path) => {
            let loaded = topology::load(path);
            loaded.topology.ok_or_else(|| format!("{}: see `postern check`", path.display()))
        }
        None => client::live(state_dir).map(|live| *live.topology).ok_or_else(|| {
            format!("nothing is up in {}; name a topology with --topology", state_dir.display())
        }),
    }
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}
