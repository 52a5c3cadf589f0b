//! The request log, as the program writes it.

mod common;

use common::support::{self, Raw, run};
use common::*;
use http_proxy::ServerOptions;
use slice::load_balancer::Protocol;

/// Not a test by itself: what [`every_request_is_one_log_entry`] runs in a process of its own.
#[test]
#[ignore = "run by every_request_is_one_log_entry"]
fn requests_for_the_log() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let slice = slice(
            &[("a.example.com", to("a")), ("mask.example.com", to("mask"))],
            vec![service("a", Protocol::Http, "a"), service("mask", Protocol::Http, "mask")],
            vec![group("a", &[declared(1)]), serverless("mask", "mask.example.com/app/<service>")],
        );
        let started = start("log", slice, &[(1, backend.address)]);
        let at = address(&started);
        let mut client = Raw::connect(at).await;
        client
            .send("POST /known/x?q=\"%20 HTTP/1.1\r\nHost: a.example.com\r\nUser-Agent: \"odd\\\r\nContent-Length: 2\r\nX-Cloud-Trace-Context: 105445aa7843bc8bf206b12000100000/1;o=1\r\n\r\nhi")
            .await;
        assert_eq!(client.answer().await.status(), "200");
        get(at, "mask.example.com", "/other/login").await;
        get(at, "mask.example.com", "/a/../b").await; // not logged
        let mut client = Raw::connect(at).await;
        client.send("NONSENSE\r\n\r\n").await;
        client.answer().await;
        drop(started); // writes what is left
    });
}

#[test]
fn every_request_is_one_log_entry() {
    let child = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "requests_for_the_log", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("a child");
    let text = String::from_utf8(child.stderr).expect("UTF-8");
    assert!(child.status.success(), "{text}");
    let entries: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|entry: &serde_json::Value| entry.get("httpRequest").is_some())
        .collect();
    assert_eq!(entries.len(), 3, "{text}");
    let served = &entries[0];
    let labels = &served["resource"]["labels"];
    for (found, expected) in [
        (&served["severity"], "INFO"),
        (&served["logName"], "projects/p/logs/loadbalancing.googleapis.com%2Frequests"),
        (&served["resource"]["type"], "internal_http_lb_rule"),
        (&labels["project_id"], "p"),
        (&labels["region"], "europe-west1"),
        (&labels["network_name"], "ilb-network"),
        (&labels["forwarding_rule_name"], "ilb"),
        (&labels["target_proxy_name"], "proxy"),
        (&labels["url_map_name"], "map"),
        (&labels["matched_url_path_rule"], "/known/*"),
        (&labels["backend_target_name"], "a"),
        (&labels["backend_name"], "a"),
        (&served["trace"], "projects/p/traces/105445aa7843bc8bf206b12000100000"),
        (&served["httpRequest"]["requestMethod"], "POST"),
        (&served["httpRequest"]["requestUrl"], "http://a.example.com/known/x?q=%22%20"),
        (&served["httpRequest"]["userAgent"], "\"odd\\"),
        (&served["httpRequest"]["serverIp"], "10.0.9.1"),
        (&served["httpRequest"]["protocol"], "HTTP/1.1"),
    ] {
        assert_eq!(found, expected, "{served}");
    }
    assert_eq!(served["httpRequest"]["status"], 200);
    let refused = &entries[1];
    assert_eq!(refused["reason"], "URL_MASK_NO_MATCH");
    assert_eq!(refused["severity"], "WARNING");
    assert_eq!(
        refused["jsonPayload"]["proxyStatus"],
        "error=\"destination_not_found\"; details=\"serverless_neg_routing_failed\""
    );
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("other")), "{refused}");
    assert_eq!(entries[2]["reason"], "HTTP_MALFORMED");
}
