//! What a `routeAction` and header actions do, over sockets (private-connectivity 2.6).

mod common;

use common::support::{self, Raw, run};
use common::*;
use http::{Request, Response, StatusCode};
use http_proxy::{Body, Incoming, ServerOptions};
use slice::load_balancer::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

fn acting(service: &str, action: RouteAction) -> Route {
    Route { action: Some(Box::new(action)), ..to(service) }
}

/// A host `a` with this route to the service `a`, whose backend is the first one.
fn one(route: Route) -> InternalLbSlice {
    slice(
        &[("a", route)],
        vec![service("a", Protocol::Http, "a"), service("b", Protocol::Http, "b")],
        vec![group("a", &[declared(1)]), group("b", &[declared(2)])],
    )
}

fn add(name: &str, value: &str, replace: bool) -> HeaderOption {
    HeaderOption { header_name: name.to_owned(), header_value: value.to_owned(), replace }
}

#[test]
fn header_actions_apply_from_the_innermost_level_outwards_and_custom_headers_after_them() {
    run(async {
        let backend =
            support::server(ServerOptions::default(), async |request: Request<Incoming>| {
                let mut response = mirror(request).await;
                response.headers_mut().insert("x-gone", "1".parse().expect("a value"));
                response
            })
            .await;
        let level = |name: &str| HeaderAction {
            request_headers_to_add: vec![add("x-order", name, false), add("x-last", name, true)],
            request_headers_to_remove: vec![format!("x-{name}")],
            response_headers_to_add: vec![add("x-answer", name, false)],
            response_headers_to_remove: vec!["x-gone".to_owned()],
        };
        let weighted = Route::new(Destination::Weighted(vec![WeightedBackendService {
            backend_service: link("backendServices", "a"),
            weight: 1,
            header_action: level("weighted"),
        }]));
        let mut slice = one(weighted);
        let balancing = &mut slice.load_balancing;
        balancing.url_maps[0].header_action = level("map");
        balancing.url_maps[0].path_matchers[0].header_action = level("matcher");
        balancing.backend_services[0].custom_request_headers = vec!["X-Last: custom".to_owned()];
        balancing.backend_services[0].custom_response_headers =
            vec!["X-Custom: {client_ip_address}".to_owned()];
        let started = start("header-actions", slice, &[(1, backend.address)]);
        let mut client = Raw::connect(address(&started)).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Weighted: 1\r\nX-Matcher: 1\r\nX-Map: 1\r\nX-Kept: 1\r\n\r\n").await;
        let answer = client.answer().await;
        let seen = |name: &str| -> Vec<String> {
            let prefix = format!("{name}: ");
            let lines = answer.text().lines().filter_map(|line| line.strip_prefix(&prefix));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(seen("x-order"), ["weighted", "matcher", "map"], "{}", answer.text());
        assert_eq!(seen("x-last"), ["custom"]);
        assert_eq!(seen("x-kept"), ["1"]);
        for removed in ["x-weighted", "x-matcher", "x-map"] {
            assert!(seen(removed).is_empty(), "{}", answer.text());
        }
        let answers: Vec<_> =
            answer.head.lines().filter_map(|line| line.strip_prefix("x-answer: ")).collect();
        assert_eq!(answers, ["weighted", "matcher", "map"]);
        assert!(answer.has("x-custom: 127.0.0.1") && !answer.head.contains("x-gone"));
    });
}

#[test]
fn a_rewritten_url_reaches_the_backend_with_the_original_path_beside_it() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let rewrite = UrlRewrite {
            host_rewrite: Some("inner.example.com".to_owned()),
            path_prefix_rewrite: Some("/new/".to_owned()),
            ..UrlRewrite::default()
        };
        let action = RouteAction { url_rewrite: Some(rewrite), ..RouteAction::default() };
        let started = start("rewrite", one(acting("a", action)), &[(1, backend.address)]);
        let answer = get(address(&started), "a", "/known/x?y=z").await;
        let text = answer.text();
        assert!(text.starts_with("GET /new/x?y=z\nhost: inner.example.com\n"), "{text}");
        assert!(text.contains("x-envoy-original-path: /known/x?y=z\n"), "{text}");
    });
}

#[test]
fn preflights_are_answered_here_and_actual_requests_get_their_fields() {
    run(async {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let seen = asked.clone();
        let backend =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                seen.borrow_mut().push(request.method().to_string());
                std::future::ready(Response::new(Body::full("hi")))
            })
            .await;
        let policy = CorsPolicy {
            allow_origins: vec!["https://good.example".to_owned()],
            allow_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allow_headers: vec!["x-a".to_owned()],
            expose_headers: vec!["x-b".to_owned()],
            max_age: Some(600),
            allow_credentials: true,
            ..CorsPolicy::default()
        };
        let abort = FaultInjectionPolicy {
            abort: Some(FaultAbort { http_status: 418, percentage: 100.0 }),
            delay: None,
        };
        let cors = RouteAction { cors_policy: Some(policy.clone()), ..RouteAction::default() };
        let both = RouteAction { fault_injection_policy: Some(abort), ..cors.clone() };
        let slice = slice(
            &[("a", acting("a", cors)), ("abort", acting("a", both))],
            vec![service("a", Protocol::Http, "a")],
            vec![group("a", &[declared(1)])],
        );
        let started = start("cors", slice, &[(1, backend.address)]);
        let ask = async |method: &str, host: &str, origin: &str, more: &str| {
            let mut client = Raw::connect(address(&started)).await;
            client
                .send(&format!(
                    "{method} / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{more}\r\n"
                ))
                .await;
            client.answer().await
        };
        let wants = "Access-Control-Request-Method: PUT\r\n";
        let answer = ask("OPTIONS", "a", "https://good.example", wants).await;
        assert_eq!((answer.status(), answer.text()), ("200", ""));
        for field in [
            "access-control-allow-origin: https://good.example",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-a",
            "access-control-max-age: 600",
        ] {
            assert!(answer.has(field), "{field}\n{}", answer.head);
        }
        assert!(asked.borrow().is_empty(), "the backend is not asked");
        let answer = ask("GET", "a", "https://good.example", "").await;
        assert!(answer.has("access-control-allow-origin: https://good.example"));
        assert!(answer.has("access-control-expose-headers: x-b"), "{}", answer.head);
        // Another origin is told nothing; its preflight is the backend's business.
        let answer = ask("OPTIONS", "a", "https://bad.example", wants).await;
        assert!(answer.text() == "hi" && !answer.head.contains("access-control"));
        assert_eq!(*asked.borrow(), ["GET", "OPTIONS"]);
        // An answer of the load balancer's own has the fields as well.
        let answer = ask("GET", "abort", "https://good.example", "").await;
        assert_eq!((answer.status(), answer.text()), ("418", "fault filter abort"));
        assert!(answer.has("access-control-allow-origin: https://good.example"));
    });
}

#[test]
fn a_seed_makes_faults_and_weights_the_same_in_every_run() {
    run(async {
        let answers = |text: &'static str| {
            move |_: Request<Incoming>| std::future::ready(Response::new(Body::full(text)))
        };
        let a = support::server(ServerOptions::default(), answers("a")).await;
        let b = support::server(ServerOptions::default(), answers("b")).await;
        let half = |name: &str| WeightedBackendService {
            backend_service: link("backendServices", name),
            weight: 1,
            header_action: HeaderAction::default(),
        };
        let route = Route {
            to: Destination::Weighted(vec![half("a"), half("b")]),
            action: Some(Box::new(RouteAction {
                fault_injection_policy: Some(FaultInjectionPolicy {
                    delay: None,
                    abort: Some(FaultAbort { http_status: 503, percentage: 30.0 }),
                }),
                ..RouteAction::default()
            })),
        };
        let mut slice = one(route);
        let mut runs = Vec::new();
        for (n, seed) in [7, 7, 8].into_iter().enumerate() {
            slice.load_balancing.url_maps[0].seed = Some(seed);
            let name = format!("seed-{n}");
            let started = start(&name, slice.clone(), &[(1, a.address), (2, b.address)]);
            let mut said = String::new();
            for _ in 0..60 {
                said.push_str(match get(address(&started), "a", "/").await.text() {
                    "fault filter abort" => "-",
                    text => {
                        if text == "a" {
                            "a"
                        } else {
                            "b"
                        }
                    }
                });
            }
            runs.push(said);
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
        let count = |which| runs[0].matches(which).count();
        assert!(count("a") > 8 && count("b") > 8 && count("-") > 5, "{}", runs[0]);
    });
}

#[test]
fn a_delay_holds_the_request_up_and_does_not_eat_its_timeout() {
    run(async {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let seen = asked.clone();
        let backend =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                let host = request.headers()["host"].to_str().expect("text").to_owned();
                seen.borrow_mut().push(host);
                std::future::ready(Response::new(Body::empty()))
            })
            .await;
        let action = RouteAction {
            timeout: Some(Duration::from_millis(400)),
            fault_injection_policy: Some(FaultInjectionPolicy {
                delay: Some(FaultDelay {
                    fixed_delay: Duration::from_millis(500),
                    percentage: 100.0,
                }),
                abort: None,
            }),
            ..RouteAction::default()
        };
        let slice = slice(
            &[("late", acting("a", action)), ("now", to("a"))],
            vec![service("a", Protocol::Http, "a")],
            vec![group("a", &[declared(1)])],
        );
        let started = start("delay", slice, &[(1, backend.address)]);
        let mut late = Raw::connect(address(&started)).await;
        late.send("GET / HTTP/1.1\r\nHost: late\r\n\r\n").await;
        assert_eq!(get(address(&started), "now", "/").await.status(), "200");
        assert_eq!(late.answer().await.status(), "200");
        assert_eq!(*asked.borrow(), ["now", "late"]);
    });
}

/// Answers with these statuses in turn, then 200 with the body that it got.
async fn flaky(statuses: &[u16]) -> (std::net::SocketAddr, Rc<RefCell<Vec<String>>>) {
    let mut left = statuses.to_vec();
    left.reverse();
    let left = Rc::new(RefCell::new(left));
    let bodies = Rc::new(RefCell::new(Vec::new()));
    let seen = bodies.clone();
    let server = support::server(ServerOptions::default(), move |request: Request<Incoming>| {
        let (left, seen) = (left.clone(), seen.clone());
        async move {
            let next = left.borrow_mut().pop();
            if next == Some(0) {
                std::future::pending::<()>().await;
            }
            let body = request.into_body().collect(1 << 22).await.unwrap_or_default();
            seen.borrow_mut().push(String::from_utf8_lossy(&body).into_owned());
            let mut response = Response::new(Body::full(body));
            match next {
                Some(status @ 1..=16) => {
                    response.headers_mut().insert("grpc-status", status.into());
                }
                Some(status) => {
                    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                }
                None => {}
            }
            response
        }
    })
    .await;
    (server.address, bodies)
}

fn retrying(num_retries: u32, on: &[RetryCondition], per_try: Option<Duration>) -> Route {
    let policy =
        RetryPolicy { num_retries, per_try_timeout: per_try, retry_conditions: on.to_vec() };
    acting("a", RouteAction { retry_policy: Some(policy), ..RouteAction::default() })
}

#[test]
fn a_retry_policy_sends_again_on_its_conditions_with_the_body_and_no_oftener() {
    use RetryCondition::*;
    run(async {
        for (n, (statuses, retries, on, status, tries)) in [
            (&[500u16, 503, 200][..], 2, &[ServerError][..], "200", 3),
            (&[500, 500, 500], 2, &[ServerError], "500", 3),
            (&[500], 2, &[GatewayError], "500", 1),
            (&[409, 200], 1, &[Retriable4xx], "200", 2),
            (&[14, 200], 1, &[Unavailable], "200", 2),
            (&[13, 200], 1, &[Unavailable], "200", 1),
        ]
        .into_iter()
        .enumerate()
        {
            let (backend, bodies) = flaky(statuses).await;
            let slice = one(retrying(retries, on, None));
            let started = start(&format!("retries-{n}"), slice, &[(1, backend)]);
            let mut client = Raw::connect(address(&started)).await;
            client
                .send(
                    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                )
                .await;
            client.send("3\r\ndef\r\n0\r\n\r\n").await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), status, "{statuses:?} {on:?}");
            assert_eq!(*bodies.borrow(), vec!["abcdef"; tries], "{statuses:?} {on:?}");
        }
    });
}

#[test]
fn a_body_beyond_the_bound_is_not_sent_again() {
    run(async {
        let (backend, bodies) = flaky(&[503]).await;
        let slice = one(retrying(1, &[RetryCondition::ServerError], None));
        let started = start("large-retry", slice, &[(1, backend)]);
        let mut client = Raw::connect(address(&started)).await;
        let body = "x".repeat(2 << 20);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(&head).await.send(&body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.body.len()), ("503", body.len()));
        assert_eq!(bodies.borrow().len(), 1);
    });
}

#[test]
fn a_try_that_takes_too_long_is_given_up_and_the_next_one_answers() {
    run(async {
        let limit = Some(Duration::from_millis(100));
        let (backend, bodies) = flaky(&[0]).await;
        let slice = one(retrying(1, &[RetryCondition::GatewayError], limit));
        let started = start("per-try", slice.clone(), &[(1, backend)]);
        let mut client = Raw::connect(address(&started)).await;
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), ("200", "hi"));
        assert_eq!(bodies.borrow().len(), 1);
        let (backend, _) = flaky(&[0, 0]).await;
        let started = start("per-try-all", slice, &[(1, backend)]);
        let answer = get(address(&started), "a", "/").await;
        assert_eq!((answer.status(), answer.text()), ("504", "upstream request timeout"));
    });
}

#[test]
fn a_mirror_gets_a_copy_and_never_holds_the_request_up() {
    run(async {
        let main = support::server(ServerOptions::default(), mirror).await;
        let copies = Rc::new(RefCell::new(Vec::new()));
        let (came, seen) = (Rc::new(Notify::new()), copies.clone());
        let told = came.clone();
        let shadow =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                let (told, seen) = (told.clone(), seen.clone());
                async move {
                    let host = request.headers()["host"].to_str().expect("text").to_owned();
                    let path = request.uri().to_string();
                    if path == "/stuck" {
                        seen.borrow_mut().push((host.clone(), path.clone(), String::new()));
                        told.notify_one();
                        std::future::pending::<()>().await;
                    }
                    let body = request.into_body().collect(1 << 20).await.expect("a body");
                    let body = String::from_utf8_lossy(&body).into_owned();
                    seen.borrow_mut().push((host, path, body));
                    told.notify_one();
                    Response::new(Body::full("nobody reads this"))
                }
            })
            .await;
        let policy = RequestMirrorPolicy {
            backend_service: link("backendServices", "b"),
            mirror_percent: 100.0,
        };
        let action = RouteAction { request_mirror_policy: Some(policy), ..RouteAction::default() };
        let slice = one(acting("a", action));
        let started = start("mirror", slice, &[(1, main.address), (2, shadow.address)]);
        let mut client = Raw::connect(address(&started)).await;
        for (path, body) in [("/one", "hello"), ("/two", ""), ("/stuck", "much")] {
            let length = body.len();
            client
                .send(&format!(
                    "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
                ))
                .await;
            let answer = client.answer().await;
            assert!(
                answer.text().starts_with(&format!("PUT {path}\nhost: a\n")),
                "{}",
                answer.text()
            );
            assert!(answer.text().ends_with(body), "{}", answer.text());
            came.notified().await;
        }
        let expected = [("/one", "hello"), ("/two", ""), ("/stuck", "")]
            .map(|(path, body)| ("a-shadow".to_owned(), path.to_owned(), body.to_owned()));
        assert_eq!(*copies.borrow(), expected);
        // A copy that takes nothing of a large body is given up; the request is not held up.
        let body = "y".repeat(8 << 20);
        let head =
            format!("PUT /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(&head).await.send(&body).await;
        let answer = client.answer().await;
        assert!(answer.status() == "200", "{}", answer.head);
    });
}
