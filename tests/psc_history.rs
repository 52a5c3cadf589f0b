//! Admission over time, through the real programs: restarts, edits and deletions.

mod common;

use common::{Up, have, namespaces, postern, root, scratch};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ORDERS: &str = "orders-project/orders-network";

/// A copy of the example that a test may edit.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let to = scratch().join("t");
        let status = Command::new("cp")
            .arg("-r")
            .arg(root().join("topology/psc-admission"))
            .arg(&to)
            .status();
        assert!(status.expect("cp runs").success());
        Files(to)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let file = self.0.join(file);
        let text = fs::read_to_string(&file).expect("readable");
        assert!(text.contains(from), "{} has no `{from}`", file.display());
        fs::write(file, text.replace(from, to)).expect("writable");
    }

    /// Takes a whole item or collection out, from the line that begins so to the next blank line.
    fn cut(&self, file: &str, begin: &str) -> String {
        let path = self.0.join(file);
        let text = fs::read_to_string(&path).expect("readable");
        let start = text.find(begin).unwrap_or_else(|| panic!("{file} has no `{begin}`"));
        let end = text[start..].find("\n\n").map_or(text.len(), |end| start + end + 1);
        let cut = text[start..end].to_owned();
        fs::write(&path, format!("{}{}", &text[..start], &text[end..])).expect("writable");
        cut
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap_or(&self.0));
    }
}

fn reload(up: &Up) {
    let output = up.run(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(up: &Up) -> String {
    let output = up.run(&["reload"]);
    assert!(!output.status.success(), "the reload was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `PROJECT/NAME=STATUS` of all endpoints but propagated ones, sorted.
fn states(up: &Up) -> Vec<String> {
    let status = up.status();
    let all = status["connections"].as_array().expect("connections");
    let one = |state: &Value| {
        let link: Vec<&str> = state["endpoint"].as_str().expect("a link").split('/').collect();
        format!("{}/{}={}", link[1], link[5], state["status"].as_str().expect("a status"))
    };
    let mut own: Vec<_> = all.iter().filter(|s| s["propagatedFrom"].is_null()).map(one).collect();
    own.sort();
    own
}

fn state(up: &Up, endpoint: &str) -> String {
    let all = states(up);
    let found = all.iter().find_map(|state| state.strip_prefix(&format!("{endpoint}=")));
    found.map_or_else(|| format!("none in {all:?}"), str::to_owned)
}

/// Waits for a state; `up` and `reload` are back before every program has reported again.
fn wait(up: &Up, endpoint: &str, expected: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while state(up, endpoint) != expected {
        assert!(Instant::now() < until, "{endpoint} is {}, not {expected}", state(up, endpoint));
        std::thread::yield_now();
    }
}

/// A connection that stays open: what is said is answered with a 404 or 200 each time.
struct Held(Child, BufReader<std::process::ChildStdout>);

impl Held {
    fn open(up: &Up, network: &str, host: &str) -> Held {
        const SCRIPT: &str = "import socket,sys\n\
            s=socket.create_connection((sys.argv[1],80))\n\
            f=s.makefile('rb')\n\
            for line in sys.stdin:\n\
            \x20 try:\n\
            \x20  s.sendall(b'GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n\
            \x20  head=f.readline(); n=0\n\
            \x20  if not head: raise OSError('end')\n\
            \x20  for h in iter(f.readline,b'\\r\\n'):\n\
            \x20   if h.lower().startswith(b'content-length:'): n=int(h.split(b':')[1])\n\
            \x20  f.read(n); print(head.split()[1].decode(),flush=True)\n\
            \x20 except OSError as e: print('cut',flush=True)\n";
        let mut command = postern();
        command.arg("--state-dir").arg(&up.state_dir).args(["exec", "--network", network, "--"]);
        command.args(["python3", "-c", SCRIPT, host]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("postern runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Held(child, out)
    }

    /// Asks once over the connection: a status, or `cut`.
    fn ask(&mut self) -> String {
        let stdin = self.0.stdin.as_mut().expect("piped");
        stdin.write_all(b"go\n").expect("written");
        let mut line = String::new();
        self.1.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn explain(up: &Up, from: &str, url: &str) -> String {
    String::from_utf8_lossy(&up.run(&["explain", "--from", from, url]).stdout).into_owned()
}

#[test]
fn a_deleted_attachment_is_closed_for_good_also_with_its_last_nat_subnetwork() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    let up = Up::start(&files.0, &[]);
    let first = "orders-project/first";
    assert_eq!(state(&up, first), "ACCEPTED");
    let mut held = Held::open(&up, ORDERS, "10.70.0.9");
    assert_eq!(held.ask(), "200");

    // One edit takes both away: nothing of the producer's network needs the program any more.
    let attachment = files.cut("producer.yaml", "serviceAttachments:");
    const NAT: &str = "- {name: psc-nat, network: catalog-network, ipCidrRange: 10.60.2.0/28, purpose: PRIVATE_SERVICE_CONNECT}\n";
    files.edit("producer.yaml", NAT, "");
    reload(&up);
    wait(&up, first, "CLOSED");
    assert_eq!(held.ask(), "cut");
    let why = explain(&up, ORDERS, "http://10.70.0.9/");
    assert!(why.contains("PSC_CONNECTION_NOT_ACCEPTED") && why.contains("CLOSED"), "{why}");
    for endpoint in ["orders-project/second", "guest-project/catalog", "banned-project/catalog"] {
        assert_eq!(state(&up, endpoint), "CLOSED");
    }

    // Both come back under their names: CLOSED. A new endpoint is accepted.
    files.edit("producer.yaml", "\nservices:", &format!("\n{attachment}\nservices:"));
    let proxy = "- {name: proxy-only";
    files.edit("producer.yaml", proxy, &format!("{NAT}{proxy}"));
    files.edit(
        "orders.yaml",
        "name: second\n  network: orders-network\n  IPAddress: 10.70.0.10",
        "name: third\n  network: orders-network\n  IPAddress: 10.70.0.11",
    );
    reload(&up);
    wait(&up, "orders-project/third", "ACCEPTED");
    assert_eq!(state(&up, first), "CLOSED");
    let status = up.status();
    let attachments = status["serviceAttachments"].as_array().expect("attachments");
    let connected = attachments[0]["connectedEndpoints"].as_array().expect("endpoints");
    let third = connected.iter().find(|one| one["status"] == "ACCEPTED").expect("the third");
    assert_eq!(
        third["endpoint"],
        "https://www.googleapis.com/compute/v1/projects/orders-project/regions/europe-west1/forwardingRules/third"
    );
    assert_eq!(
        third["consumerNetwork"],
        "https://www.googleapis.com/compute/v1/projects/orders-project/global/networks/orders-network"
    );
    let id: u64 = third["pscConnectionId"].as_str().expect("text").parse().expect("a number");
    assert_eq!(id as u32, u32::from(std::net::Ipv4Addr::new(10, 70, 0, 11)));
    assert_eq!(third["natIps"].as_array().map(Vec::len), Some(1));
    assert_eq!(third["propagatedConnectionCount"], 0);

    // Deleting the endpoint forgets it; made again, it is a new one, which finds no room.
    let text = fs::read_to_string(files.0.join("orders.yaml")).expect("readable");
    files.edit(
        "orders.yaml",
        "name: first\n  network: orders-network\n  IPAddress: 10.70.0.9",
        "name: other\n  network: orders-network\n  IPAddress: 10.70.0.9",
    );
    reload(&up);
    wait(&up, "orders-project/other", "PENDING");
    fs::write(files.0.join("orders.yaml"), text).expect("writable");
    reload(&up);
    wait(&up, first, "PENDING");
}

#[test]
fn a_deleted_network_closes_its_connections_and_they_stay_closed() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    let up = Up::start(&files.0, &[]);
    let producer = files.0.join("producer.yaml");
    let whole = fs::read_to_string(&producer).expect("readable");
    fs::write(&producer, "project: catalog-project\nregion: europe-west1\n").expect("writable");
    reload(&up);
    let all = |expected: &str| {
        let states = states(&up);
        assert!(
            states.len() == 6 && states.iter().all(|one| one.ends_with(expected)),
            "{states:?}"
        );
    };
    all("=CLOSED");
    fs::write(&producer, whole).expect("writable");
    reload(&up);
    all("=CLOSED");
}

#[test]
fn states_survive_the_death_of_the_program_and_the_next_up() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    let up = Up::start(&files.0, &[]);
    let search = "search-project/search";
    wait(&up, search, "ACCEPTED");
    // Off the list, and reconcileConnections is false: it stays.
    files.edit("producer.yaml", "  - {projectIdOrNum: search-project, connectionLimit: 1}\n", "");
    reload(&up);
    assert_eq!(state(&up, search), "ACCEPTED");
    let nat = |up: &Up| {
        let status = up.status();
        let all = status["connections"].as_array().expect("connections").clone();
        let own = |one: &&Value| one["endpoint"].as_str().is_some_and(|e| e.ends_with("/search"));
        all.iter().find(own).expect("the endpoint")["natIps"].clone()
    };
    let before = (states(&up), nat(&up));

    // kill -9 of the program.
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    let of = |one: &&Value| one["program"] == "service-attachment";
    let pid = programs.iter().find(of).expect("it runs")["pid"].as_u64().expect("a pid");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    let until = Instant::now() + Duration::from_secs(30);
    let again = |up: &Up| {
        let status = up.status();
        let programs = status["programs"].as_array().expect("programs").clone();
        let one = programs.iter().find(of).cloned().unwrap_or_default();
        one["state"] == "running" && one["pid"].as_u64().is_some_and(|now| now != pid)
    };
    while !again(&up) {
        assert!(Instant::now() < until, "it was not started again");
        std::thread::yield_now();
    }
    assert_eq!((states(&up), nat(&up)), before);
    up.text(&["--network", "search-project/search-network"], "curl -sf http://10.80.0.9/");

    // `down`, and `up` of the same topology in the same state directory.
    assert!(up.down().status.success());
    let start = |options: &[&str]| {
        let mut command = postern();
        command.args(["up", "--detach", "--northbound", "127.0.0.1:0", "--state-dir"]);
        let output = command.arg(&up.state_dir).args(options).arg(&files.0).output();
        let output = output.expect("postern runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    start(&[]);
    assert_eq!((states(&up), nat(&up)), before);
    let history = &up.status()["connections"][0]["history"];
    assert_eq!(history.as_array().map(Vec::len), Some(1), "nothing changed: {history}");

    // And with the history forgotten the lists of today count.
    assert!(up.down().status.success());
    start(&["--forget-connections"]);
    assert_eq!(state(&up, search), "PENDING");
}

#[test]
fn kinds_of_lists_and_nat_subnetworks_change_under_open_connections() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let files = Files::new();
    files.edit("producer.yaml", "reconcileConnections: false", "reconcileConnections: true");
    files.edit("producer.yaml", "10.60.2.0/28", "10.60.2.0/29");
    let up = Up::start(&files.0, &[]);
    let mut held = Held::open(&up, ORDERS, "10.70.0.9");
    assert_eq!(held.ask(), "200");

    // Projects to networks, in one edit of both lists.
    let projects = files.cut("producer.yaml", "  consumerAcceptLists:");
    let networks = "  consumerAcceptLists:\n  \
        - {networkUrl: projects/orders-project/global/networks/orders-network, connectionLimit: 9}\n  \
        - {networkUrl: projects/search-project/global/networks/search-network, connectionLimit: 1}\n  \
        consumerRejectLists: [projects/banned-project/global/networks/banned-network]\n";
    files.edit("producer.yaml", "\nservices:", &format!("{networks}\nservices:"));
    reload(&up);
    assert_eq!(held.ask(), "200");
    wait(&up, "orders-project/second", "ACCEPTED");
    assert_eq!(state(&up, "guest-project/catalog"), "PENDING");

    // A mixture is refused, and changes nothing.
    files.edit("producer.yaml", "consumerRejectLists: [", "consumerRejectLists: [banned-project, ");
    let why = refused(&up);
    assert!(why.contains("MIXED_LIST_KINDS"), "{why}");
    files.edit("producer.yaml", "consumerRejectLists: [banned-project, ", "consumerRejectLists: [");

    // Four addresses: three endpoints and one propagated connection have them. Two each are too many.
    files.edit(
        "producer.yaml",
        "  reconcileConnections: true\n",
        "  reconcileConnections: true\n  natIpsPerEndpoint: 2\n",
    );
    reload(&up);
    wait(&up, "orders-project/first", "NEEDS_ATTENTION");
    assert_eq!(held.ask(), "200");
    up.text(&["--network", ORDERS], "curl -sf http://10.70.0.9/"); // it has one of two

    // Another NAT subnetwork is added live.
    let proxy = "- {name: proxy-only";
    let more = "- {name: psc-nat-2, network: catalog-network, ipCidrRange: 10.60.3.0/28, purpose: PRIVATE_SERVICE_CONNECT}\n";
    files.edit("producer.yaml", proxy, &format!("{more}{proxy}"));
    files.edit("producer.yaml", "natSubnets: [psc-nat]", "natSubnets: [psc-nat, psc-nat-2]");
    reload(&up);
    wait(&up, "orders-project/first", "ACCEPTED");
    assert_eq!(held.ask(), "200");

    // The first one is taken out of natSubnets: what is open goes on. To delete it is refused while
    // it is in use, and goes through when it is not.
    files.edit("producer.yaml", "natSubnets: [psc-nat, psc-nat-2]", "natSubnets: [psc-nat-2]");
    const NAT: &str = "- {name: psc-nat, network: catalog-network, ipCidrRange: 10.60.2.0/29, purpose: PRIVATE_SERVICE_CONNECT}\n";
    files.edit("producer.yaml", NAT, "");
    let why = refused(&up);
    assert!(why.contains("NAT subnetwork is in use"), "{why}");
    assert_eq!(held.ask(), "200");
    files.edit("producer.yaml", proxy, &format!("{NAT}{proxy}"));
    reload(&up);
    assert_eq!(held.ask(), "200");
    let seen = up.text(&["--network", ORDERS], "curl -sf http://10.70.0.9/");
    assert!(seen.contains("10.60.3."), "new connections come from the other subnetwork: {seen}");
    drop(held);
    files.edit("producer.yaml", NAT, "");
    reload_when_unused(&up);

    // And who leaves the list with reconcileConnections is cut.
    let mut held = Held::open(&up, ORDERS, "10.70.0.9");
    assert_eq!(held.ask(), "200");
    files.edit(
        "producer.yaml",
        "projects/orders-project/global/networks/orders-network",
        "projects/orders-project/global/networks/other",
    );
    reload(&up);
    wait(&up, "orders-project/first", "PENDING");
    assert_eq!(held.ask(), "cut");
    assert!(projects.contains("projectIdOrNum"), "{projects}");
}

/// The end of a connection takes a moment to arrive.
fn reload_when_unused(up: &Up) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let output = up.run(&["reload"]);
        if output.status.success() {
            return;
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains("in use") && Instant::now() < until, "{why}");
    }
}
