//! The server's side of an HTTP/2 connection.

use super::{OneRunning, RequestBody, Running, websocket};
use crate::body::{Body, Incoming, Limit};
use crate::error::HeadError;
use crate::flush::DelayedFlush;
use crate::h1::{is_authority, parse_length};
use crate::headers::strip_hop_by_hop;
use crate::server::{ConnectionInfo, Handler, Prefixed, ServerOptions};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// What a client may send before the handler has read it, per stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Most that waits to be sent, per stream.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that a client may open and reset without an answer (rapid reset).
const PENDING_RESETS_MAX: usize = 20;
/// A head over `header_bytes_max` is answered on its stream; only one so many times as large ends
/// the connection with all its streams, for nobody reads on without a bound. A connection has one
/// head in the making, whatever the number of its streams.
const HEADER_LIST_FACTOR: usize = 16;
/// A peer that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How often an idle connection is looked at.
const IDLE_TICK: Duration = Duration::from_secs(5);

/// Serves a connection that begins with the HTTP/2 preface.
pub(crate) async fn serve<IO, H>(
    io: Prefixed<IO>,
    info: &Rc<ConnectionInfo>,
    handler: &Rc<H>,
    options: &ServerOptions,
    drain: Pin<&mut dyn Future<Output = ()>>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let running = Rc::new(Running::default());
    let service = service_fn({
        let (handler, info, running) = (handler.clone(), info.clone(), running.clone());
        let (bytes_max, stall) = (options.header_bytes_max, options.stall_timeout);
        move |request: Request<hyper::body::Incoming>| {
            let (handler, info) = (handler.clone(), info.clone());
            let one = OneRunning::new(&running);
            // Boxed: on its way into a task of its own a stream's future is moved several times.
            Box::pin(async move {
                let response = exchange(request, bytes_max, stall, handler, info, one).await;
                Ok::<_, Infallible>(response)
            })
        }
    });
    let list_max = options.header_bytes_max.saturating_mul(HEADER_LIST_FACTOR);
    let mut builder = Builder::new(Streams);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(options.h2_streams_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_header_list_size(u32::try_from(list_max).unwrap_or(u32::MAX))
        .enable_connect_protocol()
        .keep_alive_interval(PING_INTERVAL);
    let io = TokioIo::new(DelayedFlush::new(io));
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = async {
        tokio::select! {
            () = drain => {}
            () = idle(&running, options.keep_alive) => {}
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stalled(&running, options.stall_timeout) => return,
        () = ended => connection.as_mut().graceful_shutdown(),
    }
    // Ends when the last stream has: GOAWAY is sent, nothing new is taken. A client that does not
    // take what was written for it already does not hold the connection.
    tokio::select! {
        _ = connection => {}
        () = stalled(&running, options.stall_timeout) => {}
        () = idle(&running, options.stall_timeout) => {}
    }
}

/// Resolves when the client has taken nothing of its responses for `timeout`. Seen per connection,
/// with one timer; a single stream among others that move is bounded by [`Body::until`].
async fn stalled(running: &Running, timeout: Duration) {
    let mut seen = (None, Instant::now());
    loop {
        tokio::time::sleep(timeout.min(IDLE_TICK)).await;
        let waits = running.waits_for_peer();
        if waits.is_none() || waits != seen.0 {
            seen = (waits, Instant::now());
        } else if seen.1.elapsed() >= timeout {
            return;
        }
    }
}

/// Resolves when nothing has run for `keep_alive`.
async fn idle(running: &Running, keep_alive: Duration) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(keep_alive.min(IDLE_TICK)).await;
        let since = if running.count() > 0 { None } else { running.idle_since().or(Some(begun)) };
        if since.is_some_and(|since| since.elapsed() >= keep_alive) {
            return;
        }
    }
}

async fn exchange<H: Handler>(
    mut request: Request<hyper::body::Incoming>,
    bytes_max: usize,
    stall: Duration,
    handler: Rc<H>,
    info: Rc<ConnectionInfo>,
    mut one: OneRunning,
) -> Response<Body> {
    let head = *request.method() == Method::HEAD;
    let websocket = websocket::accept(&mut request);
    let switches = matches!(websocket, Ok(Some(_)));
    let mut request = request.map(|body| {
        if switches {
            return Incoming::empty(); // what comes is no body any more
        }
        if hyper::body::Body::is_end_stream(&body) {
            return Incoming::empty();
        }
        let body = RequestBody::new(body, stall);
        one.unread = Some(body.unread());
        Incoming::stream(body)
    });
    let judged = match head_bytes(&request) > bytes_max {
        true => Err(HeadError::TooLarge),
        false => normalise(&mut request).and(websocket),
    };
    let pending = match judged {
        Ok(None) => None,
        Ok(Some((pending, upgrade))) => {
            request = request.map(|body| body.with_upgrade(Some(upgrade)));
            Some(pending)
        }
        Err(error) => {
            handler.refused(&error);
            return refusal(&error).map(|body| body.counted(one));
        }
    };
    let mut response = handler.handle(request, &info).await;
    if let (Some(pending), StatusCode::SWITCHING_PROTOCOLS) = (pending, response.status()) {
        return pending.switch(response, one);
    }
    strip_hop_by_hop(response.headers_mut());
    let status = response.status();
    if status.is_informational() {
        *response.status_mut() = StatusCode::BAD_GATEWAY; // 101 does not exist in HTTP/2
    }
    if head
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || status.is_informational()
    {
        let body = std::mem::take(response.body_mut());
        let length = http_body::Body::size_hint(&body).exact().filter(|length| *length > 0);
        if let (true, Some(length)) = (head, length) {
            response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
        }
    }
    if let Some(limit) = response.body_mut().limit().take() {
        LIMIT.set(Some(limit));
    }
    response.map(|body| body.counted(one))
}

thread_local! {
    /// The limit that the exchange being polled has just got, on its way to [`Streams`].
    static LIMIT: Cell<Option<Limit>> = const { Cell::new(None) };
}

/// Spawns streams. While a client grants no window hyper polls no body, so the limit of the body is
/// watched around the stream; what is dropped here is reset.
#[derive(Clone)]
struct Streams;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            let mut limit = None;
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    LIMIT.take();
                    return Poll::Ready(());
                }
                limit = LIMIT.take().or(limit.take());
                limit.as_mut().map_or(Poll::Pending, |limit| limit.as_mut().poll(cx))
            })
            .await;
        });
    }
}

/// The size of the head, as it would be in HTTP/1.1.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    request.method().as_str().len() + path + authority + fields
}

/// The answer to what is no request, as HTTP/1.1 has it.
fn refusal(error: &HeadError) -> Response<Body> {
    let status = error.status().unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = Response::new(Body::full(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// From HTTP/2's request to the shape that handlers see: the authority in `host`, the URI in
/// origin form, one `cookie` (RFC 9113 8.2.3, 8.3.1).
fn normalise<B>(request: &mut Request<B>) -> Result<(), HeadError> {
    use HeadError::Malformed;
    check_fields(request.headers_mut())?;
    let uri = std::mem::take(request.uri_mut());
    let connect = *request.method() == Method::CONNECT;
    let parts = uri.into_parts();
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Malformed("more than one host"));
    }
    if let Some(authority) = &parts.authority {
        let authority = authority.as_str();
        match request.headers().get(HOST) {
            Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
                return Err(Malformed("host and :authority differ"));
            }
            Some(_) => {}
            None => {
                let host = HeaderValue::from_str(authority)
                    .map_err(|_| Malformed(":authority is malformed"))?;
                request.headers_mut().insert(HOST, host);
            }
        }
    }
    match request.headers().get(HOST) {
        None => return Err(Malformed("no host")),
        Some(host) if !is_authority(host.as_bytes()) => {
            return Err(Malformed("host is no authority"));
        }
        Some(_) => {}
    }
    *request.uri_mut() = match (parts.path_and_query, parts.authority) {
        (None, Some(authority)) if connect && authority.port().is_some() => Uri::from(authority),
        (None, Some(_)) if connect => return Err(Malformed("CONNECT takes host and port")),
        (None, _) => return Err(Malformed("no path")),
        (Some(path), _) => {
            let text = path.as_str();
            if !text.starts_with('/') && (text != "*" || *request.method() != Method::OPTIONS) {
                return Err(Malformed(":path does not begin with a slash")); // RFC 9113 8.3.1
            }
            Uri::from(path)
        }
    };
    let headers = request.headers_mut();
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> =
            headers.get_all(COOKIE).iter().map(|crumb| crumb.as_bytes()).collect();
        let joined =
            HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| Malformed("cookie"))?;
        headers.insert(COOKIE, joined);
    }
    Ok(())
}

/// What the decoder lets pass and an HTTP/1.1 neighbour would read otherwise; `expect` is taken out,
/// for it concerns this connection, where the body comes without being asked for.
fn check_fields(headers: &mut HeaderMap) -> Result<(), HeadError> {
    use HeadError::Malformed;
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers
        .values()
        .any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last()))
    {
        return Err(Malformed("a field value begins or ends with a blank")); // RFC 9113 8.2.1
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if lengths.next().is_some_and(|length| parse_length(length.as_bytes()).is_none()) {
        return Err(Malformed("content-length is no number"));
    }
    if lengths.next().is_some() {
        return Err(Malformed("more than one content-length"));
    }
    match headers.remove(EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(HeadError::Expectation)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::PathAndQuery;

    #[test]
    fn a_path_begins_with_a_slash_or_is_the_asterisk_of_options() {
        for (method, path, good) in [
            (Method::GET, "/x?y", true),
            (Method::OPTIONS, "*", true),
            (Method::GET, "*", false),
            (Method::OPTIONS, "*x", false),
            (Method::GET, "x", false),
        ] {
            // Where the URI type takes none of these any more, HTTP/2 cannot bring them either.
            let Ok(path) = PathAndQuery::try_from(path) else {
                assert!(!good, "{path}");
                continue;
            };
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(path.clone());
            let Ok(uri) = Uri::from_parts(parts) else { continue };
            let mut request = Request::new(());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri;
            request.headers_mut().insert(HOST, HeaderValue::from_static("h"));
            assert_eq!(normalise(&mut request).is_ok(), good, "{method} {path}");
        }
    }
}
