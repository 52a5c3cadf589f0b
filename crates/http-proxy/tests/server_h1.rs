//! The server over HTTP/1.1, asked in bytes.

mod support;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_proxy::{Body, BodyError, HeadError, ServerOptions};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use support::{Raw, echo, run, server};
use tokio::sync::Notify;

fn options() -> ServerOptions {
    ServerOptions::default()
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    run(async {
        let server = server(options(), echo).await;
        let mut client = Raw::connect(server.address).await;
        for path in ["/a", "/b?c=d"] {
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            assert_eq!(client.answer().await.text(), format!("GET {path} h"));
        }
        assert_eq!(*server.accepted.borrow(), (1, 0));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let server = server(options(), echo).await;
        let mut client = Raw::connect(server.address).await;
        client
            .send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxyGET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.text(), "GET /1 h");
        assert_eq!(client.answer().await.text(), "POST /2 h data=xy");
        assert_eq!(client.answer().await.text(), "GET /3 h");
    });
}

#[test]
fn a_chunked_request_arrives_with_its_trailers() {
    run(async {
        let server = server(options(), echo).await;
        let mut client = Raw::connect(server.address).await;
        client
            .send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
        client.send("0\r\nx-sum: 1\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), "POST / h data=hello trailers=Some({\"x-sum\": \"1\"})");
    });
}

/// A body of given frames, the last of which may be a failure.
struct Frames(Vec<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

fn frames() -> Vec<Result<Frame<Bytes>, BodyError>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    vec![
        Ok(Frame::data(Bytes::from_static(b"one"))),
        Ok(Frame::data(Bytes::new())),
        Ok(Frame::data(Bytes::from(vec![b'x'; 100_000]))),
        Ok(Frame::trailers(trailers)),
    ]
}

#[test]
fn a_response_of_unknown_length_is_chunked_and_has_trailers_for_those_who_take_them() {
    run(async {
        let server =
            server(options(), async |_| Response::new(Body::boxed(Frames(frames())))).await;
        let mut client = Raw::connect(server.address).await;
        for (te, trailers) in [("TE: trailers\r\n", "grpc-status: 0"), ("", "")] {
            client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{te}\r\n")).await;
            let answer = client.answer().await;
            assert_eq!((answer.body.len(), answer.trailers.as_str()), (100_003, trailers));
        }
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.has("connection: close") && answer.body.len() == 100_003, "{}", answer.head);
    });
}

#[test]
fn a_response_that_breaks_off_ends_the_connection_without_its_last_chunk() {
    run(async {
        let server = server(options(), async |_| {
            let mut frames = frames();
            frames[2] = Err(BodyError::Closed);
            Response::new(Body::boxed(Frames(frames)))
        })
        .await;
        let mut client = Raw::connect(server.address).await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let all = String::from_utf8(client.end().await).expect("text");
        assert!(all.ends_with("\r\n\r\n3\r\none\r\n"), "{all}");
    });
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    run(async {
        let server = server(options(), async |request: http::Request<_>| {
            let status = request.uri().path()[1..].parse().expect("a status");
            let mut response = Response::new(Body::full("body"));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        })
        .await;
        let mut client = Raw::connect(server.address).await;
        for (method, path, length) in [
            ("HEAD", "/200", "content-length: 4"),
            ("GET", "/304", "content-length: 4"),
            ("GET", "/204", ""),
            ("GET", "/200", "content-length: 4"),
        ] {
            client.send(&format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let answer = client.answer_to(method).await;
            let found = answer.head.lines().find(|line| line.starts_with("content-length"));
            assert_eq!(found.unwrap_or_default(), length, "{method} {path}");
        }
        assert_eq!(server.accepted.borrow().0, 1);
    });
}

#[test]
fn continue_is_sent_when_the_body_is_wanted_and_not_otherwise() {
    run(async {
        let server = server(options(), async |request: http::Request<_>| {
            if request.uri().path() == "/no" {
                Response::new(Body::full("no"))
            } else {
                echo(request).await
            }
        })
        .await;
        let head = "HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut client = Raw::connect(server.address).await;
        client.send(&format!("POST /yes {head}")).await;
        assert_eq!(client.answer().await.status(), "100");
        client.send("ab").await;
        assert_eq!(client.answer().await.text(), "POST /yes h data=ab");
        client.send(&format!("POST /no {head}")).await;
        let answer = client.answer().await;
        assert!(answer.text() == "no" && answer.has("connection: close"), "{}", answer.head);
        assert_eq!(client.end().await, b"");
    });
}

#[test]
fn an_unread_body_is_read_away_if_it_is_short_and_ends_the_connection_if_it_is_long() {
    run(async {
        let server = server(options(), async |_| Response::new(Body::full("early"))).await;
        let mut client = Raw::connect(server.address).await;
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "early");
        client.send("abcGET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "early");

        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n").await;
        client.try_send(&[b'x'; 100_000]).await;
        let answer = client.answer().await;
        assert!(answer.text() == "early" && answer.has("connection: close"), "{}", answer.head);
        drop(client);
        while server.accepted.borrow().1 == 0 {
            server.ended.notified().await;
        }
    });
}

#[test]
fn a_malformed_head_is_answered_and_the_connection_ends() {
    run(async {
        let server = server(options(), echo).await;
        for (bytes, status, text) in [
            ("GET / HTTP/1.1\r\n\r\n", "400", "Bad Request"),
            ("NONSENSE\r\n\r\n", "400", "Bad Request"),
            ("GET / HTTP/1.1\nHost: h\n\n", "400", "Bad Request"),
            ("\x16\x03\x01\x02\x00\x01", "400", "Bad Request"),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "400",
                "Bad Request",
            ),
            (
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
                "501",
                "Not Implemented",
            ),
        ] {
            let mut client = Raw::connect(server.address).await;
            client.send(bytes).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.text()), (status, text), "{bytes:?}");
            assert!(answer.has("connection: close") && answer.has("content-type: text/plain"));
            assert_eq!(client.end().await, b"");
        }
        let mut client = Raw::connect(server.address).await;
        client
            .try_send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(70_000)).as_bytes())
            .await;
        assert_eq!(client.answer().await.status(), "431");
        let refused = server.handler.refused.borrow();
        assert_eq!((refused.len(), refused.last()), (7, Some(&HeadError::TooLarge)));
    });
}

#[test]
fn time_out_of_a_head_is_answered_and_of_an_idle_connection_is_not() {
    run(async {
        let short = ServerOptions {
            header_timeout: Duration::from_millis(50),
            keep_alive: Duration::from_millis(100),
            http2: true,
            ..options()
        };
        let server = server(short, echo).await;
        let mut slow = Raw::connect(server.address).await;
        slow.send("GET / HT").await;
        assert_eq!(slow.answer().await.status(), "408");
        // The beginning of HTTP/2's preface is the beginning of a head as well.
        let mut slow = Raw::connect(server.address).await;
        slow.send("PRI * HT").await;
        assert_eq!(slow.answer().await.status(), "408");
        let mut idle = Raw::connect(server.address).await;
        idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(idle.answer().await.status(), "200");
        assert_eq!(idle.end().await, b"");
        let mut silent = Raw::connect(server.address).await;
        assert_eq!(silent.end().await, b"");
        assert_eq!(*server.handler.refused.borrow(), [HeadError::Timeout, HeadError::Timeout]);
    });
}

/// Tells by its drop that the handler was cancelled.
struct Told(Rc<Notify>, Rc<Cell<bool>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.1.set(true);
        self.0.notify_one();
    }
}

#[test]
fn a_client_that_leaves_cancels_the_handler() {
    run(async {
        let (entered, left) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let server = server(options(), {
            let (entered, left) = (entered.clone(), left.clone());
            move |_| {
                let (entered, left) = (entered.clone(), left.clone());
                async move {
                    let _told = Told(left, Rc::default());
                    entered.notify_one();
                    std::future::pending().await
                }
            }
        })
        .await;
        let mut client = Raw::connect(server.address).await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        entered.notified().await;
        drop(client);
        left.notified().await;
    });
}

#[test]
fn drain_ends_idle_connections_and_lets_requests_finish() {
    run(async {
        let (entered, go) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let server = server(options(), {
            let (entered, go) = (entered.clone(), go.clone());
            move |request| {
                let (entered, go) = (entered.clone(), go.clone());
                async move {
                    entered.notify_one();
                    go.notified().await;
                    echo(request).await
                }
            }
        })
        .await;
        let mut idle = Raw::connect(server.address).await;
        let mut busy = Raw::connect(server.address).await;
        busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        entered.notified().await;
        while server.accepted.borrow().0 < 2 {
            tokio::task::yield_now().await;
        }
        server.drain.notify_waiters();
        assert_eq!(idle.end().await, b"");
        go.notify_one();
        let answer = busy.answer().await;
        assert!(answer.text() == "GET / h" && answer.has("connection: close"), "{}", answer.head);
        assert_eq!(busy.end().await, b"");
    });
}

#[test]
fn bodies_stream_both_ways_under_backpressure() {
    run(async {
        let most = Rc::new(RefCell::new((0usize, 0usize)));
        let server = server(options(), async |request: http::Request<http_proxy::Incoming>| {
            Response::new(Body::from(request.into_body()))
        })
        .await;
        let client = Raw::connect(server.address).await;
        let (mut read, mut write) = client.stream.into_split();
        const SIZE: usize = 20 << 20;
        let sent = most.clone();
        tokio::task::spawn_local(async move {
            use tokio::io::AsyncWriteExt;
            write
                .write_all(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n").as_bytes())
                .await
                .expect("write");
            let piece = [b'x'; 1 << 16];
            while sent.borrow().0 < SIZE {
                write.write_all(&piece).await.expect("write");
                sent.borrow_mut().0 += piece.len();
            }
        });
        // Nothing is read yet: the writer must come to a stop long before its end.
        let mut before = usize::MAX;
        while most.borrow().0 != before || before == 0 {
            before = most.borrow().0;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(before < SIZE, "all of it was taken");
        use tokio::io::AsyncReadExt;
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.expect("read");
        assert!(all.len() > SIZE && all.ends_with(&[b'x'; 1000]));
    });
}
