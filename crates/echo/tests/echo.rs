//! The echo program over real sockets, with clients that share no code with its server side.
#![allow(clippy::unwrap_used)]

use bytes::{BufMut, Bytes, BytesMut};
use echo::{Instance, serve};
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Server {
        // Stands in for the metadata server: one answer, then closed.
        let metadata = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metadata_host = metadata.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = metadata.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
            assert!(head.starts_with("get /computemetadata/v1/instance/id "), "{head}");
            assert!(head.contains("metadata-flavor: google"), "{head}");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n00abcde";
            stream.write_all(answer).await.unwrap();
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let instance = Instance::new("orders", "orders-00001-abc", &metadata_host);
        let task = tokio::spawn(serve(listener, instance, async {
            let _ = stopped.await;
        }));
        Server { address, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    async fn h1(&self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn h2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

async fn json(body: hyper::body::Incoming) -> serde_json::Value {
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_json_says_what_arrived_and_who_answers() {
    let server = Server::start().await;
    let request = Request::post("/orders/7?a=b")
        .header("host", "internal.example.com")
        .header("x-forwarded-for", "10.0.2.2,10.0.0.5")
        .header("x-twice", "one")
        .header("x-twice", "two")
        .body(Full::from("hello"))
        .unwrap();
    let response = server.h1().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let said = json(response.into_body()).await;
    for (pointer, expected) in [
        ("/service", "orders"),
        ("/revision", "orders-00001-abc"),
        ("/instance", "00abcde"),
        ("/method", "POST"),
        ("/path", "/orders/7"),
        ("/query", "a=b"),
        ("/protocol", "HTTP/1.1"),
        ("/headers/host", "internal.example.com"),
        ("/headers/x-forwarded-for", "10.0.2.2,10.0.0.5"),
        ("/headers/x-twice", "one, two"),
        ("/body", "hello"),
    ] {
        assert_eq!(said.pointer(pointer).unwrap(), expected, "{pointer}");
    }
    assert_eq!(said["bodyBytes"], 5);
    server.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let server = Server::start().await;
    let request = Request::get("http://internal.example.com/orders").body(Full::default()).unwrap();
    let response = server.h2().await.send_request(request).await.unwrap();
    let said = json(response.into_body()).await;
    assert_eq!(said["protocol"], "HTTP/2.0");
    assert_eq!(said["headers"]["host"], "internal.example.com");
    server.stop().await;
}

#[tokio::test]
async fn events_are_counted_below_any_path() {
    let server = Server::start().await;
    let request = Request::get("/orders/sse?count=3&interval=1").body(Full::default()).unwrap();
    let response = server.h1().await.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let ids: Vec<_> = text.lines().filter(|line| line.starts_with("id: ")).collect();
    assert_eq!(ids, ["id: 0", "id: 1", "id: 2"]);
    server.stop().await;
}

#[tokio::test]
async fn a_body_comes_back_as_it_is() {
    let server = Server::start().await;
    let large = vec![b'x'; 3 << 20];
    let request = Request::post("/orders/body").body(Full::from(large.clone())).unwrap();
    let response = server.h2().await.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), large);
    server.stop().await;
}

#[tokio::test]
async fn a_web_socket_echoes_and_is_closed_on_drain() {
    let server = Server::start().await;
    let request = Request::get("/orders/ws")
        .header("host", "x")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        // Key and answer of RFC 6455 1.3.
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::default())
        .unwrap();
    let response = server.h1().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket =
        tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for message in [Message::text("hello"), Message::binary(vec![0, 255])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    let client = tokio::spawn(async move {
        let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
            panic!("no close frame");
        };
        assert_eq!(u16::from(frame.code), 1001);
        assert!(socket.next().await.is_none());
    });
    server.stop().await;
    client.await.unwrap();
}

#[tokio::test]
async fn a_web_socket_without_a_key_is_a_400() {
    let server = Server::start().await;
    let request = Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "8")
        .body(Full::default())
        .unwrap();
    let response = server.h1().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    server.stop().await;
}

fn message(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(payload.len() as u32);
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// Method and request bytes → reply bytes and `grpc-status`.
async fn call(server: &Server, method: &str, body: Bytes) -> (Bytes, String) {
    let request = Request::post(format!("http://grpc.example.com{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Full::new(body))
        .unwrap();
    let response = server.h2().await.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["x-echo-instance"], "00abcde");
    let status = response.headers().get("grpc-status").cloned();
    let all = response.into_body().collect().await.unwrap();
    let status = status.or_else(|| all.trailers()?.get("grpc-status").cloned()).unwrap();
    (all.to_bytes(), status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn grpc_messages_come_back_with_a_status() {
    let server = Server::start().await;
    let (one, two) = (message(b"\x0a\x02hi"), message(b""));
    let both = Bytes::from([&one[..], &two[..]].concat());
    let cut = one.slice(..one.len() - 1);
    let mut compressed = one.to_vec();
    compressed[0] = 1;
    let none = Bytes::new();
    for (method, body, reply, status) in [
        ("/echo.Echo/Echo", one.clone(), one.clone(), "0"),
        ("/orders/echo.Echo/EchoStream", both.clone(), both.clone(), "0"),
        ("/echo.Echo/EchoStream", none.clone(), none.clone(), "0"),
        ("/echo.Echo/Echo", both, one.clone(), "13"),
        ("/echo.Echo/Echo", none.clone(), none.clone(), "13"),
        ("/echo.Echo/Echo", cut, none.clone(), "13"),
        ("/echo.Echo/Echo", compressed.into(), none.clone(), "12"),
        ("/echo.Echo/Other", one, none, "12"),
    ] {
        let (got, code) = call(&server, method, body).await;
        assert_eq!((got, code.as_str()), (reply, status), "{method}");
    }
    server.stop().await;
}

#[tokio::test]
async fn draining_waits_for_running_requests_and_closes_idle_connections() {
    let server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut sender = server.h1().await;
    let request = Request::get("/orders/sse?count=20&interval=2").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let events = tokio::spawn(response.into_body().collect());
    let address = server.address;
    server.stop().await;
    let text = events.await.unwrap().unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("id: 19\n"));
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
