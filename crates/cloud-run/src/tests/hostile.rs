//! Instances and clients that behave badly: each gets what it deserves, harms no other, and leaves
//! nothing behind.

use super::harness::*;
use slice::run::{Run, Service};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How an instance answers a request whose head it has read.
type Act = fn(&mut TcpStream);

/// A service whose instance does this to every connection. The counter says how many connections
/// to it are open.
fn service_that(name: &str, act: Act) -> (Service, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let counted = Arc::clone(&counted);
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                act(&mut stream);
                // Until the other side has gone too.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let mut service = at(name, Run::Url(format!("http://{address}")));
    service.revision.timeout_seconds = 2;
    (service, open)
}

/// Writes until the other side takes no more.
fn forever(stream: &mut TcpStream, text: &str) {
    while stream.write_all(text.as_bytes()).is_ok() {}
}

/// Says nothing until the other side goes.
fn wait(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// The answer's status and whether its body ended as it should have.
fn outcome(stage: &Stage, service: &Service) -> (u16, bool) {
    let mut stream = stage.connect(&balancer(), Some(service.self_link.as_str()));
    stream.write_all(get("/", "").as_bytes()).expect("written");
    // What never ends is not read to its end here either: its deadline ends it.
    let answer = Answer::read((&mut stream).take(64 << 20));
    let whole = match (answer.header("content-length"), answer.header("transfer-encoding")) {
        (Some(length), _) => length.parse() == Ok(answer.body.len()),
        (None, Some(_)) => answer.body.ends_with(b"0\r\n\r\n"),
        (None, None) => answer.body.is_empty(),
    };
    (answer.status, whole)
}

#[test]
fn a_bad_instance_is_answered_for_and_harms_no_other() {
    const CASES: [(&str, Act, (u16, bool)); 16] = [
        ("silent", |s| wait(s), (504, true)),
        ("closes", |_| {}, (503, true)),
        ("garbage", |s| drop(s.write_all(b"\x00\xffgarbage\r\n\r\n")), (503, true)),
        ("old", |s| drop(s.write_all(b"HTTP/9.9 200 OK\r\n\r\n")), (503, true)),
        ("half-head", |s| drop(s.write_all(b"HTTP/1.1 200 OK\r\nx-a: ")), (503, true)),
        (
            "half-head-stays",
            |s| {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nx-a: ");
                wait(s);
            },
            (504, true),
        ),
        (
            "endless-head",
            |s| {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\n");
                forever(s, "x-more: and more\r\n");
            },
            (503, true),
        ),
        (
            "endless-line",
            |s| {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nx-more: ");
                forever(s, "and more ");
            },
            (503, true),
        ),
        ("endless-interim", |s| forever(s, "HTTP/1.1 103 Early Hints\r\n\r\n"), (503, true)),
        (
            "unasked-101",
            |s| drop(s.write_all(b"HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n")),
            (503, true),
        ),
        (
            "two-lengths",
            |s| {
                drop(s.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
                ))
            },
            (503, true),
        ),
        (
            "short-body",
            |s| drop(s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")),
            (200, false),
        ),
        (
            "bad-chunk",
            |s| drop(s.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")),
            (200, false),
        ),
        (
            "endless-trailers",
            |s| {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n");
                forever(s, "x-more: and more\r\n");
            },
            (200, false),
        ),
        (
            "stalls",
            |s| {
                let _ =
                    s.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
                wait(s);
            },
            (200, false),
        ),
        (
            "too-large",
            |s| {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n");
                forever(s, "more and more and more and more ");
            },
            (500, true),
        ),
    ];
    let good = service("good");
    let made: Vec<_> = CASES.iter().map(|(name, act, _)| service_that(name, *act)).collect();
    let mut services: Vec<Service> = made.iter().map(|(service, _)| service.clone()).collect();
    services.push(good.clone());
    let stage = Stage::new(services);
    assert_eq!(stage.get(&good, "/").status, 200);
    std::thread::scope(|scope| {
        for ((name, _, expected), (service, _)) in CASES.iter().zip(&made) {
            let (stage, good) = (&stage, &good);
            scope.spawn(move || {
                assert_eq!(outcome(stage, service), *expected, "{name}");
                assert_eq!(stage.get(good, "/").status, 200, "beside {name}");
            });
        }
    });
    for ((name, ..), (_, open)) in CASES.iter().zip(&made) {
        wait_until(&format!("no connection to {name} is left"), || {
            open.load(Ordering::SeqCst) == 0
        });
    }
}

/// Instances with a request.
fn busy(stage: &Stage) -> u32 {
    let program = stage.started.program().expect("running");
    let all = program.with_deployments(|all| all.all());
    let active = all.iter().map(|(_, deployment)| {
        deployment.route().revisions.iter().map(|(own, _)| own.counts().active).sum::<u32>()
    });
    active.sum()
}

#[test]
fn a_bad_client_holds_its_slot_until_the_deadline_at_most_and_leaves_nothing() {
    let mut orders = service("orders");
    orders.revision.timeout_seconds = 3;
    let stage = Stage::new(vec![orders.clone()]);
    wait_until("it has started", || stage.get(&orders, "/").status == 200);
    let begin = |request: &str| -> UnixStream {
        let mut stream = stage.connect(&balancer(), Some(orders.self_link.as_str()));
        stream.write_all(request.as_bytes()).expect("written");
        stream
    };
    // A head that never ends holds no slot at all.
    let _slow_head = begin("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ");
    assert_eq!(busy(&stage), 0);
    // A body that comes by the byte, and one that never comes.
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    let mut drip = begin(post);
    let nothing = begin(post);
    // A client that reads nothing of a large answer.
    let deaf = begin(&get("/stream", ""));
    wait_until("all three have a slot", || busy(&stage) == 1);
    assert_eq!(stage.get(&orders, "/").status, 200, "others are served meanwhile");
    let dripping = std::thread::spawn(move || {
        while drip.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        drip
    });
    assert_eq!(Answer::read(nothing).status, 504);
    let mut drip = dripping.join().expect("ended");
    let mut answer = String::new();
    let _ = drip.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 504"), "{answer}");
    wait_until("no slot is held", || busy(&stage) == 0);
    drop(deaf);
    assert_eq!(stage.get(&orders, "/").status, 200);
    assert_eq!(stage.host.spawned(), 1);
}
