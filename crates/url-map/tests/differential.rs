//! Generated URL maps with their requests, decided by the engine and by the naive reference
//! (`url-map-model`): host rule, matcher, rule, backend service, rewritten URL, header changes,
//! redirects, preflights, faults, budgets, and what the URL mask yields must agree.
//!
//! `POSTERN_SEED` (default 1) and `POSTERN_MAPS` (default 10000) choose the cases.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use url_map::{Decision, HostMatch, Outcome, RequestHead, RuleMatch, Snapshot, TryOutcome};
use url_map_model as model;
use url_map_model::{Case, Dice, Expected, FRONT, Failure, Forwarded, Masked, Profile, Request};

#[test]
fn the_engine_agrees_with_the_reference() {
    let (seed, count) = (number("POSTERN_SEED", 1), number("POSTERN_MAPS", 10_000));
    let seeds: Vec<u64> = (0..count).map(|n| seed * 1_000_000 + n).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let share = |seeds: Vec<u64>| scope.spawn(move || check_all(&seeds));
        let shares: Vec<_> = (0..threads)
            .map(|n| share(seeds.iter().copied().skip(n).step_by(threads).collect()))
            .collect();
        for found in shares {
            seen.add(found.join().expect("they agree"));
        }
    });
    seen.assert_everything_came_up();
}

fn check_all(seeds: &[u64]) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds {
        let case = model::case(*seed, Profile::Engine);
        if let Err(why) = check(&case, &mut seen) {
            let fails = |case: &Case| check(case, &mut Seen::default()).err();
            let small = model::shrink(case, |case| fails(case).is_some());
            let why = fails(&small).unwrap_or(why);
            panic!("seed {seed}: {why}\n{:#?}", small.load_balancing.url_maps);
        }
    }
    seen
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn check(case: &Case, seen: &mut Seen) -> Result<(), String> {
    let snapshot =
        Snapshot::compile(&case.load_balancing).map_err(|errors| format!("{errors:?}"))?;
    let front = snapshot.front(FRONT).ok_or("the forwarding rule is not there")?;
    for request in &case.requests {
        let headers = map(&request.headers);
        let head = RequestHead::new(&request.host, &request.path_and_query)
            .with_method(&request.method)
            .with_headers(&headers)
            .with_roll(request.roll);
        let decision = front.decide(&head);
        let wanted = model::reference(&case.load_balancing, request, decision.weighted);
        seen.count(&wanted, &decision);
        agrees(&decision, request, &headers, &wanted).map_err(|what| {
            format!("{what}\n{request:?}\nengine: {:?}\nreference: {wanted:#?}", decision.outcome)
        })?;
    }
    Ok(())
}

/// The first thing in which they differ.
fn agrees(
    decision: &Decision<'_, '_>,
    request: &Request,
    headers: &HeaderMap,
    wanted: &Expected,
) -> Result<(), String> {
    // A path with `/../` is answered whatever the rules say.
    if !request.path().contains("/../") {
        let host = match decision.host {
            HostMatch::Default => None,
            host => Some(host.to_string()),
        };
        same("host", host, wanted.host.as_ref().map(|host| host.to_lowercase()))?;
        let matcher = decision.path_matcher.map(|matcher| matcher.name.to_string());
        same("matcher", matcher, wanted.path_matcher.clone())?;
        let rule = match &decision.rule {
            RuleMatch::Default => model::Rule::Default,
            RuleMatch::PathRule(path) => model::Rule::Path(path.to_string()),
            RuleMatch::RouteRule { rule, match_rule } => {
                model::Rule::Route(rule.priority, *match_rule)
            }
        };
        same("rule", &rule, &wanted.rule)?;
    }
    match (&decision.outcome, &wanted.outcome) {
        (Outcome::Redirect(to), model::Outcome::Redirect { status, location }) => {
            same("redirect", (to.status, &to.location), (*status, location))
        }
        (Outcome::Preflight, model::Outcome::Preflight(wanted)) => {
            let policy = decision.cors.ok_or("a preflight without a policy")?;
            same("preflight", sorted(policy.preflight(&headers["origin"])), sorted(map(wanted)))
        }
        (Outcome::Refuse { status, reason, .. }, model::Outcome::Abort(wanted)) => {
            same("abort", (reason.code(), status), ("FAULT_FILTER_ABORT", wanted))
        }
        (_, model::Outcome::Forwarded(wanted)) => forwarded(decision, request, headers, wanted),
        _ => Err("outcome".to_owned()),
    }
}

fn forwarded(
    decision: &Decision<'_, '_>,
    request: &Request,
    headers: &HeaderMap,
    wanted: &Forwarded,
) -> Result<(), String> {
    let service = decision.backend_service.map(|service| service.self_link.as_str());
    same("backend service", service, Some(wanted.backend_service.as_str()))?;
    let rewrite = &decision.rewrite;
    same("host", rewrite.host.unwrap_or(&request.host), wanted.host.as_str())?;
    let path = rewrite.path_and_query.as_deref().unwrap_or(&request.path_and_query);
    same("path", path, wanted.path_and_query.as_str())?;
    let (target, budget) = match &decision.outcome {
        Outcome::CloudRun { target, budget } => {
            let (service, tag) = (target.service.name().to_owned(), target.tag.as_deref());
            (Ok(Some(Masked { service, tag: tag.map(str::to_owned) })), Some(budget))
        }
        Outcome::Endpoints { budget } => (Ok(None), Some(budget)),
        Outcome::Refuse { reason, status, .. } => {
            let unavailable = matches!(reason.code(), code if code.ends_with("_EMPTY"));
            same("status", *status, if unavailable { 503 } else { 404 })?;
            (Err(*reason), None)
        }
        _ => return Err("outcome".to_owned()),
    };
    same("target", &target, &wanted.target)?;
    if let Some(budget) = budget {
        same("timeout", budget.timeout, wanted.timeout)?;
        let retry = wanted.retry.as_ref();
        same("default retry", budget.retry.default, retry.is_none())?;
        let per_try = retry.and_then(|policy| policy.per_try_timeout);
        same("per-try timeout", budget.retry.per_try_timeout, per_try)?;
        same("delay", decision.delay, wanted.delay)?;
        let mirror = decision.mirror.map(|service| &service.self_link);
        same("mirror", mirror, wanted.mirror.as_ref())?;
        for (failure, outcome) in FAILURES {
            for retried in 0..4 {
                for bodiless in [false, true] {
                    let wanted = model::again(retry, retried + 1, failure, bodiless);
                    let method = if bodiless { "GET" } else { "POST" };
                    let got = budget.retry.again(retried, outcome, method, bodiless);
                    same(&format!("again {retried} {failure:?} {bodiless}"), got, wanted)?;
                }
            }
        }
    }
    let mut got = headers.clone();
    decision.headers.apply_to_request(&mut got);
    let wanted_headers = model::apply_headers(&wanted.headers, request.headers.clone(), true);
    same("request headers", sorted(got), sorted(map(&wanted_headers)))?;
    let answer = [("x-a", "1"), ("x-b", "b"), ("x-b", "a")];
    let answer = answer.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut got = map(&answer);
    decision.headers.apply_to_response(&mut got);
    let wanted_headers = model::apply_headers(&wanted.headers, answer.to_vec(), false);
    same("response headers", sorted(got), sorted(map(&wanted_headers)))?;
    let cors = decision.cors.map(|policy| policy.actual(&headers["origin"]).collect::<Vec<_>>());
    same("cors", sorted(cors.unwrap_or_default()), sorted(map(&wanted.cors)))
}

const FAILURES: [(Failure, TryOutcome); 13] = [
    (Failure::Status(200), answered(200, None)),
    (Failure::Status(404), answered(404, None)),
    (Failure::Status(409), answered(409, None)),
    (Failure::Status(500), answered(500, None)),
    (Failure::Status(502), answered(502, None)),
    (Failure::Status(503), answered(503, None)),
    (Failure::Status(504), answered(504, None)),
    (Failure::Status(505), answered(505, None)),
    (Failure::Grpc(4), answered(200, Some(4))),
    (Failure::Grpc(14), answered(200, Some(14))),
    (Failure::Connect, TryOutcome::ConnectFailure),
    (Failure::Reset, TryOutcome::Reset),
    (Failure::RefusedStream, TryOutcome::RefusedStream),
];

const fn answered(status: u16, grpc_status: Option<u8>) -> TryOutcome {
    TryOutcome::Answered { status, grpc_status }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result<(), String> {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: the engine says {got:?}, the reference {wanted:?}")),
    }
}

fn map(headers: &[(String, String)]) -> HeaderMap {
    let name = |text: &str| text.parse::<HeaderName>().expect("a name");
    let value = |text: &str| text.parse::<HeaderValue>().expect("a value");
    headers.iter().map(|header| (name(&header.0), value(&header.1))).fold(
        HeaderMap::new(),
        |mut all, (name, value)| {
            all.append(name, value);
            all
        },
    )
}

/// By name; the lines of one name stay in their order. (A HeaderMap yields the name of several lines
/// once.)
fn sorted<N: Into<Option<HeaderName>>>(
    headers: impl IntoIterator<Item = (N, HeaderValue)>,
) -> Vec<(String, String)> {
    let mut last = None;
    let mut all = Vec::new();
    for (name, value) in headers {
        last = name.into().or(last);
        let name = last.as_ref().map(HeaderName::to_string).unwrap_or_default();
        all.push((name, value.to_str().expect("text").to_owned()));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// What came up: a generator that never gets somewhere proves nothing.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, usize>);

impl Seen {
    fn count(&mut self, wanted: &Expected, decision: &Decision<'_, '_>) {
        let mut count = |what| *self.0.entry(what).or_default() += 1;
        count(match wanted.rule {
            model::Rule::Default => "default",
            model::Rule::Path(_) => "path rule",
            model::Rule::Route(..) => "route rule",
        });
        if decision.weighted.is_some() {
            count("weighted");
        }
        match &wanted.outcome {
            model::Outcome::Redirect { .. } => count("redirect"),
            model::Outcome::Preflight(_) => count("preflight"),
            model::Outcome::Abort(_) => count("abort"),
            model::Outcome::Forwarded(to) => {
                count(match &to.target {
                    Ok(Some(masked)) if masked.tag.is_some() => "tag",
                    Ok(Some(_)) => "service",
                    Ok(None) => "endpoints",
                    Err(reason) => reason.code(),
                });
                for (what, is) in [
                    ("rewrite", !decision.rewrite.is_empty()),
                    ("headers", !to.headers.is_empty()),
                    ("mirror", to.mirror.is_some()),
                    ("delay", to.delay.is_some()),
                    ("cors", !to.cors.is_empty()),
                ] {
                    if is {
                        count(what);
                    }
                }
            }
        }
    }

    fn add(&mut self, other: Seen) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    fn assert_everything_came_up(&self) {
        let rare: Vec<_> = self.0.iter().filter(|(_, count)| **count < 20).collect();
        assert!(rare.is_empty() && self.0.len() == 21, "{:#?}", self.0);
    }
}

/// Shares follow the weights, whatever the numbers of the requests are made of.
#[test]
fn weights_are_shares() {
    let case = (0..).map(|seed| model::case(seed, Profile::Engine)).find(|case| {
        let map = &case.load_balancing.url_maps[0];
        let weighted = |to: &slice::load_balancer::Route| match &to.to {
            slice::load_balancer::Destination::Weighted(all) => all.len() == 3,
            _ => false,
        };
        weighted(&map.default)
    });
    let mut all = case.expect("there is one").load_balancing;
    let map = &mut all.url_maps[0];
    (map.host_rules, map.path_matchers) = (Vec::new(), Vec::new());
    map.default.action = None;
    let slice::load_balancer::Destination::Weighted(services) = &mut map.default.to else {
        unreachable!("it was looked for")
    };
    for (service, weight) in services.iter_mut().zip([700, 0, 300]) {
        service.weight = weight;
    }
    let snapshot = Snapshot::compile(&all).expect("a good map");
    let front = snapshot.front(FRONT).expect("a front");
    let mut counts = [0; 3];
    let mut dice = Dice::new(5);
    for _ in 0..20_000 {
        let head = RequestHead::new("a", "/").with_roll(dice.roll());
        counts[front.decide(&head).weighted.expect("one of three")] += 1;
    }
    assert_eq!(counts[1], 0);
    assert!((13_600..14_400).contains(&counts[0]), "{counts:?}");
}
