//! Any bytes as Authorization header, any text as token, audience and key set: no panic, and
//! nobody gets in. The private half of the published key was thrown away, so whatever is admitted
//! is a forgery.
//!
//! Input: header value, audience and JWKS, each on a line.
#![no_main]

use id_token::{
    Claims, KeySet, VerifiedCache, audience_accepted, replace_signature, verify,
    verify_access_token,
};
use libfuzzer_sys::fuzz_target;
use names::{NetworkId, Origin, SelfLink};
use serverless::{AuthorizationHeaders, Front, HeaderValues, RequestHead, Target, admit};
use slice::iam::Iam;
use slice::run::{Ingress, Revision, Run, Scaling, Service, ServiceAccount, TrafficTarget};
use std::sync::LazyLock;

const NOW: u64 = 1_760_000_000;
const HOST: &str = "s-1.r.run.app";
const LINK: &str = "projects/p/locations/r/services/s";

static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::parse(include_str!("token.jwks.json")).expect("a key set"));

static FRONT: LazyLock<Front> = LazyLock::new(|| {
    let account = ServiceAccount {
        email: "a@p.iam.gserviceaccount.com".into(),
        project: "p".into(),
        unique_id: "1".into(),
    };
    let iam = Iam::granting("roles/run.invoker", LINK, &["allAuthenticatedUsers"]);
    Front::compile(&[service()], &[account], &iam, KEYS.clone()).expect("one service")
});

fn service() -> Service {
    Service {
        self_link: SelfLink::new(LINK),
        name: "s".into(),
        project: "p".into(),
        project_number: 1,
        region: "r".into(),
        hosts: vec![HOST.into()],
        traffic: vec![TrafficTarget::latest()],
        custom_audiences: vec![],
        ingress: Ingress::All,
        invoker_iam_disabled: false,
        default_uri_disabled: false,
        internal_networks: vec![NetworkId::new("p", "n")],
        scaling: Scaling::default(),
        revision: Revision::new("s-00001-abc", Run::Url("http://localhost:1".into())),
        older_revisions: vec![],
    }
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (header, audience, document) = (next(), next(), next());
    let mut cache = VerifiedCache::new(4);
    for credentials in [
        AuthorizationHeaders {
            x_serverless: HeaderValues::Absent,
            authorization: HeaderValues::One(header),
        },
        AuthorizationHeaders {
            x_serverless: HeaderValues::One(header),
            authorization: HeaderValues::One(audience),
        },
    ] {
        let path = std::str::from_utf8(audience).unwrap_or("/");
        let head = RequestHead { method: "GET", path, credentials };
        let decision =
            admit(&FRONT, &Origin::Internet, Target::Service(LINK), &head, &mut cache, NOW);
        let refusal = decision.result.expect_err("nobody has the key");
        assert!(matches!(refusal.status(), 401 | 403 | 404));
        assert!(!refusal.body(&head).is_empty() && refusal.fix().ends_with('.'));
        let _ = (refusal.to_string(), refusal.details(), refusal.log_text());
    }
    let Ok(header) = std::str::from_utf8(header) else { return };
    assert!(verify(&KEYS, header, NOW).is_err() && verify_access_token(&KEYS, header, NOW).is_err());
    if let Some(removed) = replace_signature(header) {
        assert!(removed.ends_with(".SIGNATURE_REMOVED_BY_GOOGLE"));
    }
    let Ok(audience) = std::str::from_utf8(audience) else { return };
    let claims = Claims::of_service_account("1", None, header, NOW);
    assert_eq!(audience_accepted(&claims, &[audience]).is_ok(), audience == header);
    if let Ok(document) = std::str::from_utf8(document) {
        let _ = KeySet::parse(document);
    }
});
