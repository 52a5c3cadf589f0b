//! Load balancers in front of VMs and of other networks' services: health, the proxy-only source,
//! groups that lead to a service attachment.

mod common;

use common::{Up, have, namespaces, scratch};
use serde_json::Value;

/// Answers with its name and with the address that called; `/ill` and `/well` set its health.
const SERVER: &str = r#"
import http.server, sys
well = True
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global well
        if self.path in ("/ill", "/well"):
            well = self.path == "/well"
        body = f"{sys.argv[1]} from {self.client_address[0]}\n".encode()
        self.send_response(200 if well or self.path != "/health" else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Server).serve_forever()
"#;

const PRODUCER: &str = r#"
project: producer
region: europe-west1
networks: [{name: net}]
subnetworks:
- {name: vms, network: net, ipCidrRange: 10.0.0.0/24}
- {name: proxies, network: net, ipCidrRange: 10.0.1.0/24, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}
- {name: nat, network: net, ipCidrRange: 10.0.2.0/28, purpose: PRIVATE_SERVICE_CONNECT}
firewalls:
- {name: allow-all-inside, network: net, allowed: [{IPProtocol: tcp, ports: [8080]}], sourceRanges: [10.0.0.0/23]}
instances:
- name: one
  zone: europe-west1-b
  networkInterfaces: [{subnetwork: vms, networkIP: 10.0.0.21}]
  metadata: {items: [{key: startup-script, value: exec python3 server.py one}]}
- name: two
  zone: europe-west1-b
  networkInterfaces: [{subnetwork: vms, networkIP: 10.0.0.22}]
  metadata: {items: [{key: startup-script, value: exec python3 server.py two}]}
forwardingRules:
- {name: web, loadBalancingScheme: INTERNAL_MANAGED, network: net, subnetwork: vms, IPAddress: 10.0.0.5, portRange: "80", target: targetHttpProxies/web}
targetHttpProxies: [{name: web, urlMap: web}]
urlMaps: [{name: web, defaultService: web}]
healthChecks:
- {name: http, type: HTTP, checkIntervalSec: 1, timeoutSec: 1, httpHealthCheck: {portSpecification: USE_SERVING_PORT, requestPath: /health}}
backendServices:
- {name: web, loadBalancingScheme: INTERNAL_MANAGED, protocol: HTTP, healthChecks: [http], backends: [{group: vms, balancingMode: RATE, maxRatePerEndpoint: 1000}]}
networkEndpointGroups:
- {name: vms, zone: europe-west1-b, networkEndpointType: GCE_VM_IP_PORT, network: net, networkEndpoints: [{instance: one, port: 8080}, {instance: two, port: 8080}]}
serviceAttachments:
- {name: web, targetService: web, connectionPreference: ACCEPT_MANUAL, natSubnets: [nat], consumerAcceptLists: [{projectIdOrNum: consumer, connectionLimit: 1}]}
"#;

const CONSUMER: &str = r#"
project: consumer
region: europe-west1
networks: [{name: net}]
subnetworks:
- {name: subnet, network: net, ipCidrRange: 10.0.0.0/24}
- {name: proxies, network: net, ipCidrRange: 10.0.7.0/24, purpose: REGIONAL_MANAGED_PROXY, role: ACTIVE}
forwardingRules:
- {name: front, loadBalancingScheme: INTERNAL_MANAGED, network: net, subnetwork: subnet, IPAddress: 10.0.0.9, portRange: "80", target: targetHttpProxies/front}
targetHttpProxies: [{name: front, urlMap: front}]
urlMaps: [{name: front, defaultService: remote}]
backendServices:
- {name: remote, loadBalancingScheme: INTERNAL_MANAGED, protocol: HTTP, backends: [{group: remote}]}
networkEndpointGroups:
- {name: remote, networkEndpointType: PRIVATE_SERVICE_CONNECT, network: net, subnetwork: subnet, pscTargetService: projects/producer/regions/europe-west1/serviceAttachments/web}
"#;

fn health(status: &Value, endpoint: &str) -> Option<String> {
    let backends = status["backends"].as_array()?;
    let state = backends.iter().find(|state| state["endpoint"] == endpoint)?;
    state["healthState"].as_str().map(str::to_owned)
}

#[test]
fn vms_are_checked_and_reached_from_the_proxy_only_subnet_also_across_networks() {
    if !have(&["curl", "python3"]) || !namespaces() {
        return;
    }
    let topology = scratch();
    for (name, text) in
        [("server.py", SERVER), ("producer.yaml", PRODUCER), ("consumer.yaml", CONSUMER)]
    {
        std::fs::write(topology.join(name), text).expect("a file");
    }
    let up = Up::start(&topology, &[]);
    let is = |state: &'static str| {
        move |status: &Value, endpoint: &str| health(status, endpoint).as_deref() == Some(state)
    };
    let (one, two) = ("10.0.0.21:8080", "10.0.0.22:8080");
    up.wait("health of both", |status| is("HEALTHY")(status, one) && is("HEALTHY")(status, two));
    let curl = |network: &str, url: &str| {
        up.text(&["--network", network], &format!("for i in 1 2 3 4; do curl -sS {url}; done"))
    };
    // The producer's own clients, and those of another network through its load balancer, the
    // service attachment and this one: the VMs see the producer's proxy-only subnet.
    for (network, url) in
        [("producer/net", "http://10.0.0.5/"), ("consumer/net", "http://10.0.0.9/")]
    {
        let said = curl(network, url);
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines, ["one from 10.0.1.2", "two from 10.0.1.2"], "{network}");
    }
    let explain = |network: &str, url: &str| {
        let output = up.run(&["explain", "--from", network, url]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = explain("consumer/net", "http://10.0.0.9/");
    assert!(
        told.contains("service attachment web") && told.contains("10.0.0.21:8080 (HEALTHY)"),
        "{told}"
    );

    curl("producer/net", "http://10.0.0.21:8080/ill");
    up.wait("the first one's illness", |status| is("UNHEALTHY")(status, one));
    assert_eq!(curl("consumer/net", "http://10.0.0.9/"), "two from 10.0.1.2\n".repeat(4));
    curl("producer/net", "http://10.0.0.22:8080/ill");
    up.wait("the second one's illness", |status| is("UNHEALTHY")(status, two));
    let said = curl("consumer/net", "-w '%{http_code}\\n' http://10.0.0.9/");
    assert_eq!(said, "no healthy upstream503\n".repeat(4));
    let told = explain("consumer/net", "http://10.0.0.9/");
    assert!(told.contains("NO_HEALTHY_BACKEND"), "{told}");
    curl("producer/net", "http://10.0.0.21:8080/well");
    up.wait("the first one's recovery", |status| is("HEALTHY")(status, one));
    assert_eq!(curl("consumer/net", "http://10.0.0.9/"), "one from 10.0.1.2\n".repeat(4));
}
