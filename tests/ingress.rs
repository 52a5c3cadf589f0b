//! Who gets in to Cloud Run, and what an instance gets at: on the wire and as `explain` says.

mod common;

use common::{Up, have, namespaces, scratch};
use std::path::Path;

const RECEIVER: &str = r#"
project: receiver
projectNumber: 100000000001
region: europe-west1
networks: [{name: net}]
subnetworks: [{name: subnet, network: net, ipCidrRange: 10.0.0.0/24}]
serviceAccounts: [{email: tester@receiver.iam.gserviceaccount.com}]
images: {app: {command: [postern-echo]}}
services:
- {name: projects/receiver/locations/europe-west1/services/all, ingress: INGRESS_TRAFFIC_ALL, invokerIamDisabled: true, template: {containers: [{image: app}]}}
- {name: projects/receiver/locations/europe-west1/services/internal, ingress: INGRESS_TRAFFIC_INTERNAL_ONLY, invokerIamDisabled: true, template: {containers: [{image: app}]}}
"#;

fn url(service: &str) -> String {
    format!("https://{service}-100000000001.europe-west1.run.app/")
}

fn write(topology: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        std::fs::write(topology.join(name), text).expect("written");
    }
}

/// What curl gets: the status, or 0 where it gets no answer.
fn status(up: &Up, options: &[&str], url: &str) -> String {
    let script = format!("curl -s -m 3 -o /dev/null -w '%{{http_code}}' '{url}'");
    let output = up.exec(options, &script);
    String::from_utf8_lossy(&output.stdout).trim_start_matches('0').to_owned()
}

/// The internet is a network like others on the command line: names, routes and front ends of its
/// own, and nothing private.
fn the_internet(isolation: &str) {
    let topology = scratch();
    write(&topology, &[("receiver.yaml", RECEIVER)]);
    let up = Up::start(&topology, &["--isolation", isolation]);
    let internet = ["--network", "internet"];
    for (url, expected) in [
        (url("all"), "200"),
        (url("internal"), "404"),
        (url("none"), "404"),
        // Nothing private, neither by name nor by address.
        ("https://private.googleapis.com/".to_owned(), ""),
        ("https://10.0.0.2/".to_owned(), ""),
    ] {
        assert_eq!(status(&up, &internet, &url), expected, "{url}");
        let explained = up.run(&["explain", "--from", "internet", &url]);
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert_eq!(explained.status.success(), expected == "200", "{url}: {text}");
        assert_eq!(text.contains("HTTP 404"), expected == "404", "{url}: {text}");
        assert_eq!(text.contains("connect times out"), expected.is_empty(), "{url}: {text}");
    }
    // Without TLS there is a redirect, before anybody asks who may come in; for names of services.
    for (host, expected) in
        [("internal-100000000001.europe-west1.run.app", "302"), ("storage.googleapis.com", "404")]
    {
        for from in ["internet", "receiver/net"] {
            let url = format!("http://{host}/x?y=1");
            assert_eq!(status(&up, &["--network", from], &url), expected, "{url} from {from}");
            let explained = up.run(&["explain", "--from", from, &url]);
            let text = String::from_utf8_lossy(&explained.stdout).into_owned();
            assert!(text.contains(&format!("HTTP {expected}")), "{url} from {from}: {text}");
        }
    }
    let location = "curl -s -o /dev/null -w '%{redirect_url}' \
         http://internal-100000000001.europe-west1.run.app/x?y=1";
    let internal = url("internal");
    assert_eq!(up.text(&internet, location), format!("{internal}x?y=1"));
    // The same names, but from a network of the service's own project.
    assert_eq!(status(&up, &["--network", "receiver/net"], &url("internal")), "200");
    // Without an identity the metadata server has no account; with one it speaks for it.
    let accounts = "curl -s -H 'Metadata-Flavor: Google' \
         http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/service-accounts/";
    assert_eq!(up.text(&internet, accounts), "");
    let account = "tester@receiver.iam.gserviceaccount.com";
    let named = up.text(&["--network", "internet", "--as", account], accounts);
    assert!(named.contains(account), "{named}");
    let resolved = up.run(&["resolve", "--from", "internet", "all-1.europe-west1.run.app"]);
    assert!(resolved.status.success(), "{resolved:?}");
    drop(up);
    let _ = std::fs::remove_dir_all(topology);
}

/// Calls what it is told to, and says how that went.
const CALLER: &str = r#"
import http.server, os, socket, urllib.error, urllib.parse, urllib.request
class Caller(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        said = "here"
        try:
            if "url" in asked:
                request = urllib.request.Request(asked["url"][0], headers={"Metadata-Flavor": "Google"})
                with urllib.request.urlopen(request, timeout=3) as answer:
                    said = f"{answer.status} {answer.read().decode()}"
            if "tcp" in asked:
                host, port = asked["tcp"][0].split(":")
                socket.create_connection((host, int(port)), 1).close()
                said = "open"
        except urllib.error.HTTPError as error:
            said = str(error.code)
        except ConnectionRefusedError:
            said = "refused"
        except Exception as error:
            said = "silent" if "timed out" in str(error) or "504" in str(error) else repr(error)
        body = said.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Caller).serve_forever()
"#;

const CALLERS: &str = r#"
project: receiver
region: europe-west1
networks: [{name: vip}]
subnetworks: [{name: vip-subnet, network: vip, ipCidrRange: 10.1.0.0/24}]
managedZones:
- name: run-app
  dnsName: run.app.
  visibility: private
  privateVisibilityConfig: {networks: [{networkUrl: vip}]}
  rrsets: [{name: "*.europe-west1.run.app.", type: A, ttl: 300, rrdatas: [199.36.153.8]}]
firewalls:
- {name: from-web, network: net, direction: INGRESS, allowed: [{IPProtocol: tcp, ports: ["8080"]}], sourceTags: [web]}
- {name: open-to-all, network: net, direction: INGRESS, priority: 2000, allowed: [{IPProtocol: tcp, ports: ["1-9000"]}], sourceRanges: [0.0.0.0/0], targetTags: [web]}
instances:
- name: vm
  zone: europe-west1-b
  networkInterfaces: [{subnetwork: subnet, networkIP: 10.0.0.21}]
  metadata: {items: [{key: startup-script, value: PORT=8080 exec python3 caller.py}]}
images: {caller: {command: [python3, caller.py]}}
services:
- {name: projects/receiver/locations/europe-west1/services/plain, invokerIamDisabled: true, template: {containers: [{image: caller}]}}
- {name: projects/receiver/locations/europe-west1/services/direct, invokerIamDisabled: true, template: {containers: [{image: caller}], vpcAccess: {networkInterfaces: [{subnetwork: subnet, tags: [web]}], egress: ALL_TRAFFIC}}}
- {name: projects/receiver/locations/europe-west1/services/ranges, invokerIamDisabled: true, template: {containers: [{image: caller}], vpcAccess: {networkInterfaces: [{network: net, subnetwork: subnet}]}}}
- {name: projects/receiver/locations/europe-west1/services/ranges-vip, invokerIamDisabled: true, template: {containers: [{image: caller}], vpcAccess: {networkInterfaces: [{network: vip}], egress: PRIVATE_RANGES_ONLY}}}
"#;

/// What an instance of a service says of its own call.
fn called_by(up: &Up, service: &str, question: &str) -> String {
    let url = url(service);
    up.text(
        &["--network", "internet"],
        &format!("curl -s -m 20 -G --data-urlencode '{question}' {url}"),
    )
}

/// Service to service: an instance's call has the origin that its revision's VPC egress gives it.
fn service_to_service(isolation: &str) {
    let topology = scratch();
    let files = [("receiver.yaml", RECEIVER), ("callers.yaml", CALLERS), ("caller.py", CALLER)];
    write(&topology, &files);
    let up = Up::start(&topology, &["--isolation", isolation]);
    for (caller, to_internal) in
        [("plain", "404"), ("direct", "200"), ("ranges", "404"), ("ranges-vip", "200")]
    {
        for (service, expected) in [("all", "200"), ("internal", to_internal)] {
            let target = url(service);
            let said = called_by(&up, caller, &format!("url={target}"));
            assert!(said.starts_with(expected), "{caller} to {service}: {said}");
            let from = format!("receiver/run/{caller}");
            let explained = up.run(&["explain", "--from", &from, &target]);
            let text = String::from_utf8_lossy(&explained.stdout).into_owned();
            assert_eq!(explained.status.success(), expected == "200", "{text}");
            assert_eq!(text.contains("HTTP 404"), expected == "404", "{text}");
        }
        // Its own metadata server, whatever its network.
        let region = called_by(&up, caller, &format!("url={}", metadata(isolation)));
        assert_eq!(region, "200 projects/100000000001/regions/europe-west1", "{caller}");
    }
    // Firewall rules see its tags.
    let vm = "http://10.0.0.21:8080/";
    for (caller, expected) in [("plain", "silent"), ("direct", "200 here"), ("ranges", "silent")] {
        let mut said = called_by(&up, caller, &format!("url={vm}"));
        for _ in 0..50 {
            // A VM's program takes a moment to listen. In loopback isolation it does not run.
            if expected == "silent" || said == expected || isolation == "loopback" {
                break;
            }
            said = called_by(&up, caller, &format!("url={vm}"));
        }
        if isolation != "loopback" || expected == "silent" {
            assert_eq!(said, expected, "{caller}");
        }
        let explained = up.run(&["explain", "--from", &format!("receiver/run/{caller}"), vm]);
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert_eq!(explained.status.success(), expected != "silent", "{caller}: {text}");
    }
    drop(up);
    let _ = std::fs::remove_dir_all(topology);
}

/// What an instance must not reach, and who must not reach it.
#[test]
fn an_instance_sees_nothing_that_its_revision_may_not_reach() {
    if !have(&["curl", "python3", "nft"]) || !namespaces() {
        return;
    }
    let topology = scratch();
    let files = [("receiver.yaml", RECEIVER), ("callers.yaml", CALLERS), ("caller.py", CALLER)];
    write(&topology, &files);
    let up = Up::start(&topology, &["--isolation", "netns"]);
    // A listener of the host, on every address of its own.
    let host = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = host.local_addr().expect("bound").port();
    let addresses = std::process::Command::new("hostname").arg("-I").output().expect("hostname");
    let addresses = String::from_utf8_lossy(&addresses.stdout).into_owned();
    for caller in ["plain", "direct", "ranges"] {
        called_by(&up, caller, "");
    }
    let workloads = up.status()["workloads"].clone();
    let find = |name: &str, key: &str| {
        let mut all = workloads.as_array().expect("workloads").iter();
        let found =
            all.find(|w| w["workload"]["name"].as_str().is_some_and(|own| own.starts_with(name)));
        found.expect("an instance")["workload"][key].as_str().map(str::to_owned)
    };
    let plain = find("plain-", "address").expect("an address");
    let direct = find("direct-", "address").expect("an address");
    assert!(plain.starts_with("169.254.") && direct.starts_with("10.0.0."), "{workloads:#}");
    let mut forbidden: Vec<(&str, String)> = Vec::new();
    for caller in ["direct", "ranges", "plain"] {
        // The platform's side of other instances, and what there is of the host.
        if caller != "plain" {
            forbidden.push((caller, format!("{plain}:8080")));
        }
        forbidden.push((caller, format!("127.0.0.1:{port}")));
        forbidden.push((caller, format!("169.254.1.1:{port}")));
        for address in addresses.split_whitespace().filter(|address| address.contains('.')) {
            forbidden.push((caller, format!("{address}:{port}")));
        }
        forbidden.push((caller, "8.8.8.8:53".to_owned()));
        // The VPC side of another instance, whose tag a rule opens to all.
        if caller != "direct" {
            forbidden.push((caller, format!("{direct}:8080")));
        }
    }
    forbidden.push(("plain", "10.0.0.21:8080".to_owned()));
    forbidden.push(("plain", "10.1.0.2:80".to_owned()));
    forbidden.push(("plain", "199.36.153.8:443".to_owned()));
    for (caller, to) in forbidden {
        let said = called_by(&up, caller, &format!("tcp={to}"));
        // Its own loopback interface and its router answer by themselves.
        let answers = to.starts_with("127.") || to.starts_with("169.254.1.1:");
        let closed = said == "silent" || (said == "refused" && answers);
        assert!(closed, "{caller} to {to}: {said}");
    }
    // Nobody in the network gets at an instance past its ingress, whatever the rules say.
    let connect = format!("curl -s -m 2 -o /dev/null http://{direct}:8080/; echo $?");
    assert_eq!(up.text(&["--network", "receiver/net"], &connect).trim(), "28", "curl times out");
    let to = format!("tcp://{direct}:8080");
    let explained = up.run(&["explain", "--from", "receiver/net", &to]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("CLOUD_RUN_EGRESS_ONLY"), "{text}");
    // Nor a client on the internet, of whose network its other side is.
    let connect = format!("curl -s -m 2 -o /dev/null http://{plain}:8080/; echo $?");
    assert_eq!(up.text(&["--network", "internet"], &connect).trim(), "28", "curl times out");
    drop(up);
    let _ = std::fs::remove_dir_all(topology);
}

/// A loopback session's programs find it by an environment variable, which a URL cannot name.
fn metadata(isolation: &str) -> &'static str {
    match isolation {
        "netns" => "http://metadata.google.internal/computeMetadata/v1/instance/region",
        _ => "http://169.254.169.254/computeMetadata/v1/instance/region",
    }
}

#[test]
fn an_instance_calls_with_the_origin_of_its_vpc_egress() {
    if have(&["curl", "python3", "nft"]) && namespaces() {
        service_to_service("netns");
    }
}

#[test]
fn an_instance_s_origin_is_the_same_in_loopback_isolation() {
    if have(&["curl", "python3"]) {
        service_to_service("loopback");
    }
}

#[test]
fn the_internet_reaches_public_front_ends_and_nothing_private() {
    if have(&["curl"]) && namespaces() {
        the_internet("netns");
    }
}

#[test]
fn the_internet_is_the_same_in_loopback_isolation() {
    if have(&["curl"]) {
        the_internet("loopback");
    }
}
