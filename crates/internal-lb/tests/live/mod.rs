//! Generated cases in front of one running load balancer: all of them in one slice, backends that
//! say what reached them, and a client that reads what they say.
#![allow(dead_code, reason = "every test file compiles all of it and uses a part")]

use crate::common::support::{self, Raw};
use crate::common::{declared, network};
use http::{HeaderMap, Response};
use http_proxy::{Body, ServerOptions};
use names::SelfLink;
use slice::load_balancer::{InternalLbSlice, LoadBalancing};
use std::net::{Ipv4Addr, SocketAddr};
use url_map_model::{Case, Request};

/// What became of a request, as the backend and the client saw it.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// It reached a backend, or Cloud Run.
    Backend { name: String, target: String, host: String, headers: Changed, response: Changed },
    /// 3xx.
    Redirect { status: u16, location: String },
    /// 200 without a body.
    Preflight(Changed),
    /// A fault on purpose.
    Abort(u16),
    /// Anything else: status and body.
    Other(u16, String),
}

/// The headers that maps of the generator change, sorted by name; those of one name in order.
pub type Changed = Vec<(String, String)>;

/// Which headers every backend answers with.
pub const ANSWER: [(&str, &str); 3] = [("x-a", "1"), ("x-b", "b"), ("x-b", "a")];

/// The headers of a head that are compared.
pub fn changed(all: impl IntoIterator<Item = (String, String)>) -> Changed {
    let is_changed =
        |name: &str| matches!(name, "x-a" | "x-b" | "x-c") || name.starts_with("access-control-");
    let mut all: Changed = all.into_iter().filter(|(name, _)| is_changed(name)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// A number from the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// The forwarding rule of case n, in the one slice of all cases.
pub fn front(n: usize) -> String {
    format!("{}-{n}", url_map_model::FRONT)
}

/// Where it is declared.
pub fn front_address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + n as u32 + 10)
}

/// The service of the cloned case `n`, when cases have services of their own.
fn own(link: &SelfLink, n: usize) -> SelfLink {
    SelfLink::new(&format!("{link}-{n}"))
}

/// All cases in one slice: each has its forwarding rule, map, services and groups. Endpoints are the
/// same everywhere: `bN` is `10.0.9.N:80`.
pub fn merged(cases: &[Case]) -> InternalLbSlice {
    assert_eq!(declared(1).to_string(), "10.0.9.1:80", "the generator's own endpoints");
    let mut all = LoadBalancing::default();
    for (n, case) in cases.iter().enumerate() {
        let one = &case.load_balancing;
        let mut rule = one.forwarding_rules[0].clone();
        let mut map = one.url_maps[0].clone();
        map.self_link = own(&map.self_link, n);
        rename_services(&mut map, n);
        rule.self_link = SelfLink::new(&front(n));
        rule.network = network();
        rule.address = front_address(n);
        rule.target.url_map = map.self_link.clone();
        rule.target.self_link = own(&rule.target.self_link, n);
        all.forwarding_rules.push(rule);
        all.url_maps.push(map);
        for mut service in one.backend_services.iter().cloned() {
            service.self_link = own(&service.self_link, n);
            for backend in &mut service.backends {
                backend.group = own(&backend.group, n);
            }
            all.backend_services.push(service);
        }
        for mut group in one.network_endpoint_groups.iter().cloned() {
            group.self_link = own(&group.self_link, n);
            all.network_endpoint_groups.push(group);
        }
    }
    InternalLbSlice { network: network(), load_balancing: all, carries_packets: true }
}

fn rename_services(map: &mut slice::load_balancer::UrlMap, n: usize) {
    use slice::load_balancer::{Destination, Route, Rules};
    let rename = |route: &mut Route| match &mut route.to {
        Destination::Service(link) => *link = own(link, n),
        Destination::Weighted(all) => {
            all.iter_mut().for_each(|one| one.backend_service = own(&one.backend_service, n));
        }
        Destination::UrlRedirect(_) => {}
    };
    rename(&mut map.default);
    for matcher in &mut map.path_matchers {
        rename(&mut matcher.default);
        match &mut matcher.rules {
            Rules::PathRules(rules) => rules.iter_mut().for_each(|rule| rename(&mut rule.route)),
            Rules::RouteRules(rules) => rules.iter_mut().for_each(|rule| rename(&mut rule.route)),
        }
    }
}

/// The backends `b0` to `b5`.
pub async fn backends() -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for n in 0..6 {
        all.push(backend(n).await);
    }
    all
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

/// Asks, and reads what the backend says.
pub async fn ask(at: SocketAddr, request: &Request) -> Seen {
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
    let field = |name: &str| headers.iter().find(|one| one.0 == name).map(|one| one.1.clone());
    let status = answer.status().parse().expect("a status");
    match status {
        200 if answer.body.is_empty() => Seen::Preflight(changed(headers)),
        200 => {
            let mut lines = answer.text().lines().map(str::to_owned);
            let mut next = || lines.next().unwrap_or_default();
            let (name, target, host) = match field("x-service") {
                // The stand-in of Cloud Run says `METHOD TARGET`, then the headers.
                Some(service) => {
                    let first = next();
                    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
                    let rest = answer.text().lines().find_map(|line| line.strip_prefix("host: "));
                    (service, target, rest.unwrap_or_default().to_owned())
                }
                None => (next(), next(), next()),
            };
            let pair = |line: String| {
                let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
                (name.to_owned(), value.to_owned())
            };
            let sent = changed(lines.map(pair));
            Seen::Backend { name, target, host, headers: sent, response: changed(headers) }
        }
        300..400 => Seen::Redirect { status, location: field("location").expect("a location") },
        _ if answer.text() == "fault filter abort" => Seen::Abort(status),
        _ => Seen::Other(status, answer.text().to_owned()),
    }
}
