//! Revisions of a Cloud Run service through the whole path: rolled by reload under load, broken ones,
//! roll-backs, and what a restart remembers. Real programs in real namespaces.

mod common;

use common::{Up, have, namespaces, postern, root, scratch};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const URL: &str = "https://catalog-100000000003.europe-west1.run.app/";
const SPLIT: &str = "\
  - {type: TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION, revision: catalog-v2, percent: 90}
  - {type: TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent: 10, tag: next}
  - {type: TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION, revision: catalog-v1, tag: first}
";
const LATEST: &str = "  - {type: TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent: 100}\n";

/// Asks over kept connections of several threads until its input ends, and says how that went: by the
/// load balancer and by Google's front end.
const LOAD: &str = r#"
import http.client, json, ssl, sys, threading
stop = threading.Event()
lock = threading.Lock()
seen, failed, count = set(), [], 0
def ask(number):
    global count
    connection = None
    while not stop.is_set():
        try:
            if connection is None:
                if number % 2:
                    connection = http.client.HTTPConnection("internal.example.com", timeout=60)
                else:
                    host = "catalog-100000000003.europe-west1.run.app"
                    connection = http.client.HTTPSConnection(host, timeout=60)
            connection.request("GET", "/catalog")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {body[:200]}")
            with lock:
                seen.add(json.loads(body)["revision"])
                count += 1
                if count == 20:
                    print("under way", flush=True)
            if answer.will_close:
                connection = None
        except Exception as error:
            with lock:
                failed.append(f"{number}: {error!r}")
            connection = None
threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
sys.stdin.read()
stop.set()
for thread in threads: thread.join()
print(json.dumps({"requests": count, "failed": failed[:10], "seen": sorted(seen)}))
"#;

struct Load(Child, BufReader<std::process::ChildStdout>);

impl Load {
    /// Begins; back when requests are being served.
    fn begin(up: &Up) -> Load {
        let mut command = postern();
        command.arg("--state-dir").arg(&up.state_dir);
        command.args(["exec", "--network", "shop/net", "--", "python3", "-c", LOAD]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("postern runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "under way", "{}", up.logs());
        Load(child, out)
    }

    fn end(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.1.read_to_string(&mut text).expect("the outcome");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy of the example that a test may edit.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let to = scratch().join("t");
        let mut copy = Command::new("cp");
        let copied = copy.arg("-r").arg(root().join("topology/run-revisions")).arg(&to).status();
        assert!(copied.expect("cp runs").success());
        Files(to)
    }

    fn edit(&self, edits: &[(&str, &str)]) {
        let file = self.0.join("shop.yaml");
        let mut text = fs::read_to_string(&file).expect("readable");
        for (from, to) in edits {
            assert!(text.contains(from), "there is no `{from}` in\n{text}");
            text = text.replace(from, to);
        }
        fs::write(file, text).expect("writable");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap_or(&self.0));
    }
}

/// The template of a version, as the example writes it.
fn template(version: u32) -> String {
    format!(
        "    revision: catalog-v{version}\n    containers: [{{image: shop/catalog, env: [{{name: VERSION, value: \"{version}\"}}]}}]\n"
    )
}

fn reload(up: &Up) -> String {
    let output = up.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn refused(up: &Up) -> String {
    let output = up.run(&["reload"]);
    assert!(!output.status.success(), "the reload was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn revision(up: &Up, url: &str) -> String {
    let text = up.text(&["--network", "shop/net"], &format!("curl -s -m 30 {url}"));
    let answer: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", up.logs()));
    answer["revision"].as_str().expect("a revision").to_owned()
}

/// The revisions that a few requests get.
fn served(up: &Up) -> BTreeSet<String> {
    let script = format!("for i in $(seq 20); do curl -s -m 30 {URL}; echo; done");
    let text = up.text(&["--network", "shop/net"], &script);
    let one = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        answer["revision"].as_str().expect("a revision").to_owned()
    };
    text.lines().map(one).collect()
}

fn explain(up: &Up) -> String {
    String::from_utf8_lossy(&up.run(&["explain", "--from", "shop/net", URL]).stdout).into_owned()
}

#[test]
fn shares_and_tags_are_those_of_the_file() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(root().join("topology/run-revisions"), &["--isolation", "netns"]);
    let tagged = [
        ("https://first---catalog-100000000003.europe-west1.run.app/", "catalog-v1"),
        ("https://next---catalog-100000000003.europe-west1.run.app/", "catalog-v3"),
        ("http://first.tags.internal.example.com/catalog", "catalog-v1"),
        ("http://next.tags.internal.example.com/catalog", "catalog-v3"),
    ];
    for (url, expected) in tagged {
        assert_eq!(revision(&up, url), expected, "{url}");
    }
    let served = served(&up);
    assert!(served.contains("catalog-v2") && !served.contains("catalog-v1"), "{served:?}");
    let explained = explain(&up);
    let expected = "most requests get catalog-v2, 90 % of them; traffic: catalog-v2 90 %, \
                    catalog-v3 10 % (tag next), catalog-v1 0 % (tag first)";
    assert!(explained.contains(expected), "{explained}");
}

#[test]
fn fifty_revisions_rolled_under_load_lose_no_request() {
    const LAST: u32 = 53;
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    files.edit(&[(SPLIT, LATEST)]);
    let up = Up::start(&files.0, &["--isolation", "netns"]);
    let load = Load::begin(&up);
    for version in 4..=LAST {
        files.edit(&[(&template(version - 1), &template(version))]);
        let said = reload(&up);
        assert!(!said.contains("not ready"), "{said}");
    }
    let newest = format!("catalog-v{LAST}");
    assert_eq!(revision(&up, URL), newest, "it is in force when the reload is");
    let outcome = load.end();
    assert_eq!(outcome["failed"], serde_json::json!([]), "{outcome}");
    let seen = outcome["seen"].as_array().expect("revisions");
    assert!(seen.len() > 10 && seen.iter().any(|name| *name == *newest), "{outcome}");
    up.wait("the old ones end", |status| {
        let state = &status["services"][0];
        let revisions = state["revisions"].as_array().expect("revisions");
        let instances = |one: &Value| one["instances"].as_u64().unwrap_or_default();
        revisions.iter().all(|one| one["name"] == *newest || instances(one) == 0)
    });
}

#[test]
fn a_broken_revision_serves_nothing_and_history_outlives_a_restart() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    files.edit(&[(SPLIT, LATEST)]);
    let up = Up::start(&files.0, &["--isolation", "netns"]);
    assert_eq!(revision(&up, URL), "catalog-v3");
    let broken = template(4).replace("VERSION", "MODE").replace("\"4\"", "broken");
    files.edit(&[(&template(3), &broken)]);
    let said = reload(&up);
    let text = "Revision 'catalog-v4' is not ready and cannot serve traffic. The user-provided \
                container failed to start and listen on the port defined provided by the PORT=8080";
    assert!(said.contains(text), "{said}");
    assert_eq!(served(&up).into_iter().collect::<Vec<_>>(), ["catalog-v3"]);
    let explained = explain(&up);
    assert!(explained.contains("revision catalog-v3"), "{explained}");
    let status = String::from_utf8_lossy(&up.run(&["status"]).stdout).into_owned();
    assert!(status.contains("HEALTH_CHECK_CONTAINER_ERROR") && status.contains(text), "{status}");
    // Mended; then back to a revision that the files do not have any more.
    files.edit(&[(&broken, &template(5))]);
    reload(&up);
    assert_eq!(revision(&up, URL), "catalog-v5");
    let to = |name: &str| {
        format!(
            "  - {{type: TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION, revision: {name}, percent: 100}}\n"
        )
    };
    files.edit(&[(LATEST, &to("catalog-v3"))]);
    reload(&up);
    assert_eq!(served(&up).into_iter().collect::<Vec<_>>(), ["catalog-v3"]);
    // Nobody knows this one; and a name is taken once.
    files.edit(&[(&to("catalog-v3"), &to("catalog-v9"))]);
    let said = refused(&up);
    assert!(said.contains("Revision 'catalog-v9' does not exist or was deleted."), "{said}");
    files.edit(&[(&to("catalog-v9"), &to("catalog-v3")), ("value: \"5\"", "value: other")]);
    let said = refused(&up);
    let conflict = "Revision named 'catalog-v5' with different configuration already exists.";
    assert!(said.contains(conflict), "{said}");
    assert_eq!(revision(&up, URL), "catalog-v3", "nothing has changed");
    files.edit(&[("value: other", "value: \"5\"")]);

    assert!(up.down().status.success());
    let topology = files.0.to_str().expect("UTF-8");
    let again = ["up", "--detach", "--northbound", "127.0.0.1:0", "--isolation", "netns", topology];
    let output = up.run(&again);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(revision(&up, URL), "catalog-v3", "known from before");
    assert!(up.down().status.success());
    let output = up.run(&[&again[..], &["--forget-revisions"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("'catalog-v3' does not exist"), "{said}");
}
