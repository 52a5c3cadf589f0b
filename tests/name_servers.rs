//! Forwarding to a real unbound inside of the simulated networks: in its own network, and from a
//! network that peers to it; and in at an inbound entry.

mod common;

use common::{Up, have, namespaces, scratch};
use std::fs;
use std::process::Command;

const HUB: &str = "hub-project/hub";
const SPOKE: &str = "spoke-project/spoke";

const TOPOLOGY: &str = r#"
project: hub-project
region: europe-west1
networks: [{name: hub}]
subnetworks:
- {name: hub-subnet, network: hub, ipCidrRange: 10.0.0.0/24}
managedZones:
- name: corp
  dnsName: corp.example.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: hub}]}
  forwardingConfig: {targetNameServers: [{ipv4Address: 10.0.0.52}, {ipv4Address: 10.0.0.53}]}
- name: silent
  dnsName: silent.example.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: hub}]}
  forwardingConfig: {targetNameServers: [{ipv4Address: 203.0.113.1}]}
- name: own
  dnsName: own.example.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: hub}]}
  rrsets:
  - {name: www.own.example., type: A, rrdatas: [10.0.0.7]}
policies:
- {name: in, enableInboundForwarding: true, networks: [{networkUrl: hub}]}
firewalls:
- name: name-servers
  network: hub
  sourceRanges: [35.199.192.0/19]
  allowed: [{IPProtocol: udp, ports: ["53"]}, {IPProtocol: tcp, ports: ["53"]}]
instances:
- name: ns
  zone: europe-west1-b
  networkInterfaces: [{subnetwork: hub-subnet, networkIP: 10.0.0.53}]
  metadata:
    items: [{key: startup-script, value: "PATH=$PATH:/usr/sbin exec unbound -d -c unbound.conf"}]
---
project: spoke-project
region: europe-west1
networks: [{name: spoke}]
subnetworks:
- {name: spoke-subnet, network: spoke, ipCidrRange: 10.0.0.0/24}
managedZones:
- name: to-hub
  dnsName: corp.example.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: spoke}]}
  peeringConfig: {targetNetwork: {networkUrl: projects/hub-project/global/networks/hub}}
"#;

/// Only Cloud DNS's own range may ask (Cloud DNS documentation, "Forwarding zones").
const UNBOUND: &str = r#"
server:
 interface: 10.0.0.53
 access-control: 0.0.0.0/0 refuse
 access-control: 35.199.192.0/19 allow
 do-daemonize: no
 chroot: ""
 username: ""
 pidfile: ""
 use-syslog: no
 module-config: "iterator"
 local-zone: "corp.example." static
 local-data: "www.corp.example. 60 IN A 10.1.1.1"
 local-data: "alias.corp.example. 60 IN CNAME www.own.example."
remote-control:
 control-enable: no
"#;

#[test]
fn a_real_unbound_is_asked_in_its_network_and_from_a_peering_one() {
    let unbound = Command::new("/usr/sbin/unbound").arg("-V").output().is_ok();
    if !have(&["dig"]) || (!unbound && !have(&["unbound"])) || !namespaces() {
        return;
    }
    let folder = scratch();
    fs::write(folder.join("hub.yaml"), TOPOLOGY).expect("written");
    let many: String = (0..200)
        .map(|last| format!(" local-data: \"many.corp.example. 60 IN A 10.2.0.{last}\"\n"))
        .collect();
    let text = UNBOUND.replace("remote-control:", &format!("{many}remote-control:"));
    fs::write(folder.join("unbound.conf"), text).expect("written");
    let up = Up::start(&folder, &[]);
    let dig = |network: &str, arguments: &str| {
        up.text(&["--network", network], &format!("dig +tries=1 +time=8 {arguments} || true"))
    };
    let has = |network: &str, arguments: &str, expected: &[&str]| {
        let text = dig(network, arguments).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in expected {
            assert!(text.contains(part), "{network}: dig {arguments}: no `{part}` in `{text}`");
        }
    };
    // The instance's program takes a moment to listen.
    for _ in 0..50 {
        if dig(HUB, "+short www.corp.example").contains("10.1.1.1") {
            break;
        }
    }
    for network in [HUB, SPOKE] {
        has(network, "www.corp.example", &["NOERROR", "www.corp.example. 60 IN A 10.1.1.1"]);
        has(network, "no.corp.example", &["status: NXDOMAIN"]);
        has(network, "www.corp.example TXT", &["status: NOERROR", "ANSWER: 0"]);
        has(network, "many.corp.example", &["ANSWER: 200", "(TCP)"]);
    }
    // The full order goes on as the network that forwards.
    let alias = ["alias.corp.example. 60 IN CNAME www.own.example.", "10.0.0.7"];
    has(HUB, "alias.corp.example", &alias);
    has(SPOKE, "alias.corp.example", &alias);
    has(HUB, "www.silent.example", &["status: SERVFAIL"]);
    // What is not the resolver is refused by the name server itself, or does not get there.
    let direct = dig(SPOKE, "@10.0.0.53 www.corp.example");
    assert!(!direct.contains("10.1.1.1"), "{direct}");
    // Who asks at an inbound entry is answered as the network's own.
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs").iter();
    let mut keys = programs
        .flat_map(|program| program["listeners"].as_array().expect("listeners"))
        .filter_map(|listener| listener["key"].as_str()?.strip_prefix("udp "));
    let entry = keys.next().unwrap_or_else(|| panic!("no inbound entry: {status:#}"));
    has(HUB, &format!("@{entry} www.own.example"), &["www.own.example. 300 IN A 10.0.0.7"]);
    has(HUB, &format!("@{entry} +tcp www.corp.example"), &["10.1.1.1"]);
    let logs = String::from_utf8_lossy(&up.run(&["logs", "--json"]).stdout).into_owned();
    let line = logs.lines().find(|line| {
        line.contains("\"queryName\":\"www.corp.example.\"") && line.contains("destinationIP")
    });
    let line = line.unwrap_or_else(|| panic!("no query is logged with its name server"));
    assert!(line.contains("\"destinationIP\":\"10.0.0.53\""), "{line}");
    assert!(line.contains("\"target_type\":\"forwarding-zone\""), "{line}");
    drop(up);
    let _ = fs::remove_dir_all(folder);
}
