//! Verdicts by table; attempts against real sockets.

use super::*;
use slice::run::{Port, Run};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn probe(action: ProbeAction) -> Probe {
    Probe {
        action,
        initial_delay_seconds: 0,
        timeout_seconds: 10,
        period_seconds: 1,
        failure_threshold: 3,
        success_threshold: 2,
    }
}

fn container(port: Option<Port>) -> Container {
    Container::new("worker", Run::Url(String::new()), port)
}

#[test]
fn verdicts_follow_results() {
    use Purpose::{Liveness, Readiness, Startup};
    // `+` and `-` are results; `P` and `F` the verdicts that a result brings, `.` none.
    for (purpose, results, verdicts) in [
        (Startup, "+", "P"),
        (Startup, "--+", "..P"),
        (Startup, "---", "..F"),
        (Liveness, "++--+---", ".......F"),
        (Readiness, "++", ".."),
        (Readiness, "---+-++-", "..F...P."),
        (Readiness, "---------++", "..F.......P"),
    ] {
        let mut tally = Tally::new(purpose, &probe(ProbeAction::Tcp { port: 1 }));
        let seen = results.chars().map(|result| match tally.count(result == '+') {
            None => '.',
            Some(Verdict::Passes) => 'P',
            Some(Verdict::Fails) => 'F',
        });
        assert_eq!(seen.collect::<String>(), verdicts, "{purpose:?} {results}");
    }
}

#[test]
fn the_log_has_the_documented_texts() {
    let place = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let worker = container(Some(Port::default()));
    let startup = Probed::startup(&worker, place).expect("the default");
    let text = |probed: &Probed, count, verdict| probed.ended(count, String::new()).text(verdict).1;
    assert_eq!(
        text(&startup, 1, Verdict::Fails),
        "Default STARTUP TCP probe failed 1 time consecutively for container \"worker\" on port \
         8080. The instance was not started."
    );
    assert_eq!(
        startup.succeeded(1),
        "Default STARTUP TCP probe succeeded after 1 attempt for container \"worker\" on port 8080."
    );
    let mut worker = worker;
    worker.liveness_probe = Some(probe(ProbeAction::Http {
        port: 8080,
        path: "/alive".to_owned(),
        headers: Vec::new(),
    }));
    worker.readiness_probe = Some(probe(ProbeAction::Grpc { port: 9000, service: String::new() }));
    let running = Probed::running(&worker, place);
    assert_eq!(
        text(&running[0], 3, Verdict::Fails),
        "LIVENESS HTTP probe failed 3 times consecutively for container \"worker\" on port 8080. \
         The instance has been shut down."
    );
    assert_eq!(
        text(&running[1], 2, Verdict::Passes),
        "READINESS GRPC probe succeeded 2 times consecutively for container \"worker\" on port \
         9000. The instance gets new requests again."
    );
    assert!(Probed::startup(&container(None), place).is_none(), "a sidecar has no default");
}

/// Answers each connection with the next of these; the last one for ever. Tells the requests.
fn serves(answers: &'static [&'static str]) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let (seen, requests) = std::sync::mpsc::channel();
    let asked = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), seen, asked) = (stream, seen.clone(), Arc::clone(&asked)) else {
                return;
            };
            let number = asked.fetch_add(1, Ordering::Relaxed) as usize;
            let answer = answers[number.min(answers.len() - 1)];
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let _ = seen.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, requests)
}

fn alone<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), work)
}

fn http(path: &str, headers: &[(&str, &str)]) -> ProbeAction {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    ProbeAction::Http { port: 8080, path: path.to_owned(), headers: headers.collect() }
}

#[test]
fn an_http_probe_passes_with_2xx_and_3xx_and_sends_its_headers() {
    const SECOND: Duration = Duration::from_secs(1);
    for (answer, passes) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true), // the body need not come
        ("HTTP/1.0 204 X\r\n\r\n", true),
        ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 2000 X\r\n\r\n", false),
        ("SSH-2.0-x\r\n\r\n", false),
        ("", false),
    ] {
        let (address, requests) = serves(Vec::leak(vec![answer]));
        let action = http("/ready?full=1", &[("X-One", "1"), ("Host", "probed.example")]);
        let result = alone(ask::once(&action, address, SECOND * 30));
        assert_eq!(result.is_ok(), passes, "{answer:?}: {result:?}");
        let request = requests.recv().expect("asked").to_ascii_lowercase();
        assert!(request.starts_with("get /ready?full=1 http/1.1\r\n"), "{request}");
        for field in ["x-one: 1\r\n", "host: probed.example\r\n", "user-agent: googlehc/1.0\r\n"] {
            assert!(request.contains(field), "{field} in {request}");
        }
    }
    // Nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = silent.local_addr().expect("bound");
    let result = alone(ask::once(&http("/", &[]), address, SECOND));
    assert_eq!(result, Err("no answer within 1 s".to_owned()));
}

#[test]
fn a_startup_probe_waits_for_its_port_and_counts_answers() {
    let place = |_| {
        let free = TcpListener::bind("127.0.0.1:0").expect("bound");
        free.local_addr().expect("bound")
    };
    let worker = container(Some(Port::default()));
    let startup = Probed::startup(&worker, place).expect("the default");
    let address = startup.address;
    let attempts = alone(async {
        let started = startup.until_started();
        let listen = async {
            tokio::task::yield_now().await;
            let listener = tokio::net::TcpListener::bind(address).await.expect("bound");
            listener.accept().await.expect("a probe");
        };
        tokio::join!(started, listen).0
    });
    assert_eq!(attempts, Ok(1), "one attempt that waited");

    let busy = "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n";
    let fine = "HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n";
    let mut worker = worker;
    worker.startup_probe = Some(probe(http("/", &[])));
    let (address, _requests) = serves(Vec::leak(vec![busy, fine]));
    let startup = Probed::startup(&worker, |_| address).expect("its own");
    let attempts = alone(startup.until_started());
    assert_eq!(attempts, Ok(2));
    assert_eq!(
        startup.succeeded(2),
        "STARTUP HTTP probe succeeded after 2 attempts for container \"worker\" on port 8080."
    );
    let (address, _requests) = serves(Vec::leak(vec![busy]));
    let startup = Probed::startup(&worker, |_| address).expect("its own");
    let failed = alone(startup.until_started()).expect_err("never 200");
    assert_eq!(failed.why, "the answer is 503");
    assert!(failed.text(Verdict::Fails).1.starts_with("STARTUP HTTP probe failed 3 times"));
}

#[test]
fn readiness_comes_and_goes_and_liveness_ends_once() {
    let busy = "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n";
    let fine = "HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n";
    let mut worker = container(Some(Port::default()));
    let mut one = probe(http("/", &[]));
    one.failure_threshold = 1;
    worker.readiness_probe = Some(one.clone());
    let (address, _requests) = serves(Vec::leak(vec![fine, busy, fine]));
    let readiness = Probed::running(&worker, |_| address).remove(0);
    let (told, mut verdicts) = tokio::sync::mpsc::unbounded_channel();
    alone(async {
        let watching = readiness.watch(|verdict, _| told.send(verdict).expect("told"));
        let seen = async {
            assert_eq!(verdicts.recv().await, Some(Verdict::Fails));
            assert_eq!(verdicts.recv().await, Some(Verdict::Passes));
        };
        tokio::select! { () = watching => panic!("it goes on"), () = seen => {} }
    });
    worker.readiness_probe = None;
    worker.liveness_probe = Some(one);
    let (address, _requests) = serves(Vec::leak(vec![fine, busy]));
    let liveness = Probed::running(&worker, |_| address).remove(0);
    let mut seen = Vec::new();
    alone(liveness.watch(|verdict, ended| seen.push((verdict, ended.why))));
    assert_eq!(seen, [(Verdict::Fails, "the answer is 503".to_owned())]);
}

#[test]
fn a_grpc_probe_asks_the_health_service() {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body::Frame;
    use http_proxy::{Body, BodyError, ConnectionInfo, Handler, Incoming, ServerOptions};
    use std::pin::Pin;
    use std::rc::Rc;
    use std::task::{Context, Poll};

    /// A message, then `grpc-status`.
    struct Answer(Option<Bytes>, Option<&'static str>);

    impl http_body::Body for Answer {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            if let Some(data) = self.0.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Ready(self.1.take().map(|status| {
                let status = HeaderValue::from_static(status);
                Ok(Frame::trailers(HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    status,
                )])))
            }))
        }
    }

    /// Knows the service `a.B`, which serves, and `a.C`, which does not.
    struct Health;

    impl Handler for Health {
        async fn handle(
            self: Rc<Self>,
            request: Request<Incoming>,
            _connection: &Rc<ConnectionInfo>,
        ) -> Response<Body> {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect(1024).await.expect("a message");
            let (status, grpc) = match asked.get(7..).unwrap_or_default() {
                b"" | b"a.B" => (1, "0"),
                b"a.C" => (2, "0"),
                _ => (0, "5"),
            };
            let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
            let message = (grpc == "0").then_some(message);
            Response::new(Body::boxed(Answer(message, Some(grpc))))
        }
    }

    let results = alone(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let options = ServerOptions::default();
                    let never = std::future::pending();
                    let info = Rc::default();
                    http_proxy::serve(stream, Bytes::new(), info, Rc::new(Health), &options, never)
                        .await;
                });
            }
        });
        let mut results = Vec::new();
        for service in ["", "a.B", "a.C", "a.D"] {
            let action = ProbeAction::Grpc { port: 1, service: service.to_owned() };
            results.push(ask::once(&action, address, Duration::from_secs(30)).await);
        }
        results
    });
    let not_serving = Err("the health service does not say SERVING".to_owned());
    assert_eq!(results, [Ok(()), Ok(()), not_serving, Err("grpc-status is 5".to_owned())]);
}
