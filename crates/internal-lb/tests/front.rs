//! The side of the client: TLS, refusals, regions, reloads.

mod common;

use common::support::{self, Raw, run};
use common::*;
use http::{Method, Request};
use http_proxy::tls::{client_config, connect};
use http_proxy::{Body, Pool, PoolOptions, ServerOptions, Version};
use slice::load_balancer::{Destination, NetworkEndpointGroup, Protocol, Route, UrlRedirect};
use slice::{Notice, Workload};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[test]
fn refusals_have_the_documented_status_and_body() {
    run(async {
        let redirect = Route::new(Destination::UrlRedirect(UrlRedirect {
            host_redirect: Some("b.example.com".to_owned()),
            status: 308,
            ..UrlRedirect::default()
        }));
        let slice = slice(
            &[
                ("mask.example.com", to("mask")),
                ("empty.example.com", to("empty")),
                ("redirect.example.com", redirect),
            ],
            vec![
                service("mask", Protocol::Http, "mask"),
                service("empty", Protocol::Http, "empty"),
            ],
            vec![serverless("mask", "mask.example.com/app/<service>"), group("empty", &[])],
        );
        let started = start("refusals", slice, &[]);
        let at = address(&started);
        for (host, path, status, body, header) in [
            ("mask.example.com", "/other/login", "404", "", "content-length: 0"),
            ("mask.example.com", "/app/unknown", "404", "", "content-length: 0"),
            ("mask.example.com", "/app/Login", "404", "", "content-length: 0"),
            ("empty.example.com", "/", "503", "no healthy upstream", "content-type: text/plain"),
            ("mask.example.com", "/a/../b?c", "302", "", "location: http://mask.example.com/b?c"),
            ("redirect.example.com", "/x?y", "308", "", "location: http://b.example.com/x?y"),
        ] {
            let answer = get(at, host, path).await;
            assert_eq!((answer.status(), answer.text()), (status, body), "{host}{path}");
            assert!(answer.has(header), "{host}{path}: {}", answer.head);
        }
        let mut client = Raw::connect(at).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "400");
        let mut client = Raw::connect(at).await;
        client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "404");
    });
}

#[test]
fn https_speaks_both_versions_and_grpc_stays_http2_and_is_refused_in_its_own_way() {
    run(async {
        let slice = slice(
            &[("apps.example.com", to("apps"))],
            vec![service("apps", Protocol::Http, "apps")],
            vec![serverless("apps", "<tag>.example.com/<service>")],
        );
        let certificate = certificate(&["blue.example.com"]);
        let slice = over_tls(slice, std::slice::from_ref(&certificate));
        let started = start("tls", slice, &[]);
        let cloud_run = cloud_run(&started);
        let at = address(&started);
        let pool = Pool::new(PoolOptions::default());
        let ask = |version: Version, request: Request<Body>| {
            let alpn = if version == Version::H2 { "h2" } else { "http/1.1" };
            let trust = client_config(&certificate.0, &[alpn]).expect("a configuration");
            let dial = move || async move {
                connect(trust, "blue.example.com", TcpStream::connect(at).await?).await
            };
            let pool = &pool;
            async move { pool.send(&version, version, dial, request).await.expect("a response") }
        };
        let request = |path: &str| {
            Request::builder()
                .uri(path)
                .header("host", "blue.example.com")
                .body(Body::empty())
                .expect("a request")
        };
        for (client, kind, te, version) in [
            (Version::H1, "text/plain", "", "HTTP/1.1"),
            (Version::H2, "text/plain", "", "HTTP/1.1"),
            (Version::H2, "text/plain", "trailers", "HTTP/2.0"),
            (Version::H2, "application/grpc+proto", "", "HTTP/2.0"),
        ] {
            let mut request = request("/login");
            for (name, value) in [("content-type", kind), ("te", te)] {
                if !value.is_empty() {
                    request.headers_mut().insert(name, value.parse().expect("a value"));
                }
            }
            let response = ask(client, request).await;
            let headers = response.headers();
            assert_eq!(
                headers["x-service"],
                "projects/p/locations/europe-west1/services/login#blue"
            );
            assert_eq!(headers["x-version"], version, "{client:?} {kind} {te}");
            assert_eq!(headers["x-alpn"], if client == Version::H2 { "h2" } else { "http/1.1" });
            let text = response.into_body().collect(10_000).await.expect("a body");
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(
                text.contains("x-forwarded-proto: https")
                    && text.contains("host: blue.example.com"),
                "{text}"
            );
        }
        assert_eq!(cloud_run.connections.lock().expect("lock").len(), 3);
        let mut grpc = request("/unknown");
        *grpc.method_mut() = Method::POST;
        grpc.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        let response = ask(Version::H2, grpc).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &"12".parse().expect("a value"))
        );
        // The client answers the server's GOAWAY, so it must not be blocked meanwhile.
        tokio::task::spawn_blocking(move || drop(started)).await.expect("a clean end");
    });
}

#[test]
fn a_client_of_another_region_hears_nothing() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let slice = slice(
            &[("a.example.com", to("a"))],
            vec![service("a", Protocol::Http, "a")],
            vec![group("a", &[declared(1)])],
        );
        let mut started = start("region", slice.clone(), &[(1, backend.address)]);
        let workload = |region: &str| Workload {
            name: "exec-1".to_owned(),
            network: network(),
            address: Ipv4Addr::LOCALHOST,
            project: "p".to_owned(),
            project_number: 1,
            region: region.to_owned(),
            zone: format!("{region}-b"),
            tags: Vec::new(),
            service_account: None,
            instance_id: "1".to_owned(),
            serverless: false,
            outside: None,
            metadata: Default::default(),
        };
        started.notice(Notice::Workloads(vec![workload("us-central1")]));
        let mut client = Raw::connect(address(&started)).await;
        client.send("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
        let silent =
            tokio::time::timeout(Duration::from_millis(300), client.stream.read_u8()).await;
        assert!(silent.is_err(), "not a byte and not an end");
        let mut global = slice;
        global.load_balancing.forwarding_rules[0].allow_global_access = true;
        started.reload(global).expect("a reload");
        assert_eq!(get(address(&started), "a.example.com", "/").await.status(), "200");
        started.notice(Notice::Workloads(vec![workload("europe-west1")]));
        assert_eq!(get(address(&started), "a.example.com", "/").await.status(), "200");
    });
}

#[test]
fn a_reload_changes_the_next_request_of_a_live_connection_and_a_bad_one_nothing() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let old = slice(
            &[("a.example.com", to("a"))],
            vec![service("a", Protocol::Http, "a")],
            vec![group("a", &[declared(1)])],
        );
        let certificate = certificate(&["a.example.com"]);
        let mut started = start("reload", old.clone(), &[(1, backend.address)]);
        let mut client = Raw::connect(address(&started)).await;
        let mut ask = async |expected: &str| {
            client.send("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
            assert_eq!(client.answer().await.status(), expected);
        };
        ask("200").await;
        let mut empty = old.clone();
        empty.load_balancing.network_endpoint_groups[0].endpoints =
            NetworkEndpointGroup::addresses(link("networkEndpointGroups", "a"), Vec::new())
                .endpoints;
        started.reload(empty).expect("a reload");
        ask("503").await;
        started.reload(old.clone()).expect("a reload");
        ask("200").await;
        let bad = over_tls(old.clone(), &[(certificate.0, "no key".to_owned())]);
        let said = started.reload(bad).expect_err("a certificate without a key");
        assert!(said.contains("sslCertificates/c0") && said.contains("private key"), "{said}");
        ask("200").await;
        started.reload(old.clone()).expect("a reload");
        ask("200").await;
        let connections = backend.accepted.borrow().0;
        assert_eq!(connections, 2, "the pool outlives generations, if the endpoint does");
        // The rule goes: the idle connection ends.
        let mut without = old;
        without.load_balancing.forwarding_rules.clear();
        started.reload(without).expect("a reload");
        assert_eq!(client.end().await, b"");
    });
}
