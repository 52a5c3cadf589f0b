//! Tables over whole requests.

use crate::*;
use id_token::{Claims, SigningKey, verify, verify_access_token};
use keys::AccountKeys;
use names::{NetworkId, Reason, SelfLink};
use serde_json::{Value, json};
use slice::run::{IssuerSlice, MetadataSlice, ServiceAccount};
use slice::{Purpose, Subnetwork, Workload};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

const NOW: u64 = 1_760_000_000;
const CREATED: u64 = 1_750_000_000;
const EMAIL: &str = "legacy-app@p.iam.gserviceaccount.com";
const UNIQUE_ID: &str = "107517467455664443765";

static PEM: LazyLock<String> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness").to_pem());

pub(crate) fn slice_of(network: NetworkId) -> MetadataSlice {
    MetadataSlice {
        network,
        network_project_number: 42,
        subnetworks: vec![Subnetwork {
            self_link: SelfLink::regional("p", "europe-west1", "subnetworks", "s"),
            region: "europe-west1".into(),
            range: "10.0.0.0/24".parse().expect("a range"),
            purpose: Purpose::Private,
        }],
        service_accounts: vec![ServiceAccount {
            email: EMAIL.into(),
            project: "p".into(),
            unique_id: UNIQUE_ID.into(),
        }],
        signing_keys: vec![PEM.clone()],
        issuer: Some(IssuerSlice::default()),
    }
}

static SNAPSHOT: LazyLock<Snapshot> =
    LazyLock::new(|| Snapshot::compile(slice_of(NetworkId::new("host", "net"))).expect("sound"));

pub(crate) fn vm() -> Workload {
    Workload {
        name: "vm/legacy".into(),
        network: NetworkId::new("host", "net"),
        address: Ipv4Addr::new(10, 0, 0, 5),
        project: "p".into(),
        project_number: 123,
        region: "europe-west1".into(),
        zone: "europe-west1-b".into(),
        tags: vec!["web".into(), "db".into()],
        service_account: Some(EMAIL.into()),
        instance_id: "4520031799277581759".into(),
        serverless: false,
        outside: None,
        metadata: BTreeMap::from([("my-key".to_owned(), "v".to_owned())]),
    }
}

fn cloud_run() -> Workload {
    Workload {
        name: "orders-00001-abc/1".into(),
        instance_id: "00fe".into(),
        serverless: true,
        outside: None,
        ..vm()
    }
}

fn request(target: &str) -> MetadataRequest<'_> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    MetadataRequest {
        method: "GET",
        path,
        query,
        host: Some("metadata.google.internal"),
        host_is_ours: true,
        flavor: Flavor::Google,
        forwarded: false,
    }
}

fn ask(workload: &Workload, request: &MetadataRequest<'_>) -> MetadataResponse {
    let caller = Caller { workload, created: CREATED };
    respond(&SNAPSHOT, Some(caller), request, &mut TokenMemory::new(8), NOW)
}

fn get(workload: &Workload, below: &str) -> MetadataResponse {
    ask(workload, &request(&format!("/computeMetadata/v1/{below}")))
}

fn text(response: &MetadataResponse) -> &str {
    std::str::from_utf8(&response.body).expect("text")
}

#[test]
fn a_vm_sees_its_values() {
    let vm = vm();
    for (path, value) in [
        ("project/project-id", "p"),
        ("project/numeric-project-id", "123"),
        ("project//project-id", "p"),
        ("universe/universe-domain", "googleapis.com"),
        ("instance/id", "4520031799277581759"),
        ("instance/name", "legacy"),
        ("instance/hostname", "legacy.europe-west1-b.c.p.internal"),
        ("instance/zone", "projects/123/zones/europe-west1-b"),
        ("instance/region", "projects/123/regions/europe-west1"),
        ("instance/attributes/my-key", "v"),
        ("instance/network-interfaces/0/ip", "10.0.0.5"),
        ("instance/network-interfaces/0/mac", "42:01:0a:00:00:05"),
        ("instance/network-interfaces/0/gateway", "10.0.0.1"),
        ("instance/network-interfaces/0/subnetmask", "255.255.255.0"),
        ("instance/network-interfaces/0/network", "projects/42/networks/net"),
        ("instance/service-accounts/default/email", EMAIL),
        ("instance/service-accounts/default/aliases", "default\n"),
        (
            "instance/service-accounts/default/scopes",
            "https://www.googleapis.com/auth/cloud-platform\n",
        ),
        ("instance/service-accounts/legacy-app%40p.iam.gserviceaccount.com/email", EMAIL),
    ] {
        let response = get(&vm, path);
        assert_eq!((response.status, text(&response)), (200, value), "{path}");
        assert_eq!(response.content_type, ContentType::Text, "{path}");
        assert_eq!(response.etag.as_ref().map(String::len), Some(16), "{path}");
    }
    let tags = get(&vm, "instance/tags");
    assert_eq!((text(&tags), tags.content_type), ("[\"web\",\"db\"]", ContentType::Json));
    assert_eq!(text(&get(&vm, "instance/tags?alt=text")), "web\ndb\n");
    assert_eq!(text(&get(&vm, "instance/id?alt=json")), "4520031799277581759");
    assert_eq!(text(&get(&vm, "instance/name?alt=json")), "\"legacy\"");
}

#[test]
fn a_cloud_run_instance_has_a_tree_of_its_own() {
    let instance = cloud_run();
    for (path, value) in [
        ("project/", "numeric-project-id\nproject-id\n"),
        ("instance/", "id\nregion\nservice-accounts/\nzone\n"),
        ("instance/id", "00fe"),
        ("instance/region", "projects/123/regions/europe-west1"),
        ("instance/zone", "projects/123/zones/europe-west1-1"),
    ] {
        let response = get(&instance, path);
        assert_eq!((response.status, text(&response)), (200, value), "{path}");
    }
    assert_eq!(get(&instance, "instance/network-interfaces/").status, 404);
}

#[test]
fn directories_list_and_redirect() {
    let vm = vm();
    for (target, listing) in [
        ("/", "computeMetadata/\n"),
        ("/computeMetadata/", "v1/\n"),
        ("/computeMetadata/v1/", "instance/\nproject/\nuniverse/\n"),
        (
            "/computeMetadata/v1/instance/service-accounts/",
            "default/\nlegacy-app@p.iam.gserviceaccount.com/\n",
        ),
        (
            "/computeMetadata/v1/instance/service-accounts/default/",
            "aliases\nemail\nidentity\nscopes\ntoken\n",
        ),
        ("/computeMetadata/v1/instance/network-interfaces/", "0/\n"),
        ("/computeMetadata/v1/instance/network-interfaces/?recursive=xyz", "0/\n"),
        ("/computeMetadata/v1/project/attributes/", ""),
    ] {
        let response = ask(&vm, &request(target));
        assert_eq!((response.status, text(&response)), (200, listing), "{target}");
    }
    for (target, location) in [
        ("/computeMetadata", "http://metadata.google.internal/computeMetadata/"),
        ("/computeMetadata/v1", "http://metadata.google.internal/computeMetadata/v1/"),
        (
            "/computeMetadata/v1/instance?recursive=true",
            "http://metadata.google.internal/computeMetadata/v1/instance/?recursive=true",
        ),
    ] {
        let response = ask(&vm, &request(target));
        assert_eq!((response.status, response.location.as_deref()), (301, Some(location)));
    }
}

#[test]
fn recursive_is_json_without_tokens() {
    let account = json!({
        "aliases": ["default"], "email": EMAIL,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    });
    let json = |response: &MetadataResponse| -> Value {
        assert_eq!((response.status, response.content_type), (200, ContentType::Json));
        serde_json::from_slice(&response.body).expect("JSON")
    };
    let vm = vm();
    let of = |path: &str| json(&get(&vm, path));
    assert_eq!(of("instance/service-accounts/default/?recursive=true"), account);
    assert_eq!(
        of("instance/service-accounts/?recursive=True"),
        json!({"default": account, EMAIL: account})
    );
    let all = of("?recursive=true&alt=json");
    assert_eq!(all["project"]["numericProjectId"], 123);
    assert_eq!(all["instance"]["machineType"], "projects/123/machineTypes/e2-medium");
    assert_eq!(all["instance"]["attributes"], json!({"my-key": "v"}));
    assert_eq!(all["instance"]["networkInterfaces"][0]["accessConfigs"], json!([]));
    let text_form = get(&vm, "instance/service-accounts/default/?recursive=true&alt=text");
    assert!(text(&text_form).starts_with("aliases default\nemail legacy-app@"));
    let etag = get(&vm, "instance/service-accounts/default/?recursive=true").etag;
    assert_eq!(text_form.etag, etag, "one value, one ETag");
}

#[test]
fn what_is_refused_has_its_status_and_reason() {
    let vm = vm();
    let bare = Workload { service_account: None, ..vm.clone() };
    let unknown = Workload { service_account: Some("x@p".into()), ..vm.clone() };
    let v1 = |path: &str| format!("/computeMetadata/v1/{path}");
    let change = |target: &str, change: &dyn Fn(&mut MetadataRequest<'_>)| {
        let mut request = request(target);
        change(&mut request);
        let response = ask(&vm, &request);
        (response.status, response.reason)
    };
    let id = v1("instance/id");
    let no_flavor = |request: &mut MetadataRequest<'_>| request.flavor = Flavor::Missing;
    let other_flavor = |request: &mut MetadataRequest<'_>| request.flavor = Flavor::Other;
    let forwarded = |request: &mut MetadataRequest<'_>| request.forwarded = true;
    let other_host = |request: &mut MetadataRequest<'_>| request.host_is_ours = false;
    let post = |request: &mut MetadataRequest<'_>| request.method = "POST";
    assert_eq!(change(&id, &no_flavor), (403, Some(Reason::MetadataFlavorMissing)));
    assert_eq!(change(&id, &other_flavor), (403, Some(Reason::MetadataFlavorMissing)));
    assert_eq!(change("/", &no_flavor), (200, None), "the ping needs no header");
    assert_eq!(change(&id, &forwarded), (403, Some(Reason::MetadataForwarded)));
    assert_eq!(change(&id, &other_host), (404, Some(Reason::MetadataHostNotFound)));
    assert_eq!(change(&id, &post), (405, Some(Reason::MetadataMethodNotAllowed)));
    assert_eq!(change(&id, &|request| request.method = "HEAD"), (200, None));
    assert_eq!(change("/oauth2/v3/certs", &no_flavor), (200, None), "certs need no header");
    assert_eq!(change("/oauth2/v3/certs", &post), (405, Some(Reason::MetadataMethodNotAllowed)));
    use Reason::{MetadataParameterInvalid, MetadataPathNotFound, ServiceAccountNotFound};
    for (who, path, status, reason) in [
        (&vm, "foo", 404, MetadataPathNotFound),
        (&vm, "instance/id/", 404, MetadataPathNotFound),
        (&vm, "instance/tags/0", 404, MetadataPathNotFound),
        (&vm, "instance/network-interfaces/1/", 404, MetadataPathNotFound),
        (&vm, "instance/service-accounts/default/token/", 404, MetadataPathNotFound),
        (&vm, "project/?alt=json", 400, MetadataParameterInvalid),
        (&vm, "project/?wait_for_change=true", 400, MetadataParameterInvalid),
        (&vm, "instance/id?alt=xml", 400, MetadataParameterInvalid),
        (&vm, "instance/id?wait_for_change=true&timeout_sec=x", 400, MetadataParameterInvalid),
        (&vm, "instance/service-accounts/default/identity", 400, MetadataParameterInvalid),
        (
            &vm,
            "instance/service-accounts/default/identity?audience=",
            400,
            MetadataParameterInvalid,
        ),
        (
            &vm,
            "instance/service-accounts/default/identity?audience=a&format=x",
            400,
            MetadataParameterInvalid,
        ),
        (&vm, "instance/service-accounts/other@p/token", 404, ServiceAccountNotFound),
        (&bare, "instance/service-accounts/default/email", 404, ServiceAccountNotFound),
        (&unknown, "instance/service-accounts/default/token", 404, ServiceAccountNotFound),
    ] {
        let response = get(who, path);
        assert_eq!((response.status, response.reason), (status, Some(reason)), "{path}");
        assert_eq!(response.content_type, ContentType::ErrorPage, "{path}");
    }
    assert_eq!(text(&get(&bare, "instance/service-accounts/")), "");
    let identity = get(&vm, "instance/service-accounts/default/identity");
    assert_eq!(text(&identity), "non-empty audience parameter required\n");
    let missing = ask(&vm, &MetadataRequest { flavor: Flavor::Missing, ..request(&id) });
    assert!(text(&missing).contains("\"Metadata-Flavor\": \"Google\""));
}

#[test]
fn an_unknown_caller_sees_nothing_but_the_ping() {
    let mut memory = TokenMemory::new(8);
    let mut status = |target: &str| {
        let response = respond(&SNAPSHOT, None, &request(target), &mut memory, NOW);
        (response.status, response.reason)
    };
    let unknown = (404, Some(Reason::MetadataCallerUnknown));
    assert_eq!(status("/"), (200, None));
    assert_eq!(status("/computeMetadata/v1/"), unknown);
    assert_eq!(status("/computeMetadata/v1/project/project-id"), unknown);
    assert_eq!(status("/computeMetadata/v1/instance/service-accounts/default/token"), unknown);
    assert_eq!(status("/oauth2/v1/certs"), (200, None));
}

fn identity(workload: &Workload, query: &str) -> Claims {
    let response = get(workload, &format!("instance/service-accounts/default/identity?{query}"));
    assert_eq!((response.status, response.content_type), (200, ContentType::Html), "{query}");
    verify(SNAPSHOT.issuer.key_set(), text(&response), NOW).expect("a good token")
}

#[test]
fn identity_is_a_token_for_the_audience() {
    let standard = Claims::of_service_account(UNIQUE_ID, None, "https://a", NOW);
    let full = Claims::of_service_account(UNIQUE_ID, Some(EMAIL), "https://a", NOW);
    assert_eq!(identity(&vm(), "audience=https%3A%2F%2Fa"), standard);
    assert_eq!(identity(&vm(), "audience=https://a&format=standard&licenses=FALSE"), standard);
    assert_eq!(identity(&cloud_run(), "audience=https://a&format=full"), full);
    let of_vm = identity(&vm(), "audience=https://a&format=full&licenses=TRUE");
    let engine = of_vm.google.clone().expect("a VM").compute_engine;
    assert_eq!(engine.instance_id, "4520031799277581759");
    assert_eq!((engine.instance_name.as_str(), engine.zone.as_str()), ("legacy", "europe-west1-b"));
    assert_eq!((engine.project_number, engine.instance_creation_timestamp), (123, CREATED));
    assert_eq!(engine.license_id, Some(vec![]));
    assert_eq!(Claims { google: None, ..of_vm }, full);
}

#[test]
fn token_is_an_access_token_with_the_scopes() {
    let of = |query: &str| {
        let response = get(&vm(), &format!("instance/service-accounts/default/token{query}"));
        assert_eq!((response.status, response.content_type), (200, ContentType::Json));
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!((&body["expires_in"], &body["token_type"]), (&json!(3599), &json!("Bearer")));
        let token = body["access_token"].as_str().expect("text");
        assert!(token.starts_with("ya29."));
        verify_access_token(SNAPSHOT.issuer.key_set(), token, NOW).expect("a good token")
    };
    let claims = of("");
    assert_eq!((claims.email.as_str(), claims.sub.as_str()), (EMAIL, UNIQUE_ID));
    assert_eq!(claims.scopes, ["https://www.googleapis.com/auth/cloud-platform"]);
    assert_eq!(of("?scopes=a,b").scopes, ["a", "b"]);
}

#[test]
fn waiting_is_asked_for_with_the_known_etag() {
    let wait_of = |target: &str| wait(&request(target));
    assert_eq!(wait_of("/a?last_etag=x"), None);
    let expected = Wait { last_etag: Some("x".into()), timeout_sec: Some(5) };
    assert_eq!(wait_of("/a?wait_for_change=true&last_etag=x&timeout_sec=5"), Some(expected));
}

#[test]
fn published_keys_verify_the_tokens() {
    let get = |path: &str| -> Value {
        let response = ask(&vm(), &request(path));
        assert_eq!((response.status, response.content_type), (200, ContentType::ApiJson));
        assert!(response.cache_control.is_some_and(|value| value.contains("max-age=")));
        serde_json::from_slice(&response.body).expect("JSON")
    };
    let kid = get("/oauth2/v3/certs")["keys"][0]["kid"].as_str().map(str::to_owned);
    let kid = kid.expect("a key");
    let certificate = &get("/oauth2/v1/certs")[&kid];
    assert!(certificate.as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE")));
    let configuration = get("/.well-known/openid-configuration");
    assert_eq!(configuration["issuer"], "https://accounts.google.com");
}

/// Keys of accounts are asked for in `identity_tests` only.
fn nowhere() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("postern-no-keys-{}", std::process::id()))
}

fn post(path: &str, body: &str) -> (u16, Value) {
    let request = IdentityRequest {
        method: "POST",
        host: "iamcredentials.googleapis.com",
        path,
        query: "",
        authorization: None,
        body: body.as_bytes(),
        from_platform: true,
    };
    let response = respond_identity(&SNAPSHOT, &AccountKeys::new(&nowhere()), &request, NOW);
    assert_eq!(response.reason.is_some(), response.status != 200, "{path} {body}");
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

#[test]
fn generate_id_token_makes_a_token() {
    let keys = SNAPSHOT.issuer.key_set();
    for (account, body, email) in [
        (EMAIL, r#"{"audience": "a"}"#, None),
        (EMAIL, r#"{"audience": "a", "includeEmail": true, "delegates": []}"#, Some(EMAIL)),
        (
            "legacy-app%40p.iam.gserviceaccount.com",
            r#"{"audience": "a", "includeEmail": "true"}"#,
            Some(EMAIL),
        ),
        (UNIQUE_ID, r#"{"audience": "a", "includeEmail": false}"#, None),
    ] {
        let path = format!("/v1/projects/-/serviceAccounts/{account}:generateIdToken");
        let (status, answer) = post(&path, body);
        assert_eq!(status, 200, "{account} {body}");
        let token = answer["token"].as_str().expect("text");
        let expected = Claims::of_service_account(UNIQUE_ID, email, "a", NOW);
        assert_eq!(verify(keys, token, NOW), Ok(expected), "{account} {body}");
    }
    let path = format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateIdToken");
    let (_, answer) = post(&path, r#"{"audience": "a", "useEmailAzp": "true"}"#);
    let claims = verify(keys, answer["token"].as_str().expect("text"), NOW).expect("good");
    assert_eq!(claims.azp.as_deref(), Some(EMAIL));
}

#[test]
fn generate_access_token_makes_a_token() {
    let path = format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
    let (status, answer) = post(&path, r#"{"scope": ["s"], "lifetime": "600s"}"#);
    assert_eq!((status, &answer["expireTime"]), (200, &json!("2025-10-09T09:03:20Z")));
    let token = answer["accessToken"].as_str().expect("text");
    let claims = verify_access_token(SNAPSHOT.issuer.key_set(), token, NOW).expect("good");
    assert_eq!((claims.exp, claims.scopes), (NOW + 600, vec!["s".to_owned()]));
}

#[test]
fn what_the_token_api_refuses_is_google_error_json() {
    let account = |call: &str| format!("/v1/projects/-/serviceAccounts/{EMAIL}:{call}");
    for (path, body, code, status) in [
        (account("generateIdToken"), "", 400, "INVALID_ARGUMENT"),
        (account("generateIdToken"), "{}", 400, "INVALID_ARGUMENT"),
        (account("generateIdToken"), r#"{"audience": ""}"#, 400, "INVALID_ARGUMENT"),
        (account("generateIdToken"), r#"{"audience": 1}"#, 400, "INVALID_ARGUMENT"),
        (account("generateIdToken"), r#"{"audience": "a", "x": 1}"#, 400, "INVALID_ARGUMENT"),
        (
            account("generateIdToken"),
            r#"{"audience": "a", "includeEmail": 1}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        (
            account("generateIdToken"),
            r#"{"audience": "a", "delegates": ["d"]}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        (account("generateIdToken"), "[]", 400, "INVALID_ARGUMENT"),
        (account("generateAccessToken"), r#"{"scope": []}"#, 400, "INVALID_ARGUMENT"),
        (
            account("generateAccessToken"),
            r#"{"scope": ["s"], "lifetime": "3601s"}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        (
            account("generateAccessToken"),
            r#"{"scope": ["s"], "lifetime": "0s"}"#,
            400,
            "INVALID_ARGUMENT",
        ),
        (
            "/v1/projects/-/serviceAccounts/x@p:generateIdToken".into(),
            r#"{"audience": "a"}"#,
            404,
            "NOT_FOUND",
        ),
    ] {
        let (got, answer) = post(&path, body);
        assert_eq!(got, code, "{path} {body}");
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["status"]),
            (&json!(code), &json!(status))
        );
        assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    assert_eq!(post(&account("signNothing"), "{}").0, 404);
    assert_eq!(post("/v1/projects/-/serviceAccounts/a/b:generateIdToken", "{}").0, 404);
}

#[test]
fn a_network_without_a_key_does_not_compile() {
    for signing_keys in [vec![], vec!["no PEM".to_owned()]] {
        let slice = MetadataSlice { signing_keys, ..slice_of(NetworkId::new("p", "n")) };
        assert!(Snapshot::compile(slice).is_err());
    }
}
