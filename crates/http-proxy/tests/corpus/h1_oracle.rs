//! The corpus before hyper's server, an independent reader of HTTP/1. Where it and the proxy find
//! different requests, the difference stands here with its reason.

use super::h1::{Case, Fate, NEXT, cases, through_the_proxy};
use super::record::Message;
use super::support::run;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Cases, and why the proxy reads them otherwise.
const DIFFERENCES: &[(&[&str], &str)] = &[
    (
        &[
            "a bare LF in front",
            "bare LFs",
            "a bare LF after the first line",
            "a bare LF after a field",
            "a bare LF for the empty line",
            "behind a bare LF",
            "a bare LF for the end",
        ],
        "hyper takes a bare LF for the end of a line, which RFC 9112 2.2 allows and a proxy should not",
    ),
    (
        &["what URLs must not have is encoded"],
        "hyper refuses what browsers would have encoded; clients that are no browsers send it",
    ),
    (
        &[
            "a fragment",
            "a fragment in an absolute target",
            "no slash",
            "an asterisk",
            "OPTIONS *x",
            "absolute with user information",
            "absolute with a bad port",
            "absolute of another scheme",
            "an authority to GET",
        ],
        "hyper leaves the four forms of a target, RFC 9112 3.2, to the application",
    ),
    (
        &["a Host that is too large", "a field that is too large"],
        "hyper bounds its buffer, at some 400 KiB",
    ),
    (
        &[
            "CONNECT",
            "CONNECT with another host",
            "CONNECT with a body",
            "CONNECT without a port",
            "CONNECT with user information",
            "CONNECT to a path",
            "CONNECT to a URL",
        ],
        "hyper takes its service's 200 for the beginning of a tunnel; the backend answers 405",
    ),
    (
        &[
            "absolute without Host",
            "no Host",
            "two Hosts",
            "the same Host twice",
            "an empty Host and another",
            "two Hosts in one",
            "two Hosts in one, without a blank",
            "two Hosts apart by a blank",
            "a path in Host",
            "a query in Host",
            "a fragment in Host",
            "a backslash in Host",
            "user information in Host",
            "a scheme in Host",
            "a port in words",
            "a signed port",
            "a long port",
            "two ports",
            "IPv6 without its end",
            "IPv6 and more",
            "a name in brackets",
            "bytes beyond ASCII in Host",
            "quotes in Host",
            "a tab in Host",
        ],
        "hyper leaves Host, RFC 9112 3.2, to the application",
    ),
    (
        &["an expectation of one's own", "100-continue and another", "an empty expectation"],
        "hyper leaves other expectations to the application",
    ),
    (
        &["a length, then chunked", "chunked, then a length", "chunked and no length"],
        "hyper believes the coding and ends the connection, which RFC 9112 6.1 allows as well",
    ),
    (
        &[
            "chunked twice",
            "chunked twice in one",
            "identity and chunked",
            "gzip and chunked",
            "behind a comma",
        ],
        "hyper looks at the last coding only and leaves the others to the application",
    ),
    (
        &["an extension that is too long"],
        "hyper bounds the extensions of a body, the proxy those of a chunk",
    ),
    (
        &["a size with many zeros"],
        "hyper bounds a chunk size by its value, the proxy by its digits",
    ),
    (&["a blank after the size"], "hyper takes blanks where no extension follows"),
    (&["too many trailers"], "hyper's own bound of trailers is larger"),
];

/// The whole requests that hyper finds.
async fn through_hyper(wire: &[u8]) -> Vec<Message> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let found: Rc<RefCell<Vec<Message>>> = Rc::default();
    let service = service_fn({
        let found = found.clone();
        move |request: http::Request<hyper::body::Incoming>| {
            let found = found.clone();
            async move {
                let (parts, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    let target = parts.uri.path_and_query().map(|path| path.to_string());
                    let target = target.unwrap_or_else(|| parts.uri.to_string());
                    let body = body.to_bytes().to_vec();
                    let method = parts.method.to_string();
                    found.borrow_mut().push(Message { method, target, body });
                }
                Ok::<_, Infallible>(http::Response::new(String::new()))
            }
        }
    });
    let server =
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
    let client = async move {
        let (mut reader, mut writer) = tokio::io::split(near);
        let _ = writer.write_all(wire).await;
        let _ = writer.shutdown().await;
        let _ = reader.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(server, client);
    found.take()
}

#[test]
fn hyper_finds_the_same_requests_but_for_the_listed_ones() {
    run(async {
        let mut wrong = Vec::new();
        for Case { name, wire, fate } in cases() {
            let more = if matches!(fate, Fate::Waits) { &b""[..] } else { NEXT };
            let wire = [&wire, more].concat();
            let ours =
                through_the_proxy(&wire, 64 * 1024, matches!(fate, Fate::Waits)).await.messages;
            let theirs = through_hyper(&wire).await;
            let listed = DIFFERENCES.iter().any(|(names, _)| names.contains(&name));
            if (ours == theirs) == listed {
                let show = |all: &[Message]| {
                    let all = all.iter().map(|one| {
                        let body = String::from_utf8_lossy(&one.body).into_owned();
                        format!("{} {} {body:?}", one.method, one.target)
                    });
                    all.collect::<Vec<_>>().join(", ")
                };
                wrong.push(format!("{name}: ours [{}], hyper's [{}]", show(&ours), show(&theirs)));
            }
        }
        for name in DIFFERENCES.iter().flat_map(|(names, _)| *names) {
            assert!(cases().iter().any(|case| case.name == *name), "{name} is no case");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
