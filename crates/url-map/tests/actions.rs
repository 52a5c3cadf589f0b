//! What routes do (private-connectivity 2.6): rewrites, redirects, weights, budgets, faults, mirrors,
//! headers, cross-origin requests; what cannot be served; and how a decision is told.

mod common;

use common::*;
use names::Reason;
use slice::load_balancer::*;
use url_map::{Defect, Outcome, Place, RewriteError, TemplateError, explain};

fn rewriting(route: Route, change: impl FnOnce(&mut UrlRewrite)) -> Route {
    let mut rewrite = UrlRewrite::default();
    change(&mut rewrite);
    acting(route, |action| action.url_rewrite = Some(rewrite))
}

fn new_prefix(to_service: &str, prefix: &str) -> Route {
    rewriting(to(to_service), |one| one.path_prefix_rewrite = Some(prefix.into()))
}

#[test]
fn a_prefix_rewrite_replaces_the_matched_portion() {
    let full = path(PathPredicate::FullPathMatch("/old".into()));
    let any_case = MatchRule { ignore_case: true, ..prefix("/old/") };
    for (snapshot, url, expected) in [
        (path_rule("/old/*", new_prefix("a", "/new/")), "h/old/x?q", "a h/new/x?q"),
        (path_rule("/old/*", new_prefix("a", "/")), "h/old/x", "a h/x"),
        (path_rule("/old", new_prefix("a", "/new")), "h/old?q", "a h/new?q"),
        (
            route_rules(vec![rule(1, vec![prefix("/old")], new_prefix("a", "/n"))]),
            "h/old/x",
            "a h/n/x",
        ),
        (
            route_rules(vec![rule(1, vec![prefix("/old")], new_prefix("a", "/n"))]),
            "h/older",
            "a h/ner",
        ),
        (route_rules(vec![rule(1, vec![any_case], new_prefix("a", "/n/"))]), "h/OLD/X", "a h/n/X"),
        (route_rules(vec![rule(1, vec![full], new_prefix("a", "/n"))]), "h/old", "a h/n"),
    ] {
        assert_eq!(outcome(&snapshot, &request(url, &[])), expected, "{url}");
    }
    // A default's matched prefix is `/`: the new one is put in front.
    let mut map = map(Rules::PathRules(vec![]));
    map.path_matchers[0].default = new_prefix("a", "/new/");
    assert_eq!(outcome(&compile(map), &request("h/x/y?q", &[])), "a h/new/x/y?q");
}

#[test]
fn the_documented_template_is_rewritten_and_the_query_comes_along() {
    let to = |text: &str| rewriting(to("a"), |one| one.path_template_rewrite = Some(text.into()));
    let documented = "/xyzwebservices/v2/xyz/users/{username=*}/carts/{cartid=**}";
    let snapshot =
        route_rules(vec![rule(1, vec![template(documented)], to("/{username}-{cartid}/"))]);
    let url = "h/xyzwebservices/v2/xyz/users/abc@xyz.com/carts/FL0001090004/entries/SJFI38u3401nms\
               ?fields=FULL&client_type=WEB";
    // With the slash at the end that the template has; the page prints none ((unconfirmed)).
    let expected =
        "a h/abc@xyz.com-FL0001090004/entries/SJFI38u3401nms/?fields=FULL&client_type=WEB";
    assert_eq!(outcome(&snapshot, &request(url, &[])), expected);
    // Each match rule brings its own template.
    let two = vec![template("/a/{x}/{y=**}"), template("/{y=b/*}/{x}")];
    let snapshot = route_rules(vec![rule(1, two, to("/{x}/{y}"))]);
    assert_eq!(outcome(&snapshot, &request("h/a/1/2/3", &[])), "a h/1/2/3");
    assert_eq!(outcome(&snapshot, &request("h/b/1/2", &[])), "a h/2/b/1");
}

#[test]
fn a_regex_rewrite_replaces_every_match_with_its_groups() {
    let regex = |pattern: &str, to_text: &str| {
        let regex =
            RegexRewrite { path_pattern: pattern.into(), path_substitution: to_text.into() };
        path_rule("/*", rewriting(to("a"), |one| one.regex_rewrite = Some(regex)))
    };
    for (pattern, substitution, url, expected) in [
        ("^/v1/(.*)$", r"/v2/\1", "h/v1/a?q=/v1/", "a h/v2/a?q=/v1/"),
        ("/([a-z]+)([0-9])", r"/\2\1", "h/a1/b2", "a h/1a/2b"),
        ("x", "", "h/axbx", "a h/ab"),
        ("^/", "", "h/a", "a h/a"),
    ] {
        assert_eq!(
            outcome(&regex(pattern, substitution), &request(url, &[])),
            expected,
            "{pattern}"
        );
    }
}

#[test]
fn the_url_mask_sees_the_rewritten_url() {
    let host = |host: &str| rewriting(to("hosts"), |one| one.host_rewrite = Some(host.into()));
    let snapshot = path_rule("/*", host("orders.example.com"));
    assert_eq!(outcome(&snapshot, &request("h/login", &[])), "orders orders.example.com/login");
    let snapshot = path_rule("/v1/*", new_prefix("apps", "/"));
    assert_eq!(outcome(&snapshot, &request("h/v1/login/x?y", &[])), "login h/login/x?y");
    assert_eq!(outcome(&snapshot, &request("h/v1/nobody", &[])), "404 CLOUD_RUN_SERVICE_NOT_FOUND");
    let request = request("h/v1/orders", &[]);
    let captures = decide(&snapshot, &request.head()).captures.expect("the mask matches");
    assert_eq!(captures.service.as_deref(), Some("orders"));
}

#[test]
fn every_redirect_code_and_the_prefix_that_a_route_rule_matched() {
    for status in [301, 302, 303, 307, 308] {
        let snapshot = path_rule("/*", redirect(|to| to.status = status));
        let expected = format!("{status} http://h:8080/x?q");
        assert_eq!(outcome(&snapshot, &request("h:8080/x?q", &[])), expected);
    }
    let to = |text: &str| redirect(|to| to.prefix_redirect = Some(text.into()));
    let prefixed = vec![rule(1, vec![prefix("/old")], to("/new"))];
    let regex = vec![rule(1, vec![path(PathPredicate::RegexMatch("/o.*".into()))], to("/new"))];
    for (rules, url, expected) in [
        (prefixed, "h/old/x?q", "301 http://h/new/x?q"),
        (regex, "h/old/x?q", "301 http://h/new?q"),
    ] {
        assert_eq!(outcome(&route_rules(rules), &request(url, &[])), expected);
    }
}

#[test]
fn shares_follow_the_weights() {
    let snapshot = path_rule("/*", weighted(&[("a", 900), ("b", 0), ("c", 100)]));
    let request = request("h/", &[]);
    let mut counts = [0; 3];
    for roll in 0..20_000u64 {
        let decision =
            decide(&snapshot, &request.head().with_roll(roll.wrapping_mul(0x1234_5678_9abc_def1)));
        let place = decision.weighted.expect("one is chosen");
        assert_eq!(
            decision.backend_service.map(|one| one.self_link.name()),
            Some(["a", "b", "c"][place])
        );
        counts[place] += 1;
    }
    assert!((17_700..18_300).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    // The largest timeout of the route's backend services: that of `c`.
    let decision = decide(&snapshot, &request.head());
    let Outcome::Endpoints { budget } = decision.outcome else { panic!("{:?}", decision.outcome) };
    assert_eq!(budget.timeout, seconds(30));
    assert!(decision.by_chance());
    let likely = decide(&snapshot, &request.head().with_roll(decision.likely_roll()));
    assert_eq!(likely.weighted, Some(0));
}

#[test]
fn the_routes_timeout_and_retry_policy_are_the_budget() {
    let budget = |route: Route| {
        let snapshot = path_rule("/*", route);
        let request = request("h/login", &[]);
        match decide(&snapshot, &request.head()).outcome {
            Outcome::Endpoints { budget } | Outcome::CloudRun { budget, .. } => budget.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let default = "retried once without body on 502, 503, 504 (no retryPolicy)";
    assert_eq!(budget(to("a")), format!("timeout 10s; {default}"));
    assert_eq!(budget(to("apps")), format!("timeout 3600s; {default}"));
    let route = acting(to("a"), |action| {
        action.timeout = Some(seconds(3));
        action.retry_policy = Some(RetryPolicy {
            num_retries: 2,
            per_try_timeout: Some(seconds(1)),
            retry_conditions: vec![RetryCondition::Retriable4xx, RetryCondition::ServerError],
        });
    });
    let expected = "timeout 3s; retried up to 2 times on 5xx, retriable-4xx, 1s for each try";
    assert_eq!(budget(route), expected);
}

#[test]
fn faults_fall_independently_and_a_delay_comes_before_an_abort() {
    let faults = |delay, abort| FaultInjectionPolicy {
        delay: Some(FaultDelay { fixed_delay: seconds(2), percentage: delay }),
        abort: Some(FaultAbort { http_status: 555, percentage: abort }),
    };
    let route = acting(to("a"), |one| one.fault_injection_policy = Some(faults(50.0, 10.0)));
    let snapshot = path_rule("/*", route);
    let request = request("h/", &[]);
    let (mut delayed, mut aborted, mut both) = (0, 0, 0);
    for roll in 0..20_000 {
        let decision = decide(&snapshot, &request.head().with_roll(roll));
        let abort = decision.reason() == Some(Reason::FaultFilterAbort);
        delayed += u32::from(decision.delay == Some(seconds(2)));
        aborted += u32::from(abort);
        both += u32::from(abort && decision.delay.is_some());
    }
    assert!((9_700..10_300).contains(&delayed), "{delayed}");
    assert!((1_850..2_150).contains(&aborted), "{aborted}");
    assert!((850..1_150).contains(&both), "{both}");
    let snapshot = path_rule(
        "/*",
        acting(to("a"), |one| one.fault_injection_policy = Some(faults(100.0, 100.0))),
    );
    let decision = decide(&snapshot, &request.head());
    assert!(matches!(decision.outcome, Outcome::Refuse { status: 555, .. }));
    assert_eq!(decision.delay, Some(seconds(2)));
    assert_eq!(decision.detail().as_deref(), Some("faultInjectionPolicy aborts this request"));
}

#[test]
fn a_mirror_gets_its_percentage() {
    let mirror = |percent| RequestMirrorPolicy {
        backend_service: link("backendServices", "b"),
        mirror_percent: percent,
    };
    for (percent, expected) in [(0.0, 0..1), (25.0, 4_800..5_200), (100.0, 20_000..20_001)] {
        let route = acting(to("a"), |one| one.request_mirror_policy = Some(mirror(percent)));
        let snapshot = path_rule("/*", route);
        let request = request("h/", &[]);
        let hits =
            |roll: &u64| decide(&snapshot, &request.head().with_roll(*roll)).mirror.is_some();
        let count = (0..20_000).filter(hits).count();
        assert!(expected.contains(&count), "{percent}: {count}");
    }
}

#[test]
fn header_actions_apply_from_the_innermost_level_outwards() {
    let mut route = weighted(&[("a", 1)]);
    if let Destination::Weighted(all) = &mut route.to {
        all[0].header_action = request_headers(&["x-a: weighted", "-x-gone"]);
    }
    let mut inner = rule(1, vec![prefix("/")], route);
    inner.header_action = request_headers(&["+x-a: rule", "x-b: rule"]);
    let mut map = map(Rules::RouteRules(vec![inner]));
    map.path_matchers[0].header_action = request_headers(&["x-b: matcher", "+x-c: matcher"]);
    map.header_action = request_headers(&["-x-c", "x-c: map"]);
    let snapshot = compile(map);
    let request = request("h/", &["x-a: client", "x-gone: 1", "x-c: client", "x-d: client"]);
    let decision = decide(&snapshot, &request.head());
    let mut headers = request.headers.clone();
    decision.headers.apply_to_request(&mut headers);
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    lines.sort();
    assert_eq!(lines, ["x-a: rule", "x-a: weighted", "x-b: matcher", "x-c: map", "x-d: client"]);
    let plain = path_rule("/*", to("a"));
    assert!(decide(&plain, &request.head()).headers.is_empty());
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered_here() {
    let policy = CorsPolicy {
        allow_origins: vec!["https://shop.example.com".into()],
        allow_methods: vec!["GET".into(), "PUT".into()],
        allow_headers: vec!["x-a".into()],
        expose_headers: vec!["x-b".into()],
        max_age: Some(600),
        allow_credentials: true,
        ..CorsPolicy::default()
    };
    let snapshot = path_rule("/*", acting(to("a"), |one| one.cors_policy = Some(policy)));
    let origin = "origin: https://shop.example.com";
    let asks = "access-control-request-method: PUT";
    for (line, headers, expected) in [
        ("OPTIONS h/", &[origin, asks][..], "preflight"),
        ("OPTIONS h/", &[origin], "a h/"),
        ("OPTIONS h/", &["origin: https://other.example.com", asks], "a h/"),
        ("OPTIONS h/", &[asks], "a h/"),
        ("PUT h/", &[origin, asks], "a h/"),
    ] {
        assert_eq!(outcome(&snapshot, &request(line, headers)), expected, "{line} {headers:?}");
    }
    let preflight = request("OPTIONS h/", &[origin, asks]);
    let policy = decide(&snapshot, &preflight.head()).cors.expect("the origin is allowed");
    let lines = |fields: Vec<(http::HeaderName, http::HeaderValue)>| {
        let line = |(name, value): (http::HeaderName, http::HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("text"))
        };
        fields.into_iter().map(line).collect::<Vec<_>>()
    };
    let value = &preflight.headers["origin"];
    assert_eq!(
        lines(policy.preflight(value).collect()),
        [
            "access-control-allow-origin: https://shop.example.com",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-a",
            "access-control-max-age: 600",
            "access-control-expose-headers: x-b",
        ]
    );
    assert_eq!(
        lines(policy.actual(value).collect()),
        [
            "access-control-allow-origin: https://shop.example.com",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-b",
        ]
    );
}

#[test]
fn what_cannot_be_served_is_said_with_its_place() {
    let in_rule = |defect| vec![Defect::At(Place::RouteRule("m".into(), 5), Box::new(defect))];
    let one =
        |rules: Vec<MatchRule>, route| defects(map(Rules::RouteRules(vec![rule(5, rules, route)])));
    let template_to =
        |text: &str| rewriting(to("a"), |one| one.path_template_rewrite = Some(text.into()));
    let unknown = RewriteError::Template("/{y}".into(), TemplateError::Unknown("y".into()));
    assert_eq!(one(vec![template("/{x}")], template_to("/{y}")), in_rule(Defect::Rewrite(unknown)));
    assert_eq!(
        one(vec![prefix("/"), template("/{x}")], template_to("/{x}")),
        in_rule(Defect::Rewrite(RewriteError::NoTemplate))
    );
    let both = rewriting(new_prefix("a", "/"), |one| {
        one.path_prefix_rewrite = Some("/".into());
        one.path_template_rewrite = Some("/".into());
    });
    assert_eq!(one(vec![prefix("/")], both), in_rule(Defect::Rewrite(RewriteError::TwoPathForms)));
    for (bad, c) in [("/a\r\nb: c", '\r'), ("/a?b", '?'), ("/a b", ' '), ("/ä", 'ä')] {
        let why = RewriteError::Character(bad.into(), c);
        let found = one(vec![prefix("/")], new_prefix("a", bad));
        assert_eq!(found, in_rule(Defect::Rewrite(why)));
    }
    let moved = redirect(|to| to.path_redirect = Some("/a\nb".into()));
    let found = one(vec![prefix("/")], moved);
    assert_eq!(found, in_rule(Defect::RedirectCharacter("/a\nb".into(), '\n')));
    assert_eq!(one(vec![], to("a")), in_rule(Defect::NoMatchRule));
    assert_eq!(one(vec![prefix("/")], weighted(&[("a", 0), ("b", 0)])), in_rule(Defect::NoWeight));
    let mirrored = acting(to("a"), |one| {
        one.request_mirror_policy = Some(RequestMirrorPolicy {
            backend_service: link("backendServices", "apps"),
            mirror_percent: 100.0,
        });
    });
    let apps = link("backendServices", "apps");
    assert_eq!(one(vec![prefix("/")], mirrored), in_rule(Defect::ServerlessMirror(apps)));
    let aborted = acting(to("a"), |one| {
        one.fault_injection_policy = Some(FaultInjectionPolicy {
            delay: None,
            abort: Some(FaultAbort { http_status: 199, percentage: 1.0 }),
        });
    });
    assert_eq!(one(vec![prefix("/")], aborted), in_rule(Defect::AbortStatus(199)));
    let twice = vec![rule(5, vec![prefix("/a")], to("a")), rule(5, vec![prefix("/b")], to("b"))];
    assert_eq!(defects(map(Rules::RouteRules(twice))), in_rule(Defect::DuplicatePriority));
    for (bad, words) in [
        (path(PathPredicate::RegexMatch("/(".into())), "regular expression `/(`"),
        (path(PathPredicate::RegexMatch(r"(a)\1".into())), "regular expression"),
        (prefix("a"), "has to begin with `/`"),
        (template("/a**"), "path template `/a**`"),
        (header("a b", HeaderPredicate::PresentMatch(true), false), "no header name"),
        (header("a", HeaderPredicate::RangeMatch { start: 1, end: 1 }, false), "holds no number"),
        (MatchRule { ignore_case: true, ..template("/a") }, "ignoreCase"),
    ] {
        let found = one(vec![bad], to("a"));
        assert!(found.iter().any(|one| one.to_string().contains(words)), "{words}: {found:?}");
    }
    let mut bad = map(Rules::PathRules(vec![]));
    bad.header_action = request_headers(&["connection: close"]);
    assert!(matches!(&defects(bad)[..], [Defect::At(Place::UrlMap, _)]));
}

#[test]
fn a_decision_is_told_with_all_that_it_does() {
    let route = acting(weighted(&[("a", 900), ("b", 75), ("c", 25)]), |one| {
        one.url_rewrite = Some(UrlRewrite {
            host_rewrite: Some("inner.example.com".into()),
            path_prefix_rewrite: Some("/".into()),
            ..UrlRewrite::default()
        });
        one.fault_injection_policy = Some(FaultInjectionPolicy {
            delay: Some(FaultDelay { fixed_delay: seconds(2), percentage: 10.0 }),
            abort: Some(FaultAbort { http_status: 503, percentage: 0.5 }),
        });
        one.request_mirror_policy = Some(RequestMirrorPolicy {
            backend_service: link("backendServices", "b"),
            mirror_percent: 100.0,
        });
        one.cors_policy =
            Some(CorsPolicy { allow_origins: vec!["*".into()], ..CorsPolicy::default() });
    });
    let mut rule = rule(20, vec![prefix("/shop/")], route);
    rule.description = "the shop".into();
    rule.header_action = request_headers(&["-x-gone", "x-a: 1", "+x-b: 2"]);
    let snapshot = route_rules(vec![rule]);
    let request = request("h/shop/cart?id=1", &["origin: https://x"]);
    let roll = decide(&snapshot, &request.head()).likely_roll();
    let head = request.head().with_roll(roll);
    let text = explain(&decide(&snapshot, &head), &head).to_string();
    assert_eq!(
        text,
        "hostRule lb: host rule `*` matches `h`; path matcher `m`
routeRule lb: route rule 20 (the shop), match rule 1: prefixMatch `/shop/` matches `/shop/cart`
routeAction lb: weightedBackendServices: 90% of requests to `a`, 7.5% of requests to `b`, 2.5% of requests to `c`; here `a`
routeAction lb: corsPolicy: the answer allows the origin `https://x`
routeAction lb: faultInjectionPolicy: 10% of requests are delayed by 2s; this one is not
routeAction lb: faultInjectionPolicy: 0.5% of requests are aborted with 503; this one is not
routeAction lb: urlRewrite: host `h` becomes `inner.example.com`
routeAction lb: urlRewrite: `/shop/cart?id=1` becomes `/cart?id=1`
routeAction lb: requestMirrorPolicy: every request is copied to `b`
routeAction lb: headerAction of the route rule, request: remove x-gone; set x-a: 1; add x-b: 2
backendService a: leads to network endpoint group `a`; timeout 30s; retried once without body on 502, 503, 504 (no retryPolicy)
networkEndpointGroup a: endpoints 10.0.9.0:80
"
    );
}

#[test]
fn a_fault_or_a_preflight_ends_the_explanation() {
    let route = acting(to("a"), |one| {
        one.fault_injection_policy = Some(FaultInjectionPolicy {
            delay: None,
            abort: Some(FaultAbort { http_status: 503, percentage: 100.0 }),
        });
        one.cors_policy =
            Some(CorsPolicy { allow_origins: vec!["https://x".into()], ..CorsPolicy::default() });
    });
    let snapshot = path_rule("/*", route);
    let last = |request: &Request| {
        let head = request.head();
        let explained = explain(&decide(&snapshot, &head), &head);
        explained.steps.last().map(|step| step.text.clone()).unwrap_or_default()
    };
    let asks = ["origin: https://x", "access-control-request-method: PUT"];
    assert_eq!(
        last(&request("h/", &[])),
        "faultInjectionPolicy: every request is aborted with 503"
    );
    assert_eq!(
        last(&request("OPTIONS h/", &asks)),
        "corsPolicy: a preflight request of `https://x` is answered here with 200"
    );
}
