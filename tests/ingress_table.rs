//! Every cell of Cloud Run's ingress (cloud-run 4): from where × which setting × whose project, on
//! the wire of real programs and as `explain` says.

mod common;

use common::{Up, have, namespaces, scratch};
use std::fmt::Write;
use std::path::Path;

/// The settings, each with a service of that name.
const SETTINGS: [(&str, &str); 4] = [
    ("all", "INGRESS_TRAFFIC_ALL"),
    ("internal", "INGRESS_TRAFFIC_INTERNAL_ONLY"),
    ("balanced", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"),
    ("none", "INGRESS_TRAFFIC_NONE"),
];

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// A client outside of every network.
    Internet,
    /// A workload of this network of the receiver's project, or of another one.
    Network(&'static str, bool),
    /// Through the internal load balancer, in the producer's network or over a PSC endpoint.
    InternalLoadBalancer(&'static str),
}

/// Each network resolves `*.run.app` to another front end: the public one, the private and the
/// restricted VIP, an endpoint for Google APIs.
const NETWORKS: [(&str, Option<&str>); 4] = [
    ("public", None),
    ("private", Some("199.36.153.8")),
    ("restricted", Some("199.36.153.4")),
    ("endpoint", Some("192.168.255.10")),
];

fn sources() -> Vec<Source> {
    let networks = NETWORKS
        .iter()
        .flat_map(|(network, _)| [Source::Network(network, true), Source::Network(network, false)]);
    let balanced = ["receiver/public", "caller/public"].map(Source::InternalLoadBalancer);
    [Source::Internet].into_iter().chain(networks).chain(balanced).collect()
}

impl Source {
    fn from(self) -> String {
        match self {
            Source::Internet => "internet".to_owned(),
            Source::Network(network, true) => format!("receiver/{network}"),
            Source::Network(network, false) => format!("caller/{network}"),
            Source::InternalLoadBalancer(network) => network.to_owned(),
        }
    }

    fn url(self, service: &str) -> String {
        match self {
            Source::InternalLoadBalancer("receiver/public") => format!("http://10.0.0.5/{service}"),
            Source::InternalLoadBalancer(_) => format!("http://10.0.0.9/{service}"),
            _ => format!("https://{service}-100000000001.europe-west1.run.app/{service}"),
        }
    }

    /// The table of section 4.
    fn admitted_by(self, setting: &str) -> bool {
        let internal = matches!(self, Source::Network(_, true) | Source::InternalLoadBalancer(_));
        match setting {
            "all" => true,
            "internal" | "balanced" => internal,
            _ => false,
        }
    }
}

/// A project's networks, each with its own way to the front ends.
fn networks(project: &str) -> String {
    let mut text = format!(
        "project: {project}\nregion: europe-west1\nnetworks: [{{name: public}}, {{name: private}}, {{name: restricted}}, {{name: endpoint}}]\nsubnetworks:\n"
    );
    for (network, _) in NETWORKS {
        let _ =
            writeln!(text, "- {{name: {network}, network: {network}, ipCidrRange: 10.0.0.0/24}}");
    }
    text.push_str("managedZones:\n");
    for (network, address) in NETWORKS {
        if let Some(address) = address {
            let _ = writeln!(
                text,
                "- {{name: run-app-{network}, dnsName: run.app., visibility: private, privateVisibilityConfig: {{networks: [{{networkUrl: {network}}}]}}, rrsets: [{{name: '*.europe-west1.run.app.', type: A, ttl: 300, rrdatas: [{address}]}}]}}"
            );
        }
    }
    text.push_str("addresses:\n- {name: apis, addressType: INTERNAL, purpose: PRIVATE_SERVICE_CONNECT, address: 192.168.255.10, network: endpoint}\n");
    text.push_str("---\n");
    let _ = write!(text, "project: {project}\nregion: europe-west1\nforwardingRules:\n");
    text.push_str("- {name: allapis, network: endpoint, IPAddress: apis, loadBalancingScheme: '', target: all-apis}\n");
    text
}

const BALANCER: &str = r#"
project: receiver
projectNumber: 100000000001
region: europe-west1
subnetworks:
- {name: proxies, network: public, ipCidrRange: 10.0.1.0/24, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}
- {name: nat, network: public, ipCidrRange: 10.0.2.0/28, purpose: PRIVATE_SERVICE_CONNECT}
forwardingRules:
- {name: lb, loadBalancingScheme: INTERNAL_MANAGED, network: public, subnetwork: public, IPAddress: 10.0.0.5, portRange: "80", target: targetHttpProxies/lb}
targetHttpProxies: [{name: lb, urlMap: lb}]
urlMaps: [{name: lb, defaultService: lb}]
backendServices: [{name: lb, loadBalancingScheme: INTERNAL_MANAGED, protocol: HTTPS, backends: [{group: lb}]}]
networkEndpointGroups: [{name: lb, networkEndpointType: SERVERLESS, cloudRun: {urlMask: "/<service>"}}]
serviceAttachments: [{name: lb, targetService: lb, connectionPreference: ACCEPT_AUTOMATIC, natSubnets: [nat]}]
images: {app: {command: [postern-echo]}}
"#;

const ENDPOINT: &str = r#"
project: caller
region: europe-west1
forwardingRules:
- {name: lb, network: public, IPAddress: 10.0.0.9, loadBalancingScheme: "", target: projects/receiver/regions/europe-west1/serviceAttachments/lb}
"#;

fn write(topology: &Path) {
    let mut services = "project: receiver\nservices:\n".to_owned();
    for (name, ingress) in SETTINGS {
        let _ = writeln!(
            services,
            "- {{name: projects/receiver/locations/europe-west1/services/{name}, ingress: {ingress}, invokerIamDisabled: true, template: {{containers: [{{image: app}}]}}}}"
        );
    }
    for (name, text) in [
        ("receiver.yaml", networks("receiver")),
        ("caller.yaml", networks("caller")),
        ("balancer.yaml", BALANCER.to_owned()),
        ("consumer.yaml", ENDPOINT.to_owned()),
        ("services.yaml", services),
    ] {
        std::fs::write(topology.join(name), text).expect("written");
    }
}

fn table(isolation: &str) {
    let topology = scratch();
    write(&topology);
    let up = Up::start(&topology, &["--isolation", isolation]);
    let mut wrong = Vec::new();
    for source in sources() {
        let from = source.from();
        let asked = SETTINGS.map(|(service, _)| {
            format!("curl -s -m 20 -o /dev/null -w '%{{http_code}} ' '{}'", source.url(service))
        });
        let said = up.text(&["--network", &from], &asked.join("; "));
        for ((service, _), seen) in SETTINGS.iter().zip(said.split_whitespace()) {
            let admitted = source.admitted_by(service);
            let expected = if admitted { "200" } else { "404" };
            if seen != expected {
                wrong.push(format!("{source:?}, {service}: {seen} on the wire, not {expected}"));
            }
            let explained = up.run(&["explain", "--from", &from, &source.url(service)]);
            let text = String::from_utf8_lossy(&explained.stdout);
            let refused = text.contains("HTTP 404") && text.contains("INGRESS_NOT_ALLOWED");
            if (explained.status.success(), refused) != (admitted, !admitted) {
                wrong.push(format!("{source:?}, {service}, not {expected}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(up);
    let _ = std::fs::remove_dir_all(topology);
}

#[test]
fn every_cell_of_ingress_on_the_wire_and_explained() {
    if have(&["curl"]) && namespaces() {
        table("netns");
    }
}

#[test]
fn every_cell_of_ingress_in_loopback_isolation() {
    if have(&["curl"]) {
        table("loopback");
    }
}
