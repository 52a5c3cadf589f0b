//! The accepting side of TLS before clients of every kind: rustls with its schemes, suites and
//! versions cut down.

use http_proxy::tls::{
    CertifiedPem, ClientCertificate, ClientPolicy, Policy, ServerConfig, ServerTls, TlsError,
    TlsInfo, accept, connect,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SanType, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Leaf {
    chain: String,
    key: String,
}

fn leaf(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Leaf {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let params = CertificateParams::new(names).expect("names");
    let chain = params.self_signed(&key).expect("a certificate").pem();
    Leaf { chain, key: key.serialize_pem() }
}

fn pems(leaves: &[Leaf]) -> Vec<CertifiedPem<'_>> {
    leaves.iter().map(|leaf| CertifiedPem { chain: &leaf.chain, key: &leaf.key }).collect()
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.chain.as_bytes()).expect("a certificate")
}

/// Verifies signatures by some schemes only, and takes any certificate.
#[derive(Debug)]
struct Schemes(Arc<CryptoProvider>, Vec<SignatureScheme>);

impl ServerCertVerifier for Schemes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.clone()
    }
}

/// A client and what it has.
#[derive(Clone)]
struct Client {
    schemes: Vec<SignatureScheme>,
    /// Suites of TLS 1.2; empty: all.
    suites: Vec<&'static str>,
    versions: &'static [&'static SupportedProtocolVersion],
    identity: Option<Leaf>,
}

const ECDSA: [SignatureScheme; 2] =
    [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];
const RSA: [SignatureScheme; 2] =
    [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
const OLD: &[&SupportedProtocolVersion] = &[&TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&TLS13];

impl Client {
    fn new(versions: &'static [&'static SupportedProtocolVersion]) -> Client {
        let schemes = [ECDSA, RSA].concat();
        Client { schemes, suites: Vec::new(), versions, identity: None }
    }

    fn config(&self) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| {
            let name = suite.suite().as_str().expect("a known suite");
            match name.starts_with("TLS13") {
                true => self.versions == NEW, // rustls would offer them whatever the version
                false => self.suites.is_empty() || self.suites.contains(&name),
            }
        });
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Schemes(provider, self.schemes.clone())));
        Arc::new(match &self.identity {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        })
    }
}

/// A handshake, and a byte, so that tickets and alerts arrive. Returns the server's view and the
/// certificate that the client got.
async fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(TlsInfo, CertificateDer<'static>), TlsError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accepting = async {
        let accepted = accept(server.clone(), far, Duration::from_secs(20)).await;
        let (mut stream, info) = accepted?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await.map_err(TlsError::Io)?;
        Ok::<_, TlsError>((stream, info))
    };
    let connecting = async {
        let mut stream = connect(client.clone(), name, near).await.map_err(TlsError::Io)?;
        stream.read_u8().await.map_err(TlsError::Io)?;
        let shown = stream.get_ref().1.peer_certificates().expect("a chain");
        Ok::<_, TlsError>(shown[0].clone().into_owned())
    };
    let (accepted, connected) = tokio::join!(accepting, connecting);
    Ok((accepted?.1, connected?))
}

#[tokio::test]
async fn the_certificate_is_the_first_that_fits_the_name_and_the_client() {
    let leaves = [
        leaf(&["default.example"], &PKCS_RSA_SHA256),
        leaf(&["a.example"], &PKCS_RSA_SHA256),
        leaf(&["a.example", "*.a.example"], &PKCS_ECDSA_P256_SHA256),
        leaf(&["*.a.example"], &PKCS_ECDSA_P384_SHA384),
        leaf(&["p384.example"], &PKCS_ECDSA_P384_SHA384),
    ];
    let certificates = pems(&leaves);
    let server = ServerTls { certificates: &certificates, alpn: &[], policy: None, clients: None };
    let server = server.config().expect("a configuration");
    let shown: Vec<_> = leaves.iter().map(der).collect();
    let p384 = [SignatureScheme::ECDSA_NISTP384_SHA384];
    for (versions, schemes, name, expected) in [
        (NEW, &[ECDSA, RSA].concat()[..], "a.example", 1),
        (OLD, &[ECDSA, RSA].concat(), "a.example", 1),
        (NEW, &ECDSA, "a.example", 2), // the first one for the name has an RSA key
        (OLD, &ECDSA, "a.example", 2),
        (NEW, &RSA, "a.example", 1),
        (NEW, &ECDSA, "x.a.example", 2),
        (NEW, &ECDSA, "X.A.example", 2),
        (NEW, &p384, "x.a.example", 3),
        (NEW, &RSA, "x.a.example", 0), // for the name there is none that it can verify
        (OLD, &RSA, "x.a.example", 0),
        (NEW, &RSA, "p384.example", 0),
        (NEW, &ECDSA, "p384.example", 4),
        (NEW, &RSA, "unknown.example", 0),
        (NEW, &ECDSA, "unknown.example", 2), // the default has an RSA key
        (OLD, &ECDSA, "unknown.example", 2),
        (NEW, &p384, "x.x.a.example", 3),
        (NEW, &[ECDSA, RSA].concat(), "10.0.0.1", 0), // no SNI
        (NEW, &ECDSA, "10.0.0.1", 2),
    ] {
        let client = Client { schemes: schemes.to_vec(), ..Client::new(versions) };
        let (_, found) = handshake(&server, &client.config(), name).await.expect(name);
        assert_eq!(
            shown.iter().position(|one| *one == found),
            Some(expected),
            "{name} {schemes:?}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_key_is_taken() {
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).expect("a key");
    let ecdsa = |algorithm| KeyPair::generate_for(algorithm).expect("a key");
    for key in [
        rsa(rcgen::RsaKeySize::_2048),
        rsa(rcgen::RsaKeySize::_3072),
        rsa(rcgen::RsaKeySize::_4096),
        ecdsa(&PKCS_ECDSA_P256_SHA256),
        ecdsa(&PKCS_ECDSA_P384_SHA384),
    ] {
        let params = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        let chain = params.self_signed(&key).expect("a certificate").pem();
        let leaves = [Leaf { chain, key: key.serialize_pem() }];
        let certificates = pems(&leaves);
        let tls = ServerTls { certificates: &certificates, alpn: &[], policy: None, clients: None };
        let server = tls.config().expect("a configuration");
        for versions in [OLD, NEW] {
            let client = Client::new(versions).config();
            let (info, _) = handshake(&server, &client, "a.example").await.expect("a handshake");
            assert_eq!(info.version == "TLSv1.2", versions == OLD);
            assert_eq!(info.client, None);
        }
    }
}

#[tokio::test]
async fn a_policy_bounds_versions_and_suites() {
    let leaves =
        [leaf(&["a.example"], &PKCS_ECDSA_P256_SHA256), leaf(&["a.example"], &PKCS_RSA_SHA256)];
    let certificates = pems(&leaves);
    let rsa_256 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    let ecdsa_128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let server = |tls13_only, suites: &[&str]| {
        let cipher_suites: Vec<String> = suites.iter().map(|name| name.to_string()).collect();
        let policy = Some(Policy { tls13_only, cipher_suites: &cipher_suites });
        ServerTls { certificates: &certificates, alpn: &[], policy, clients: None }.config()
    };
    let old = Client::new(OLD);
    // Suite and place of the certificate; none: no handshake.
    for (tls13_only, suites, client, expected) in [
        (false, &[rsa_256][..], old.clone(), Some((0xc030, 1))), // the key that has a suite
        (false, &[ecdsa_128], old.clone(), Some((0xc02b, 0))),
        (false, &[ecdsa_128], Client { suites: vec![rsa_256], ..old.clone() }, None),
        (
            false,
            &[ecdsa_128, rsa_256],
            Client { suites: vec![rsa_256], ..old.clone() },
            Some((0xc030, 1)),
        ),
        (true, &[ecdsa_128], old, None),
        (true, &[], Client::new(NEW), Some((0x1302, 0))),
        (false, &[rsa_256], Client::new(NEW), Some((0x1302, 0))),
    ] {
        let server = server(tls13_only, suites).expect("a configuration");
        let found = handshake(&server, &client.config(), "a.example").await.ok();
        let found = found.map(|(info, shown)| {
            (
                info.cipher_suite,
                leaves.iter().position(|leaf| der(leaf) == shown).expect("one of ours"),
            )
        });
        assert_eq!(found, expected, "{tls13_only} {suites:?}");
    }
    let none = server(false, &["TLS_RSA_WITH_AES_128_CBC_SHA"]);
    assert!(matches!(none, Err(TlsError::NoCipherSuite)));
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(above: Option<&Authority>, name: &str) -> Authority {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = match above {
            None => params.self_signed(&key),
            Some(above) => params.signed_by(&key, &above.issuer),
        };
        let pem = certificate.expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(["client.example".to_owned()]).expect("a name");
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://trust/client".try_into().expect("a URI")));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&[0xf1, 0x02]));
        params.not_before = rcgen::date_time_ymd(2020, 2, 3);
        params.not_after = rcgen::date_time_ymd(2060, 4, 5);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { chain, key: key.serialize_pem() }
    }
}

#[tokio::test]
async fn clients_are_judged_by_anchors_intermediates_and_list() {
    let (root, other) = (Authority::new(None, "root"), Authority::new(None, "other"));
    let below = Authority::new(Some(&root), "below");
    let hidden = Authority::new(Some(&root), "hidden");
    let with_chain =
        |leaf: Leaf, above: &Authority| Leaf { chain: leaf.chain + &above.pem, ..leaf };
    let good = root.client(|_| {});
    let listed = other.client(|params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let expired = root.client(|params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let for_servers = root.client(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let mut long = with_chain(below.client(|_| {}), &below);
    (0..10).for_each(|_| long.chain += &other.pem);

    let leaves = [leaf(&["a.example"], &PKCS_ECDSA_P256_SHA256)];
    let certificates = pems(&leaves);
    let policy = |allow_invalid_or_missing| {
        let trust_anchors = [root.pem.clone()];
        let intermediate_cas = [hidden.pem.clone()];
        let allowlisted_certificates = [listed.chain.clone()];
        let clients = Some(ClientPolicy {
            allow_invalid_or_missing,
            trust_anchors: &trust_anchors,
            intermediate_cas: &intermediate_cas,
            allowlisted_certificates: &allowlisted_certificates,
        });
        let tls = ServerTls { certificates: &certificates, alpn: &[], policy: None, clients };
        tls.config().expect("a configuration")
    };
    let (strict, lax) = (policy(false), policy(true));
    for (what, identity, error) in [
        ("good", Some(good.clone()), None),
        ("through what it shows", Some(with_chain(below.client(|_| {}), &below)), None),
        (
            "through what it does not show",
            Some(below.client(|_| {})),
            Some("client_cert_validation_failed"),
        ),
        ("through what the policy has", Some(hidden.client(|_| {})), None),
        ("on the list, expired, of a stranger", Some(listed), None),
        ("of a stranger", Some(other.client(|_| {})), Some("client_cert_validation_failed")),
        ("expired", Some(expired), Some("client_cert_validation_failed")),
        ("for servers", Some(for_servers), Some("client_cert_chain_invalid_eku")),
        ("too long", Some(long), Some("client_cert_chain_exceeded_limit")),
        ("none", None, Some("client_cert_not_provided")),
    ] {
        for versions in [OLD, NEW] {
            let client = Client { identity: identity.clone(), ..Client::new(versions) }.config();
            let (info, _) = handshake(&lax, &client, "a.example").await.expect(what);
            let seen = info.client.expect("a client that was asked");
            assert_eq!((seen.error(), seen.is_verified()), (error, error.is_none()), "{what}");
            assert_eq!(seen.leaf().is_some(), identity.is_some(), "{what}");
            // The second connection resumes the first one, and is told of all the same.
            for _ in 0..2 {
                let found = handshake(&strict, &client, "a.example").await;
                let found = found.ok().map(|(info, _)| info.client.expect("asked").is_verified());
                assert_eq!(found, error.is_none().then_some(true), "{what}");
            }
        }
    }
    let client = Client { identity: Some(good.clone()), ..Client::new(NEW) }.config();
    let seen =
        handshake(&strict, &client, "a.example").await.expect("good").0.client.expect("asked");
    told(&seen, &good);
}

/// What a program may tell of a client.
fn told(seen: &ClientCertificate, leaf: &Leaf) {
    let der = der(leaf);
    assert_eq!(seen.chain().collect::<Vec<_>>(), [&der[..]]);
    assert_eq!(seen.serial_number().as_deref(), Some("f102"));
    assert_eq!(seen.not_before().as_deref(), Some("2020-02-03T00:00:00Z"));
    assert_eq!(seen.not_after().as_deref(), Some("2060-04-05T00:00:00Z"));
    assert_eq!(seen.dns_names(), ["client.example"]);
    assert_eq!(seen.uris(), ["spiffe://trust/client"]);
    let digest = sha256(&der);
    assert_eq!(seen.sha256(), Some(digest));
    let contains = |whole: &[u8], part: &[u8]| whole.windows(part.len()).any(|some| some == part);
    assert!(contains(seen.issuer().expect("an issuer"), b"root"));
    assert!(contains(seen.subject().expect("a subject"), b"rcgen self signed cert"));
    for name in [seen.issuer(), seen.subject()] {
        assert_eq!(name.expect("a name")[0], 0x30);
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let rustls::SupportedCipherSuite::Tls13(suite) = digest else { panic!("a suite of TLS 1.3") };
    suite.common.hash_provider.hash(bytes).as_ref().try_into().expect("32 bytes")
}

#[tokio::test]
async fn a_ticket_of_another_configuration_is_of_no_use() {
    let root = Authority::new(None, "root");
    let leaves = [leaf(&["a.example"], &PKCS_ECDSA_P256_SHA256)];
    let certificates = pems(&leaves);
    let plain = ServerTls { certificates: &certificates, alpn: &[], policy: None, clients: None };
    let trust_anchors = [root.pem.clone()];
    let clients = Some(ClientPolicy {
        allow_invalid_or_missing: false,
        trust_anchors: &trust_anchors,
        intermediate_cas: &[],
        allowlisted_certificates: &[],
    });
    let strict = ServerTls { clients, ..plain }.config().expect("a configuration");
    let plain = plain.config().expect("a configuration");
    for versions in [OLD, NEW] {
        let client = Client::new(versions).config();
        handshake(&plain, &client, "a.example").await.expect("a handshake");
        let found = handshake(&strict, &client, "a.example").await;
        assert!(found.is_err(), "resumption went round the client's certificate");
    }
}
