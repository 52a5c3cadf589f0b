//! Clients that are slow, or that keep the server busy with nothing.

use super::h2_wire::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, RST_STREAM,
    SETTINGS, block, frame, literal,
};
use super::support::{Raw, Server, echo, run, server};
use bytes::Bytes;
use http::{Request, Response};
use http_proxy::{Body, HeadError, Incoming, ServerOptions};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

fn impatient() -> ServerOptions {
    ServerOptions { stall_timeout: Duration::from_millis(100), ..ServerOptions::default() }
}

async fn large(_: Request<Incoming>) -> Response<Body> {
    Response::new(Body::full(vec![b'x'; 32 * 1024 * 1024]))
}

async fn ended<F>(server: &Server<F>) {
    while server.accepted.borrow().1 == 0 {
        server.ended.notified().await;
    }
}

async fn frames<F>(server: &Server<F>) -> Client<TcpStream> {
    Client::new(TcpStream::connect(server.address).await.expect("connect")).await
}

const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/p")];

fn head(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&POST))
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    run(async {
        let server = server(impatient(), echo).await;
        let mut client = Raw::connect(server.address).await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
        assert_eq!(client.answer().await.status(), "408");
        assert!(client.end().await.is_empty());
    });
}

#[test]
fn a_response_that_is_not_taken_is_not_held() {
    run(async {
        let server = server(impatient(), large).await;
        let mut client = Raw::connect(server.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        ended(&server).await; // with the client still there, that reads nothing
    });
}

#[test]
fn an_upload_over_http_2_that_does_not_go_on_is_not_waited_for() {
    run(async {
        let server = server(impatient(), echo).await;
        let stream = TcpStream::connect(server.address).await.expect("connect");
        let (client, mut connection) = h2::client::handshake(stream).await.expect("a handshake");
        let mut pings = connection.ping_pong().expect("pings");
        tokio::task::spawn_local(async move {
            let _ = connection.await; // answers pings
        });
        tokio::task::spawn_local(
            async move { while pings.ping(h2::Ping::opaque()).await.is_ok() {} },
        );
        let mut client = client.ready().await.expect("ready");
        let request = Request::post("http://a/").body(()).expect("a request");
        let (response, mut upload) = client.send_request(request, false).expect("sent");
        upload.send_data(Bytes::from_static(b"he"), false).expect("sent");
        let mut body = response.await.expect("a response").into_body();
        let told = body.data().await.expect("data").expect("data");
        let expected = "POST / a data=he error=the message body made no progress in time";
        assert_eq!(told, expected);
        // Another request on the same connection is none the worse for it.
        let request = Request::get("http://a/").body(()).expect("a request");
        let (response, _) = client.send_request(request, true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 200);
    });
}

#[test]
fn a_response_over_http_2_that_is_not_taken_is_not_held() {
    run(async {
        let server = server(impatient(), large).await;
        let stream = TcpStream::connect(server.address).await.expect("connect");
        let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let mut client = client.ready().await.expect("ready");
        let request = Request::get("http://a/").body(()).expect("a request");
        let (response, _) = client.send_request(request, true).expect("sent");
        let _body = response.await.expect("a response").into_body(); // gives no window back
        ended(&server).await;
    });
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    run(async {
        let handled = Rc::new(Cell::new(0));
        let count = handled.clone();
        let server = server(ServerOptions::default(), move |_| {
            count.set(count.get() + 1);
            std::future::pending::<Response<Body>>()
        })
        .await;
        let mut client = frames(&server).await;
        let mut sent = 0;
        for stream in (1..200_000).step_by(2) {
            let both = [head(stream, END_STREAM), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])];
            if !client.send(&both.concat()).await {
                break;
            }
            sent += 1;
        }
        assert_eq!(client.outcome(1).await, Outcome::Gone);
        assert!(sent < 100_000 && handled.get() < 1000, "{sent} sent, {} begun", handled.get());
        ended(&server).await;
    });
}

#[test]
fn a_head_without_end_ends_the_connection() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        for piece in [0, 1, 16_000] {
            let mut client = frames(&server).await;
            client.send(&frame(HEADERS, END_STREAM, 1, &block(&POST))).await;
            let field = literal(b"x", &vec![b'y'; piece]);
            let more = frame(CONTINUATION, 0, 1, if piece == 0 { &[] } else { &field });
            let mut sent = 0;
            while sent < 1_000_000 && client.send(&more).await {
                sent += 1;
            }
            assert!(sent < 1_000_000, "by {piece}");
            assert_eq!(client.outcome(1).await, Outcome::Gone, "by {piece}");
        }
    });
}

#[test]
fn frames_that_say_nothing_are_read_away() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        for (what, noise) in [
            ("pings", frame(PING, 0, 0, &[7; 8])),
            ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ] {
            let mut client = frames(&server).await;
            client.send(&head(1, 0)).await;
            // In portions, and what comes back is read, so that neither side waits for the other.
            for _ in 0..100 {
                client.send(&noise.repeat(300)).await;
                client.send(&frame(PING, 0, 0, &[9; 8])).await;
                loop {
                    let (kind, _, _, payload) = client.frame().await.expect(what);
                    if kind == PING && payload == [9; 8] {
                        break;
                    }
                }
            }
            client.send(&frame(DATA, END_STREAM, 1, b"x")).await;
            assert_eq!(client.outcome(1).await, Outcome::Status(200), "{what}");
        }
    });
}

#[test]
fn empty_data_without_end_ends_the_connection() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        let mut client = frames(&server).await;
        client.send(&head(1, 0)).await;
        let mut sent = 0;
        while sent < 1_000_000 && client.send(&frame(DATA, 0, 1, &[])).await {
            sent += 1;
        }
        assert!(sent < 1_000_000);
        assert_eq!(client.outcome(1).await, Outcome::Gone);
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    run(async {
        let options = ServerOptions { h2_streams_max: 3, ..ServerOptions::default() };
        let server = server(options, echo).await;
        let mut client = frames(&server).await;
        for stream in [1, 3, 5] {
            client.send(&head(stream, 0)).await;
        }
        client.send(&head(7, END_STREAM)).await;
        assert_eq!(client.outcome(7).await, Outcome::Reset);
        client.send(&frame(DATA, END_STREAM, 3, b"x")).await;
        assert_eq!(client.outcome(3).await, Outcome::Status(200));
        client.send(&head(9, END_STREAM)).await;
        assert_eq!(client.outcome(9).await, Outcome::Status(200));
    });
}

#[test]
fn a_large_head_costs_its_stream_and_a_huge_one_the_connection() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        let large = |fields: usize| {
            let field = literal(b"x", &vec![b'y'; 10_000]);
            let mut frames = frame(HEADERS, END_STREAM, 1, &block(&POST));
            for _ in 1..fields {
                frames.extend(frame(CONTINUATION, 0, 1, &field));
            }
            frames.extend(frame(CONTINUATION, END_HEADERS, 1, &field));
            frames
        };
        for fields in [7, 30] {
            let mut client = frames(&server).await;
            client.send(&large(fields)).await;
            assert_eq!(client.outcome(1).await, Outcome::Status(431), "{fields}");
            client.send(&head(3, END_STREAM)).await;
            assert_eq!(client.outcome(3).await, Outcome::Status(200), "{fields}");
        }
        let mut client = frames(&server).await;
        client.send(&large(2000)).await;
        assert_eq!(client.outcome(1).await, Outcome::Gone);
        assert_eq!(*server.handler.refused.borrow(), [HeadError::TooLarge, HeadError::TooLarge]);
    });
}
