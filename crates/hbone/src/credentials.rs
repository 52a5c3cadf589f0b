//! A program's certificate, key and trust anchors, from files that may change at any time.

use crate::verify::{Expect, Expected, Judge, identity_of};
use crate::{ALPN, Identity};
use names::NetworkId;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use slice::Role;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The files of a directory of credentials: the chain with the leaf first, its key, and the trust
/// anchors. While trust anchors change, the file holds the old and the new ones.
const FILES: [&str; 3] = ["certificate.pem", "key.pem", "ca.pem"];
/// The largest of them.
const FILE_MAX: u64 = 1 << 20;

/// What a program shows and whom it trusts. The files are looked at (`stat`, no more) whenever a
/// handshake begins: a change is in force for the next handshake, and for the next look at the
/// peers of long connections. Files that do not fit together, as in the middle of a change, leave
/// the last good ones in force.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
    network: NetworkId,
    role: Role,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    seen: Option<[Stamp; 3]>,
    loaded: Option<Arc<Loaded>>,
    error: Option<String>,
    told: Option<String>,
    number: u64,
}

/// What tells a new file from an old one: a file that is replaced has another inode, and one that
/// is written over another time or length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// Credentials as they were at one moment.
#[derive(Debug)]
pub struct Loaded {
    /// Grows with every change.
    pub number: u64,
    /// The program's own identity.
    pub identity: Identity,
    pub(crate) judge: Arc<Judge>,
    key: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
}

impl Credentials {
    /// The credentials of a network's program, in a directory. Nothing is read yet.
    pub fn new(directory: PathBuf, network: NetworkId, role: Role) -> Self {
        Credentials { directory, network, role, kept: Mutex::default() }
    }

    /// Where programs look, and where `postern certificate` writes, below a state directory.
    pub fn directory(state_dir: &Path, network: &NetworkId, role: Role) -> PathBuf {
        let project = network.project.replace(':', "_");
        state_dir.join("identity").join(format!("{}@{project}_{}", role.program(), network.name))
    }

    /// The credentials of now.
    ///
    /// # Errors
    /// A sentence, while there never were good ones.
    pub fn current(&self) -> Result<Arc<Loaded>, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = FILES.map(|name| stamp(&self.directory.join(name)).unwrap_or_default());
        if kept.seen != Some(seen) {
            kept.seen = Some(seen);
            match self.load(kept.number + 1) {
                Ok(loaded) => {
                    kept.number += 1;
                    (kept.loaded, kept.error) = (Some(Arc::new(loaded)), None);
                }
                Err(error) => kept.error = Some(error),
            }
        }
        match (&kept.loaded, &kept.error) {
            (Some(loaded), _) => Ok(Arc::clone(loaded)),
            (None, error) => Err(error.clone().unwrap_or_default()),
        }
    }

    /// Why the files last looked at are not in force, if they are not; each fault is told once.
    pub fn new_fault(&self) -> Option<String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = kept.error.clone().filter(|fault| kept.told.as_ref() != Some(fault));
        kept.told = kept.error.clone();
        fault
    }

    /// Why the files last looked at are not in force, if they are not.
    pub fn fault(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).error.clone()
    }

    fn load(&self, number: u64) -> Result<Loaded, String> {
        let [chain, key, anchors] = FILES.map(|name| self.directory.join(name));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain_der = certificates(&chain)?;
        let told = |what: &dyn std::fmt::Display| format!("{}: {what}", chain.display());
        let identity = chain_der.first().and_then(identity_of).ok_or_else(|| {
            told(&"the certificate has no SPIFFE id of a program; make it with `postern certificate`")
        })?;
        if identity.role() != self.role || *identity.network() != self.network {
            let (program, network) = (self.role.program(), &self.network);
            return Err(told(&format!("{identity} is not {program} of {network}")));
        }
        let key_der = PrivateKeyDer::from_pem_slice(&read(&key)?)
            .map_err(|error| format!("{}: {error}", key.display()))?;
        // Refuses a key that is not the certificate's.
        let certified = CertifiedKey::from_der(chain_der, key_der, &provider)
            .map_err(|error| format!("{} and {}: {error}", chain.display(), key.display()))?;
        let mut roots = RootCertStore::empty();
        for anchor in certificates(&anchors)? {
            let added = roots.add(anchor);
            added.map_err(|error| format!("{}: {error}", anchors.display()))?;
        }
        let judge = Arc::new(Judge::new(roots, &provider)?);
        let key = Arc::new(certified);
        let whom = Expected::Counterpart(identity.clone());
        let expect = Arc::new(Expect { judge: Arc::clone(&judge), whom });
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(expect)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key))));
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection shows its certificates: a resumed one would not be judged again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let server = Arc::new(server);
        Ok(Loaded { number, identity, judge, key, server })
    }
}

impl Loaded {
    /// For connections that come in.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a connection to this peer and no other.
    pub(crate) fn client(&self, peer: Identity) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let whom = Expected::One(peer);
        let expect = Arc::new(Expect { judge: Arc::clone(&self.judge), whom });
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(expect)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Arc::new(client))
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let found = std::fs::metadata(path)?;
    Ok(Stamp {
        inode: found.ino(),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_MAX {
        return Err(format!("{}: more than {FILE_MAX} bytes", path.display()));
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(format!("{}: no certificate", path.display())),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
