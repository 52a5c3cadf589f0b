//! The pool against servers of this crate and against a peer that speaks bytes.

mod support;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_proxy::{Body, BodyError, Incoming, Pool, PoolOptions, SendError, ServerOptions, Version};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use support::{echo, run, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

fn pool() -> Pool<SocketAddr> {
    Pool::new(PoolOptions::default())
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "h").body(body).expect("a request")
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::empty())
}

async fn send(
    pool: &Pool<SocketAddr>,
    version: Version,
    to: SocketAddr,
    request: Request<Body>,
) -> Result<Response<Incoming>, SendError> {
    pool.send(&to, version, || TcpStream::connect(to), request).await
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect(1 << 20).await.expect("a body");
    String::from_utf8(body.to_vec()).expect("text")
}

#[test]
fn connections_come_back_when_the_body_has_ended() {
    run(async {
        for version in [Version::H1, Version::H2] {
            let server = server(ServerOptions::default(), echo).await;
            let pool = pool();
            for path in ["/a", "/b", "/c"] {
                let response =
                    send(&pool, version, server.address, get(path)).await.expect("a response");
                assert_eq!(text(response).await, format!("GET {path} h"));
                assert_eq!(pool.idle(), 1, "{version:?}");
            }
            let body = Body::full("x".repeat(3));
            let post = request(Method::POST, "/d", body);
            let response = send(&pool, version, server.address, post).await.expect("a response");
            assert_eq!(text(response).await, "POST /d h data=xxx");
            assert_eq!(server.accepted.borrow().0, 1, "{version:?}");
            pool.forget(&server.address);
            while server.accepted.borrow().1 == 0 {
                server.ended.notified().await;
            }
        }
    });
}

#[test]
fn a_body_dropped_before_its_end_closes_its_connection_and_cancels_the_handler() {
    run(async {
        let server =
            server(ServerOptions::default(), async |_| Response::new(Body::boxed(Endless))).await;
        let pool = pool();
        let response =
            send(&pool, Version::H1, server.address, get("/")).await.expect("a response");
        let mut body = response.into_body();
        assert!(matches!(body.frame().await, Some(Ok(_))));
        drop(body);
        assert_eq!(pool.idle(), 0);
        while server.accepted.borrow().1 == 0 {
            server.ended.notified().await;
        }
    });
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 10_000])))))
    }
}

/// A body whose frames come from elsewhere.
struct Channel(tokio::sync::mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

#[test]
fn both_bodies_stream_at_once_and_trailers_pass() {
    run(async {
        for version in [Version::H1, Version::H2] {
            let server = server(ServerOptions::default(), async |request: Request<Incoming>| {
                Response::new(Body::from(request.into_body()))
            })
            .await;
            let pool = pool();
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let mut call = request(Method::POST, "/", Body::boxed(Channel(receiver)));
            call.headers_mut().insert("te", "trailers".parse().expect("a value"));
            let response = send(&pool, version, server.address, call).await.expect("a response");
            let mut body = response.into_body();
            for word in ["one", "two", "three"] {
                // Each piece comes back before the next is sent: nobody waits for the whole.
                sender.send(Frame::data(Bytes::from(word))).await.expect("sent");
                let frame = body.frame().await.expect("a frame").expect("a frame");
                assert_eq!(frame.into_data().expect("data"), word, "{version:?}");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            // What the head is judged by does not come in behind it, in neither direction.
            let mut smuggling = trailers.clone();
            for name in ["authorization", "x-forwarded-for", "cookie", "content-type"] {
                smuggling.insert(name, "x".parse().expect("a value"));
            }
            sender.send(Frame::trailers(smuggling)).await.expect("sent");
            drop(sender);
            let frame = body.frame().await.expect("a frame").expect("a frame");
            assert_eq!(frame.into_trailers().expect("trailers"), trailers, "{version:?}");
            assert!(body.frame().await.is_none());
            assert_eq!(pool.idle(), 1, "{version:?}");
        }
    });
}

#[test]
fn requests_at_once_share_one_h2_connection_and_spread_over_h1_connections() {
    run(async {
        for (version, connections) in [(Version::H1, 20), (Version::H2, 1)] {
            let (arrived, go) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
            let server = server(ServerOptions::default(), {
                let (arrived, go) = (arrived.clone(), go.clone());
                move |request| {
                    let (arrived, go) = (arrived.clone(), go.clone());
                    async move {
                        arrived.set(arrived.get() + 1);
                        if arrived.get() == 20 {
                            go.notify_waiters();
                        } else {
                            go.notified().await;
                        }
                        echo(request).await
                    }
                }
            })
            .await;
            let pool = Rc::new(pool());
            let calls: Vec<_> = (0..20)
                .map(|n| {
                    let (pool, to) = (pool.clone(), server.address);
                    tokio::task::spawn_local(async move {
                        text(
                            send(&pool, version, to, get(&format!("/{n}")))
                                .await
                                .expect("a response"),
                        )
                        .await
                    })
                })
                .collect();
            for (n, call) in calls.into_iter().enumerate() {
                assert_eq!(call.await.expect("no panic"), format!("GET /{n} h"));
            }
            assert_eq!(server.accepted.borrow().0, connections, "{version:?}");
        }
    });
}

#[test]
fn more_streams_than_a_connection_takes_open_another() {
    run(async {
        let go = Rc::new(Notify::new());
        let server = server(ServerOptions::default(), {
            let go = go.clone();
            move |request| {
                let go = go.clone();
                async move {
                    if request.uri().path() != "/warm" {
                        go.notified().await;
                    }
                    echo(request).await
                }
            }
        })
        .await;
        let pool = Rc::new(Pool::new(PoolOptions { h2_streams_max: 4, ..PoolOptions::default() }));
        let to = server.address;
        text(send(&pool, Version::H2, to, get("/warm")).await.expect("a response")).await;
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let pool = pool.clone();
                tokio::task::spawn_local(async move {
                    text(send(&pool, Version::H2, to, get("/")).await.expect("a response")).await
                })
            })
            .collect();
        while server.accepted.borrow().0 < 3 {
            tokio::task::yield_now().await;
        }
        for call in calls {
            go.notify_waiters();
            while !call.is_finished() {
                go.notify_waiters();
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(server.accepted.borrow().0, 3);
    });
}

/// A peer that answers each connection by a script: read one head, write this, perhaps close.
async fn scripted(script: Vec<&'static str>) -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let heads = Rc::new(RefCell::new(Vec::new()));
    let seen = heads.clone();
    tokio::task::spawn_local(async move {
        let script = Rc::new(RefCell::new(script.into_iter()));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, seen) = (script.clone(), seen.clone());
            tokio::task::spawn_local(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    seen.borrow_mut().push(String::from_utf8_lossy(&head).into_owned());
                    let Some(answer) = script.borrow_mut().next() else { return };
                    let (text, close) = match answer.strip_suffix("[close]") {
                        Some(text) => (text, true),
                        None => (answer, false),
                    };
                    stream.write_all(text.as_bytes()).await.expect("write");
                    if close {
                        return;
                    }
                }
            });
        }
    });
    (address, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_kept_connection_that_was_closed_is_replaced_once() {
    run(async {
        // The first answer promises keep-alive, then the connection closes under the next request.
        for (method, body, expected) in [
            (Method::GET, Body::empty(), Some("ok")),
            (Method::PUT, Body::full("x"), Some("ok")),
            (Method::POST, Body::full("x"), None),
        ] {
            let (to, heads) = scripted(vec![OK, "[close]", OK]).await;
            let pool = pool();
            assert_eq!(
                text(send(&pool, Version::H1, to, get("/")).await.expect("a response")).await,
                "ok"
            );
            let answer = send(&pool, Version::H1, to, request(method.clone(), "/", body)).await;
            match expected {
                Some(expected) => assert_eq!(text(answer.expect("a response")).await, expected),
                None => {
                    assert!(matches!(answer, Err(SendError::Closed { sent: true })), "{answer:?}")
                }
            }
            assert_eq!(heads.borrow().len(), if expected.is_some() { 3 } else { 2 }, "{method}");
        }
        // A connection known to be closed costs nothing: any request takes a new one.
        let (to, heads) =
            scripted(vec!["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok[close]", OK]).await;
        let pool = pool();
        text(send(&pool, Version::H1, to, get("/")).await.expect("a response")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let post = request(Method::POST, "/", Body::full("x"));
        assert_eq!(text(send(&pool, Version::H1, to, post).await.expect("a response")).await, "ok");
        assert_eq!(heads.borrow().len(), 2);
        // A new connection that closes at once is the peer's answer: no second try.
        let (to, heads) = scripted(vec!["[close]", OK]).await;
        let answer = send(&pool, Version::H1, to, get("/")).await;
        assert!(matches!(answer, Err(SendError::Closed { sent: true })), "{answer:?}");
        assert_eq!(heads.borrow().len(), 1);
    });
}

#[test]
fn responses_end_by_length_by_chunk_and_by_the_connection() {
    run(async {
        for (answer, body, kept) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", Ok("abc"), 1),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                Ok("abc"),
                1,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", Ok("abc"), 0),
            ("HTTP/1.0 200 OK\r\n\r\nabc[close]", Ok("abc"), 0),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(""), 1),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
                Ok("a"),
                1,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab[close]", Err(BodyError::Closed), 0),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n[close]",
                Err(BodyError::Closed),
                0,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcSURPLUS", Ok("abc"), 0),
        ] {
            let (to, _) = scripted(vec![answer]).await;
            let pool = pool();
            let response = send(&pool, Version::H1, to, get("/")).await.expect(answer);
            assert!(!response.headers().contains_key("transfer-encoding"), "{answer}");
            assert!(!response.headers().contains_key("connection"), "{answer}");
            let found = response.into_body().collect(100).await;
            assert_eq!(found, body.map(Bytes::from), "{answer}");
            assert_eq!(pool.idle(), kept, "{answer}");
        }
        for answer in ["SSH-2.0-x\r\n\r\n[close]", "HTTP/1.1 200 OK\r\nx: [close]"] {
            let (to, _) = scripted(vec![answer]).await;
            let found = send(&pool(), Version::H1, to, get("/")).await;
            assert!(matches!(found, Err(SendError::Protocol(_))), "{answer}: {found:?}");
        }
    });
}

#[test]
fn the_request_head_goes_out_as_it_came_in() {
    run(async {
        let (to, heads) = scripted(vec![OK, OK, OK]).await;
        let pool = pool();
        let mut call = get("/a/../b?c=%2F");
        call.headers_mut().insert("x-a", "1".parse().expect("a value"));
        text(send(&pool, Version::H1, to, call).await.expect("a response")).await;
        let post = request(Method::POST, "/", Body::empty());
        text(send(&pool, Version::H1, to, post).await.expect("a response")).await;
        let heads = heads.borrow();
        assert_eq!(heads[0], "GET /a/../b?c=%2F HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n\r\n");
        assert_eq!(heads[1], "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    });
}

#[test]
fn what_keeps_a_connection_from_coming_about_is_told() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let to = listener.local_addr().expect("address");
        drop(listener);
        for version in [Version::H1, Version::H2] {
            let refused = send(&pool(), version, to, get("/")).await.expect_err("nobody listens");
            assert!(refused.is_retry_safe(), "{refused}");
            assert!(
                matches!(&refused, SendError::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused)
            );
            let options = PoolOptions {
                connect_timeout: Duration::from_millis(10),
                ..PoolOptions::default()
            };
            let pool = Pool::new(options);
            let never = std::future::pending::<io::Result<TcpStream>>;
            let late = pool.send(&to, version, never, get("/")).await;
            assert!(matches!(late, Err(SendError::Timeout)), "{late:?}");
        }
    });
}

#[test]
fn old_connections_are_swept_away() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        for version in [Version::H1, Version::H2] {
            let options =
                PoolOptions { idle_timeout: Duration::from_millis(100), ..PoolOptions::default() };
            let pool = Pool::new(options);
            let ended = server.accepted.borrow().1;
            text(send(&pool, version, server.address, get("/")).await.expect("a response")).await;
            while server.accepted.borrow().1 == ended {
                server.ended.notified().await;
            }
            assert_eq!(pool.idle(), 0);
        }
    });
}

#[test]
fn an_early_refusal_arrives_though_the_request_was_not_read() {
    run(async {
        for version in [Version::H1, Version::H2] {
            let server = server(ServerOptions::default(), async |_| {
                let mut response = Response::new(Body::full("no"));
                *response.status_mut() = StatusCode::FORBIDDEN;
                response
            })
            .await;
            let post = request(Method::POST, "/", Body::boxed(Endless));
            let pool = pool();
            let response = send(&pool, version, server.address, post).await.expect("a response");
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{version:?}");
            assert_eq!(text(response).await, "no");
        }
    });
}

#[test]
fn an_upload_moves_while_nobody_reads_the_response() {
    run(async {
        for version in [Version::H1, Version::H2] {
            let received = Rc::new(Cell::new(0usize));
            let server = server(ServerOptions::default(), {
                let received = received.clone();
                move |request: Request<Incoming>| {
                    let received = received.clone();
                    let mut body = request.into_body();
                    tokio::task::spawn_local(async move {
                        while let Some(Ok(frame)) = body.frame().await {
                            received.set(
                                received.get() + frame.data_ref().map_or(0, |data| data.len()),
                            );
                        }
                    });
                    std::future::ready(Response::new(Body::boxed(Endless)))
                }
            })
            .await;
            let pool = pool();
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let post = request(Method::POST, "/", Body::boxed(Channel(receiver)));
            let response = send(&pool, version, server.address, post).await.expect("a response");
            // The response is held and not read; 20 MB pass all the same.
            for _ in 0..200 {
                sender.send(Frame::data(Bytes::from(vec![b'x'; 100_000]))).await.expect("sent");
            }
            while received.get() < 20_000_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(response);
        }
    });
}
