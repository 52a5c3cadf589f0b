//! Up, reload, death and down of the real programs.

mod common;

use common::{Up, have, namespaces, postern, root, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MAIN: &str = "topology/apigee-psc-cloud-run";
const TENANT: &str = "apigee-tenant/runtime";
const PROXY: &str = "apigee-apiproxy@apigee-project.iam.gserviceaccount.com";
const TOKEN: &str = "TOKEN=$(curl -s -H 'Metadata-Flavor: Google' 'http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity?audience=https://orders-303000000003.europe-west1.run.app')";

/// A copy of the main topology that a test may edit.
fn copy() -> PathBuf {
    let to = scratch().join("t");
    let status = Command::new("cp").args(["-r"]).arg(root().join(MAIN)).arg(&to).status();
    assert!(status.expect("cp runs").success());
    to
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("readable");
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    fs::write(file, text.replace(from, to)).expect("writable");
}

/// Processes whose command line names this state directory.
fn processes(state_dir: &Path) -> Vec<String> {
    let needle = state_dir.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle) && !line.contains("life_cycle"))
        .collect()
}

fn wait_until_gone(state_dir: &Path) {
    let until = Instant::now() + Duration::from_secs(20);
    while !processes(state_dir).is_empty() {
        assert!(Instant::now() < until, "still there: {:#?}", processes(state_dir));
        std::thread::yield_now();
    }
}

/// What is left in a state directory after `down`.
fn left(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir).expect("the state directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Takes one export of spans, as a collector on the host does.
fn export(listener: &std::net::TcpListener) -> serde_json::Value {
    use std::io::{Read, Write};
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let mut read = Vec::new();
    loop {
        let mut some = [0; 16 * 1024];
        let n = stream.read(&mut some).expect("an export");
        assert!(n > 0, "the export ended early");
        read.extend_from_slice(&some[..n]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.expect("a length").parse() == Ok(body.len()) {
            assert!(head.starts_with("POST /v1/traces "), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").expect("sent");
            return serde_json::from_str(body).expect("JSON");
        }
    }
}

#[test]
fn spans_leave_the_simulated_networks_for_a_collector_on_the_host() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let up = Up::start_in(MAIN, &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let line = up.printed.lines().find(|line| line.trim().starts_with("curl")).expect("a line");
    let asked = Command::new("sh").args(["-c", line.trim()]).output().expect("sh runs");
    assert!(asked.status.success(), "{}", up.logs());
    let export = export(&listener);
    let spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    let [server, client] = [2, 3].map(|kind| {
        spans.iter().find(|span| span["kind"] == kind).unwrap_or_else(|| panic!("{export:#}"))
    });
    assert_eq!(client["parentSpanId"], server["spanId"]);
    let status = server["attributes"].as_array().expect("attributes").iter();
    let mut status = status.filter(|one| one["key"] == "http.response.status_code");
    assert_eq!(status.next().expect("a status")["value"]["intValue"], "200", "{export:#}");
}

#[test]
fn the_printed_curl_line_works_when_pasted() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    let line = up.printed.lines().find(|line| line.trim().starts_with("curl")).expect("a line");
    let output = Command::new("sh")
        .args(["-c", &format!("{} -s -w '\\n%{{http_code}}'", line.trim())])
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("\n200"), "{line}\n{text}{}", up.logs());
    let body: serde_json::Value =
        serde_json::from_str(text.trim_end_matches("\n200")).expect("the app answers JSON");
    assert_eq!(body["service"], "orders");
    let header = |name: &str| body["headers"][name].as_str().unwrap_or_default().to_owned();
    let forwarded = header("x-forwarded-for");
    let (nat, balancer) = forwarded.rsplit_once(',').expect("two addresses");
    assert_eq!(balancer, "10.0.0.5", "{forwarded}");
    assert!(nat.rsplit(',').next().is_some_and(|nat| nat.starts_with("10.0.2.")), "{forwarded}");
    assert!(header("authorization").ends_with(".SIGNATURE_REMOVED_BY_GOOGLE"), "{body:#}");
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    for program in ["api-proxy", "endpoint-attachment", "service-attachment", "internal-lb"] {
        let found = programs.iter().find(|p| p["program"] == program).expect(program);
        assert!(found["network"].is_string() && found["pid"].is_u64(), "{found:#}");
    }
    assert!(up.down().status.success());
    wait_until_gone(&up.state_dir);
    // The history of PSC connections is for the next `up` of this topology.
    let left = left(&up.state_dir);
    assert!(
        left.iter().all(|name| {
            ["keys", "accounts", "revisions"].contains(&name.as_str()) || name.starts_with("psc-")
        }),
        "{left:?}"
    );
}

#[test]
fn kill_minus_nine_of_the_supervisor_leaves_nothing_and_up_works_again() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    let pid = up.status()["pid"].as_u64().expect("a pid").to_string();
    let _ = up.exec(&["--network", TENANT], "true");
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill runs").success());
    wait_until_gone(&up.state_dir);
    let again = postern()
        .args(["up", "--detach", "--northbound", "127.0.0.1:0", "--state-dir"])
        .arg(&up.state_dir)
        .arg(MAIN)
        .output()
        .expect("postern runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let code = up.text(
        &["--network", TENANT],
        "curl -s -o /dev/null -w '%{http_code}' https://internal.example.com/orders",
    );
    assert_eq!(code, "403");
}

#[test]
fn a_killed_program_comes_back_with_its_listeners() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    for program in ["internal-lb", "private-dns", "service-attachment", "cloud-run", "metadata"] {
        let status = up.status();
        let programs = status["programs"].as_array().expect("programs");
        for killed in programs.iter().filter(|p| p["program"] == program) {
            let pid = killed["pid"].as_u64().expect("a pid").to_string();
            assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
        }
        up.wait(&format!("a new {program}"), |status| {
            let programs = status["programs"].as_array().expect("programs");
            let mut ours = programs.iter().filter(|p| p["program"] == program);
            ours.all(|p| p["state"] == "running" && p["restarts"].as_u64() >= Some(1))
        });
        let code = up.text(
            &["--network", TENANT, "--as", PROXY],
            &format!("{TOKEN}; curl -s -o /dev/null --max-time 20 -w '%{{http_code}}' -H \"Authorization: Bearer $TOKEN\" https://internal.example.com/orders"),
        );
        assert_eq!(code, "200", "after the death of {program}");
    }
}

#[test]
fn a_reload_with_a_mistake_changes_nothing_and_a_good_one_takes_effect() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let topology = copy();
    let up = Up::start(&topology, &[]);
    let partner = ["--network", "partner-project/partner-network"];
    let ask = "curl -s -o /dev/null --connect-timeout 3 -w '%{http_code}' https://internal.example.com/orders; true";
    assert_eq!(up.text(&partner, ask), "000");

    let producer = topology.join("producer.yaml");
    edit(&producer, "natSubnets: [psc-nat]", "natSubnets: [psc-nat, nowhere]\n  typo: 1");
    let refused = up.run(&["reload"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text.contains("producer.yaml:") && text.contains("typo") && text.contains("nowhere"),
        "{text}"
    );
    assert!(text.contains("generation 1 stays in force"), "{text}");
    assert_eq!(up.status()["generation"], 1);
    assert_eq!(up.text(&["--network", TENANT], ask), "403");

    edit(&producer, "natSubnets: [psc-nat, nowhere]\n  typo: 1", "natSubnets: [psc-nat]");
    edit(
        &producer,
        "  - {projectIdOrNum: apigee-tenant, connectionLimit: 4}",
        "  - {projectIdOrNum: apigee-tenant, connectionLimit: 4}\n  - {projectIdOrNum: partner-project, connectionLimit: 1}",
    );
    let good = up.run(&["reload"]);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert_eq!(up.status()["generation"], 2);
    // The line that `explain` told to add admits the partner: its endpoint answers now.
    assert_eq!(up.text(&partner, ask), "403");
}

#[test]
fn reloads_under_load_fail_no_request_and_close_no_connection() {
    if !have(&["curl", "python3", "h2load"]) || !namespaces() {
        return;
    }
    let topology = copy();
    let up = Up::start(&topology, &[]);
    let mut load = postern()
        .arg("--state-dir")
        .arg(&up.state_dir)
        .args(["exec", "--network", TENANT, "--as", PROXY, "--", "sh", "-c"])
        .arg(format!(
            "{TOKEN}; exec h2load -t1 -c 8 -m 8 -D 6 --rps 250 -H \"authorization: Bearer $TOKEN\" https://internal.example.com/orders"
        ))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("postern runs");
    let producer = topology.join("producer.yaml");
    let mut reloads = 0;
    while load.try_wait().expect("a child").is_none() {
        reloads += 1;
        let (from, to) = match reloads % 2 {
            1 => (
                "hosts: [grpc.internal.example.com]",
                "hosts: [grpc.internal.example.com, more.example.com]",
            ),
            _ => (
                "hosts: [grpc.internal.example.com, more.example.com]",
                "hosts: [grpc.internal.example.com]",
            ),
        };
        edit(&producer, from, to);
        let output = up.run(&["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = load.wait_with_output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let requests = text.lines().find(|line| line.starts_with("requests:")).expect("a summary");
    let number = |word: &str| -> u64 {
        let part = requests.split([':', ',']).find(|part| part.trim().ends_with(word)).expect(word);
        part.trim().split(' ').next().and_then(|n| n.parse().ok()).expect(word)
    };
    assert!(reloads >= 3, "only {reloads} reloads");
    assert_eq!((number("failed"), number("errored"), number("timeout")), (0, 0, 0), "{text}");
    assert!(number("succeeded") > 200, "{text}");
    assert!(text.contains(&format!("{} 2xx, 0 3xx, 0 4xx, 0 5xx", number("succeeded"))), "{text}");
}

#[test]
fn usage_errors_exit_with_2_and_findings_with_1() {
    let code = |args: &[&str]| postern().args(args).output().expect("postern runs").status.code();
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["check", "/nonexistent"]), Some(2));
    assert_eq!(code(&["check", MAIN]), Some(0));
    assert_eq!(
        code(&[
            "explain",
            MAIN,
            "--from",
            "apigee-tenant/runtime",
            "https://internal.example.com/orders"
        ]),
        Some(1)
    );
    assert_eq!(
        code(&["explain", MAIN, "--from", "nonsense", "https://internal.example.com/"]),
        Some(2)
    );
    assert_eq!(
        code(&[
            "resolve",
            "--topology",
            MAIN,
            "--from",
            "apigee-tenant/runtime",
            "internal.example.com"
        ]),
        Some(0)
    );
    assert_eq!(
        code(&[
            "resolve",
            "--topology",
            MAIN,
            "--from",
            "apigee-tenant/runtime",
            "nope.internal.example.com"
        ]),
        Some(1)
    );
}

#[test]
fn ten_mistakes_in_three_files_give_ten_diagnostics() {
    let dir = scratch();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("written");
    write(
        "a.yaml",
        "project: alpha\nregion: europe-west1\nnetworks:\n- {name: Net_A}\n- {name: net-b, mtuu: 1}\nsubnetworks:\n- {name: s, network: nowhere, ipCidrRange: 10.0.0.0/24}\n- {name: t, network: net-b, ipCidrRange: 10.0.0.0/33}\n",
    );
    write(
        "b.yaml",
        "project: beta\nregion: europe-west1\nnetworks: [{name: n}]\nsubnetworks:\n- {name: one, network: n, ipCidrRange: 10.1.0.0/24}\n- {name: two, network: n, ipCidrRange: 10.1.0.128/25}\nmanagedZones:\n- {name: z, dnsName: example.com, visibility: private, privateVisibilityConfig: {networks: [{networkUrl: n}]}}\nurlMaps:\n- {name: m, defaultService: gone}\n",
    );
    write(
        "c.yaml",
        "project: gamma\nregion: europe-west1\nfrobnicators: []\nbackendServices:\n- {name: b, loadBalancingScheme: INTERNAL_MANAGED, protocol: SPDY}\nserviceAttachments:\n- {name: sa, targetService: nothing, connectionPreference: ACCEPT_SOMETIMES, natSubnets: []}\n",
    );
    let output = postern().args(["check", "--json"]).arg(&dir).output().expect("postern runs");
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = value["diagnostics"].as_array().expect("diagnostics");
    let errors: Vec<_> =
        all.iter().filter(|d| d["severity"] == "ERROR" || d["severity"] == "error").collect();
    assert!(errors.len() >= 10, "{:#?}", all);
    for file in ["a.yaml", "b.yaml", "c.yaml"] {
        assert!(errors.iter().any(|error| error.to_string().contains(file)), "{file} in {all:#?}");
    }
    fs::remove_dir_all(&dir).expect("removed");
}
