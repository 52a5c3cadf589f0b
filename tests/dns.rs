//! Names as `topology/dns` has them: every command that its README shows prints what the README
//! shows, and in the running topology foreign programs get those answers.

mod common;

use common::{Up, have, namespaces, postern, root};

/// The commands of the README with what they print, one block each.
fn shown() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("topology/dns/README.md")).expect("it is there");
    let blocks = text.split("```\n$ postern ").skip(1);
    let block = |block: &str| {
        let (block, _) = block.split_once("\n```").expect("the block ends");
        let (command, output) = block.split_once('\n').expect("a command and its output");
        (command.to_owned(), output.trim().to_owned())
    };
    blocks.map(block).collect()
}

#[test]
fn the_readme_shows_what_resolve_prints() {
    let shown = shown();
    assert!(shown.len() >= 10, "{}", shown.len());
    for (command, expected) in shown {
        let output = postern()
            .args(command.split(' '))
            .args(["--topology", "topology/dns"])
            .output()
            .expect("postern runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed.trim(), expected, "postern {command}");
    }
}

/// Asks the resolver of the network, or the one given, for an address: response code, number of
/// answers, the last address.
const ASK: &str = r#"
import socket, struct, sys
name, server = sys.argv[1], (sys.argv[2:] or ["169.254.169.254"])[0]
asked = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(9)
    s.sendto(struct.pack("!6H", 7, 256, 1, 0, 0, 0) + asked + struct.pack("!2H", 1, 1), (server, 53))
    reply = s.recv(2048)
code, answers = reply[3] & 15, struct.unpack("!H", reply[6:8])[0]
print(code, answers, socket.inet_ntoa(reply[-4:]) if answers and code == 0 else "-")
"#;

#[test]
fn foreign_programs_get_the_answers_of_policies_zones_and_name_servers() {
    if !namespaces() || !have(&["python3", "nft"]) {
        return;
    }
    let up = Up::start(root().join("topology/dns"), &[]);
    let ask = |network: &str, arguments: &str| {
        let script = format!("python3 -c '{ASK}' {arguments}");
        let output = up.exec(&["--network", network], &script);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // The name servers are VMs: they take a moment to listen.
    for network in ["dns-hub/hub", "dns-branch/lab"] {
        up.wait(&format!("the name server of {network}"), |_| {
            ask(network, "printer.corp.example") == "0 1 10.10.0.9"
        });
    }
    for (network, name, expected) in [
        ("dns-branch/branch", "api.shop.example", "0 2 10.10.0.5"),
        ("dns-hub/hub", "api.shop.example", "0 1 10.10.0.5"),
        ("dns-branch/branch", "storage.googleapis.com", "0 2 199.36.153.4"),
        ("dns-branch/branch", "tracker.example", "0 1 10.20.0.99"),
        // Through DNS peering to the hub, from there to its name server; and a name whose CNAME
        // record leads back out of the forwarding zone.
        ("dns-branch/branch", "printer.services.example", "0 2 10.10.0.9"),
        ("dns-hub/hub", "shop.corp.example", "0 2 10.10.0.5"),
        ("dns-hub/hub", "nothing.corp.example", "3 0 -"),
        // The lab's own resolver refuses what it does not know, and that is final.
        ("dns-branch/lab", "orders.services.example", "5 0 -"),
        ("dns-branch/lab", "metadata.google.internal", "5 0 -"),
    ] {
        assert_eq!(ask(network, name), expected, "{network}: {name}\n{}", up.logs());
    }
    // The inbound entry is an address of the network, and `status` names it.
    let status = up.status();
    let programs = status["programs"].as_array().expect("a list");
    let listeners = programs.iter().flat_map(|program| program["listeners"].as_array());
    let entry = listeners
        .flatten()
        .filter_map(|listener| listener["key"].as_str()?.strip_prefix("udp 10.10.0."))
        .next()
        .expect("an inbound entry in 10.10.0.0/24");
    let entry = format!("10.10.0.{entry}");
    assert_eq!(ask("dns-hub/hub", &format!("api.shop.example {entry}")), "0 1 10.10.0.5");
}
