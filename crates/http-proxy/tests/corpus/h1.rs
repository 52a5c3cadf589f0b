//! The corpus of HTTP/1 requests before the proxy.

use super::record::{Forwarder, Message, find, joined, recorder};
use super::support::run;
use bytes::Bytes;
use http_proxy::{ServerOptions, Version, serve};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What becomes of a request.
pub enum Fate {
    /// It goes on in this form, and the connection goes on as well.
    Sent(Vec<u8>),
    /// It goes on in this form, and the connection ends.
    Last(Vec<u8>),
    /// This status, the end of the connection, and nothing at the backend.
    Refused(u16),
    /// 400 and the end of the connection; the backend has got this, which is no whole request, or
    /// the beginning of it.
    Broken(Vec<u8>),
    /// It is not whole: nothing comes of it.
    Waits,
}

/// A request and its fate.
pub struct Case {
    pub name: &'static str,
    pub wire: Vec<u8>,
    pub fate: Fate,
}

pub fn case(name: &'static str, wire: impl AsRef<[u8]>, fate: Fate) -> Case {
    Case { name, wire: wire.as_ref().to_vec(), fate }
}

pub fn sent(form: impl AsRef<[u8]>) -> Fate {
    Fate::Sent(form.as_ref().to_vec())
}

pub fn broken(form: impl AsRef<[u8]>) -> Fate {
    Fate::Broken(form.as_ref().to_vec())
}

/// `GET /p` of host `a` with these lines.
pub fn get(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /p HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n"].concat()
}

/// What [`get`] becomes.
pub fn got(lines: &str) -> Fate {
    sent(format!("GET /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n"))
}

/// `POST /p` of host `a` with these lines and this body.
pub fn post(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"POST /p HTTP/1.1\r\nHost: a\r\n";
    [head, lines.as_ref(), b"\r\n", body.as_ref()].concat()
}

/// What [`post`] becomes.
pub fn posted(lines: &str, body: &str) -> Fate {
    sent(format!("POST /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}"))
}

/// `POST /p` with a chunked body.
pub fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

pub fn cases() -> Vec<Case> {
    let mut cases = super::h1_heads::cases();
    cases.extend(super::h1_bodies::cases());
    cases
}

pub const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n";
const NEXT_SENT: &[u8] = b"GET /next HTTP/1.1\r\nhost: n\r\n\r\n";

/// What came back, and what the backend has.
pub struct Seen {
    pub answer: Vec<u8>,
    pub recorded: Vec<u8>,
    pub messages: Vec<Message>,
}

/// Sends bytes over a connection that takes so many at a time, and reads to the end or to the
/// answer to `/next`. A client that has `left` ends its side first.
pub async fn through_the_proxy(wire: &[u8], room: usize, left: bool) -> Seen {
    let (to, recorded) = recorder().await;
    let (near, far) = tokio::io::duplex(room);
    let handler = Forwarder::new(to, Version::H1);
    let server = tokio::task::spawn_local(async move {
        let options = ServerOptions::default();
        let never = std::future::pending();
        serve(far, Bytes::new(), Rc::default(), handler, &options, never).await;
    });
    let (mut reader, mut writer) = tokio::io::split(near);
    let writing = async {
        let _ = writer.write_all(wire).await; // may meet a closed connection
        if left {
            let _ = writer.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let reading = async {
        while find(&answer, b"x-next: 1\r\ndate").is_none()
            && matches!(reader.read_buf(&mut answer).await, Ok(1..))
        {}
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    server.abort();
    let recorded = recorded.take();
    Seen { answer, recorded: recorded.bytes, messages: recorded.messages }
}

fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

async fn check(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for Case { name, wire, fate } in cases {
        for room in [1, 64 * 1024] {
            let (left, more) = match fate {
                Fate::Waits => (true, &b""[..]),
                _ => (false, NEXT),
            };
            let seen = through_the_proxy(&[&wire, more].concat(), room, left).await;
            let statuses = statuses(&seen.answer);
            let recorded = joined(&seen.recorded);
            let good = match &fate {
                Fate::Sent(form) => {
                    recorded == [form, NEXT_SENT].concat() && seen.messages.len() == 2
                }
                Fate::Last(form) => recorded == *form && statuses == [200],
                Fate::Refused(status) => recorded.is_empty() && statuses == [*status],
                Fate::Broken(form) => {
                    form.starts_with(&recorded) && seen.messages.is_empty() && statuses == [400]
                }
                Fate::Waits => seen.messages.is_empty() && !statuses.contains(&200),
            };
            if !good {
                let recorded =
                    String::from_utf8_lossy(&recorded[..recorded.len().min(300)]).into_owned();
                wrong.push(format!("{name} by {room}: {statuses:?} {recorded:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_head_has_the_fate_of_its_row() {
    run(check(super::h1_heads::cases()));
}

#[test]
fn each_body_has_the_fate_of_its_row() {
    run(check(super::h1_bodies::cases()));
}
