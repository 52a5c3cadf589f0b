//! A URL map's own `tests[]` (private-connectivity 2.6), and their way through the URL mask.

mod common;

use common::*;
use slice::load_balancer::*;
use url_map::Defect;

/// `path`, and what is expected.
fn test(path: &str, change: impl FnOnce(&mut UrlMapTest)) -> UrlMapTest {
    let mut test = UrlMapTest {
        at: "lb.yaml:1:1".into(),
        host: "h".into(),
        path: path.into(),
        ..UrlMapTest::default()
    };
    change(&mut test);
    test
}

fn service(name: &str) -> Option<names::SelfLink> {
    Some(link("backendServices", name))
}

fn url(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn shop() -> UrlMap {
    let prod = header("x-env", HeaderPredicate::ExactMatch("prod".into()), false);
    let rewrite = acting(to("apps"), |one| {
        one.url_rewrite = Some(UrlRewrite {
            host_rewrite: Some("inner".into()),
            path_prefix_rewrite: Some("/".into()),
            ..UrlRewrite::default()
        });
    });
    map(Rules::RouteRules(vec![
        rule(1, vec![prod], to("a")),
        rule(2, vec![prefix("/apps/")], rewrite),
        rule(3, vec![prefix("/split")], weighted(&[("a", 999), ("b", 1), ("c", 0)])),
        rule(4, vec![prefix("/secure")], redirect(|to| to.https_redirect = true)),
        rule(
            5,
            vec![prefix("/moved")],
            redirect(|to| {
                to.prefix_redirect = Some("/new".into());
                to.strip_query = true;
                to.status = 308;
            }),
        ),
    ]))
}

/// Failures of the tests, without what all of them begin with.
fn failures(tests: Vec<UrlMapTest>) -> Vec<String> {
    let snapshot = compile(UrlMap { tests, ..shop() });
    let text = |failure: url_map::TestFailure| {
        let text = failure.to_string();
        let start = "lb.yaml:1:1: error URL_MAP_TEST_FAILED: URL map `lb`: ";
        let rest = text.strip_prefix(start).unwrap_or(&text);
        rest.replace("projects/p/regions/r/backendServices/", "")
    };
    snapshot.run_tests().into_iter().map(text).collect()
}

#[test]
fn tests_that_hold() {
    let held = vec![
        test("/x", |t| {
            t.headers = vec![("X-Env".into(), "prod".into()), ("Host".into(), "h".into())];
            t.service = service("a");
        }),
        test("/x", |t| t.service = service("c")),
        test("/apps/login/1?q", |t| {
            t.service = service("apps");
            t.cloud_run_service = Some("login".into());
            // The scheme is that of whatever target proxy uses the map.
            t.expected_output_url = url("https://INNER/login/1?q");
        }),
        test("/x?q", |t| t.expected_output_url = url("h/x?q")),
        test("/split", |t| t.service = service("a")),
        test("/split", |t| t.service = service("b")),
        test("/secure?q", |t| {
            t.expected_redirect_response_code = Some(301);
            t.expected_output_url = url("https://h/secure?q");
        }),
        test("/moved/x?q", |t| {
            t.expected_redirect_response_code = Some(308);
            t.expected_output_url = url("http://h/new/x");
        }),
        test("/anything", |_| {}),
    ];
    assert_eq!(failures(held), Vec::<String>::new());
}

#[test]
fn tests_that_fail_say_what_happens_instead() {
    let failed = vec![
        test("/x", |t| t.service = service("a")),
        test("/split", |t| t.service = service("c")),
        test("/secure", |t| t.expected_output_url = url("http://h/secure")),
        test("/secure", |t| t.expected_redirect_response_code = Some(302)),
        test("/moved/x?q", |t| t.expected_output_url = url("http://h/new/x?q")),
        test("/apps/login", |t| t.expected_output_url = url("http://h/login")),
        test("/x", |t| {
            t.expected_redirect_response_code = Some(301);
            t.description = "moves".into();
        }),
        test("/apps/nobody", |t| t.cloud_run_service = Some("nobody".into())),
    ];
    assert_eq!(
        failures(failed),
        [
            "h/x leads to backend service `c`, not to backend service `a`",
            "h/split leads to backend service `a`, not to backend service `c`",
            "h/secure leads to a 301 to https://h/secure, not to the URL `http://h/secure`",
            "h/secure leads to a 301 to https://h/secure, not to a 302",
            "h/moved/x?q leads to a 308 to http://h/new/x, not to the URL `http://h/new/x?q`",
            "h/apps/login leads to backend service `apps` and Cloud Run service `login` and the URL \
             `inner/login`, not to the URL `http://h/login`",
            "h/x leads to backend service `c`, not to a 301 (moves)",
            "h/apps/nobody leads to backend service `apps` and 404 CLOUD_RUN_SERVICE_NOT_FOUND, not \
             to Cloud Run service `nobody`",
        ]
    );
}

#[test]
fn a_header_that_no_request_has_is_a_defect() {
    for (name, value, said) in
        [("a b", "c", "a b: c"), ("a", "b\nc", "a: b\nc"), ("host", "other", "host: other")]
    {
        let bad = test("/", |t| t.headers = vec![(name.into(), value.into())]);
        let defect = Defect::TestHeader("lb.yaml:1:1".into(), said.into());
        assert_eq!(defects(UrlMap { tests: vec![bad], ..shop() }), [defect]);
    }
}
