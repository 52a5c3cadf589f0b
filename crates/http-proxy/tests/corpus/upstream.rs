//! Responses of an upstream that could be read in two ways: they become 502, or go on in one form,
//! and nothing of them reaches the next request.

use super::record::{Forwarder, find};
use super::support::run;
use bytes::Bytes;
use http_proxy::{ServerOptions, Version, serve};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The first connection answers its first request with `wire`, and ends there if `closes`; later
/// requests on it get `reused`, those on other connections `fresh`.
async fn backend(wire: Vec<u8>, closes: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::task::spawn_local(async move {
        let mut first = Some(wire);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(answer(stream, first.take(), closes));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, mut first: Option<Vec<u8>>, closes: bool) {
    let word = if first.is_some() { "reused" } else { "fresh" };
    let later = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
    let mut buffer = Vec::new();
    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
        if find(&buffer, b"\r\n\r\n").is_none() {
            continue;
        }
        buffer.clear();
        let special = first.take();
        let ends = special.is_some() && closes;
        let wire = special.unwrap_or_else(|| later.clone().into_bytes());
        if stream.write_all(&wire).await.is_err() || ends {
            return;
        }
    }
}

/// Everything that comes back for one request, without the date.
async fn ask(proxy: &Rc<Forwarder>, method: &str) -> String {
    let (mut near, far) = tokio::io::duplex(1024 * 1024);
    let handler = proxy.clone();
    let server = tokio::task::spawn_local(async move {
        let options = ServerOptions::default();
        let never = std::future::pending();
        serve(far, Bytes::new(), Rc::default(), handler, &options, never).await;
    });
    let request =
        format!("{method} / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, te\r\n\r\n");
    near.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    while matches!(near.read_buf(&mut answer).await, Ok(1..)) {}
    server.abort();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let lines = answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

const BAD: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[test]
fn each_response_goes_on_in_one_form_or_is_502() {
    let ok = |lines: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\n{lines}connection: close\r\n\r\n{body}")
    };
    let hello = ok("content-length: 5\r\n", "hello");
    let chunked = "transfer-encoding: chunked\r\n";
    let with = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
    let large = with(&format!("x: {}\r\n", "y".repeat(62_000)), "");
    let interims = "HTTP/1.1 102 Processing\r\n\r\n".repeat(17);
    let bad = BAD.to_owned();
    let no_content = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned();
    let not_modified =
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\nconnection: close\r\n\r\n".to_owned();
    // Name, method, response, does the connection end behind it, what the client gets, and on which
    // connection the next request goes.
    let rows: Vec<(&str, &str, String, bool, String, &str)> = vec![
        ("a length", "GET", with("Content-Length: 5\r\n", "hello"), false, hello.clone(), "reused"),
        (
            "chunks",
            "GET",
            with(chunked, "5;x\r\nhello\r\n0\r\nx: y\r\nhost: b\r\n\r\n"),
            false,
            ok(chunked, "5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
            "reused",
        ),
        (
            "to the end",
            "GET",
            with("", "hello"),
            true,
            ok(chunked, "5\r\nhello\r\n0\r\n\r\n"),
            "fresh",
        ),
        (
            "HTTP/1.0",
            "GET",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".into(),
            false,
            hello.clone(),
            "fresh",
        ),
        (
            "no reason",
            "GET",
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello".into(),
            false,
            hello.clone(),
            "reused",
        ),
        (
            "close",
            "GET",
            with("Connection: close\r\nContent-Length: 5\r\n", "hello"),
            false,
            hello.clone(),
            "fresh",
        ),
        (
            "listed fields go",
            "GET",
            with(
                "Connection: x\r\nX: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nContent-Length: 5\r\n",
                "hello",
            ),
            false,
            hello.clone(),
            "reused",
        ),
        (
            "the same length twice",
            "GET",
            with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            false,
            hello.clone(),
            "reused",
        ),
        (
            "two lengths",
            "GET",
            with("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a list of lengths",
            "GET",
            with("Content-Length: 5, 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a signed length",
            "GET",
            with("Content-Length: +5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a negative length",
            "GET",
            with("Content-Length: -1\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a length and chunks",
            "GET",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "chunked twice",
            "GET",
            with("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "gzip and chunked",
            "GET",
            with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "identity",
            "GET",
            with("Transfer-Encoding: identity\r\n", "hello"),
            true,
            bad.clone(),
            "fresh",
        ),
        (
            "xchunked",
            "GET",
            with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "chunks in HTTP/1.0",
            "GET",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            true,
            bad.clone(),
            "fresh",
        ),
        (
            "bare LFs",
            "GET",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "one bare LF",
            "GET",
            with("x: y\nContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a bare CR",
            "GET",
            with("x: y\rContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a folded field",
            "GET",
            with("x: y\r\n z\r\nContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a blank before the colon",
            "GET",
            with("Content-Length : 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "NUL in a value",
            "GET",
            with("x: \0\r\nContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a blank in a name",
            "GET",
            with("x y: z\r\nContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "no colon",
            "GET",
            with("x\r\nContent-Length: 5\r\n", "hello"),
            false,
            bad.clone(),
            "fresh",
        ),
        ("too many fields", "GET", with(&"x: y\r\n".repeat(101), ""), false, bad.clone(), "fresh"),
        ("a field that is too large", "GET", large, false, bad.clone(), "fresh"),
        (
            "a status of two digits",
            "GET",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a status of four digits",
            "GET",
            "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a status below 100",
            "GET",
            "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "a status in words",
            "GET",
            "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        ("HTTP/2", "GET", "HTTP/2 200\r\n\r\n".into(), false, bad.clone(), "fresh"),
        (
            "HTTP/1.2",
            "GET",
            "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        ("no HTTP", "GET", "SSH-2.0-OpenSSH_9.6\r\n".into(), false, bad.clone(), "fresh"),
        ("half a head", "GET", "HTTP/1.1 200 OK\r\nContent-".into(), true, bad.clone(), "fresh"),
        (
            "100 first",
            "GET",
            format!("HTTP/1.1 100 Continue\r\n\r\n{}", with("Content-Length: 5\r\n", "hello")),
            false,
            hello.clone(),
            "reused",
        ),
        (
            "103 first",
            "GET",
            format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}",
                with("Content-Length: 5\r\n", "hello")
            ),
            false,
            hello.clone(),
            "reused",
        ),
        ("interims without end", "GET", interims, false, bad.clone(), "fresh"),
        (
            "101 that nobody asked for",
            "GET",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".into(),
            false,
            bad.clone(),
            "fresh",
        ),
        (
            "HEAD",
            "HEAD",
            with("Content-Length: 5\r\n", ""),
            false,
            ok("content-length: 5\r\n", ""),
            "reused",
        ),
        (
            "HEAD with a body",
            "HEAD",
            with("Content-Length: 5\r\n", "hello"),
            false,
            ok("content-length: 5\r\n", ""),
            "fresh",
        ),
        (
            "HEAD with a response behind",
            "HEAD",
            with("Content-Length: 5\r\n", &with("Content-Length: 8\r\n", "smuggled")),
            false,
            ok("content-length: 5\r\n", ""),
            "fresh",
        ),
        (
            "204",
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\n".into(),
            false,
            no_content.clone(),
            "reused",
        ),
        (
            "204 with a body",
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello".into(),
            false,
            no_content.clone(),
            "fresh",
        ),
        (
            "204 with chunks",
            "GET",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            false,
            no_content,
            "fresh",
        ),
        (
            "304 with a length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".into(),
            false,
            not_modified.clone(),
            "reused",
        ),
        (
            "304 with a body",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello".into(),
            false,
            not_modified,
            "fresh",
        ),
        (
            "a response behind",
            "GET",
            with(
                "Content-Length: 5\r\n",
                &format!("hello{}", with("Content-Length: 8\r\n", "smuggled")),
            ),
            false,
            hello,
            "fresh",
        ),
        (
            "chunks and a response behind",
            "GET",
            with(chunked, &format!("0\r\n\r\n{}", with("Content-Length: 8\r\n", "smuggled"))),
            false,
            ok(chunked, "0\r\n\r\n"),
            "fresh",
        ),
        (
            "a body cut short",
            "GET",
            with("Content-Length: 9\r\n", "hello"),
            true,
            ok("content-length: 9\r\n", "hello"),
            "fresh",
        ),
        (
            "chunks cut short",
            "GET",
            with(chunked, "5\r\nhello\r\n"),
            true,
            ok(chunked, "5\r\nhello\r\n"),
            "fresh",
        ),
        (
            "a chunk size that is none",
            "GET",
            with(chunked, "5\r\nhello\r\nx\r\n"),
            false,
            ok(chunked, "5\r\nhello\r\n"),
            "fresh",
        ),
        (
            "a chunk that is too long",
            "GET",
            with(chunked, "5\r\nhelloX\r\n0\r\n\r\n"),
            false,
            ok(chunked, "5\r\nhello\r\n"),
            "fresh",
        ),
        (
            "a chunk with a bare LF",
            "GET",
            with(chunked, "5\nhello\n0\n\n"),
            false,
            ok(chunked, ""),
            "fresh",
        ),
    ];
    run(async {
        let mut wrong = Vec::new();
        for (name, method, wire, closes, expected, next) in rows {
            let proxy = Forwarder::new(backend(wire.into_bytes(), closes).await, Version::H1);
            let answer = ask(&proxy, method).await;
            let then = ask(&proxy, "GET").await;
            if answer != expected || !then.ends_with(&format!("\r\n\r\n{next}")) {
                wrong.push(format!("{name}: {answer:?}, then {then:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
