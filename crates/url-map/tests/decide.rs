//! Whole decisions: forwarding rule → URL map → backend service → group → service.
#![allow(clippy::unwrap_used)]

use names::{NetworkId, Reason, SelfLink};
use slice::load_balancer::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use url_map::{CompileError, Defect, Evidence, Outcome, RequestHead, Snapshot, explain};

const HTTPS: &str = "projects/p/regions/europe-west1/forwardingRules/https";
const HTTP: &str = "projects/p/regions/europe-west1/forwardingRules/http";

fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "europe-west1", collection, name)
}

fn to(service: &str) -> Route {
    Route::service(link("backendServices", service))
}

fn backend(name: &str, group: Option<&str>) -> BackendService {
    BackendService {
        protocol: Protocol::Https,
        backends: group
            .map(|group| Backend::new(link("networkEndpointGroups", group)))
            .into_iter()
            .collect(),
        ..BackendService::new(link("backendServices", name), link("networkEndpointGroups", name))
    }
}

fn serverless(
    name: &str,
    service: Option<&str>,
    tag: Option<&str>,
    mask: Option<&str>,
) -> NetworkEndpointGroup {
    let known = |name: &str, tags: &[&str]| KnownService {
        name: name.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    NetworkEndpointGroup {
        self_link: link("networkEndpointGroups", name),
        endpoints: Endpoints::CloudRun(CloudRunEndpoints {
            project: "p".into(),
            region: "europe-west1".into(),
            service: service.map(str::to_owned),
            tag: tag.map(str::to_owned),
            url_mask: mask.map(str::to_owned),
            services: Arc::new(vec![
                known("orders", &["test", "canary"]),
                known("login", &[]),
                known("inventory", &[]),
            ]),
        }),
    }
}

fn addresses(name: &str, list: &[&str]) -> NetworkEndpointGroup {
    NetworkEndpointGroup::addresses(
        link("networkEndpointGroups", name),
        list.iter().map(|address| address.parse().unwrap()).collect(),
    )
}

fn rule(name: &str, port: u16, map: &str, https: bool) -> ForwardingRule {
    ForwardingRule {
        self_link: link("forwardingRules", name),
        network: NetworkId::new("p", "ilb-network"),
        region: "europe-west1".into(),
        address: Ipv4Addr::new(10, 0, 0, 5),
        port,
        allow_global_access: false,
        proxy_address: None,
        northbound: None,
        target: TargetProxy {
            https,
            ..TargetProxy::new(link("targetHttpsProxies", name), link("urlMaps", map))
        },
    }
}

fn path_rule(paths: &[&str], route: Route) -> PathRule {
    PathRule { paths: paths.iter().map(|path| (*path).to_owned()).collect(), route }
}

fn url_map(name: &str, default: Route) -> UrlMap {
    UrlMap::new(link("urlMaps", name), default)
}

fn host_rule(hosts: &[&str], matcher: &str) -> HostRule {
    HostRule {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        path_matcher: matcher.into(),
    }
}

fn topology() -> LoadBalancing {
    let mut map = url_map("lb", to("apps"));
    map.host_rules = vec![
        host_rule(&["api.example.com", "*.api.example.com"], "api"),
        host_rule(&["example.net"], "video"),
        host_rule(&["ports.example.net:8080"], "video"),
        host_rule(&["empty.example.com"], "empty"),
    ];
    map.path_matchers = vec![
        PathMatcher::new(
            "api",
            to("hybrid"),
            Rules::PathRules(vec![
                path_rule(&["/orders", "/orders/*"], to("orders")),
                path_rule(&["/canary/*"], to("canary")),
                path_rule(&["/missing"], to("missing")),
                path_rule(&["/wrong-tag"], to("wrong-tag")),
                path_rule(
                    &["/old/*"],
                    Route::new(Destination::UrlRedirect(UrlRedirect {
                        prefix_redirect: Some("/orders/".into()),
                        status: 308,
                        ..UrlRedirect::default()
                    })),
                ),
            ]),
        ),
        PathMatcher::new(
            "video",
            to("hybrid"),
            Rules::PathRules(vec![path_rule(&["/video/*", "/Shop"], to("orders"))]),
        ),
        PathMatcher::new(
            "empty",
            to("nothing"),
            Rules::PathRules(vec![path_rule(&["/group"], to("hollow"))]),
        ),
    ];
    let to_https = Route::new(Destination::UrlRedirect(UrlRedirect {
        https_redirect: true,
        status: 301,
        ..UrlRedirect::default()
    }));
    LoadBalancing {
        forwarding_rules: vec![rule("https", 443, "lb", true), rule("http", 80, "to-https", false)],
        url_maps: vec![map, url_map("to-https", to_https)],
        backend_services: vec![
            backend("apps", Some("apps")),
            backend("orders", Some("orders")),
            backend("canary", Some("canary")),
            backend("missing", Some("missing")),
            backend("wrong-tag", Some("wrong-tag")),
            backend("hybrid", Some("hybrid")),
            backend("nothing", None),
            backend("hollow", Some("hollow")),
        ],
        network_endpoint_groups: vec![
            serverless("apps", None, None, Some("/<service>")),
            serverless("orders", Some("orders"), None, None),
            serverless("canary", None, Some("canary"), Some("/canary/<service>")),
            serverless("missing", Some("payments"), None, None),
            serverless("wrong-tag", Some("orders"), Some("tset"), None),
            addresses("hybrid", &["10.0.9.1:8080", "10.0.9.2:8080"]),
            addresses("hollow", &[]),
        ],
        ..LoadBalancing::default()
    }
}

/// `host/path` → outcome in one line.
fn outcome(snapshot: &Snapshot, rule: &str, url: &str) -> String {
    let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let head = RequestHead::new(host, path);
    let decision = snapshot.front(rule).unwrap().decide(&head);
    match &decision.outcome {
        Outcome::CloudRun { target, .. } => target.key.rsplit('/').next().unwrap().to_owned(),
        Outcome::Endpoints { .. } => {
            let service = decision.backend_service.expect("forwarded to one");
            format!("[{}]", service.endpoints().join(", "))
        }
        Outcome::Preflight => "preflight".to_owned(),
        Outcome::Redirect(redirect) => format!("{} {}", redirect.status, redirect.location),
        Outcome::Refuse { reason, status, .. } => format!("{status} {reason}"),
    }
}

#[track_caller]
fn check(rule: &str, rows: &[(&str, &str)]) {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    for (url, expected) in rows {
        assert_eq!(outcome(&snapshot, rule, url), *expected, "{url}");
    }
}

#[test]
fn a_request_finds_its_service() {
    check(
        HTTPS,
        &[
            ("internal.example.com/login", "login"),
            ("internal.example.com/orders/1?x=/../", "orders"),
            ("api.example.com/orders/inventory", "orders"),
            ("API.example.com/orders", "orders"),
            ("v1.api.example.com/orders", "orders"),
            ("api.example.com/canary/orders", "orders#canary"),
            ("api.example.com/", "[10.0.9.1:8080, 10.0.9.2:8080]"),
            ("api.example.com", "[10.0.9.1:8080, 10.0.9.2:8080]"),
            ("example.net/video", "[10.0.9.1:8080, 10.0.9.2:8080]"),
            ("example.net/video/hd", "orders"),
            ("ports.example.net:8080/video/hd", "orders"),
        ],
    );
}

#[test]
fn a_host_rule_without_port_is_not_for_a_host_with_one() {
    check(HTTPS, &[("example.net:8080/video/hd", "404 CLOUD_RUN_SERVICE_NOT_FOUND")]);
}

#[test]
fn what_cannot_be_resolved_is_a_404_and_never_the_default_backend() {
    check(
        HTTPS,
        &[
            ("internal.example.com/", "404 URL_MASK_NO_MATCH"),
            ("internal.example.com/Login", "404 URL_MASK_ILLEGAL_NAME"),
            ("internal.example.com/login.html", "404 URL_MASK_ILLEGAL_NAME"),
            ("internal.example.com/payments", "404 CLOUD_RUN_SERVICE_NOT_FOUND"),
            ("api.example.com/canary/login", "404 CLOUD_RUN_TAG_NOT_FOUND"),
            ("api.example.com/missing", "404 CLOUD_RUN_SERVICE_NOT_FOUND"),
            ("api.example.com/wrong-tag", "404 CLOUD_RUN_TAG_NOT_FOUND"),
        ],
    );
}

#[test]
fn no_backend_is_a_503() {
    check(
        HTTPS,
        &[
            ("empty.example.com/", "503 BACKEND_SERVICE_EMPTY"),
            ("empty.example.com/group", "503 NETWORK_ENDPOINT_GROUP_EMPTY"),
        ],
    );
}

#[test]
fn redirects_are_answered_by_the_load_balancer() {
    check(
        HTTPS,
        &[
            ("api.example.com/old/7?a=b", "308 https://api.example.com/orders/7?a=b"),
            ("api.example.com/a/../b?c", "302 https://api.example.com/b?c"),
        ],
    );
    check(HTTP, &[("internal.example.com/x?y", "301 https://internal.example.com/x?y")]);
}

#[test]
fn a_redirect_by_a_rule_is_no_refusal_and_a_collapsed_path_has_its_reason() {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    let reason = |path| {
        let head = RequestHead::new("api.example.com", path);
        snapshot.front(HTTPS).unwrap().decide(&head).reason()
    };
    assert_eq!(reason("/old/x"), None);
    assert_eq!(reason("/orders"), None);
    assert_eq!(reason("/a/../b"), Some(Reason::UrlPathCollapsed));
    assert_eq!(reason("/missing"), Some(Reason::CloudRunServiceNotFound));
}

#[test]
fn the_evidence_names_what_differs() {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    let head = RequestHead::new("internal.example.com", "/");
    let decision = snapshot.front(HTTPS).unwrap().decide(&head);
    let Outcome::Refuse { evidence: Evidence::Mask(mismatch), .. } = &decision.outcome else {
        panic!("{:?}", decision.outcome);
    };
    assert_eq!((mismatch.index, mismatch.expected), (0, "<service>"));
    assert_eq!(mismatch.got.as_deref(), Some(""));
}

#[test]
fn a_forwarding_rule_admits_its_region() {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    let front = snapshot.front(HTTPS).unwrap();
    assert_eq!(front.admits("europe-west1"), Ok(()));
    assert_eq!(front.admits("us-east1"), Err(Reason::ForwardingRuleRegionMismatch));
    assert!(snapshot.front("projects/p/regions/r/forwardingRules/none").is_none());
}

#[track_caller]
fn explained(host: &str, path: &str) -> String {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    let head = RequestHead::new(host, path);
    explain(&snapshot.front(HTTPS).unwrap().decide(&head), &head).to_string()
}

#[test]
fn an_explanation_names_what_nearly_matched() {
    assert_eq!(
        explained("example.net:8080", "/ordres"),
        "hostRule lb: no host rule for `example.net:8080`; the URL map's default applies\n  \
           not `example.net`: a host rule without port is not for a Host with one\n\
         backendService apps: leads to network endpoint group `apps`\n\
         networkEndpointGroup apps: URL mask `/<service>`: no Cloud Run service `ordres` in \
         project `p`, region `europe-west1`\n  \
           not `orders`: a service of this name exists, with another spelling\n"
    );
    assert_eq!(
        explained("example.net", "/video"),
        "hostRule lb: host rule `example.net` matches `example.net`; path matcher `video`\n\
         pathRule lb: no path rule of `video` for `/video`; its default applies\n  \
           not `/video/*`: does not match `/video` itself, only what is below it\n\
         backendService hybrid: leads to network endpoint group `hybrid`; timeout 30s; retried once \
         without body on 502, 503, 504 (no retryPolicy)\n\
         networkEndpointGroup hybrid: endpoints 10.0.9.1:8080, 10.0.9.2:8080\n"
    );
    let text = explained("example.net", "/shop");
    assert!(text.contains("not `/Shop`: capitals count in a path"), "{text}");
    let text = explained("api.example.com", "/wrong-tag");
    assert!(text.contains("not `test`: a tag of this name exists"), "{text}");
    let text = explained("api.exmaple.com", "/login");
    assert!(text.contains("not `api.example.com`: differs in 1 character\n"), "{text}");
    let text = explained("x", "/a/../b");
    assert!(text.contains("the path holds `/../`; 302 to https://x/b before any rule"), "{text}");
    let text = explained("x", "/");
    assert!(text.contains("segment 1 of the path: the mask has `<service>`"), "{text}");
}

#[test]
fn a_refusal_has_one_sentence_for_the_log() {
    let snapshot = Snapshot::compile(&topology()).unwrap();
    for (host, path, expected) in [
        ("x", "/login", None),
        ("empty.example.com", "/", Some("the backend service has no backend")),
        ("empty.example.com", "/group", Some("the group has no endpoint")),
        (
            "x",
            "/payments",
            Some(
                "URL mask `/<service>`: no Cloud Run service `payments` in project `p`, \
                 region `europe-west1`",
            ),
        ),
        (
            "x",
            "/",
            Some(
                "URL mask `/<service>` does not match: segment 1 of the path: the mask has \
                 `<service>`, the URL has an empty one",
            ),
        ),
    ] {
        let head = RequestHead::new(host, path);
        let decision = snapshot.front(HTTPS).unwrap().decide(&head);
        assert_eq!(decision.detail().as_deref(), expected, "{host}{path}");
    }
}

#[test]
fn a_maps_own_tests_run_offline() {
    let mut topology = topology();
    let test = |host: &str, path: &str, service: Option<&str>, run: Option<&str>| UrlMapTest {
        at: "lb.yaml:1:1".into(),
        description: String::new(),
        host: host.into(),
        path: path.into(),
        service: service.map(|name| link("backendServices", name)),
        cloud_run_service: run.map(str::to_owned),
        ..UrlMapTest::default()
    };
    topology.url_maps[0].tests = vec![
        test("api.example.com", "/orders/1?x=y", Some("orders"), Some("orders")),
        test("x", "/login", Some("apps"), Some("login")),
        test("x", "/payments", Some("apps"), None),
        test("x", "/payments", None, Some("payments")),
        test("api.example.com", "/old/x", Some("orders"), None),
    ];
    let failures = Snapshot::compile(&topology).unwrap().run_tests();
    let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "lb.yaml:1:1: error URL_MAP_TEST_FAILED: URL map `lb`: x/payments leads to backend service \
             `projects/p/regions/europe-west1/backendServices/apps` and 404 \
             CLOUD_RUN_SERVICE_NOT_FOUND, not to Cloud Run service `payments`",
            "lb.yaml:1:1: error URL_MAP_TEST_FAILED: URL map `lb`: api.example.com/old/x leads to a 308 to \
             http://api.example.com/orders/x, not to backend service \
             `projects/p/regions/europe-west1/backendServices/orders`",
        ]
    );
}

/// A change to the good topology and the defects it causes.
#[track_caller]
fn refused(change: impl FnOnce(&mut LoadBalancing), expected: &[Defect]) {
    let mut topology = topology();
    change(&mut topology);
    let errors = Snapshot::compile(&topology).err().unwrap_or_default();
    let defects: Vec<_> = errors.into_iter().map(|CompileError { defect, .. }| defect).collect();
    assert_eq!(defects, expected);
}

#[test]
fn defects_are_reported_all_at_once() {
    use url_map::{MaskError, PathPatternError, Placeholder};
    refused(
        |t| {
            t.forwarding_rules[0].target.url_map = link("urlMaps", "none");
            t.url_maps[0].host_rules.push(host_rule(&["new.example.com"], "none"));
            let rule = path_rule(&["/video/*"], to("orders"));
            let Rules::PathRules(rules) = &mut t.url_maps[0].path_matchers[1].rules else {
                panic!()
            };
            rules.push(rule);
            t.backend_services[0].timeout_sec = Some(30);
        },
        &[
            Defect::ServerlessTimeout,
            Defect::Path("video".into(), "/video/*".into(), PathPatternError::Duplicate),
            Defect::UnknownPathMatcher("none".into()),
            Defect::Dangling(link("urlMaps", "none")),
        ],
    );
    refused(
        |t| t.forwarding_rules[1].target.https = true,
        &[Defect::HttpsRedirectOnHttps(link("targetHttpsProxies", "http"))],
    );
    refused(
        |t| t.network_endpoint_groups[0] = serverless("apps", None, None, Some("/<tag>")),
        &[Defect::NoService],
    );
    refused(
        |t| t.network_endpoint_groups[0] = serverless("apps", None, None, Some("/x")),
        &[Defect::Mask(MaskError::NoPlaceholder)],
    );
    refused(
        |t| t.network_endpoint_groups[0] = serverless("apps", Some("a"), None, Some("/<service>")),
        &[Defect::FixedAndMasked(Placeholder::Service)],
    );
    refused(
        |t| {
            let hybrid = link("networkEndpointGroups", "hybrid");
            t.backend_services[0].backends.push(Backend::new(hybrid));
        },
        &[Defect::ServerlessNotAlone],
    );
    refused(|t| t.backend_services.push(backend("apps", None)), &[Defect::DuplicateResource]);
}

#[test]
fn a_mask_with_only_a_tag_adds_to_a_fixed_service() {
    let mut topology = topology();
    topology.network_endpoint_groups[0] =
        serverless("apps", Some("orders"), None, Some("<tag>.example.com"));
    let snapshot = Snapshot::compile(&topology).unwrap();
    assert_eq!(outcome(&snapshot, HTTPS, "test.example.com/x"), "orders#test");
    assert_eq!(outcome(&snapshot, HTTPS, "TEST.Example.com/x"), "orders#test");
    assert_eq!(outcome(&snapshot, HTTPS, "nope.example.com/x"), "404 CLOUD_RUN_TAG_NOT_FOUND");
}
