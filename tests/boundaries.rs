//! What the topology does not allow does not connect, from any network, by any protocol; and a
//! workload cannot walk out of its leaf.

mod common;

use common::{Up, have, namespaces};

const MAIN: &str = "topology/apigee-psc-cloud-run";
const TENANT: &str = "apigee-tenant/runtime";
const CONSUMER: &str = "apigee-project/apigee-network";
const PRODUCER: &str = "ilb-project/ilb-network";
const PARTNER: &str = "partner-project/partner-network";

/// A TCP connect: `open`, `refused` or `silent`.
fn connect(up: &Up, network: &str, to: &str) -> String {
    let (host, port) = to.split_once(':').expect("host:port");
    let script = format!(
        "import socket\ns = socket.socket()\ns.settimeout(2)\ntry:\n    s.connect(('{host}', {port})); print('open')\nexcept TimeoutError: print('silent')\nexcept OSError as e: print('refused' if e.errno == 111 else e)\n"
    );
    let output = up.run(&["exec", "--network", network, "--", "python3", "-c", &script]);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn only_what_is_declared_connects() {
    if !have(&["curl", "python3", "dig"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    for (network, to, expected) in [
        // The same address is somebody else in each network.
        (CONSUMER, "10.0.0.5:8080", "open"),
        (CONSUMER, "10.0.0.5:443", "refused"),
        (PRODUCER, "10.0.0.5:443", "open"),
        (PARTNER, "10.0.0.5:443", "silent"),
        // One way: the producer opens nothing towards a consumer.
        (PRODUCER, "10.90.0.20:443", "silent"),
        (PRODUCER, "10.90.0.2:443", "silent"),
        (PRODUCER, "10.0.0.9:443", "silent"),
        // The endpoint: its own network, not over VPC peering.
        (TENANT, "10.90.0.20:443", "open"),
        (CONSUMER, "10.90.0.20:443", "silent"),
        // Not accepted.
        (PARTNER, "10.0.0.9:443", "silent"),
        // VPC peering carries what is exposed in the peer.
        (TENANT, "10.0.0.5:8080", "open"),
        // The producer's proxy-only and NAT ranges, and the outside, from elsewhere.
        (TENANT, "10.0.1.2:443", "silent"),
        (TENANT, "10.0.2.2:443", "silent"),
        (TENANT, "8.8.8.8:53", "silent"),
        // Cloud Run instances have no address in any network.
        (TENANT, "169.254.32.1:8080", "silent"),
        (PRODUCER, "169.254.32.1:8080", "silent"),
    ] {
        let mut found = connect(&up, network, to);
        // A VM's program takes a moment to listen.
        for _ in 0..50 {
            if expected != "open" || found != "refused" {
                break;
            }
            found = connect(&up, network, to);
        }
        assert_eq!(found, expected, "{network} → {to}");
    }
    // UDP and DNS stop at the same boundary.
    let dig =
        up.exec(&["--network", TENANT], "dig +time=1 +tries=1 @10.0.2.2 internal.example.com");
    assert!(!dig.status.success());
    let names = up.text(&["--network", PRODUCER], "dig +short internal.example.com");
    assert_eq!(names.trim(), "10.0.0.5", "split horizon");
    let names = up.text(&["--network", TENANT], "dig +short internal.example.com");
    assert_eq!(names.trim(), "10.90.0.20", "split horizon");
}

#[test]
fn a_workload_cannot_walk_out() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    let dir = up.state_dir.display();
    for attempt in [
        "nsenter -t 1 -n true",
        "unshare -n true",
        "mount -t tmpfs none /mnt",
        "umount /proc/sys",
        "sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        "sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
        "ip link set eth0 down",
        &format!("test -e {dir}/control"),
        &format!("test -e {dir}/keys"),
        &format!("test -e /proc/1/root/{dir}/keys"),
        "sh -c 'hostname other'",
    ] {
        let script = format!("{attempt} >/dev/null 2>&1 && echo allowed || echo denied");
        assert_eq!(up.text(&["--network", TENANT], &script).trim(), "denied", "{attempt}");
    }
    let status = up.text(&["--network", TENANT], "cat /proc/self/status").replace('\t', " ");
    assert!(status.contains("CapEff: 0000000000000000"), "{status}");
    assert!(status.contains("CapBnd: 0000000000000000"), "{status}");
    assert!(status.contains("NoNewPrivs: 1"), "{status}");
    let seen = up.text(&["--network", TENANT], "ls -d /proc/[0-9]* | wc -l");
    assert!(seen.trim().parse::<u32>().is_ok_and(|seen| seen < 10), "{seen} processes");
    let names = up.text(&["--network", TENANT], "hostname; getent hosts metadata");
    assert!(names.starts_with("exec-") && names.contains("169.254.169.254"), "{names}");
}

#[test]
fn two_service_accounts_in_one_network_are_two() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    let email = "curl -s -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/email";
    let accounts = [
        "apigee-apiproxy@apigee-project.iam.gserviceaccount.com",
        "auditor@apigee-project.iam.gserviceaccount.com",
    ];
    std::thread::scope(|scope| {
        for account in accounts {
            let up = &up;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(up.text(&["--network", TENANT, "--as", account], email), account);
                }
            });
        }
    });
    // Nor can one speak with the address of the other: the router drops it.
    let spoof = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
s.bind(('10.90.0.99', 0)); s.settimeout(1)
query = b'\0\1\1\0\0\1\0\0\0\0\0\0\x08metadata\x06google\x08internal\0\0\1\0\1'
try:
    s.sendto(query, ('169.254.169.254', 53)); s.recv(512); print('answered')
except OSError: print('silent')
"#;
    let output = up.run(&["exec", "--network", TENANT, "--", "python3", "-c", spoof]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "silent");
    let none =
        up.text(&["--network", TENANT], &format!("{email} -o /dev/null -w '%{{http_code}}'"));
    assert_eq!(none, "404");
}

#[test]
fn malformed_heads_get_400_and_the_programs_live() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let up = Up::start(MAIN, &[]);
    let script = r#"
import socket, ssl
context = ssl.create_default_context()
heads = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: internal.example.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: internal.example.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    b"GET / HTTP/1.1\r\nHost: internal.example.com\r\nbad name: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : internal.example.com\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
]
for head in heads:
    raw = socket.create_connection(("internal.example.com", 443), 5)
    tls = context.wrap_socket(raw, server_hostname="internal.example.com")
    tls.sendall(head)
    tls.settimeout(10)
    answer = b""
    try:
        while True:
            more = tls.recv(4096)
            if not more: break
            answer += more
    except OSError: pass
    print(head[:40], answer.split(b"\r\n")[0].decode())
"#;
    let output = up.run(&["exec", "--network", TENANT, "--", "python3", "-c", script]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), 8, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().all(|line| line.contains("HTTP/1.1 400")), "{text}");
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    assert!(programs.iter().all(|program| program["restarts"] == 0), "{status:#}");
}
