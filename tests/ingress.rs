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
