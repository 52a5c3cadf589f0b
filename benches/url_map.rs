//! What a URL map's decision costs as the number of host rules grows: it should not grow.
//!
//! `cargo bench --bench url_map` prints, for 10 to 100,000 host rules, the time to compile the
//! snapshot and the time of one decision by exact host, by wildcard, by
//! path and by URL mask. Compare the ratios of one run; absolute times belong to the machine.

use names::{NetworkId, SelfLink};
use slice::load_balancer::*;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url_map::{Outcome, RequestHead, Snapshot};

fn main() {
    // `cargo test --benches` runs this too, to see that it still works; once is enough then.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 200_000 } else { 100 };
    println!(
        "{:>8} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "hosts", "compile", "exact", "wildcard", "path", "mask"
    );
    let mut first: Option<[f64; 4]> = None;
    for hosts in [10, 1_000, 100_000] {
        let load_balancing = load_balancing(hosts);
        let started = Instant::now();
        let snapshot = Snapshot::compile(&load_balancing).expect("the generated map is legal");
        let compile = started.elapsed();

        let host = |n: usize| format!("h{}.example.com", n * 7919 % hosts);
        let paths = ["/", "/a/b/c", "/video/hd/x", "/nothing"];
        let exact: Vec<_> = (0..1024).map(|n| (host(n), "/".to_owned())).collect();
        let wildcard: Vec<_> =
            (0..1024).map(|n| (format!("x.{}", host(n)), "/".to_owned())).collect();
        let path: Vec<_> = (0..1024).map(|n| (host(n), paths[n % 4].to_owned())).collect();
        let mask: Vec<_> = (0..1024)
            .map(|n| ("other.example.org".to_owned(), format!("/s{}/x", n % 100)))
            .collect();
        let times =
            [exact, wildcard, path, mask].map(|requests| measure(&snapshot, &requests, rounds));
        let first = *first.get_or_insert(times);
        print!("{hosts:>8} {compile:>12.1?}");
        for (time, first) in times.iter().zip(first) {
            print!(" {time:>5.0} {:>3.1}x", time / first);
        }
        println!();
    }
}

/// Nanoseconds of one decision, the best of five rounds.
fn measure(snapshot: &Snapshot, requests: &[(String, String)], rounds: usize) -> f64 {
    let front = snapshot.front("f").expect("the generated map has the rule");
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        for (host, path) in requests.iter().cycle().take(rounds) {
            let head = RequestHead::new(black_box(host), black_box(path));
            let decision = front.decide(&head);
            assert!(matches!(decision.outcome, Outcome::CloudRun { .. }));
            black_box(&decision);
        }
        best = best.min(started.elapsed());
    }
    best.as_nanos() as f64 / rounds as f64
}

/// Half of the host rules exact, half wildcards, each rule for one host; a hundred services.
fn load_balancing(hosts: usize) -> LoadBalancing {
    let services = 100;
    let backend = |n: usize| SelfLink::new(&format!("backendServices/b{n}"));
    let path_matchers: Vec<_> = (0..services)
        .map(|n| {
            let rules = vec![
                PathRule {
                    paths: vec!["/a/*".to_owned(), "/a/b/*".to_owned()],
                    route: Route::service(backend(n)),
                },
                PathRule {
                    paths: vec!["/video/hd".to_owned(), "/video/hd/*".to_owned()],
                    route: Route::service(backend((n + 1) % services)),
                },
            ];
            PathMatcher::new(format!("m{n}"), Route::service(backend(n)), Rules::PathRules(rules))
        })
        .collect();
    let host_rules = (0..hosts).map(|n| HostRule {
        hosts: vec![format!("h{n}.example.com"), format!("*.h{n}.example.com")],
        path_matcher: format!("m{}", n % services),
    });
    let known: Arc<Vec<_>> = Arc::new(
        (0..services).map(|n| KnownService { name: format!("s{n}"), tags: vec![] }).collect(),
    );
    let group = |n: usize| NetworkEndpointGroup {
        self_link: SelfLink::new(&format!("networkEndpointGroups/g{n}")),
        endpoints: Endpoints::CloudRun(CloudRunEndpoints {
            project: "p".to_owned(),
            region: "r".to_owned(),
            service: (n < services).then(|| format!("s{n}")),
            tag: None,
            url_mask: (n == services).then(|| "/<service>".to_owned()),
            services: known.clone(),
        }),
    };
    LoadBalancing {
        forwarding_rules: vec![ForwardingRule {
            self_link: SelfLink::new("f"),
            network: NetworkId::new("p", "n"),
            region: "r".to_owned(),
            address: Ipv4Addr::LOCALHOST,
            port: 443,
            allow_global_access: false,
            proxy_address: None,
            target: TargetProxy {
                https: true,
                ..TargetProxy::new(SelfLink::new("t"), SelfLink::new("u"))
            },
        }],
        url_maps: vec![UrlMap {
            host_rules: host_rules.collect(),
            path_matchers,
            ..UrlMap::new(SelfLink::new("u"), Route::service(backend(services)))
        }],
        backend_services: (0..=services)
            .map(|n| BackendService {
                protocol: Protocol::Https,
                ..BackendService::new(
                    backend(n),
                    SelfLink::new(&format!("networkEndpointGroups/g{n}")),
                )
            })
            .collect(),
        network_endpoint_groups: (0..=services).map(group).collect(),
        health_checks: vec![],
    }
}
