//! Forwarding rules and target proxies: PROXY headers, certificates of clients, SSL policies,
//! several rules at once, and reloads under load.

mod common;

use common::support::{self, Raw, run};
use common::*;
use http::Request;
use http_proxy::tls::{client_config, connect};
use http_proxy::{Body, Pool, PoolOptions, ServerOptions, Version};
use names::SelfLink;
use proxy_protocol::Header;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use slice::load_balancer::*;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn plain(route: Route) -> InternalLbSlice {
    slice(
        &[("a", route)],
        vec![service("a", Protocol::Http, "a")],
        vec![group("a", &[declared(1)])],
    )
}

#[test]
fn the_client_is_whom_the_proxy_header_names_and_without_one_nobody_is_served() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let mut slice = plain(to("a"));
        slice.load_balancing.forwarding_rules[0].target.accept_proxy_protocol = true;
        slice.load_balancing.backend_services[0].custom_request_headers =
            vec!["X-From: {client_ip_address}:{client_port}".to_owned()];
        let certificate = certificate(&["a"]);
        let over_tls = over_tls(slice.clone(), std::slice::from_ref(&certificate));
        let balancer = "10.0.0.5:80".parse().expect("an address");
        let header = Header::tcp("192.0.2.7:5000".parse().expect("an address"), balancer);
        let header = header.with_psc_connection_id(7).expect("a TLV").encode().expect("a header");
        let started = start("proxy-header", slice, &[(1, backend.address)]);
        let mut client = Raw::connect(address(&started)).await;
        client.stream.write_all(&header).await.expect("write");
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client.answer().await;
            let text = answer.text();
            assert!(text.contains("x-forwarded-for: 192.0.2.7,10.0.0.5\n"), "{text}");
            assert!(text.contains("x-from: 192.0.2.7:5000\n"), "{text}");
        }
        // A health check of the proxy's own.
        let mut client = Raw::connect(address(&started)).await;
        client.stream.write_all(&Header::local().encode().expect("a header")).await.expect("write");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.answer().await.text().contains("x-forwarded-for: 127.0.0.1,"));
        for malformed in
            [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"]
        {
            let mut client = Raw::connect(address(&started)).await;
            client.try_send(malformed).await;
            assert_eq!(client.end().await, b"", "closed without a word");
        }
        let started = start("proxy-header-tls", over_tls, &[(1, backend.address)]);
        let at = address(&started);
        let trust = client_config(&certificate.0, &["http/1.1"]).expect("a configuration");
        let dial = || async move {
            let mut stream = TcpStream::connect(at).await?;
            stream.write_all(&header).await?; // in front of TLS
            connect(trust, "a", stream).await
        };
        let request = Request::builder().header("host", "a").body(Body::empty()).expect("one");
        let pool = Pool::new(PoolOptions::default());
        let response = pool.send(&(), Version::H1, dial, request).await.expect("a response");
        let text = response.into_body().collect(10_000).await.expect("a body");
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("x-forwarded-for: 192.0.2.7,10.0.0.5\n"), "{text}");
    });
}

/// An authority, and what it issued for a client: PEM, and DER with key.
fn client_identity() -> (String, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = || rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = key();
    let authority = params.self_signed(&authority_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(params, authority_key);
    let mut params =
        rcgen::CertificateParams::new(vec!["c.example".to_owned()]).expect("parameters");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(vec![0x12, 0xab].into());
    let client_key = key();
    let client = params.signed_by(&client_key, &issuer).expect("a certificate");
    let private = PrivateKeyDer::try_from(client_key.serialize_der()).expect("a key");
    (authority.pem(), vec![client.der().clone()], private)
}

/// The status of one request and the backend's view, or none where the handshake failed.
async fn ask_with(at: SocketAddr, config: rustls::ClientConfig) -> Option<(u16, String)> {
    let dial = || async move {
        let stream = TcpStream::connect(at).await?;
        let name = ServerName::try_from("a").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let request = Request::builder().header("host", "a").body(Body::empty()).expect("one");
    let pool = Pool::new(PoolOptions::default());
    let response = pool.send(&(), Version::H1, dial, request).await.ok()?;
    let status = response.status().as_u16();
    let text = response.into_body().collect(100_000).await.ok()?;
    Some((status, String::from_utf8_lossy(&text).into_owned()))
}

fn trusting(
    pem: &str,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_bytes()) {
        roots.add(certificate.expect("a certificate")).expect("a root");
    }
    rustls::ClientConfig::builder().with_root_certificates(roots)
}

#[test]
fn a_server_tls_policy_asks_for_certificates_and_tells_backends_of_them() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let server = certificate(&["a"]);
        let (authority, chain, key) = client_identity();
        let mut slice = over_tls(plain(to("a")), std::slice::from_ref(&server));
        let variables = [
            "present",
            "chain_verified",
            "error",
            "serial_number",
            "dnsname_sans",
            "spiffe_id",
            "leaf",
        ];
        slice.load_balancing.backend_services[0].custom_request_headers = variables
            .iter()
            .map(|name| format!("X-{}: [{{client_cert_{name}}}]", name.replace('_', "-")))
            .collect();
        slice.load_balancing.forwarding_rules[0].target.server_tls_policy = Some(ServerTlsPolicy {
            self_link: link("serverTlsPolicies", "mtls"),
            allow_invalid_or_missing: true,
            trust_anchors: vec![authority],
            intermediate_cas: Vec::new(),
            allowlisted_certificates: Vec::new(),
        });
        let started = start("mtls", slice.clone(), &[(1, backend.address)]);
        let known = trusting(&server.0).with_client_auth_cert(chain, key).expect("a client");
        let stranger = trusting(&server.0).with_no_client_auth();
        let (_, text) = ask_with(address(&started), known.clone()).await.expect("an answer");
        for line in [
            "x-present: [true]",
            "x-chain-verified: [true]",
            "x-error: []",
            "x-serial-number: [12ab]",
            "x-dnsname-sans: [Yy5leGFtcGxl]",
            "x-spiffe-id: []",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
        }
        assert!(text.contains("x-leaf: [:MII"), "{text}");
        let (_, text) = ask_with(address(&started), stranger.clone()).await.expect("an answer");
        for line in [
            "x-present: [false]",
            "x-chain-verified: [false]",
            "x-error: [client_cert_not_provided]",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
        }
        let policy = &mut slice.load_balancing.forwarding_rules[0].target.server_tls_policy;
        policy.as_mut().expect("the policy").allow_invalid_or_missing = false;
        let strict = start("mtls-strict", slice, &[(1, backend.address)]);
        assert!(ask_with(address(&strict), stranger).await.is_none());
        assert_eq!(ask_with(address(&strict), known).await.expect("an answer").0, 200);
    });
}

#[test]
fn an_ssl_policy_says_which_versions_are_spoken() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let server = certificate(&["a"]);
        let mut slice = over_tls(plain(to("a")), std::slice::from_ref(&server));
        slice.load_balancing.forwarding_rules[0].target.ssl_policy = Some(SslPolicy {
            self_link: link("sslPolicies", "new"),
            min_tls_version: TlsVersion::Tls13,
            features: Vec::new(),
        });
        let started = start("ssl-policy", slice, &[(1, backend.address)]);
        let new = trusting(&server.0).with_no_client_auth();
        assert!(ask_with(address(&started), new).await.is_some());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut server.0.as_bytes()) {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let old = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("TLS 1.2")
            .with_root_certificates(roots)
            .with_no_client_auth();
        assert!(ask_with(address(&started), old).await.is_none());
    });
}

/// A second forwarding rule on the same address.
fn beside(slice: &mut InternalLbSlice, name: &str, port: u16) -> String {
    let mut rule = slice.load_balancing.forwarding_rules[0].clone();
    rule.self_link = link("forwardingRules", name);
    rule.port = port;
    rule.target.https = false;
    rule.target.ssl_certificates.clear();
    slice.load_balancing.forwarding_rules.push(rule);
    link("forwardingRules", name).as_str().to_owned()
}

#[test]
fn http_and_https_share_an_address_and_each_closes_on_the_others_scheme() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let server = certificate(&["a"]);
        let mut slice = over_tls(plain(to("a")), std::slice::from_ref(&server));
        let http = beside(&mut slice, "http", 80);
        let started = start("two-rules", slice, &[(1, backend.address)]);
        let plain = started.address(&http).expect("a listener");
        let answer = get(plain, "a", "/").await;
        assert!(answer.text().contains("x-forwarded-proto: http\n"), "{}", answer.text());
        let config = trusting(&server.0).with_no_client_auth();
        let (_, text) = ask_with(address(&started), config.clone()).await.expect("an answer");
        assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
        assert!(ask_with(plain, config).await.is_none(), "TLS on the port of HTTP");
        let mut client = Raw::connect(address(&started)).await;
        client.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let end = client.end().await;
        assert!(!end.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&end));
    });
}

#[test]
fn reloads_under_load_fail_no_request_and_close_no_connection() {
    const CLIENTS: usize = 6;
    const RELOADS: usize = 20;
    run(async {
        let one = support::server(ServerOptions::default(), mirror).await;
        let two = support::server(ServerOptions::default(), mirror).await;
        let certificates: Vec<_> = (0..2).map(|_| certificate(&["a"])).collect();
        let generation = |n: usize| {
            let backend = declared(1 + (n % 2) as u8);
            let route = match n % 3 {
                0 => to("a"),
                1 => to("b"),
                _ => Route {
                    action: Some(Box::new(RouteAction {
                        url_rewrite: Some(UrlRewrite {
                            path_prefix_rewrite: Some("/new".to_owned()),
                            ..UrlRewrite::default()
                        }),
                        ..RouteAction::default()
                    })),
                    ..to("a")
                },
            };
            let slice = slice(
                &[("a", route)],
                ["a", "b"].map(|name| service(name, Protocol::Http, name)).to_vec(),
                vec![group("a", &[backend]), group("b", &[declared(1), declared(2)])],
            );
            let mut slice = over_tls(slice, std::slice::from_ref(&certificates[n % 2]));
            beside(&mut slice, "http", 80);
            slice
        };
        let backends = [(1, one.address), (2, two.address)];
        let mut started = start("load", generation(0), &backends);
        let rule = link("forwardingRules", "http");
        let plain = started.address(rule.as_str()).expect("a listener");
        let tls = address(&started);
        let served = Rc::new(RefCell::new(vec![0; CLIENTS + 1]));
        let stop = Rc::new(Cell::new(false));
        let mut clients = Vec::new();
        for n in 0..CLIENTS {
            let (served, stop) = (served.clone(), stop.clone());
            clients.push(tokio::task::spawn_local(async move {
                let mut client = Raw::connect(plain).await; // one connection for all requests
                while !stop.get() {
                    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
                    let answer = client.answer().await;
                    assert_eq!(answer.status(), "200", "{}", answer.text());
                    served.borrow_mut()[n] += 1;
                }
            }));
        }
        // And HTTP/2 over TLS: one connection, made with the first certificate.
        let (counted, ended) = (served.clone(), stop.clone());
        let trust = client_config(&certificates[0].0, &["h2"]).expect("a configuration");
        clients.push(tokio::task::spawn_local(async move {
            let pool = Pool::new(PoolOptions::default());
            let dialled = Cell::new(0);
            while !ended.get() {
                let dial = || {
                    dialled.set(dialled.get() + 1);
                    let trust = trust.clone();
                    async move { connect(trust, "a", TcpStream::connect(tls).await?).await }
                };
                let request = Request::builder().uri("/x").header("host", "a");
                let request = request.body(Body::empty()).expect("a request");
                let response =
                    pool.send(&(), Version::H2, dial, request).await.expect("a response");
                assert_eq!(response.status(), 200);
                response.into_body().collect(1 << 20).await.expect("a body");
                counted.borrow_mut()[CLIENTS] += 1;
            }
            assert_eq!(dialled.get(), 1, "the connection was kept");
        }));
        // Everybody is connected, with the first certificate.
        while served.borrow().contains(&0) {
            tokio::task::yield_now().await;
        }
        for n in 1..=RELOADS {
            let slice = generation(n);
            // Every fifth one is bad, and changes nothing.
            let bad = n % 5 == 0;
            started = tokio::task::spawn_blocking(move || {
                let mut slice = slice;
                if bad {
                    slice.load_balancing.url_maps[0].default =
                        Route::service(SelfLink::new("projects/p/global/backendServices/none"));
                }
                assert_eq!(started.reload(slice).is_err(), bad);
                started
            })
            .await
            .expect("a reload");
            // Until everybody has been served by the new generation.
            let before = served.borrow().clone();
            while served.borrow().iter().zip(&before).any(|(now, then)| *now < then + 2) {
                tokio::task::yield_now().await;
            }
        }
        stop.set(true);
        for client in clients {
            client.await.expect("no request failed");
        }
        // A removed rule drains: its connections end when they are free.
        let mut idle = Raw::connect(plain).await;
        idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(idle.answer().await.status(), "200");
        let mut last = generation(0);
        last.load_balancing.forwarding_rules.pop();
        started = tokio::task::spawn_blocking(move || {
            started.reload(last).expect("a reload");
            started
        })
        .await
        .expect("a reload");
        assert_eq!(idle.end().await, b"");
        assert!(started.address(rule.as_str()).is_none());
    });
}
