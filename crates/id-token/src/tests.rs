//! Tables over whole tokens: made, spoiled in one way, and read again.

use crate::*;
use names::Reason;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

const NOW: u64 = 1_760_000_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));
static OTHER: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));
static KEYS: LazyLock<KeySet> = LazyLock::new(|| key_set(&[&KEY]));

fn key_set(keys: &[&SigningKey]) -> KeySet {
    KeySet::parse(&jwks(keys.iter().copied()).to_string()).expect("our own document")
}

fn claims() -> Claims {
    Claims::of_service_account(
        "107517467455664443765",
        Some("proxy@p.iam.gserviceaccount.com"),
        "https://orders-1.europe-west1.run.app",
        NOW,
    )
}

/// Any header, any payload, a good signature of `key`.
fn forge(key: &SigningKey, header: Value, payload: &str) -> String {
    let signed = format!("{}.{}", jwt::encode(header.to_string()), jwt::encode(payload));
    let signature = key.sign_bytes(signed.as_bytes()).expect("a sound key");
    format!("{signed}.{}", jwt::encode(signature))
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": KEY.kid(), "typ": "JWT"})
}

fn with(name: &str, value: Value) -> String {
    let mut payload = serde_json::to_value(claims()).expect("plain data");
    payload[name] = value;
    forge(&KEY, header(), &payload.to_string())
}

fn reason(token: &str) -> Option<Reason> {
    verify(&KEYS, token, NOW).err().map(|refusal| {
        assert!(!refusal.to_string().is_empty() && refusal.fix().ends_with('.'));
        refusal.reason()
    })
}

#[test]
fn a_token_says_what_was_signed() {
    let token = sign(&KEY, &claims()).expect("a sound key");
    assert_eq!(verify(&KEYS, &token, NOW), Ok(claims()));
    let header = jwt::decode(token.split('.').next().unwrap_or_default()).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    assert_eq!(header, json!({"alg": "RS256", "kid": KEY.kid(), "typ": "JWT"}));
    assert!(KEY.kid().len() == 40 && KEY.kid().bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn every_fault_has_its_reason() {
    let good = sign(&KEY, &claims()).expect("a sound key");
    let (signed, signature) = good.rsplit_once('.').expect("three segments");
    let (head, payload) = signed.split_once('.').expect("three segments");
    let foreign = sign(&OTHER, &claims()).expect("a sound key");
    let swapped = with("aud", json!("other"));
    let swapped_payload = swapped.split('.').nth(1).expect("three segments");
    let forged_alg = |alg: &str| {
        forge(
            &KEY,
            json!({"alg": alg, "kid": KEY.kid()}),
            &serde_json::to_string(&claims()).expect("plain"),
        )
    };
    use Reason::*;
    let table: Vec<(&str, String, Reason)> = vec![
        ("empty", String::new(), TokenMalformed),
        ("opaque", "abcdef".into(), TokenMalformed),
        ("two segments", signed.into(), TokenMalformed),
        ("four segments", format!("{good}.x"), TokenMalformed),
        ("header is not base64", format!("!!.{payload}.{signature}"), TokenMalformed),
        ("header is padded", format!("{head}==.{payload}.{signature}"), TokenMalformed),
        (
            "header is not JSON",
            format!("{}.{payload}.{signature}", jwt::encode("x")),
            TokenMalformed,
        ),
        ("header without alg", forge(&KEY, json!({"kid": KEY.kid()}), "{}"), TokenMalformed),
        (
            "crit",
            forge(&KEY, json!({"alg": "RS256", "kid": KEY.kid(), "crit": ["b64"]}), "{}"),
            TokenMalformed,
        ),
        ("signature is not base64", format!("{signed}.@"), TokenMalformed),
        ("too long", format!("{}.{payload}.{signature}", "a".repeat(20_000)), TokenMalformed),
        ("alg none", forged_alg("none"), TokenMalformed),
        ("alg HS256", forged_alg("HS256"), TokenMalformed),
        ("alg ES256", forged_alg("ES256"), TokenMalformed),
        ("lower-case alg", forged_alg("rs256"), TokenMalformed),
        ("access token", "ya29.a0Af".into(), TokenIsAccessToken),
        (
            "JWT access token",
            forge(&KEY, json!({"alg": "RS256", "kid": KEY.kid(), "typ": "at+jwt"}), "{}"),
            TokenIsAccessToken,
        ),
        ("unknown kid", foreign, TokenSignatureInvalid),
        ("no kid", forge(&KEY, json!({"alg": "RS256"}), "{}"), TokenSignatureInvalid),
        ("signature of another key", forge(&OTHER, header(), "{}"), TokenSignatureInvalid),
        ("other payload", format!("{head}.{swapped_payload}.{signature}"), TokenSignatureInvalid),
        ("no signature", format!("{signed}."), TokenSignatureInvalid),
        (
            "removed signature",
            replace_signature(&good).expect("three segments"),
            TokenSignatureInvalid,
        ),
        ("payload is not JSON", forge(&KEY, header(), "x"), TokenMalformed),
        ("payload without claims", forge(&KEY, header(), "{}"), TokenMalformed),
        ("list of audiences", with("aud", json!(["a"])), TokenMalformed),
        ("issuer", with("iss", json!("https://example.com")), TokenIssuerMismatch),
        ("self-signed", with("iss", json!("proxy@p.iam.gserviceaccount.com")), TokenIssuerMismatch),
        ("longer than an hour", with("exp", json!(NOW + 3601)), TokenMalformed),
        ("made in the future", with("iat", json!(NOW + 11)), TokenNotYetValid),
        ("nbf", with("nbf", json!(NOW + 11)), TokenNotYetValid),
        ("expired", with("exp", json!(NOW - 10)), TokenExpired),
    ];
    for (name, token, expected) in table {
        assert_eq!(reason(&token), Some(expected), "{name}");
    }
    for (name, token) in [
        ("other spelling of the issuer", with("iss", json!("accounts.google.com"))),
        ("within the skew before", with("iat", json!(NOW + 10))),
        ("within the skew after", with("exp", json!(NOW - 9))),
        ("unknown claims", with("at_hash", json!("x"))),
    ] {
        assert_eq!(reason(&token), None, "{name}");
    }
}

#[test]
fn a_refusal_carries_what_the_token_claims() {
    let refusal = verify(&KEYS, &sign(&OTHER, &claims()).expect("a sound key"), NOW)
        .expect_err("another issuer's key");
    assert_eq!(refusal.claims(), Some(&claims()));
    assert!(refusal.to_string().contains(OTHER.kid()), "{refusal}");
    let mut own = claims();
    own.iss = "sa@p.iam.gserviceaccount.com".into();
    let refusal = verify(&KEYS, &sign(&OTHER, &own).expect("a sound key"), NOW)
        .expect_err("a service account's own JWT");
    assert_eq!(refusal.token_kind(), "self-signed JWT");
    assert!(refusal.fix().contains("generateIdToken"), "{}", refusal.fix());
}

#[test]
fn a_key_survives_its_pem_and_keeps_its_kid() {
    let again = SigningKey::from_pem(&KEY.to_pem()).expect("our own PEM");
    assert_eq!(again.kid(), KEY.kid());
    let token = sign(&again, &claims()).expect("a sound key");
    assert_eq!(Ok(token), sign(&KEY, &claims()));
    for bad in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert!(SigningKey::from_pem(bad).is_err(), "{bad}");
    }
}

#[test]
fn certificates_are_pem_by_kid_and_always_the_same_bytes() {
    let certificates = x509_certs([&*KEY, &*OTHER]).expect("sound keys");
    assert_eq!(certificates.as_object().map(serde_json::Map::len), Some(2));
    let pem = certificates[KEY.kid()].as_str().expect("text");
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    assert_eq!(x509_certs([&*KEY, &*OTHER]), Ok(certificates));
}

#[test]
fn a_key_set_passes_over_what_it_cannot_use_and_refuses_what_is_broken() {
    let mut document = jwks([&*KEY]);
    let keys = document["keys"].as_array_mut().expect("a list");
    keys.push(json!({"kty": "EC", "kid": "ec", "crv": "P-256"}));
    keys.push(json!({"kty": "RSA", "kid": "enc", "use": "enc"}));
    let set = KeySet::parse(&document.to_string()).expect("legal");
    assert_eq!(set.kids().collect::<Vec<_>>(), [KEY.kid()]);
    for bad in [
        json!([]),
        json!({}),
        json!({"keys": [{"kty": "RSA", "kid": "a", "n": "!", "e": "AQAB"}]}),
        json!({"keys": [{"kty": "RSA", "kid": "a", "n": "", "e": ""}]}),
        json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}),
        json!({"keys": [jwks([&*KEY])["keys"][0], jwks([&*KEY])["keys"][0]]}),
    ] {
        assert!(KeySet::parse(&bad.to_string()).is_err(), "{bad}");
    }
    let one_way = key_set(&[&KEY, &OTHER]);
    assert_eq!(one_way.fingerprint(), key_set(&[&OTHER, &KEY]).fingerprint());
    assert_ne!(one_way.fingerprint(), KEYS.fingerprint());
}

#[test]
fn an_access_token_is_told_from_an_id_token_and_names_its_account() {
    let access = AccessClaims {
        email: "proxy@p.iam.gserviceaccount.com".into(),
        sub: "107517467455664443765".into(),
        scopes: vec!["https://www.googleapis.com/auth/cloud-platform".into()],
        iat: NOW,
        exp: NOW + 3600,
    };
    let token = access_token(&KEY, &access).expect("a sound key");
    assert_eq!(verify_access_token(&KEYS, &token, NOW), Ok(access.clone()));
    assert_eq!(
        verify(&KEYS, &token, NOW),
        Err(TokenRefusal::AccessToken { account: Some(access.email.clone()) })
    );
    assert_eq!(verify_access_token(&KEYS, &token, NOW + 3610), Err(AccessTokenRefusal::Expired));
    let foreign = access_token(&OTHER, &access).expect("a sound key");
    assert_eq!(verify_access_token(&KEYS, &foreign, NOW), Err(AccessTokenRefusal::KeyUnknown));
    let spoiled = format!("{}AAAA", &token[..token.len() - 4]);
    let refusal = verify_access_token(&KEYS, &spoiled, NOW);
    assert_eq!(refusal, Err(AccessTokenRefusal::SignatureInvalid));
    for bad in ["ya29.", "ya29.c.", "ya29.c.AAA", "ya29.c.____", "h.p.s"] {
        let refusal = verify_access_token(&KEYS, bad, NOW);
        assert_eq!(refusal, Err(AccessTokenRefusal::Malformed), "{bad}");
    }
}

#[test]
fn the_cache_remembers_good_tokens_only_and_checks_times_at_every_use() {
    let mut cache = VerifiedCache::new(4);
    let token = sign(&KEY, &claims()).expect("a sound key");
    let first = cache.verified(&KEYS, &token, NOW).expect("good");
    let second = cache.verified(&KEYS, &token, NOW + 1).expect("good");
    assert!(Arc::ptr_eq(&first, &second));
    assert!(cache.verified(&KEYS, "h.p.s", NOW).is_err());
    assert_eq!(cache.len(), 1);
    let expired = cache.verified(&KEYS, &token, NOW + 3610).expect_err("an hour later");
    assert_eq!(expired.reason(), Reason::TokenExpired);
    for n in 0..20 {
        let mut other = claims();
        other.aud = n.to_string();
        let other = sign(&KEY, &other).expect("a sound key");
        assert!(cache.verified(&KEYS, &other, NOW).is_ok());
        assert!(cache.len() <= 4, "{}", cache.len());
        assert!(cache.verified(&KEYS, &token, NOW).is_ok());
    }
    let still = cache.verified(&KEYS, &token, NOW).expect("good");
    assert!(Arc::ptr_eq(&first, &still), "what is used stays");
}

#[test]
fn the_cache_forgets_when_the_keys_change() {
    let mut cache = VerifiedCache::new(4);
    let token = sign(&KEY, &claims()).expect("a sound key");
    assert!(cache.verified(&KEYS, &token, NOW).is_ok());
    let refusal = cache.verified(&key_set(&[&OTHER]), &token, NOW).expect_err("key is gone");
    assert_eq!(refusal.reason(), Reason::TokenSignatureInvalid);
    assert!(cache.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_signed_is_read_again(aud in ".{0,60}", email in proptest::option::of(".{0,30}"), sub in "[0-9]{21}") {
        let claims = Claims::of_service_account(&sub, email.as_deref(), &aud, NOW);
        let token = sign(&KEY, &claims).expect("a sound key");
        prop_assert_eq!(verify(&KEYS, &token, NOW), Ok(claims));
    }

    #[test]
    fn one_changed_byte_is_noticed(at in 0usize..400, with in "[A-Za-z0-9_-]") {
        let good = sign(&KEY, &claims()).expect("a sound key");
        let at = at % good.len();
        let mut bad = good.clone();
        bad.replace_range(at..=at, &with);
        prop_assert_eq!(bad == good, verify(&KEYS, &bad, NOW).is_ok());
    }
}

proptest! {
    #[test]
    fn no_text_panics(token in ".{0,200}") {
        let _ = verify(&KEYS, &token, NOW);
        let _ = replace_signature(&token);
        let _ = verify_access_token(&KEYS, &format!("ya29.c.{token}"), NOW);
    }
}

#[test]
fn the_keys_of_another_issuer_take_its_tokens_and_no_others() {
    let mut document = jwks([&*KEY]);
    document["issuer"] = json!("https://issuer.example");
    let keys = KeySet::parse(&document.to_string()).expect("a key set");
    let mut payload = serde_json::to_value(claims()).expect("plain data");
    payload["iss"] = json!("https://issuer.example");
    payload["exp"] = json!(NOW + 36_000);
    let theirs = forge(&KEY, header(), &payload.to_string());
    assert!(verify(&keys, &theirs, NOW).is_ok());
    let googles = sign(&KEY, &claims()).expect("signed");
    assert!(matches!(verify(&keys, &googles, NOW), Err(TokenRefusal::IssuerMismatch(_))));
    assert!(matches!(verify(&KEYS, &theirs, NOW), Err(TokenRefusal::IssuerMismatch(_))));
    assert_ne!(keys.fingerprint(), KEYS.fingerprint());
}
