//! What is on the wire in the producer's network, as tcpdump sees it there.

mod common;

use common::{Up, have, namespaces, scratch};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PRODUCER: &str = r#"
project: producer
region: europe-west1
networks: [{name: net}]
subnetworks:
- {name: front, network: net, ipCidrRange: 10.0.0.0/24}
- {name: proxies, network: net, ipCidrRange: 10.0.1.0/24, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}
- {name: nat, network: net, ipCidrRange: 10.0.2.0/24, purpose: PRIVATE_SERVICE_CONNECT}
forwardingRules:
- {name: web, loadBalancingScheme: INTERNAL_MANAGED, network: net, subnetwork: front, IPAddress: 10.0.0.5, portRange: "80", target: targetHttpProxies/web}
targetHttpProxies: [{name: web, urlMap: web, postern: {acceptProxyProtocol: true}}]
urlMaps: [{name: web, defaultService: web}]
backendServices: [{name: web, loadBalancingScheme: INTERNAL_MANAGED, protocol: HTTP}]
serviceAttachments:
- name: web
  targetService: web
  connectionPreference: ACCEPT_MANUAL
  enableProxyProtocol: true
  natSubnets: [nat]
  consumerAcceptLists: [{projectIdOrNum: consumer, connectionLimit: 1}]
"#;

const CONSUMER: &str = r#"
project: consumer
region: europe-west1
networks: [{name: vpc}]
subnetworks: [{name: clients, network: vpc, ipCidrRange: 10.0.60.0/24}]
instances:
- {name: client, zone: europe-west1-b, networkInterfaces: [{subnetwork: clients, networkIP: 10.0.60.2}]}
forwardingRules:
- {name: web, network: vpc, subnetwork: clients, IPAddress: 10.0.60.100, target: projects/producer/regions/europe-west1/serviceAttachments/web}
"#;

/// From the port of the capture in the fact sheet.
const CLIENT: &str = r#"
import socket
s = socket.create_connection(("10.0.60.100", 80), 20, ("10.0.60.2", 33080))
s.sendall(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
while s.recv(4096): pass
print("answered")
"#;

/// tcpdump in the network namespace of a process, ended when it is dropped.
struct Capture(Child);

impl Capture {
    fn start(pid: u64, file: &Path) -> Option<Capture> {
        let own = std::fs::read_link("/proc/self/ns/user").ok();
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net"]);
        // Root has its rights in every network below, and tcpdump's change of groups is refused to
        // it inside of a user namespace.
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if own != theirs && !root {
            command.args(["--user", "--preserve-credentials"]);
        }
        let mut child = command
            .args(["tcpdump", "-i", "any", "-U", "-s", "0", "-Z", "root", "-w"])
            .arg(file)
            .args(["tcp", "port", "80"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = Vec::new();
        for line in lines.map_while(Result::ok) {
            if line.contains("listening on") {
                return Some(Capture(child));
            }
            said.push(line);
        }
        let _ = child.wait();
        eprintln!("tcpdump: {}", said.join("; "));
        None
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// private-connectivity 1.4 and 1.5.
#[test]
fn the_source_is_a_nat_address_and_the_proxy_header_that_of_the_product() {
    if !have(&["python3", "tcpdump", "nsenter"]) || !namespaces() {
        return;
    }
    let topology = scratch();
    std::fs::write(topology.join("producer.yaml"), PRODUCER).expect("written");
    std::fs::write(topology.join("consumer.yaml"), CONSUMER).expect("written");
    let up = Up::start(&topology, &[]);
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs").iter();
    let attachment = programs
        .into_iter()
        .find(|program| program["program"] == "service-attachment")
        .expect("a service attachment");
    let connection = &status["connections"][0];
    let shown = &connection["pscConnectionId"];
    let id: u64 = shown.as_str().map_or(shown.as_u64(), |id| id.parse().ok()).expect("an id");

    let file = up.state_dir.join("wire.pcap");
    let pid = attachment["pid"].as_u64().expect("it runs");
    let Some(_capture) = Capture::start(pid, &file) else {
        assert!(
            std::env::var_os("POSTERN_TESTS_COMPLETE").is_none(),
            "nothing may be skipped: tcpdump cannot capture in the producer's network"
        );
        eprintln!("SKIPPED: tcpdump cannot capture in the producer's network");
        return;
    };
    let client = ["exec", "--network", "consumer/vpc", "--instance", "client", "--"];
    let output = up.run(&[&client[..], &["python3", "-c", CLIENT]].concat());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "answered",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // As captured in the product: client 10.0.60.2:33080, endpoint 10.0.60.100:80, its id behind.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x21, 0x11, 0x00, 0x17, 10, 0, 60, 2, 10, 0, 60, 100, 0x81, 0x38, 0x00, 0x50]);
    header.extend([0xe0, 0x00, 0x08]);
    header.extend(id.to_be_bytes());
    assert_eq!(header.len(), 39);
    assert_eq!(id as u32, 0x0a00_3c64, "its low half is the endpoint's address");
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let bytes = std::fs::read(&file).unwrap_or_default();
        if bytes.windows(header.len()).any(|window| window == header) {
            break;
        }
        assert!(Instant::now() < until, "no such header in {} bytes of capture", bytes.len());
        std::thread::yield_now();
    }
    let opening = Command::new("tcpdump")
        .args(["-n", "-t", "-r"])
        .arg(&file)
        .arg("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
        .output()
        .expect("tcpdump reads");
    let text = String::from_utf8_lossy(&opening.stdout);
    let openings: Vec<&str> = text.lines().filter(|line| line.contains("> 10.0.0.5.80")).collect();
    assert!(!openings.is_empty(), "{text}");
    for line in openings {
        assert!(line.contains("IP 10.0.2.2."), "the first address of the NAT subnet: {line}");
    }
    // The client's own address is in no packet of that network.
    assert!(!text.contains("10.0.60."), "{text}");
    let _ = std::fs::remove_dir_all(&topology);
}
