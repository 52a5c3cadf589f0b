//! Every file in `topology/` is run: each expectation written in it is tried by a foreign client
//! over real sockets, and must come out as the static decision says.

mod common;

use common::{Up, have, namespaces, root};
use slice::{Expectation, Topology};
use std::process::Command;

/// A connect that takes longer than this counts as silence. Silence is the only expectation that
/// is waited for.
const CONNECT_SECONDS: &str = "3";

fn hold(name: &str, isolation: &str) {
    let path = root().join("topology").join(name);
    let loaded = topology::load(&path);
    let topology = loaded.topology.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
    let up = Up::start(&path, &["--isolation", isolation]);
    if isolation == "netns" {
        // VMs take a moment to listen; health checks see when they do.
        up.wait("healthy endpoints", |status| {
            let all = status["backends"].as_array().expect("a list");
            all.iter().all(|endpoint| endpoint["healthState"] == "HEALTHY")
        });
    }
    let northbound = match topology.organizations.is_empty() {
        true => String::new(),
        false => up.northbound(),
    };
    let mut failures = Vec::new();
    for expectation in &topology.expectations {
        if isolation == "loopback"
            && expectation.url.starts_with("http://")
            && expectation.status.is_some()
        {
            // Declared VMs do not run there (`postern doctor` says so).
            continue;
        }
        if let Some(expected) = expectation.connected {
            let answer = knock(&up, expectation);
            if answer.is_empty() == expected {
                failures.push(format!(
                    "{}: {} ({})\n{answer}",
                    expectation.at, expectation.description, expectation.url
                ));
            }
            continue;
        }
        let (status, body) = ask(&up, &topology, &northbound, expectation);
        let expected = expectation.status.unwrap_or(0);
        let said = format!("{}: {} ({})", expectation.at, expectation.description, expectation.url);
        if status != expected {
            failures.push(format!("{said}: expected {expected}, got {status}\n{body}"));
        } else if let Some(service) = &expectation.service {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            if value["service"] != service.as_str() {
                failures.push(format!("{said}: expected service {service}\n{body}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), up.logs());
    assert!(!topology.expectations.is_empty(), "{name} expects nothing");
}

/// What comes back for a line, over TCP or UDP; nothing, if nobody answers in time.
fn knock(up: &Up, expectation: &Expectation) -> String {
    let (scheme, rest) = expectation.url.split_once("://").expect("a scheme");
    let (host, port) = rest.rsplit_once(':').expect("a port");
    let kind = if scheme == "udp" { "SOCK_DGRAM" } else { "SOCK_STREAM" };
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.{kind})\ns.settimeout({CONNECT_SECONDS})\ns.connect(('{host}', {port}))\ns.sendall(b'hello\\n')\nprint(s.recv(4096).decode())"
    );
    let (network, workload) = place(&expectation.from);
    let mut options = vec!["--network", network];
    if let Some(instance) = workload {
        options.extend(["--instance", instance]);
    }
    let output = up.exec(&options, &format!("python3 -c \"{script}\""));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `PROJECT/NETWORK[/WORKLOAD]` taken apart.
fn place(from: &str) -> (&str, Option<&str>) {
    match from.match_indices('/').nth(1) {
        Some((at, _)) => (&from[..at], Some(&from[at + 1..])),
        None => (from, None),
    }
}

/// The status (0: no answer) and the body.
fn ask(up: &Up, topology: &Topology, northbound: &str, expectation: &Expectation) -> (u16, String) {
    let mut curl = format!(
        "curl --silent --connect-timeout {CONNECT_SECONDS} --max-time {} -X {} -w '\\n%{{http_code}}'",
        // Through the proxy of loopback isolation silence comes after the connection.
        if expectation.status.is_none() { CONNECT_SECONDS } else { "20" },
        expectation.method
    );
    for (name, value) in &expectation.headers {
        curl.push_str(&format!(" -H '{name}: {value}'"));
    }
    let rest = expectation.url.trim_start_matches("https://");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut groups = topology.organizations.iter().flat_map(|own| &own.environment_groups);
    let is_published = groups.any(|group| group.hostnames.iter().any(|own| own == host));
    let (from, workload) = place(&expectation.from);
    let output = if let Some(service) = from.strip_suffix("/run").and(workload) {
        // Its program relays.
        let known = topology.services.iter().find(|known| known.name == service);
        let own = known.expect("a declared service").hosts[0].as_str();
        let url = format!("-G --data-urlencode 'url={}' https://{own}/", expectation.url);
        up.exec(&["--network", "internet"], &format!("{curl} {url}"))
    } else if expectation.from == "internet" && is_published {
        let (ip, port) = northbound.rsplit_once(':').expect("an address");
        let ca = up.state_dir.join("keys/ca.pem");
        let script = format!(
            "{curl} --cacert {} --resolve {host}:{port}:{ip} 'https://{host}:{port}/{path}'",
            ca.display()
        );
        Command::new("sh").args(["-c", &script]).output().expect("sh runs")
    } else {
        let mut options = Vec::new();
        options.extend(["--network", from]);
        if let Some(instance) = workload {
            options.extend(["--instance", instance]);
        }
        if let Some(email) = &expectation.as_service_account {
            options.extend(["--as", email]);
        }
        let tags = expectation.tags.join(",");
        if !tags.is_empty() {
            options.extend(["--tags", &tags]);
        }
        if let Some(region) = &expectation.region {
            options.extend(["--region", region]);
        }
        let token = match &expectation.id_token_audience {
            Some(audience) => format!(
                "TOKEN=$(curl --silent -H 'Metadata-Flavor: Google' \"http://${{GCE_METADATA_HOST:-metadata.google.internal}}/computeMetadata/v1/instance/service-accounts/default/identity?audience={audience}\"); set -- -H \"Authorization: Bearer $TOKEN\"; "
            ),
            None => String::new(),
        };
        up.exec(&options, &format!("{token}{curl} \"$@\" '{}'", expectation.url))
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim()));
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = status.parse().unwrap_or(0);
    // What a relay says of silence.
    let status = if workload.is_some() && status == 504 { 0 } else { status };
    (status, format!("{body}{errors}"))
}

#[test]
fn apigee_psc_cloud_run() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("apigee-psc-cloud-run", "netns");
    }
}

#[test]
fn two_producers() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("two-producers", "netns");
    }
}

#[test]
fn two_hosts_on_one_machine() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("two-hosts", "netns");
    }
}

#[test]
fn cloud_run_ingress() {
    if have(&["curl", "python3", "nft"]) && namespaces() {
        hold("cloud-run-ingress", "netns");
    }
}

#[test]
fn cloud_run_ingress_in_loopback_isolation() {
    if have(&["curl", "python3"]) {
        hold("cloud-run-ingress", "loopback");
    }
}

#[test]
fn vpc_peering() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("vpc-peering", "netns");
    }
}

#[test]
fn vpc_firewall() {
    if have(&["curl", "python3", "nft"]) && namespaces() {
        hold("vpc-firewall", "netns");
    }
}

#[test]
fn dns() {
    if have(&["curl", "python3", "nft"]) && namespaces() {
        hold("dns", "netns");
    }
}

#[test]
fn url_map_tour() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("url-map-tour", "netns");
    }
}

#[test]
fn run_containers() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("run-containers", "netns");
    }
}

#[test]
fn run_revisions() {
    if have(&["curl", "python3"]) && namespaces() {
        hold("run-revisions", "netns");
    }
}

#[test]
fn psc_l4() {
    if have(&["python3", "nft"]) && namespaces() {
        hold("psc-l4", "netns");
    }
}

#[test]
fn psc_admission() {
    if have(&["curl"]) && namespaces() {
        hold("psc-admission", "netns");
    }
}

#[test]
fn psc_admission_in_loopback_isolation() {
    if have(&["curl"]) {
        hold("psc-admission", "loopback");
    }
}

/// Loopback isolation needs no namespaces, and has the same verdicts.
#[test]
fn apigee_psc_cloud_run_in_loopback_isolation() {
    if have(&["curl", "python3"]) {
        hold("apigee-psc-cloud-run", "loopback");
    }
}

#[test]
fn vpc_firewall_in_loopback_isolation() {
    if have(&["curl", "python3"]) {
        hold("vpc-firewall", "loopback");
    }
}

#[test]
fn vpc_peering_in_loopback_isolation() {
    if have(&["curl", "python3"]) {
        hold("vpc-peering", "loopback");
    }
}

#[test]
fn names_without_privilege() {
    if have(&["curl"]) {
        hold("dns", "loopback");
    }
}
