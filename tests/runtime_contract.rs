//! The MUSTs of Knative's runtime contract that its conformance tests check (fact sheet cloud-run
//! 1.1, 1.4, 1.6), and what containers write (7.2): asked of a real program in an instance.

mod common;

use common::{Up, have, namespaces, scratch};
use serde_json::Value;
use std::time::{Duration, Instant};

const TOPOLOGY: &str = r#"
project: contract
projectNumber: 100000000001
region: europe-west1
networks: [{name: net}]
subnetworks: [{name: subnet, network: net, ipCidrRange: 10.0.0.0/24}]
images: {app: {command: [python3, app.py]}, echo: {command: [postern-echo]}}
services:
- name: projects/contract/locations/europe-west1/services/default
  invokerIamDisabled: true
  template: {containers: [{image: app, env: [{name: OWN, value: own}]}]}
- name: projects/contract/locations/europe-west1/services/http1
  invokerIamDisabled: true
  template: {containers: [{image: app, ports: [{name: http1, containerPort: 9090}]}]}
- name: projects/contract/locations/europe-west1/services/h2c
  invokerIamDisabled: true
  template: {containers: [{image: echo, ports: [{name: h2c, containerPort: 8080}]}]}
"#;

/// A world with the services, and what one of them answers.
struct World(Up, std::path::PathBuf);

impl World {
    fn start() -> World {
        let topology = scratch();
        std::fs::write(topology.join("contract.yaml"), TOPOLOGY).expect("written");
        let app = common::root().join("tests/runtime_contract/app.py");
        std::fs::copy(app, topology.join("app.py")).expect("copied");
        World(Up::start(&topology, &["--isolation", "netns"]), topology)
    }

    fn ask(&self, service: &str, path: &str, options: &str) -> String {
        let url = format!("https://{service}-100000000001.europe-west1.run.app/{path}");
        let script = format!("curl -sS -m 20 {options} '{url}'");
        self.0.text(&["--network", "contract/net"], &script)
    }

    fn json(&self, service: &str, path: &str, options: &str) -> Value {
        let text = self.ask(service, path, options);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{service}/{path}: {error}: {text}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

#[test]
fn the_musts_of_the_runtime_contract_hold() {
    if !(have(&["curl", "python3"]) && namespaces()) {
        return;
    }
    let world = World::start();
    environment(&world);
    headers(&world);
    files(&world);
    process(&world);
    protocols(&world);
    logs(&world);
}

fn environment(world: &World) {
    for (service, port) in [("default", "8080"), ("http1", "9090")] {
        let env = world.json(service, "env", "");
        for (name, expected) in
            [("PORT", port), ("K_SERVICE", service), ("K_CONFIGURATION", service)]
        {
            assert_eq!(env[name], expected, "{service}: {name}");
        }
        let revision = env["K_REVISION"].as_str().unwrap_or_default();
        assert!(revision.starts_with(&format!("{service}-")), "{revision}");
        assert!(env.get("KUBERNETES_PORT").is_none());
        assert_eq!(env.get("OWN").is_some(), service == "default");
    }
}

fn headers(world: &World) {
    let sent = "-H 'x-own: 1' -H 'x-forwarded-proto: http' -H 'x-forwarded-for: 6.6.6.6'";
    let seen = world.json("default", "headers", sent);
    let header = |name: &str| {
        let all = seen.as_array().expect("a list").iter();
        let values: Vec<&str> =
            all.filter(|h| h[0] == name).map(|h| h[1].as_str().expect("text")).collect();
        assert!(values.len() <= 1, "{name} twice: {seen}");
        values.first().map_or("", |value| *value).to_owned()
    };
    assert_eq!(header("host"), "default-100000000001.europe-west1.run.app");
    assert_eq!(header("x-own"), "1", "a user's header arrives");
    assert_eq!(header("x-forwarded-proto"), "https", "a client's own is replaced");
    let forwarded = header("x-forwarded-for");
    let client =
        forwarded.strip_prefix("6.6.6.6,").expect("a client's own stays on the left").trim();
    assert!(client.starts_with("10.0.0."), "{forwarded}");
    assert_eq!(header("forwarded"), format!("for=\"{client}\";proto=https"));
    let cloud = header("x-cloud-trace-context");
    let (trace, span) = cloud.split_once('/').expect("a trace");
    assert!(trace.len() == 32 && span.ends_with(";o=0"), "{cloud}");
    assert!(
        header("traceparent").starts_with(&format!("00-{trace}-")),
        "{}",
        header("traceparent")
    );
    let client = world.ask("default", "headers", "-o /dev/null -D -").to_ascii_lowercase();
    for line in
        ["server: google frontend", "content-type: application/json", "x-cloud-trace-context: "]
    {
        assert!(client.contains(line), "{line} in {client}");
    }
}

fn files(world: &World) {
    let files = world.json("default", "files", "");
    for device in ["full", "null", "ptmx", "random", "tty", "urandom", "zero"] {
        let kind = files[format!("/dev/{device}")].as_str().unwrap_or_default();
        assert!(kind.starts_with('c'), "/dev/{device}: {kind}");
    }
    for stream in ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/self/fd/0", "/proc/self/fd/1"]
    {
        let kind = files[stream].as_str().unwrap_or_default();
        assert!(kind.starts_with(['c', 'p']), "{stream}: {kind}");
    }
    for directory in ["/dev/fd", "/proc/self/fd", "/sys/fs/cgroup"] {
        let kind = files[directory].as_str().unwrap_or_default();
        assert!(kind.starts_with('d'), "{directory}: {kind}");
    }
    assert_eq!(files["/tmp"], "d1777", "a directory that everybody may write to");
    assert!(files["/etc/resolv.conf"].as_str().is_some_and(|kind| kind.starts_with('-')));
    let devices = world.json("default", "devices", "");
    let expected = serde_json::json!(
        {"null": 1, "full": "OSError", "zero": 16, "random": 16, "urandom": 16}
    );
    assert_eq!(devices, expected);
    assert_eq!(world.json("default", "tmp", ""), 1);
    assert_ne!(world.json("default", "sysctl", ""), 1, "/proc/sys is read-only");
}

fn process(world: &World) {
    let process = world.json("default", "process", "");
    assert_eq!(process["stdin"], "", "the end of file at once");
    assert_eq!(process["tty"], serde_json::json!([false, false, false]));
    let peer = process["peer"].as_str().unwrap_or_default();
    assert!(
        peer.starts_with("169.254."),
        "the remote peer is link-local, never the client: {peer}"
    );
    let cwd = process["cwd"].as_str().unwrap_or_default();
    assert_eq!(std::path::Path::new(cwd), std::fs::canonicalize(&world.1).expect("there"));
    assert!(
        process["cgroup"].as_str().is_some_and(|text| text.contains(":/")),
        "limits are visible"
    );
    for capabilities in process["capabilities"].as_array().expect("a list") {
        let none =
            capabilities.as_str().is_some_and(|line| line.trim().ends_with("0000000000000000"));
        assert!(none, "{capabilities}");
    }
}

fn protocols(world: &World) {
    // The front end speaks both to clients, whatever the container takes.
    for service in ["default", "http1", "h2c"] {
        for option in ["--http1.1", "--http2"] {
            let path = if service == "h2c" { "" } else { "env" };
            let status =
                world.ask(service, path, &format!("{option} -o /dev/null -w '%{{http_code}}'"));
            assert_eq!(status, "200", "{service} {option}");
        }
    }
    let seen = world.ask("h2c", "", "--http1.1");
    assert!(seen.contains("HTTP/2"), "a port named h2c is asked in HTTP/2: {seen}");
}

fn logs(world: &World) {
    let trace = "105445aa7843bc8bf206b12000100000";
    let said = r#"{"severity":"NOTICE","message":"said","n":1,"logging.googleapis.com/trace":"projects/contract/traces/105445aa7843bc8bf206b12000100000"}"#;
    let traced = format!("-H 'x-cloud-trace-context: {trace}/7;o=1' -H 'x-say: {said}'");
    world.ask("default", "say", &traced);
    world.ask("default", "error", "-H 'x-say: plain words'");
    let entries = |find: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        let logs = world.0.run(&["logs", "--json", "cloud-run"]).stdout;
        let lines = String::from_utf8_lossy(&logs).into_owned();
        let entries = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.filter(|entry| find(entry)).collect()
    };
    let wait = |what: &str, find: &dyn Fn(&Value) -> bool| -> Value {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(entry) = entries(find).pop() {
                return entry;
            }
            assert!(Instant::now() < until, "no entry: {what}\n{}", world.0.logs());
            std::thread::yield_now();
        }
    };
    let plain = wait("plain words", &|entry| entry["textPayload"] == "plain words");
    assert_eq!(plain["severity"], "DEFAULT");
    assert_eq!(plain["logName"], "projects/contract/logs/run.googleapis.com%2Fstderr");
    assert_eq!(plain["resource"]["labels"]["service_name"], "default");
    let structured = wait("said", &|entry| entry["jsonPayload"]["message"] == "said");
    assert_eq!(structured["severity"], "NOTICE");
    assert_eq!(structured["jsonPayload"]["n"], 1);
    assert_eq!(structured["logName"], "projects/contract/logs/run.googleapis.com%2Fstdout");
    let request = wait("the request", &|entry| {
        entry["httpRequest"]["requestUrl"].as_str().is_some_and(|url| url.ends_with("/say"))
    });
    assert_eq!(request["trace"], structured["trace"], "they belong together");
    assert_eq!(request["labels"]["instanceId"], structured["labels"]["instanceId"]);
    assert_eq!(request["resource"], structured["resource"]);
    assert_eq!(request["traceSampled"], true);
    assert!(!entries(&|entry| entry["textPayload"] == "ready").is_empty());
    let shown = world.0.run(&["logs", "cloud-run.default"]).stdout;
    assert!(String::from_utf8_lossy(&shown).contains("NOTICE  cloud-run.default"), "for people");
}
