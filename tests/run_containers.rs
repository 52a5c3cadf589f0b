//! Containers of Cloud Run instances on this machine: volumes, secrets, start order, limits. Real
//! processes in real namespaces.

mod common;

use common::{Up, have, namespaces, root, scratch};
use serde_json::Value;
use std::path::{Path, PathBuf};

const ORDERS: &str = "https://orders-100000000002.europe-west1.run.app/";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

fn get(up: &Up, url: &str) -> Value {
    let text = up.text(&["--network", "shop/net"], &format!("curl -s -m 30 {url}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", up.logs()))
}

#[test]
fn a_service_of_two_containers_with_a_secret_and_a_shared_volume() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let topology = scratch();
    copy(&root().join("topology/run-containers"), &topology);
    let up = Up::start(&topology, &["--isolation", "netns"]);
    let answer = get(&up, ORDERS);
    assert_eq!(answer["password"], "first");
    assert_eq!(answer["file"], "first");
    assert_eq!(answer["mode"], "0o400");
    assert_eq!(answer["overwrite"], "OSError", "the volume is mounted read-only");
    assert_eq!(answer["shared"], "yes", "started after what it depends on, with the same volume");
    assert_eq!(answer["clock"], "tick");
    assert_eq!(answer["sidecarPort"], "none", "PORT is set in the ingress container only");
    for path in ["/secrets", "/shared", "/var/shared"] {
        assert!(!Path::new(path).exists(), "{path} was made on the host");
    }
    // A new version: the file follows, the variable is fixed for the instance's life.
    let file = topology.join("services.yaml");
    let text = std::fs::read_to_string(&file).expect("readable");
    let first = "  - {name: 1, postern: {text: first}}\n";
    let second = format!("{first}  - {{name: 2, postern: {{text: second}}}}\n");
    std::fs::write(&file, text.replace(first, &second)).expect("written");
    let reload = up.run(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = get(&up, ORDERS);
        assert_eq!(answer["password"], "first");
        if answer["file"] == "second" {
            break;
        }
        assert!(std::time::Instant::now() < until, "the file does not follow: {answer}");
    }
    assert!(up.down().status.success());
    std::fs::remove_dir_all(topology).expect("removed");
}

/// What cannot be is refused by name, before anything is started.
#[test]
fn what_this_machine_or_mode_cannot_do_is_refused_by_name() {
    let refused = |topology: &Path, options: &[&str], expected: &[&str]| {
        let state_dir = scratch();
        let mut up = common::postern();
        up.args(["up", "--detach", "--northbound", "127.0.0.1:0", "--state-dir"]).arg(&state_dir);
        let output = up.args(options).arg(topology).output().expect("postern runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}");
        for part in expected {
            assert!(text.contains(part), "{part}: {text}");
        }
        let _ = std::fs::remove_dir_all(state_dir);
    };
    let example = root().join("topology/run-containers");
    let mounts = ["services/orders", "container app mounts volume secrets at /secrets/database"];
    refused(&example, &["--isolation", "loopback"], &mounts);
    let topology = scratch();
    for (run, kind) in [("{container: true}", "`container`"), ("{mock: api.yaml}", "`mock`")] {
        let text = format!("{}\n", HOSTILE.replace("{command: [postern-echo]}", run));
        let folder = topology.join(kind.trim_matches('`'));
        std::fs::create_dir_all(&folder).expect("a folder");
        let document = "{openapi: 3.0.3, info: {title: t, version: v}, paths: {/: {get: {responses: {'200': {description: d, content: {text/plain: {example: hello}}}}}}}}";
        std::fs::write(folder.join("api.yaml"), document).expect("written");
        std::fs::write(folder.join("services.yaml"), text).expect("written");
        refused(
            &folder.join("services.yaml"),
            &["--isolation", "loopback"],
            &["services/good", kind],
        );
    }
    std::fs::remove_dir_all(topology).expect("removed");
}

const HOSTILE: &str = r#"
project: shop
projectNumber: 100000000002
region: europe-west1
networks: [{name: net}]
subnetworks: [{name: subnet, network: net, ipCidrRange: 10.0.0.0/24}]
images:
  good: {command: [postern-echo]}
  filler: {command: [python3, filler.py]}
  forker: {command: [python3, forker.py]}
services:
- {name: projects/shop/locations/europe-west1/services/good, ingress: INGRESS_TRAFFIC_ALL, invokerIamDisabled: true, template: {containers: [{image: good}]}}
- {name: projects/shop/locations/europe-west1/services/filler, ingress: INGRESS_TRAFFIC_ALL, invokerIamDisabled: true, template: {containers: [{image: filler, resources: {limits: {cpu: "1", memory: 128Mi}, cpuIdle: true}}]}}
- {name: projects/shop/locations/europe-west1/services/forker, ingress: INGRESS_TRAFFIC_ALL, invokerIamDisabled: true, template: {containers: [{image: forker, resources: {limits: {cpu: "1", memory: 512Mi}}}]}}
"#;

/// A program that does this when it is asked.
fn program(body: &str) -> String {
    format!(
        "import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
{body}
http.server.HTTPServer(('', int(os.environ['PORT'])), Handler).serve_forever()
"
    )
}

const FILL: &str = "        kept = []
        while True: kept.append(bytearray(1 << 20))";

const FORK: &str = "        while True:
            try: os.fork()
            except OSError: time.sleep(1)";

fn url(service: &str) -> String {
    format!("https://{service}-100000000002.europe-west1.run.app/")
}

fn status(up: &Up, url: &str, seconds: u32) -> String {
    let script = format!("curl -s -m {seconds} -o /dev/null -w '%{{http_code}}' {url}; true");
    up.text(&["--network", "shop/net"], &script)
}

/// The limits of control groups that `doctor` finds here.
fn groups() -> String {
    let output = common::postern().args(["doctor", "--json"]).output().expect("postern runs");
    let value: Value = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    let all = value["findings"].as_array().expect("findings").clone();
    let found = all.into_iter().find(|finding| {
        finding["what"].as_str().is_some_and(|what| what.contains("control groups"))
    });
    let found = found.expect("a finding");
    match found["works"] == true {
        true => found["detail"].as_str().expect("a text").to_owned(),
        false => String::new(),
    }
}

/// The control groups of a supervisor, in every hierarchy.
fn groups_of(supervisor: u64) -> Vec<PathBuf> {
    fn walk(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("postern-{supervisor}"), &mut found);
    found
}

#[test]
fn a_hostile_instance_harms_no_other_and_leaves_nothing_behind() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let groups = groups();
    if !groups.contains("memory") || !groups.contains("processes") {
        eprintln!("SKIPPED: no writable control groups for memory and processes here: {groups}");
        return;
    }
    let topology = scratch();
    let files = [
        ("hostile.yaml", HOSTILE.to_owned()),
        ("filler.py", program(FILL)),
        ("forker.py", program(FORK)),
    ];
    for (name, text) in files {
        std::fs::write(topology.join(name), text).expect("written");
    }
    let up = Up::start(&topology, &["--isolation", "netns"]);
    assert_eq!(status(&up, &url("good"), 30), "200");
    // "Instance killed for memory → in-flight requests get 500 (503 in some variants)".
    let filled = status(&up, &url("filler"), 60);
    assert!(filled == "500" || filled == "503", "{filled}");
    up.wait("the log tells why", |_| up.logs().contains("Memory limit of 128 MiB exceeded"));
    assert_eq!(status(&up, &url("forker"), 3), "000", "it never answers");
    assert_eq!(status(&up, &url("good"), 30), "200", "its neighbour lives");
    let supervisor = up.status()["pid"].as_u64().expect("a pid");
    assert!(!groups_of(supervisor).is_empty());
    assert!(up.down().status.success());
    assert_eq!(groups_of(supervisor), Vec::<PathBuf>::new(), "left behind");
    std::fs::remove_dir_all(topology).expect("removed");
}
