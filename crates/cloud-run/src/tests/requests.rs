//! What gets in, what the container sees, what the client gets.

use super::harness::*;
use names::Origin;
use slice::run::{Ingress, Run};
use std::io::Write;

#[test]
fn the_container_gets_its_contract_and_the_request() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let env = stage.get(&orders, "/env");
    assert_eq!(env.status, 200, "{env:?}");
    let env = env.json();
    for (name, value) in
        [("K_SERVICE", "orders"), ("K_CONFIGURATION", "orders"), ("K_REVISION", "orders-00001-abc")]
    {
        assert_eq!(env[name], value);
    }
    assert!(env["cwd"].as_str().is_some_and(|cwd| cwd.ends_with("src/tests")));

    let echo = stage.ask(
        &orders,
        &get(
            "/echo?q=%41&p=%2F",
            "x-mine: 1\r\nkeep-alive: timeout=5\r\nx-cloud-trace-context: 105445aa7843bc8bf206b12000100000/7;o=1\r\n",
        ),
    );
    assert_eq!(echo.status, 200);
    assert_eq!(echo.header("server"), Some("Google Frontend"));
    assert_eq!(echo.header("cache-control"), Some("private"), "because it sets a cookie");
    assert_eq!(echo.header("x-cloud-trace-context"), Some("105445aa7843bc8bf206b12000100000;o=1"));
    let echo = echo.json();
    assert_eq!(echo["path"], "/echo?q=%41&p=%2F");
    let header = |name: &str| {
        let headers = echo["headers"].as_array().expect("a list");
        let values: Vec<_> = headers.iter().filter(|h| h[0] == name).map(|h| &h[1]).collect();
        assert!(values.len() <= 1, "{name} twice");
        values.first().map(|value| value.as_str().expect("text").to_owned())
    };
    for (name, value) in [
        ("host", "internal.example.com"),
        ("x-forwarded-for", "10.0.2.2,10.0.0.5"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=\"10.0.2.2\";proto=https"),
        ("x-cloud-trace-context", "105445aa7843bc8bf206b12000100000/7;o=1"),
        ("traceparent", "00-105445aa7843bc8bf206b12000100000-0000000000000007-01"),
        ("x-mine", "1"),
    ] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(header("keep-alive"), None);
    assert_eq!(stage.host.spawned(), 1, "one instance serves all of it");
}

#[test]
fn a_private_service_answers_by_the_documented_table() {
    let mut orders = service("orders");
    orders.invoker_iam_disabled = false;
    let stage = Stage::new(vec![orders.clone()]);
    let audience = "https://orders-77.europe-west1.run.app";

    let answer = stage.get(&orders, "/echo");
    assert_eq!((answer.status, answer.header("www-authenticate")), (403, None));
    assert!(answer.text().contains(
        "<h2>Your client does not have permission to get URL <code>/echo</code> from this server."
    ));

    let authorization = format!("authorization: {}\r\n", token("https://elsewhere.run.app"));
    let answer = stage.ask(&orders, &get("/echo", &authorization));
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer error=\"invalid_token\" error_description=\"The access token could not be verified\""
        )
    );
    assert_eq!(answer.header("content-type"), Some("text/html; charset=UTF-8"));
    assert_eq!(stage.host.spawned(), 0, "nobody who is refused starts an instance");

    let good = token(audience);
    let answer = stage.ask(&orders, &get("/echo", &format!("authorization: {good}\r\n")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.json()["headers"].to_string();
    let signed = good.rsplit_once('.').map(|(signed, _)| signed).unwrap_or_default();
    assert!(seen.contains(&format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE")));

    let both =
        format!("authorization: Bearer own.own.own\r\nx-serverless-authorization: {good}\r\n");
    let answer = stage.ask(&orders, &get("/echo", &both));
    let seen = answer.json()["headers"].to_string();
    assert!(seen.contains("Bearer own.own.own"), "untouched: only the other one is checked");
    assert!(seen.contains(&format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE")));
}

#[test]
fn ingress_is_decided_by_the_channel_and_never_by_http() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let ask = |origin: &Origin, host: &str| {
        let mut stream = stage.connect(origin, None);
        let request = format!(
            "GET /env HTTP/1.1\r\nhost: {host}\r\nx-forwarded-for: 10.0.0.5\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("written");
        Answer::read(stream)
    };
    let host = "orders-77.europe-west1.run.app";
    for (origin, host, status) in [
        (network("ilb"), host, 200),
        (network("other"), host, 404),
        (Origin::Internet, host, 404),
        (network("ilb"), "nobody-77.europe-west1.run.app", 404),
    ] {
        assert_eq!(ask(&origin, host).status, status, "{origin:?} {host}");
    }
    let refused = ask(&Origin::Internet, host);
    assert!(refused.text().starts_with("\n<html><head>\n"), "Cloud Run's own page");
    let unknown = ask(&network("ilb"), "nobody.run.app");
    assert!(unknown.text().contains("Error 404 (Not Found)!!1"), "the front end's robot");
}

#[test]
fn reserved_paths_and_methods_never_reach_the_container() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/healthz").status, 404);
    assert_eq!(stage.get(&orders, "/_ah/x").status, 404);
    let trace = "TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert_eq!(stage.ask(&orders, trace).status, 405);
    assert_eq!(stage.host.spawned(), 0);
}

#[test]
fn a_connection_without_an_origin_is_not_served() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let context = stage.started.context().expect("running");
    let path = context.channel(slice::CLOUD_RUN_CHANNEL);
    let plain = proxy_protocol::Header::unspecified().encode().expect("a header");
    for bytes in [&get("/", "").into_bytes()[..], &plain[..], b"PROXY UNKNOWN\r\nGET"] {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
        let _ = stream.write_all(bytes);
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn a_request_over_32_mib_is_refused_and_a_streamed_one_too() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    let post =
        |headers: &str| format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    let answer = stage.ask(&orders, &post("content-length: 33554433\r\n"));
    assert_eq!(answer.status, 413);
    assert_eq!(stage.host.spawned(), 0);

    let mut exact = post("content-length: 33554432\r\n");
    exact.push_str(&"x".repeat(33_554_432));
    let answer = stage.ask(&orders, &exact);
    assert_eq!((answer.status, answer.text().as_str()), (200, "33554432"));

    let mut stream = stage.connect(&balancer(), Some(orders.self_link.as_str()));
    let mut reader = stream.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || {
        let _ = stream.write_all(post("transfer-encoding: chunked\r\n").as_bytes());
        let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
        for _ in 0..33 {
            if stream.write_all(chunk.as_bytes()).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"0\r\n\r\n");
    });
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut reader, &mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 413");
    drop(reader);
    writer.join().expect("written");
}

#[test]
fn a_response_over_32_mib_with_content_length_becomes_500() {
    let orders = service("orders");
    let stage = Stage::new(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/large").status, 500);
}

#[test]
fn a_removed_service_is_not_found() {
    let orders = service("orders");
    let mut stage = Stage::new(vec![orders.clone()]);
    assert_eq!(stage.get(&orders, "/").status, 200);
    stage.reload(Vec::new());
    assert_eq!(stage.get(&orders, "/").status, 404);
    wait_until("its instance is stopped", || stage.host.running() == 0);
}

#[test]
fn a_service_that_runs_elsewhere_is_dialled() {
    let backend = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = backend.local_addr().expect("bound").port();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().expect("accepted");
        let mut head = [0; 4096];
        let read = std::io::Read::read(&mut stream, &mut head).expect("read");
        stream.write_all(b"HTTP/1.1 203 X\r\ncontent-length: 2\r\n\r\nok").expect("written");
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let orders = at("orders", Run::Url(format!("http://localhost:{port}")));
    let stage = Stage::new(vec![orders.clone()]);
    let answer = stage.get(&orders, "/x");
    assert_eq!((answer.status, answer.text().as_str()), (203, "ok"));
    assert!(answering.join().expect("answered").starts_with("GET /x HTTP/1.1\r\n"));
    assert_eq!(stage.get(&orders, "/y").status, 503, "nobody listens any more");
    let mut bad = orders;
    bad.ingress = Ingress::All;
    bad.revision.containers[0].run = Run::Url("ftp://localhost".to_owned());
    let mut stage = stage;
    assert!(stage.started.reload(slice(vec![bad])).is_err());
}
