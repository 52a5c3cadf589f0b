//! Published TCP and UDP services under namespaces: what a VM behind a passthrough load balancer, a
//! target instance or a proxy sees, and what health does to connections. The topology is
//! `topology/psc-l4`, whose `peer.py` tells what it saw.

mod common;

use common::{Up, have, namespaces, root};
use serde_json::Value;
use std::collections::BTreeSet;

/// Asks with `hello`, as often as said, each time by a connection (or socket) of its own.
const ASK: &str = r#"
import socket, sys
kind, host, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(times):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
    own.settimeout(5)
    own.connect((host, port))
    own.sendall(b'hello\n')
    at = own.getsockname()
    print(f'{at[0]}:{at[1]}', own.recv(65535).decode().strip())
"#;

/// Keeps a connection while others make the VM behind it ill.
const KEEP: &str = r#"
import socket
kept = socket.create_connection(('10.0.0.101', 5432), 5)
kept.sendall(b'hello\n')
name = kept.recv(4096).decode().split()[0]
print(name, flush=True)
kept.sendall(b'leave\n')
print(kept.recv(4096).decode().split()[0], flush=True)
last = 0
seen = set()
# Until twenty in a row come from somebody else.
while last < 20:
    try:
        other = socket.create_connection(('10.0.0.101', 5432), 5)
        other.sendall(b'hello\n')
        who = other.recv(4096).decode().split()[0]
    except (OSError, IndexError):
        who = name
    last = last + 1 if who != name else 0
    seen.add(who)
kept.sendall(b'hello\n')
print(kept.recv(4096).decode().split()[0], *sorted(seen - {name}), flush=True)
"#;

fn ask(up: &Up, network: &str, kind: &str, to: &str, times: u32) -> Vec<Vec<String>> {
    let (host, port) = to.split_once(':').expect("a port");
    let arguments = ["python3", "-c", ASK, kind, host, port, &times.to_string()];
    let mut all = vec!["exec", "--network", network, "--"];
    all.extend(arguments);
    let output = up.run(&all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{to}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    text.lines().map(words).collect()
}

fn connection_id(up: &Up, endpoint: &str) -> u64 {
    let status = up.status();
    let all = status["connections"].as_array().expect("connections");
    let one =
        all.iter().find(|one| one["endpoint"].as_str().is_some_and(|e| e.ends_with(endpoint)));
    one.expect("the endpoint")["pscConnectionId"].as_u64().expect("a number")
}

fn healthy(status: &Value) -> usize {
    let all = status["backends"].as_array().expect("a list");
    all.iter().filter(|one| one["healthState"] == "HEALTHY").count()
}

#[test]
fn what_is_published_without_a_load_balancer_that_reads_it() {
    if !have(&["python3", "nft"]) || !namespaces() {
        return;
    }
    let up = Up::start(root().join("topology/psc-l4"), &[]);
    up.wait("the health of all", |status| healthy(status) == 5);
    let consumer = "apps-consumer/apps";
    let explain = |url: &str| {
        let output = up.run(&["explain", "--from", consumer, url]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    // The VM sees the NAT address and the rule's own address, both VMs of the group are used, and
    // the header is that of 1.5.
    let id = connection_id(&up, "forwardingRules/sql");
    assert_eq!(id & 0xffff_ffff, 0x0a00_0064, "its low half is the endpoint's address");
    let mut names = BTreeSet::new();
    for line in ask(&up, consumer, "tcp", "10.0.0.100:5432", 24) {
        let [own, name, peer, local, read] = &line[..] else { panic!("{line:?}") };
        assert_eq!((peer.as_str(), local.as_str()), ("peer=10.0.2.2", "local=10.0.0.5"));
        let (address, port) = own.split_once(':').expect("a port");
        let octets: String = address
            .split('.')
            .map(|part| format!("{:02x}", part.parse::<u8>().expect("an octet")))
            .collect();
        let port: u16 = port.parse().expect("a port");
        let header = format!(
            "0d0a0d0a000d0a515549540a21110017{octets}0a000064{port:04x}1538e00008{id:016x}"
        );
        assert_eq!(*read, format!("read={header}68656c6c6f0a"));
        names.insert(name.clone());
    }
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["sql-a", "sql-b"]);

    // The same load balancer, published a second time, without the header.
    for line in ask(&up, consumer, "tcp", "10.0.0.101:5432", 4) {
        assert_eq!(line[2..], ["peer=10.0.2.18", "local=10.0.0.5", "read=68656c6c6f0a"]);
    }
    // Datagrams to one VM.
    for line in ask(&up, consumer, "udp", "10.0.0.102:5432", 4) {
        assert_eq!(line[1..], ["time", "peer=10.0.2.34", "local=10.0.0.6", "read=68656c6c6f0a"]);
    }
    // A proxy: a connection of its own, and its own header, which names the NAT address.
    for line in ask(&up, consumer, "tcp", "10.0.0.103:5432", 4) {
        assert_eq!(line[2], "peer=10.0.1.2");
        assert!(line[3].starts_with("local=10.0.0.1"), "{line:?}");
        let header: String =
            "PROXY TCP4 10.0.2.50 10.0.0.7 ".bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(line[4].starts_with(&format!("read={header}")), "{line:?}");
    }
    let told = explain("tcp://10.0.0.101:5432");
    assert!(told.contains("healthy primaries") && told.contains("REACHABLE"), "{told}");

    // A VM falls ill: the connection to it stays, new ones go to the other one; then to the backup.
    let keep = || up.text(&["--network", consumer], &format!("exec python3 -c \"{KEEP}\""));
    let text = keep();
    let said: Vec<&str> = text.split_whitespace().collect();
    let [first, again, still, second] = said[..] else { panic!("{said:?}") };
    assert!(first == again && again == still && first != second, "{said:?}");
    assert!(["sql-a", "sql-b"].contains(&first) && ["sql-a", "sql-b"].contains(&second));
    let text = keep();
    let said: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(said, [second, second, second, "sql-spare"]);
    let told = explain("tcp://10.0.0.101:5432");
    assert!(told.contains("after a failover") && told.contains("10.0.0.13"), "{told}");
    // The proxy has nobody left.
    let told = explain("tcp://10.0.0.103:5432");
    assert!(told.contains("NO_HEALTHY_BACKEND"), "{told}");
}
