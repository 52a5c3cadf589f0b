//! The program over real sockets: who calls, headers, waiting, the token channel, reloads.

use id_token::SigningKey;
use metadata::Metadata;
use names::NetworkId;
use runtime::testing::{Place, Started};
use serde_json::{Value, json};
use slice::run::{IssuerSlice, MetadataSlice, ServiceAccount};
use slice::{Notice, TOKEN_CHANNEL, Workload};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

const EMAIL: &str = "proxy@p.iam.gserviceaccount.com";

static PEM: LazyLock<String> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness").to_pem());

fn slice() -> MetadataSlice {
    MetadataSlice {
        network: NetworkId::new("p", "n"),
        network_project_number: 123,
        subnetworks: vec![],
        service_accounts: vec![ServiceAccount {
            email: EMAIL.into(),
            project: "p".into(),
            unique_id: "107517467455664443765".into(),
        }],
        signing_keys: vec![PEM.clone()],
        issuer: Some(IssuerSlice::default()),
    }
}

/// The test itself, as a workload.
fn this_process(tags: &[&str]) -> Workload {
    Workload {
        name: "exec-1".into(),
        network: NetworkId::new("p", "n"),
        address: Ipv4Addr::LOCALHOST,
        project: "p".into(),
        project_number: 123,
        region: "europe-west1".into(),
        zone: "europe-west1-b".into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        service_account: Some(EMAIL.into()),
        instance_id: "1".into(),
        serverless: false,
        outside: None,
        metadata: BTreeMap::new(),
    }
}

struct Server {
    started: Started<Metadata>,
    state_dir: PathBuf,
}

impl Server {
    fn start() -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("postern-metadata-{}-{number}", std::process::id());
        let state_dir = std::env::temp_dir().join(name);
        let place = Place {
            state_dir: state_dir.clone(),
            network: Some(NetworkId::new("p", "n")),
            workers: 2,
            placements: vec![],
        };
        let started = Started::start(slice(), place).expect("started");
        Server { started, state_dir }
    }

    fn workloads(&self, workloads: Vec<Workload>) {
        self.started.notice(Notice::Workloads(workloads));
    }

    fn send(&self, head: &str) -> TcpStream {
        let address = self.started.address("http").expect("a listener");
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("sent");
        stream
    }

    fn ask(&self, head: &str) -> Answer {
        Answer::read(self.send(head))
    }

    fn get(&self, below: &str) -> Answer {
        self.ask(&get(below))
    }

    fn post(&self, call: &str, body: &Value) -> Answer {
        let channel = self.started.context().expect("running").channel(TOKEN_CHANNEL);
        let mut stream = UnixStream::connect(channel).expect("connected");
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "POST /v1/projects/-/serviceAccounts/{call} HTTP/1.1\r\nHost: iamcredentials.googleapis.com\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .expect("sent");
        Answer::read(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

fn get(below: &str) -> String {
    format!(
        "GET /computeMetadata/v1/{below} HTTP/1.1\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google"
    )
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: impl Read) -> Answer {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[test]
fn a_workload_is_known_by_its_address_alone() {
    let server = Server::start();
    assert_eq!(server.get("project/project-id").status, 404, "nobody is known yet");
    server.workloads(vec![this_process(&[])]);
    let answer = server.get("instance/service-accounts/default/email");
    assert_eq!((answer.status, answer.body.as_str()), (200, EMAIL));
    for (name, value) in [
        ("metadata-flavor", "google"),
        ("server", "metadata server for vm"),
        ("content-type", "application/text"),
        ("x-xss-protection", "0"),
        ("x-frame-options", "sameorigin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    server.workloads(vec![Workload { serverless: true, ..this_process(&[]) }]);
    let answer = server.get("instance/region");
    assert_eq!(answer.header("server"), Some("metadata server for serverless"));
    server.workloads(vec![]);
    assert_eq!(server.get("instance/region").status, 404);
}

#[test]
fn hosts_headers_and_methods_are_checked() {
    let server = Server::start();
    server.workloads(vec![this_process(&[])]);
    let port = server.started.address("http").expect("a listener").port();
    let status = |host: &str| {
        let head = "GET /computeMetadata/v1/instance/id HTTP/1.1\r\nMetadata-Flavor: Google";
        server.ask(&format!("{head}\r\nHost: {host}")).status
    };
    for host in [
        "metadata.google.internal".to_owned(),
        "metadata.google.internal.:80".to_owned(),
        "metadata".to_owned(),
        "169.254.169.254".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
    ] {
        assert_eq!(status(&host), 200, "{host}");
    }
    for host in ["rebound.example.com", "10.0.0.5", "127.0.0.2", "google.internal"] {
        assert_eq!(status(host), 404, "{host}");
    }
    let path = "/computeMetadata/v1/instance/id HTTP/1.1\r\nHost: metadata";
    assert_eq!(server.ask(&format!("GET {path}")).status, 403);
    assert_eq!(server.ask(&format!("GET {path}\r\nMetadata-Flavor: google")).status, 403);
    let google = "Metadata-Flavor: Google";
    let forwarded = format!("GET {path}\r\n{google}\r\nX-Forwarded-For: 10.0.0.9");
    assert_eq!(server.ask(&forwarded).status, 403);
    let post = server.ask(&format!("POST {path}\r\n{google}\r\nContent-Length: 0"));
    assert_eq!((post.status, post.header("allow")), (405, Some("get, head")));
    let head = server.ask(&format!("HEAD {path}\r\n{google}"));
    assert_eq!((head.status, head.header("content-length"), &*head.body), (200, Some("1"), ""));
    let ping = server.ask("GET / HTTP/1.1\r\nHost: metadata");
    assert_eq!((ping.status, ping.header("metadata-flavor")), (200, Some("google")));
    let moved = server.get("instance?recursive=true");
    let location = "http://metadata.google.internal/computemetadata/v1/instance/?recursive=true";
    assert_eq!((moved.status, moved.header("location")), (301, Some(location)));
}

#[test]
fn a_waiting_request_is_answered_by_the_change_or_by_the_timeout() {
    let server = Server::start();
    server.workloads(vec![this_process(&["a"])]);
    let first = server.get("instance/tags");
    let etag = first.header("etag").expect("an ETag").to_owned();
    let again = server.get("instance/tags?wait_for_change=true&timeout_sec=0");
    assert_eq!((again.status, &*again.body), (200, "[\"a\"]"));
    let stale = server.get("instance/tags?wait_for_change=true&last_etag=0");
    assert_eq!(&*stale.body, "[\"a\"]", "another value than the caller's is news already");
    let wait = format!("instance/tags?wait_for_change=true&timeout_sec=60&last_etag={etag}");
    let mut waiting = server.send(&get(&wait));
    // The request waits for a change of its own value: this one is none.
    server.workloads(vec![this_process(&["a"])]);
    server.workloads(vec![this_process(&["a", "b"])]);
    assert_eq!(Answer::read(&mut waiting).body, "[\"a\",\"b\"]");
    // A stopping server keeps nobody.
    let waiting = server.send(&get("instance/tags?wait_for_change=true"));
    let reader = std::thread::spawn(move || {
        let mut waiting = waiting;
        let mut text = String::new();
        let _ = waiting.read_to_string(&mut text);
    });
    drop(server);
    reader.join().expect("ended");
}

#[test]
fn the_token_channel_makes_tokens() {
    let server = Server::start();
    let answer = server.post(
        &format!("{EMAIL}:generateIdToken"),
        &json!({"audience": "https://a", "includeEmail": true}),
    );
    assert_eq!(answer.status, 200);
    let token = answer.json()["token"].as_str().map(str::to_owned).expect("a token");
    let certs = server.ask("GET /oauth2/v3/certs HTTP/1.1\r\nHost: 169.254.169.254");
    let keys = id_token::KeySet::parse(&certs.body).expect("a key set");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let claims = id_token::verify(&keys, &token, now).expect("a good token");
    assert_eq!((claims.aud.as_str(), claims.email.as_deref()), ("https://a", Some(EMAIL)));
    let unknown = server.post("x@p:generateIdToken", &json!({"audience": "https://a"}));
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let long = server.post(
        &format!("{EMAIL}:generateIdToken"),
        &json!({"audience": "a".repeat(metadata::BODY_MAX)}),
    );
    assert_eq!(long.status, 400);
}

#[test]
fn a_bad_generation_changes_nothing() {
    let mut server = Server::start();
    server.workloads(vec![this_process(&[])]);
    let bad = MetadataSlice { signing_keys: vec!["no PEM".into()], ..slice() };
    assert!(server.started.reload(bad).is_err());
    assert_eq!(server.get("instance/service-accounts/default/email").status, 200);
    let without = MetadataSlice { service_accounts: vec![], ..slice() };
    server.started.reload(without).expect("a good generation");
    assert_eq!(server.get("instance/service-accounts/default/email").status, 404);
}
