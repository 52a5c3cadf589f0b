//! HTTP/2 requests: fields, pseudo-header fields, lengths, frames.

use super::h2_wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, SETTINGS, WINDOW_UPDATE, block, frame, literal,
};
use Fate::{Gone, Refused, Reset};

/// What becomes of a request.
pub enum Fate {
    /// It goes on in this form; the backend refuses CONNECT and takes the others.
    Sent(Vec<u8>),
    /// This status on its stream, nothing at the backend, and the connection goes on.
    Refused(u16),
    /// The stream is reset, nothing at the backend, and the connection goes on.
    Reset,
    /// The stream is reset; the backend has got the beginning of this, which is no whole request.
    Cut(Vec<u8>),
    /// The connection ends, nothing at the backend. So do fields that are none: the decoder takes
    /// them for a broken compression.
    Gone,
}

/// A request and its fate.
pub struct Case {
    pub name: &'static str,
    pub frames: Vec<u8>,
    pub fate: Fate,
}

fn case(name: &'static str, frames: Vec<u8>, fate: Fate) -> Case {
    Case { name, frames, fate }
}

fn sent(form: &str) -> Fate {
    Fate::Sent(form.as_bytes().to_vec())
}

fn got(lines: &str) -> Fate {
    sent(&format!("GET /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n"))
}

pub fn cases() -> Vec<Case> {
    let mut all = fields();
    all.extend(pseudo());
    all.extend(authorities());
    all.extend(bodies());
    all.extend(frames());
    all
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/p")];

fn head(flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, block)
}

/// A request without a body.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    head(END_STREAM, &block(fields))
}

/// `GET /p` of `a` with one more field.
fn with(name: &str, value: &str) -> Vec<u8> {
    request(&[&GET[..], &[(name, value)]].concat())
}

/// The same with one field changed.
fn but(name: &str, value: &str) -> Vec<u8> {
    request(&GET.map(|(known, old)| (known, if known == name { value } else { old })))
}

/// The same without one field.
fn without(name: &str) -> Vec<u8> {
    let rest: Vec<_> = GET.into_iter().filter(|(known, _)| *known != name).collect();
    request(&rest)
}

fn fields() -> Vec<Case> {
    let smuggled = "y\r\ntransfer-encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: s";
    let crumbs = [&GET[..], &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")]].concat();
    vec![
        case("h2: a request", with("x", "y"), got("x: y\r\n")),
        case("h2: an empty value", with("x", ""), got("x: \r\n")),
        case("h2: UTF-8 in a value", with("x", "\u{e9}"), got("x: \u{e9}\r\n")),
        case("h2: a tab in a value", with("x", "y\tz"), got("x: y\tz\r\n")),
        case("h2: a blank before a value", with("x", " y"), Refused(400)),
        case("h2: a tab before a value", with("x", "\ty"), Refused(400)),
        case("h2: a blank after a value", with("x", "y "), Refused(400)),
        case("h2: CR LF in a value", with("x", smuggled), Gone),
        case("h2: CR in a value", with("x", "y\rz"), Gone),
        case("h2: LF in a value", with("x", "y\nz"), Gone),
        case("h2: NUL in a value", with("x", "y\0z"), Gone),
        case("h2: DEL in a value", with("x", "y\x7fz"), Gone),
        case("h2: ESC in a value", with("x", "y\x1bz"), Gone),
        case("h2: a name in upper case", with("X-A", "y"), Gone),
        case("h2: an empty name", with("", "y"), Gone),
        case("h2: a blank in a name", with("x y", "z"), Gone),
        case("h2: a colon in a name", with("x:y", "z"), Gone),
        case("h2: CR LF in a name", with("x: y\r\nz", "z"), Gone),
        case("h2: NUL in a name", with("x\0", "z"), Gone),
        case("h2: DEL in a name", with("x\x7f", "z"), Gone),
        case("h2: UTF-8 in a name", with("\u{e9}", "z"), Gone),
        case("h2: an underscore in a name", with("x_y", "z"), got("x_y: z\r\n")),
        case("h2: connection", with("connection", "close"), Reset),
        case("h2: keep-alive", with("keep-alive", "timeout=5"), Reset),
        case("h2: proxy-connection", with("proxy-connection", "close"), Reset),
        case("h2: transfer-encoding", with("transfer-encoding", "chunked"), Reset),
        case("h2: transfer-encoding: identity", with("transfer-encoding", "identity"), Reset),
        case("h2: upgrade", with("upgrade", "websocket"), Reset),
        case("h2: te: gzip", with("te", "gzip"), Reset),
        case("h2: te: trailers, gzip", with("te", "trailers, gzip"), Reset),
        case("h2: te: trailers", with("te", "trailers"), got("te: trailers\r\n")),
        case("h2: http2-settings", with("http2-settings", "AA"), got("http2-settings: AA\r\n")),
        case("h2: cookie crumbs", request(&crumbs), got("cookie: a=b; c=d\r\nx: y\r\n")),
        case("h2: an expectation of one's own", with("expect", "x"), Refused(417)),
        case("h2: 100-continue", with("expect", "100-continue"), got("")),
    ]
}

fn pseudo() -> Vec<Case> {
    let twice = |name: &'static str, value| request(&[&GET[..], &[(name, value)]].concat());
    let late = [&GET[..3], &[("x", "y"), (":path", "/p")]].concat();
    let connect = |path: &[(&'static str, &'static str)], authority| {
        request(&[&[(":method", "CONNECT"), (":authority", authority)], path].concat())
    };
    let path = |form: &str| sent(&format!("GET {form} HTTP/1.1\r\nhost: a\r\n\r\n"));
    vec![
        case("h2: a pseudo-header behind a field", request(&late), Reset),
        case("h2: two methods", twice(":method", "POST"), Reset),
        case("h2: two paths", twice(":path", "/smuggled"), Reset),
        case("h2: two schemes", twice(":scheme", "https"), Reset),
        case("h2: an unknown pseudo-header", twice(":x", "y"), Gone),
        case("h2: a response's pseudo-header", twice(":status", "200"), Reset),
        case("h2: :protocol without CONNECT", twice(":protocol", "websocket"), Reset),
        case("h2: no method", without(":method"), Reset),
        case("h2: no path", without(":path"), Reset),
        case("h2: no scheme", without(":scheme"), Reset),
        case("h2: an empty method", but(":method", ""), Gone),
        case("h2: a method with a blank", but(":method", "GET / HTTP/1.1\r\nx:"), Gone),
        case(
            "h2: a method in lower case",
            but(":method", "get"),
            sent("get /p HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case("h2: TRACE", but(":method", "TRACE"), sent("TRACE /p HTTP/1.1\r\nhost: a\r\n\r\n")),
        case("h2: a scheme with a blank", but(":scheme", "ht tp"), Reset),
        case("h2: https", but(":scheme", "https"), got("")),
        case("h2: an empty path", but(":path", ""), Reset),
        case("h2: a path without a slash", but(":path", "p"), Reset),
        case("h2: a query alone", but(":path", "?p"), Refused(400)),
        case("h2: an absolute path", but(":path", "http://b/p"), Reset),
        case("h2: an asterisk", but(":path", "*"), Refused(400)),
        case("h2: a path with a blank", but(":path", "/p HTTP/1.1\r\nx: y"), Reset),
        case("h2: a path with a blank alone", but(":path", "/p q"), Reset),
        case("h2: a path with CR LF", but(":path", "/p\r\nx:y"), Reset),
        case("h2: a path with NUL", but(":path", "/p\0"), Reset),
        case("h2: a path with a tab", but(":path", "/p\tq"), Reset),
        case("h2: a path with DEL", but(":path", "/p\x7f"), Reset),
        case("h2: a fragment goes", but(":path", "/p#q"), got("")),
        case("h2: dots and slashes stay", but(":path", "//a/../b%2e"), path("//a/../b%2e")),
        case("h2: UTF-8 in a path", but(":path", "/\u{e9}"), path("/\u{e9}")),
        case(
            "h2: CONNECT",
            connect(&[], "b:443"),
            sent("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n"),
        ),
        case("h2: CONNECT without a port", connect(&[], "b"), Refused(400)),
        case(
            "h2: CONNECT with a path",
            connect(&[(":scheme", "http"), (":path", "/")], "b:443"),
            Reset,
        ),
        case("h2: two authorities", twice(":authority", "b"), Reset),
    ]
}

fn authorities() -> Vec<Case> {
    let host = |host: &'static str| request(&[&GET[..2], &GET[3..], &[("host", host)]].concat());
    let both = |other: &'static str| request(&[&GET[..], &[("host", other)]].concat());
    let two = [&GET[..2], &GET[3..], &[("host", "a"), ("host", "a")]].concat();
    vec![
        case("h2: Host alone", host("b"), sent("GET /p HTTP/1.1\r\nhost: b\r\n\r\n")),
        case("h2: both the same", both("a"), got("")),
        case(
            "h2: both the same but for case",
            both("A"),
            sent("GET /p HTTP/1.1\r\nhost: A\r\n\r\n"),
        ),
        case("h2: both, and different", both("b"), Refused(400)),
        case("h2: both, one with a port", both("a:80"), Refused(400)),
        case("h2: both, one empty", both(""), Refused(400)),
        case("h2: two Hosts", request(&two), Refused(400)),
        case("h2: neither", without(":authority"), Refused(400)),
        case("h2: a list in Host", host("a, b"), Refused(400)),
        case("h2: user information in Host", host("u@a"), Refused(400)),
        case("h2: a path in Host", host("a/b"), Refused(400)),
        case("h2: user information", but(":authority", "u@a"), Refused(400)),
        case("h2: a path in the authority", but(":authority", "a/b"), Reset),
        case("h2: a blank in the authority", but(":authority", "a b"), Reset),
        case("h2: CR LF in the authority", but(":authority", "a\r\nx: y"), Reset),
        case("h2: an empty authority", but(":authority", ""), Reset),
        case("h2: a comma in the authority", but(":authority", "a,b"), Refused(400)),
        case("h2: two ports in the authority", but(":authority", "a:1:2"), Reset),
        case("h2: a port in words", but(":authority", "a:http"), Refused(400)),
    ]
}

fn bodies() -> Vec<Case> {
    let post = |fields: &[(&str, &str)], data: &str| {
        let fields = [&[(":method", "POST")], &GET[1..], fields].concat();
        [head(0, &block(&fields)), frame(DATA, END_STREAM, 1, data.as_bytes())].concat()
    };
    let posted = |lines: &str, body: &str| {
        sent(&format!("POST /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}"))
    };
    let cut = |lines: &str, body: &str| {
        Fate::Cut(format!("POST /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}").into_bytes())
    };
    let length = |value: &'static str, data| post(&[("content-length", value)], data);
    let chunked = "transfer-encoding: chunked\r\n";
    let open = head(0, &block(&[&[(":method", "POST")], &GET[1..]].concat()));
    let trailers = |flags: u8, fields: &[(&str, &str)]| {
        let data = frame(DATA, 0, 1, b"hello");
        let trailers = frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
        [&open[..], &data, &trailers].concat()
    };
    vec![
        case("h2: a length", length("5", "hello"), posted("content-length: 5\r\n", "hello")),
        case("h2: no length", post(&[], "hello"), posted(chunked, "5\r\nhello\r\n0\r\n\r\n")),
        case(
            "h2: a body that is a chunk",
            post(&[], "0\r\n\r\nGET"),
            posted(chunked, "8\r\n0\r\n\r\nGET\r\n0\r\n\r\n"),
        ),
        case(
            "h2: less than the length",
            length("6", "hello"),
            cut("content-length: 6\r\n", "hello"),
        ),
        case("h2: more than the length", length("4", "hello"), cut("content-length: 4\r\n", "")),
        case("h2: more than no length", length("0", "hello"), cut("content-length: 0\r\n", "")),
        case("h2: a length without a body", with("content-length", "5"), Reset),
        case(
            "h2: no body and no length",
            with("content-length", "0"),
            got("content-length: 0\r\n"),
        ),
        case("h2: a signed length", length("+5", "hello"), Reset),
        case("h2: a hexadecimal length", length("0x5", "hello"), Reset),
        case("h2: an empty length", length("", "hello"), Reset),
        case("h2: a list of lengths", length("5, 5", "hello"), Reset),
        case("h2: a length beyond 64 bits", length("18446744073709551621", "hello"), Reset),
        case(
            "h2: two lengths",
            post(&[("content-length", "5"), ("content-length", "6")], "hello"),
            Reset,
        ),
        case(
            "h2: the same length twice",
            post(&[("content-length", "5"), ("content-length", "5")], "hello"),
            Refused(400),
        ),
        case(
            "h2: trailers",
            trailers(END_STREAM, &[("x", "y")]),
            posted(chunked, "5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
        ),
        case(
            "h2: a length among trailers",
            trailers(END_STREAM, &[("content-length", "9")]),
            posted(chunked, "5\r\nhello\r\n0\r\n\r\n"),
        ),
        case(
            "h2: a host among trailers",
            trailers(END_STREAM, &[("host", "b"), ("x", "y")]),
            posted(chunked, "5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
        ),
        case(
            "h2: a pseudo-header among trailers",
            trailers(END_STREAM, &[(":path", "/q")]),
            posted(chunked, "5\r\nhello\r\n0\r\n\r\n"),
        ),
        case(
            "h2: a coding among trailers",
            trailers(END_STREAM, &[("transfer-encoding", "chunked")]),
            cut(chunked, "5\r\nhello\r\n"),
        ),
        case("h2: CR LF among trailers", trailers(END_STREAM, &[("x", "y\r\nz: 1")]), Gone),
        case(
            "h2: trailers that are not the end",
            trailers(0, &[("x", "y")]),
            cut(chunked, "5\r\nhello\r\n"),
        ),
    ]
}

fn frames() -> Vec<Case> {
    let whole = block(&GET);
    let (one, other) = whole.split_at(20);
    let begun = frame(HEADERS, END_STREAM, 1, one);
    let padded = [&[200], &whole[..]].concat();
    let indexed = [&whole[..], &[0xff, 0x7f]].concat();
    let table = [&[0x3f, 0xff, 0xff, 0x7f][..], &whole].concat();
    vec![
        case(
            "h2: a head in two frames",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 1, other)].concat(),
            got(""),
        ),
        case(
            "h2: padding",
            head(END_STREAM | PADDED, &[&[3], &whole[..], &[0; 3]].concat()),
            got(""),
        ),
        case("h2: more padding than frame", head(END_STREAM | PADDED, &padded), Gone),
        case(
            "h2: a ping inside a head",
            [begun.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            Gone,
        ),
        case(
            "h2: another stream inside a head",
            [begun, frame(HEADERS, END_STREAM | END_HEADERS, 3, &whole)].concat(),
            Gone,
        ),
        case("h2: a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &whole), Gone),
        case("h2: data before a head", frame(DATA, END_STREAM, 1, b"x"), Gone),
        case(
            "h2: a stream of the server's",
            frame(HEADERS, END_STREAM | END_HEADERS, 2, &whole),
            Gone,
        ),
        case("h2: a head on no stream", frame(HEADERS, END_STREAM | END_HEADERS, 0, &whole), Gone),
        case("h2: data on no stream", frame(DATA, 0, 0, b"x"), Gone),
        case(
            "h2: a promise from a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &whole[..]].concat()),
            Gone,
        ),
        case("h2: an entry that the table lacks", head(END_STREAM, &indexed), Gone),
        case("h2: a table that is too large", head(END_STREAM, &table), Gone),
        case(
            "h2: a literal cut short",
            head(END_STREAM, &[&whole[..], &[0, 9, b'x']].concat()),
            Gone,
        ),
        case("h2: settings with a bad length", frame(SETTINGS, 0, 0, &[0; 5]), Gone),
        case("h2: an acknowledgement with content", frame(SETTINGS, ACK, 0, &[0; 6]), Gone),
        case("h2: settings on a stream", frame(SETTINGS, 0, 1, &[]), Gone),
        case("h2: a ping with a bad length", frame(PING, 0, 0, &[0; 7]), Gone),
        case("h2: a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Gone),
        case(
            "h2: a window that overflows",
            [
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat(),
            Gone,
        ),
        case(
            "h2: a frame that is too large",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &vec![0; 17_000]),
            Gone,
        ),
        case(
            "h2: a priority upon itself",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), head(END_STREAM, &whole)].concat(),
            Reset,
        ),
        case(
            "h2: a frame of an unknown kind",
            [frame(0x42, 0, 1, b"x"), head(END_STREAM, &whole)].concat(),
            got(""),
        ),
        case("h2: a head without a field", head(END_STREAM, &[]), Reset),
        case(
            "h2: a field behind a bad one",
            head(END_STREAM, &[&whole[..], &literal(b"X", b"y"), &literal(b"x", b"y")].concat()),
            Gone,
        ),
    ]
}
