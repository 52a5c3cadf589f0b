//! Any bytes as a bundle: no panic, no endless work, a place and a fix for every mistake; a bundle
//! without mistakes answers a request.
//!
//! Input: a zip; or up to five texts separated by a line `%%`: a proxy endpoint, a target endpoint,
//! two policies, and a message as `condition` takes it.
#![no_main]

#[path = "../message.rs"]
mod message;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use message::request;
use names::NetworkId;
use policy_bundle::{
    ClientInfo, Clock, Content, Counters, Files, Next, Platform, TargetOutcome, World, load,
};
use slice::apigee::{Deployment, EnvironmentGroup, Organization};
use std::net::IpAddr;

struct Standing;

impl Clock for Standing {
    fn unix_millis(&self) -> i64 {
        1_700_000_000_123
    }
    fn nanos(&self) -> u64 {
        5_000_000_000
    }
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"PK") {
        if let Ok(files) = Files::from_zip("bundle.zip", data) {
            check(&files, "/");
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut texts = text.splitn(5, "\n%%\n");
    let mut files = Files::new("bundle");
    let root = r#"<APIProxy revision="1" name="orders"/>"#;
    let mut add = |path: &str, text: &str| {
        let _ = files.add(path, text.as_bytes().to_vec());
    };
    add("apiproxy/orders.xml", root);
    add("apiproxy/proxies/default.xml", texts.next().unwrap_or_default());
    for path in ["targets/default", "policies/a", "policies/b"] {
        if let Some(text) = texts.next().filter(|text| !text.is_empty()) {
            add(&format!("apiproxy/{path}.xml"), text);
        }
    }
    check(&files, texts.next().unwrap_or("/"));
});

fn check(files: &Files, message: &str) {
    match load(files) {
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.file.is_empty() && !error.code.is_empty());
                assert!(!error.what.is_empty() && !error.fix.is_empty(), "{error}");
                assert_eq!(error.line == 0, error.column == 0);
            }
        }
        Ok(loaded) => {
            let Ok(platform) = Platform::compile(&organization(), |_| Ok(files.clone())) else {
                return; // base paths in conflict
            };
            for proxy in &loaded.bundle.proxies {
                let mut request = request(message);
                request.path = format!("{}{}", proxy.base_path, request.path);
                call(&platform, request);
            }
        }
    }
}

fn call(platform: &Platform, request: policy_bundle::Message) {
    let Ok(routed) = platform.route("api.example.com", &request.path) else { return };
    let counters = Counters::new();
    let world = World { clock: &Standing, counters: &counters, directory: &platform.directory };
    let client = ClientInfo { ip: IpAddr::from([203, 0, 113, 9]), port: 4711, tls: true };
    let mut call = Platform::call(routed, request, client, 1_700_000_000_123, || 7).explain();
    let mut targets = 0;
    loop {
        match call.step(&world) {
            Next::SendTarget(sent) => {
                targets += 1;
                assert!(!sent.host.is_empty() && targets == 1);
                call.answer(TargetOutcome::Response {
                    status: 200,
                    reason: None,
                    headers: HeaderMap::new(),
                    content: Content::Bytes("{\"a\":[1,2]}".into()),
                });
            }
            Next::Respond(_) => break,
            Next::Done => panic!("no answer"),
        }
    }
    assert!(matches!(call.step(&world), Next::Done));
    for line in call.trace_lines() {
        assert!(!line.is_empty());
    }
}

fn organization() -> Organization {
    Organization {
        name: "org".into(),
        project: "org-project".into(),
        apigee_project_id: "tenant".into(),
        network: NetworkId::new("tenant", "apigee"),
        region: "europe-west1".into(),
        environment_groups: vec![EnvironmentGroup {
            name: "group".into(),
            hostnames: vec!["api.example.com".into()],
            environments: vec!["prod".into()],
        }],
        deployments: vec![Deployment {
            at: "apigee.yaml:1:1".into(),
            api_proxy: "orders".into(),
            environment: "prod".into(),
            revision: "7".into(),
            service_account: Some("proxy@p.iam.gserviceaccount.com".into()),
            bundle: "bundle".into(),
        }],
        api_products: Vec::new(),
        developers: Vec::new(),
        apps: Vec::new(),
    }
}
