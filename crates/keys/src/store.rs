//! The files below `keys/` of the state directory.

use crate::signing::Ring;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use slice::apigee::ApiProxySlice;
use slice::load_balancer::InternalLbSlice;
use slice::run::{CloudRunSlice, MetadataSlice};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// The clocks of two hosts differ by less; a certificate is valid so long before it was made.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The keys of one state directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    ca_certificate: String,
    ca_key: String,
}

/// Makes a directory that nobody else may look into (0700), or makes sure that it is one.
///
/// # Errors
/// A sentence.
pub fn make_private(directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Writes a private file (0600) so that a reader sees the old text or the new one, never half.
///
/// # Errors
/// A sentence.
pub fn write_atomically(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    written.and_then(|()| fs::rename(&aside, path)).map_err(|error| {
        let _ = fs::remove_file(&aside);
        failed(error)
    })
}

impl Store {
    /// Opens the keys of a state directory, making what is missing.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(state_dir: &Path) -> Result<Store, String> {
        let directory = state_dir.join("keys");
        make_private(&directory)?;
        make_private(&state_dir.join(crate::ACCOUNTS))?;
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !certificate.exists() || !key.exists() {
            let (ca_certificate, ca_key) = make_ca()?;
            write_atomically(&key, &ca_key)?;
            write_atomically(&certificate, &ca_certificate)?;
        }
        Ok(Store { ca_certificate: read(&certificate)?, ca_key: read(&key)?, directory })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_certificate
    }

    /// A P-256 leaf for these DNS names, signed by the CA: PEM chain and key. The same names get
    /// the same leaf again, so that a reload changes no certificate.
    ///
    /// # Errors
    /// A sentence: a name that is no DNS name, or a file that cannot be written.
    pub fn issue(&self, names: &[String]) -> Result<(String, String), String> {
        let name = names.first().ok_or("a certificate needs a name")?;
        let label: String = names
            .join("+")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "+-.".contains(c) { c } else { '_' })
            .collect();
        if label.len() > 200 {
            return self.make_leaf(names, name);
        }
        let certificate = self.directory.join(format!("{label}.pem"));
        let key = self.directory.join(format!("{label}.key"));
        if !certificate.exists() || !key.exists() {
            let (chain, private_key) = self.make_leaf(names, name)?;
            write_atomically(&key, &private_key)?;
            write_atomically(&certificate, &chain)?;
        }
        Ok((read(&certificate)?, read(&key)?))
    }

    /// A fresh P-256 leaf with this URI as its one name (an X.509-SVID when it is a SPIFFE id),
    /// valid for `lifetime` from now: PEM chain and key. It may be shown by either side of a TLS
    /// connection. Nothing is kept here.
    ///
    /// # Errors
    /// A sentence: a URI that a certificate cannot hold.
    pub fn issue_identity(
        &self,
        uri: &str,
        lifetime: Duration,
    ) -> Result<(String, String), String> {
        let failed = |error: rcgen::Error| format!("certificate for {uri}: {error}");
        let ca_key = KeyPair::from_pem(&self.ca_key).map_err(failed)?;
        let issuer = Issuer::new(ca_params(), ca_key);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = OffsetDateTime::from(SystemTime::now());
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now
            .checked_add(lifetime.try_into().map_err(|error| format!("lifetime: {error}"))?)
            .ok_or("the lifetime ends after the end of the calendar")?;
        let key = KeyPair::generate().map_err(failed)?;
        let leaf = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    fn make_leaf(&self, names: &[String], common_name: &str) -> Result<(String, String), String> {
        let failed = |error: rcgen::Error| format!("certificate for {common_name}: {error}");
        let ca_key = KeyPair::from_pem(&self.ca_key).map_err(failed)?;
        let issuer = Issuer::new(ca_params(), ca_key);
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let leaf = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    /// The issuer's signing keys, PKCS#8 PEM: the first one signs. Makes what is missing, rotates
    /// what has signed for long enough, and forgets what no living token needs.
    ///
    /// # Errors
    /// A sentence.
    pub fn signing_keys(&self) -> Result<Vec<String>, String> {
        let ring = self.ring(now())?;
        ring.kids().map(|kid| read(&self.signing_key(kid))).collect()
    }

    /// Would [`Store::signing_keys`] rotate now?
    pub fn rotation_is_due(&self) -> bool {
        self.kept_ring().is_ok_and(|ring| ring.is_some_and(|ring| ring.is_due(now())))
    }

    /// Lets the next key sign from now on. Tokens of the one that signed are good until they
    /// expire.
    ///
    /// # Errors
    /// A sentence.
    pub fn rotate_signing_keys(&self) -> Result<Ring, String> {
        let now = now();
        let mut ring = self.ring(now)?;
        ring.rotate(self.make_signing_key()?, now)?;
        self.keep_ring(&ring)?;
        Ok(ring)
    }

    fn ring(&self, now: u64) -> Result<Ring, String> {
        let Some(mut ring) = self.kept_ring()? else {
            let ring = Ring::new(self.make_signing_key()?, self.make_signing_key()?, now);
            self.keep_ring(&ring)?;
            return Ok(ring);
        };
        let before = ring.clone();
        let dropped = ring.prune(now);
        if ring.is_due(now) {
            ring.rotate(self.make_signing_key()?, now)?;
        }
        if ring != before {
            self.keep_ring(&ring)?;
        }
        // Only once no ring names them.
        for kid in dropped {
            let _ = fs::remove_file(self.signing_key(&kid));
        }
        Ok(ring)
    }

    fn kept_ring(&self) -> Result<Option<Ring>, String> {
        let path = self.ring_path();
        if !path.exists() {
            return Ok(None);
        }
        let ring = serde_json::from_str(&read(&path)?);
        ring.map(Some).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn keep_ring(&self, ring: &Ring) -> Result<(), String> {
        let text = serde_json::to_string_pretty(ring).map_err(|error| error.to_string())?;
        write_atomically(&self.ring_path(), &format!("{text}\n"))
    }

    fn ring_path(&self) -> PathBuf {
        self.directory.join("signing.json")
    }

    fn signing_key(&self, kid: &str) -> PathBuf {
        let kid: String = kid.chars().filter(char::is_ascii_alphanumeric).collect();
        self.directory.join(format!("signing-{kid}.key"))
    }

    fn make_signing_key(&self) -> Result<String, String> {
        let key = id_token::SigningKey::generate().map_err(|error| error.to_string())?;
        write_atomically(&self.signing_key(key.kid()), &key.to_pem())?;
        Ok(key.kid().to_owned())
    }

    /// The issuer's public keys, a JWKS document. A file `keys/jwks.json` put there by hand wins: a
    /// program started by hand can so trust the tokens of another issuer.
    ///
    /// # Errors
    /// A sentence.
    pub fn jwks(&self) -> Result<String, String> {
        let by_hand = self.directory.join("jwks.json");
        if by_hand.exists() {
            return read(&by_hand);
        }
        let mut keys = Vec::new();
        for pem in self.signing_keys()? {
            keys.push(id_token::SigningKey::from_pem(&pem).map_err(|e| e.to_string())?);
        }
        Ok(id_token::jwks(&keys).to_string())
    }

    /// Certificates that the topology leaves to the CA.
    ///
    /// # Errors
    /// As [`Store::issue`].
    pub fn fill_internal_lb(&self, slice: &mut InternalLbSlice) -> Result<(), String> {
        for rule in &mut slice.load_balancing.forwarding_rules {
            for certificate in &mut rule.target.ssl_certificates {
                if certificate.private_key.is_empty() {
                    let (chain, key) = self
                        .issue(&certificate.domains)
                        .map_err(|error| format!("{}: {error}", certificate.self_link))?;
                    (certificate.certificate, certificate.private_key) = (chain, key);
                }
            }
        }
        Ok(())
    }

    /// The issuer's private keys: for `metadata` alone.
    ///
    /// # Errors
    /// As [`Store::signing_keys`].
    pub fn fill_metadata(&self, slice: &mut MetadataSlice) -> Result<(), String> {
        slice.signing_keys = self.signing_keys()?;
        if let Some(issuer) = &mut slice.issuer {
            let hosts = slice::IDENTITY_HOSTS.map(str::to_owned);
            (issuer.front_end_certificate, issuer.front_end_private_key) = self.issue(&hosts)?;
        }
        Ok(())
    }

    /// The front end's certificate and the issuer's public keys.
    ///
    /// # Errors
    /// As [`Store::issue`] and [`Store::jwks`].
    pub fn fill_cloud_run(&self, slice: &mut CloudRunSlice) -> Result<(), String> {
        // A wildcard covers one label: each region has its own names (cloud-run 3.1).
        let mut names = vec!["run.app".to_owned(), "*.a.run.app".to_owned()];
        for service in &slice.services {
            for host in &service.hosts {
                if let Some((_, parent)) = host.split_once('.') {
                    let wildcard = format!("*.{parent}");
                    if !names.contains(&wildcard) {
                        names.push(wildcard);
                    }
                }
            }
        }
        (slice.front_end_certificate, slice.front_end_private_key) = self.issue(&names)?;
        slice.jwks = self.jwks()?;
        Ok(())
    }

    /// The northbound certificate, and the CA that targets are verified against.
    ///
    /// # Errors
    /// As [`Store::issue`].
    pub fn fill_api_proxy(&self, slice: &mut ApiProxySlice) -> Result<(), String> {
        let groups = &slice.organization.environment_groups;
        let mut names: Vec<String> =
            groups.iter().flat_map(|group| group.hostnames.iter().cloned()).collect();
        names.push("localhost".to_owned());
        (slice.certificate, slice.private_key) = self.issue(&names)?;
        slice.trust = self.ca_certificate.clone();
        Ok(())
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Postern development CA");
    params.distinguished_name.push(DnType::OrganizationName, "Postern");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_ca() -> Result<(String, String), String> {
    let failed = |error: rcgen::Error| format!("development CA: {error}");
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = ca_params().self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_private() {
        let directory = std::env::temp_dir().join(format!("keys-test-{}", std::process::id()));
        let first = Store::open(&directory).expect("made");
        let names = vec!["internal.example.com".to_owned(), "*.example.com".to_owned()];
        let leaf = first.issue(&names).expect("issued");
        let again = Store::open(&directory).expect("opened");
        assert_eq!(again.ca_pem(), first.ca_pem());
        assert_eq!(again.issue(&names).expect("issued"), leaf);
        assert_eq!(again.signing_keys().expect("made"), first.signing_keys().expect("made"));
        let signed = first.signing_keys().expect("kept");
        assert_eq!(signed.len(), 2, "two are published at least");
        let ring = again.rotate_signing_keys().expect("room");
        let rotated = first.signing_keys().expect("kept");
        assert_eq!(rotated[0], signed[1], "what was published next signs");
        assert_eq!(rotated[2], signed[0], "what signed verifies");
        assert_eq!((rotated.len(), ring.kids().count()), (3, 3));
        assert!(!first.rotation_is_due());
        for entry in fs::read_dir(directory.join("keys")).expect("listed").flatten() {
            assert_eq!(entry.metadata().expect("stat").permissions().mode() & 0o77, 0);
        }
        fs::remove_dir_all(&directory).expect("removed");
    }
}
