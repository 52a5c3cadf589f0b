//! The request log, as the program writes it.

mod common;

use common::support::{self, Raw, run};
use common::*;
use http_proxy::ServerOptions;
use slice::load_balancer::{BackendService, LogConfig, Protocol};

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

/// What a test of this file, run in a process of its own, has logged of requests.
fn entries(test: &str) -> Vec<serde_json::Value> {
    let child = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("a child");
    let text = String::from_utf8(child.stderr).expect("UTF-8");
    assert!(child.status.success(), "{text}");
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|entry: &serde_json::Value| entry.get("httpRequest").is_some())
        .collect()
}

#[test]
fn every_request_is_one_log_entry() {
    let entries = entries("requests_for_the_log");
    assert_eq!(entries.len(), 3, "{entries:#?}");
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

/// Not a test by itself: what [`log_config_says_what_is_logged`] runs in a process of its own.
#[test]
#[ignore = "run by log_config_says_what_is_logged"]
fn requests_for_log_configurations() {
    run(async {
        let asked = std::rc::Rc::new(std::cell::Cell::new(0));
        let backend = support::server(ServerOptions::default(), move |request| {
            asked.set(asked.get() + 1);
            let first = asked.get() == 1;
            async move {
                let mut response = mirror(request).await;
                if first {
                    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                }
                for value in ["1", "2"] {
                    response.headers_mut().append("x-b", value.parse().expect("a value"));
                }
                response
            }
        })
        .await;
        let config = |enable| LogConfig {
            enable,
            sample_rate: 1.0,
            optional_fields: vec!["tls.cipher".to_owned()],
            request_headers: vec!["X-A".to_owned()],
            response_headers: vec!["x-b".to_owned(), "x-none".to_owned()],
        };
        let logged = |name: &str, enable| BackendService {
            log_config: Some(config(enable)),
            ..service(name, Protocol::Http, name)
        };
        let slice = slice(
            &[
                ("on.example.com", to("on")),
                ("off.example.com", to("off")),
                ("mask.example.com", to("mask")),
                ("dead.example.com", to("dead")),
            ],
            vec![
                logged("on", true),
                logged("off", false),
                logged("mask", false),
                service("dead", Protocol::Http, "dead"),
            ],
            vec![
                group("on", &[declared(1)]),
                group("off", &[declared(1)]),
                serverless("mask", "mask.example.com/app/<service>"),
                group("dead", &[declared(2)]),
            ],
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let nobody = listener.local_addr().expect("an address");
        drop(listener);
        let certificate = certificate(&["on.example.com"]);
        let slice = over_tls(slice, std::slice::from_ref(&certificate));
        let started = start("log-config", slice, &[(1, backend.address), (2, nobody)]);
        let at = address(&started);
        let pool = http_proxy::Pool::new(http_proxy::PoolOptions::default());
        let h1 = http_proxy::Version::H1;
        for (host, path) in [
            ("on.example.com", "/retried"),
            ("off.example.com", "/"),
            ("mask.example.com", "/other"),
            ("dead.example.com", "/"),
        ] {
            let trust = http_proxy::tls::client_config(&certificate.0, &["http/1.1"]);
            let trust = trust.expect("a configuration");
            let dial = || async move {
                let stream = tokio::net::TcpStream::connect(at).await?;
                http_proxy::tls::connect(trust, "on.example.com", stream).await
            };
            let request = http::Request::builder().uri(path).header("host", host);
            let request = request.header("x-a", "\"a\"").body(http_proxy::Body::empty());
            let response = pool.send(&(), h1, dial, request.expect("a request")).await;
            response.expect("a response").into_body().collect(1 << 20).await.expect("a body");
        }
        let mut plain = Raw::connect(at).await;
        plain.send("GET / HTTP/1.1\r\nHost: on.example.com\r\n\r\n").await;
        plain.end().await;
        tokio::task::spawn_blocking(move || drop(started)).await.expect("a clean end");
    });
}

#[test]
fn log_config_says_what_is_logged() {
    let entries = entries("requests_for_log_configurations");
    let hosts: Vec<_> = entries
        .iter()
        .map(|entry| entry["httpRequest"]["requestUrl"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(entries[3]["reason"], "SCHEME_MISMATCH");
    // A request that was tied to no backend is logged in spite of `enable: false`; one that was
    // sent twice is one entry.
    assert_eq!(
        hosts[..3],
        [
            "https://on.example.com/retried",
            "https://mask.example.com/other",
            "https://dead.example.com/"
        ]
    );
    let payload = &entries[0]["jsonPayload"];
    assert_eq!(entries[0]["httpRequest"]["status"], 200);
    assert_eq!(payload["requestHeaders"], serde_json::json!({"x-a": "\"a\""}));
    assert_eq!(payload["responseHeaders"], serde_json::json!({"x-b": "1, 2"}));
    assert!(payload["tls"].get("protocol").is_none() && payload["tls"]["cipher"] != "");
    assert_eq!(entries[2]["jsonPayload"]["tls"]["protocol"], "TLSv1.3");
    let status = entries[2]["jsonPayload"]["proxyStatus"].as_str().unwrap_or_default();
    assert!(status.starts_with("error=\"connection_refused\""), "{status}");
}
