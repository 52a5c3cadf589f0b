//! Request lines and fields.

use super::h1::{Case, Fate, case, get, got, sent};
use Fate::{Last, Refused, Waits};

pub fn cases() -> Vec<Case> {
    let mut all = lines();
    all.extend(targets());
    all.extend(hosts());
    all.extend(fields());
    all.extend(connections());
    all
}

fn whole(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn lines() -> Vec<Case> {
    let plain = || sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    vec![
        case("a request", whole("GET / HTTP/1.1"), plain()),
        case("empty lines in front", format!("\r\n\r\n{}", whole("GET / HTTP/1.1")), plain()),
        case("a bare LF in front", format!("\n{}", whole("GET / HTTP/1.1")), Refused(400)),
        case("a bare CR in front", format!("\r{}", whole("GET / HTTP/1.1")), Refused(400)),
        case("a blank in front", format!(" {}", whole("GET / HTTP/1.1")), Refused(400)),
        case("bare LFs", "GET / HTTP/1.1\nHost: a\n\n", Refused(400)),
        case("a bare LF after the first line", "GET / HTTP/1.1\nHost: a\r\n\r\n", Refused(400)),
        case("a bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Refused(400)),
        case("a bare LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", Refused(400)),
        case("a bare CR after the first line", "GET / HTTP/1.1\rHost: a\r\n\r\n", Refused(400)),
        case("two CRs", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Refused(400)),
        case("two blanks after the method", whole("GET  / HTTP/1.1"), Refused(400)),
        case("two blanks after the target", whole("GET /  HTTP/1.1"), Refused(400)),
        case("a tab after the method", whole("GET\t/ HTTP/1.1"), Refused(400)),
        case("a tab after the target", whole("GET /\tHTTP/1.1"), Refused(400)),
        case("a blank after the version", whole("GET / HTTP/1.1 "), Refused(400)),
        case("no blank after the method", whole("GET/ HTTP/1.1"), Refused(400)),
        case("no method", whole(" / HTTP/1.1"), Refused(400)),
        case("no target", whole("GET HTTP/1.1"), Refused(400)),
        case("nothing but a version", whole("HTTP/1.1"), Refused(400)),
        case("HTTP/0.9", "GET /\r\n\r\n", Refused(400)),
        case("HTTP/0.9 by its number", whole("GET / HTTP/0.9"), Refused(505)),
        case("HTTP/1.2", whole("GET / HTTP/1.2"), Refused(505)),
        case("HTTP/1.9", whole("GET / HTTP/1.9"), Refused(505)),
        case("HTTP/2.0", whole("GET / HTTP/2.0"), Refused(505)),
        case("HTTP/3.0", whole("GET / HTTP/3.0"), Refused(505)),
        case("HTTP/2", whole("GET / HTTP/2"), Refused(400)),
        case("HTTP/1", whole("GET / HTTP/1"), Refused(400)),
        case("HTTP/1.10", whole("GET / HTTP/1.10"), Refused(400)),
        case("HTTP/01.1", whole("GET / HTTP/01.1"), Refused(400)),
        case("HTTP/1,1", whole("GET / HTTP/1,1"), Refused(400)),
        case("http/1.1", whole("GET / http/1.1"), Refused(400)),
        case("HTP/1.1", whole("GET / HTP/1.1"), Refused(400)),
        case("HTTP/+1.1", whole("GET / HTTP/+1.1"), Refused(400)),
        case(
            "a method in lower case",
            whole("get / HTTP/1.1"),
            sent("get / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case(
            "a method of one's own",
            whole("FROB-1 / HTTP/1.1"),
            sent("FROB-1 / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case("a control character in the method", whole("G\x01T / HTTP/1.1"), Refused(400)),
        case("NUL in the method", whole("GE\0T / HTTP/1.1"), Refused(400)),
        case("a colon in the method", whole("GE:T / HTTP/1.1"), Refused(400)),
        case("a slash in the method", whole("GE/T / HTTP/1.1"), Refused(400)),
        case(
            "bytes beyond ASCII in the method",
            b"G\xc3\x8bT / HTTP/1.1\r\nHost: a\r\n\r\n",
            Refused(400),
        ),
        case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Refused(400)),
        case("TRACE", whole("TRACE / HTTP/1.1"), sent("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n")),
        case("HTTP/2's preface, damaged", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Refused(505)),
        case(
            "HTTP/2's preface behind an empty line",
            "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Refused(505),
        ),
        case("a head without its end", "GET / HTTP/1.1\r\nHost: a\r\n", Waits),
        case("a first line without its end", "GET / HTTP/1.1", Waits),
    ]
}

fn targets() -> Vec<Case> {
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let becomes =
        |target: &str, host: &str| sent(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    vec![
        case("dots stay", line("/a/../b/./c"), becomes("/a/../b/./c", "a")),
        case("slashes stay", line("//a///b"), becomes("//a///b", "a")),
        case("percent signs stay", line("/%2e%2E%2f%00%zz%"), becomes("/%2e%2E%2f%00%zz%", "a")),
        case("a backslash stays", line("/a\\b"), becomes("/a\\b", "a")),
        case("a semicolon stays", line("/a;b=c?d;e"), becomes("/a;b=c?d;e", "a")),
        case("two question marks stay", line("/?a?b"), becomes("/?a?b", "a")),
        case("what URLs must not have is encoded", line("/<a>\"`"), becomes("/%3Ca%3E%22%60", "a")),
        case("a fragment", line("/a#b"), Refused(400)),
        case("a fragment in an absolute target", line("http://b/a#b"), Refused(400)),
        case("a control character", line("/a\x01b"), Refused(400)),
        case("NUL", line("/a\0b"), Refused(400)),
        case("DEL", line("/a\x7fb"), Refused(400)),
        case("a bare CR in the target", line("/a\rb"), Refused(400)),
        case("a blank in the target", line("/a b"), Refused(400)),
        case("a form feed in the target", line("/a\x0cb"), Refused(400)),
        case("no slash", line("a"), Refused(400)),
        case("a query alone", line("?a"), Refused(400)),
        case("an asterisk", line("*"), Refused(400)),
        case(
            "OPTIONS *",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            sent("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case("OPTIONS *x", "OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        case("absolute", line("http://a/b?c"), becomes("/b?c", "a")),
        case("absolute with another host", line("http://b:81/c"), becomes("/c", "b:81")),
        case("absolute without a path", line("http://b"), becomes("/", "b")),
        case("absolute with a query alone", line("http://b?c"), becomes("/?c", "b")),
        case("absolute https", line("https://b/c"), becomes("/c", "b")),
        case("absolute in upper case", line("HTTP://B/c"), becomes("/c", "B")),
        case("absolute with user information", line("http://u:p@b/c"), Refused(400)),
        case("absolute without a host", line("http:///c"), Refused(400)),
        case("absolute with a bad port", line("http://b:x/c"), Refused(400)),
        case("absolute of another scheme", line("ftp://b/c"), Refused(400)),
        case("absolute file", line("file:///etc/passwd"), Refused(400)),
        case("an authority to GET", line("b:80"), Refused(400)),
        case("absolute without Host", "GET http://b/ HTTP/1.1\r\n\r\n", Refused(400)),
        case(
            "CONNECT",
            "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
            sent("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n"),
        ),
        case(
            "CONNECT with another host",
            "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            sent("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n"),
        ),
        case("CONNECT without a port", "CONNECT b HTTP/1.1\r\nHost: b\r\n\r\n", Refused(400)),
        case(
            "CONNECT with user information",
            "CONNECT u@b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
            Refused(400),
        ),
        case("CONNECT to a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
        case(
            "CONNECT to a URL",
            "CONNECT http://b:443/ HTTP/1.1\r\nHost: b:443\r\n\r\n",
            Refused(400),
        ),
        case(
            "UTF-8 in the target stays",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            sent("GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case("Latin-1 in the target", b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ]
}

fn hosts() -> Vec<Case> {
    let with = |hosts: &str| format!("GET / HTTP/1.1\r\n{hosts}\r\n");
    let becomes = |host: &str| sent(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    let large = "x".repeat(62_000);
    vec![
        case("no Host", with(""), Refused(400)),
        case(
            "no Host in HTTP/1.0",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            becomes(""),
        ),
        case("an empty Host", with("Host:\r\n"), becomes("")),
        case("two Hosts", with("Host: a\r\nHost: b\r\n"), Refused(400)),
        case("the same Host twice", with("Host: a\r\nhost: a\r\n"), Refused(400)),
        case("an empty Host and another", with("Host:\r\nHost: a\r\n"), Refused(400)),
        case("two Hosts in one", with("Host: a, b\r\n"), Refused(400)),
        case("two Hosts in one, without a blank", with("Host: a,b\r\n"), Refused(400)),
        case("two Hosts apart by a blank", with("Host: a b\r\n"), Refused(400)),
        case("a path in Host", with("Host: a/b\r\n"), Refused(400)),
        case("a query in Host", with("Host: a?b\r\n"), Refused(400)),
        case("a fragment in Host", with("Host: a#b\r\n"), Refused(400)),
        case("a backslash in Host", with("Host: a\\b\r\n"), Refused(400)),
        case("user information in Host", with("Host: u@a\r\n"), Refused(400)),
        case("a scheme in Host", with("Host: http://a\r\n"), Refused(400)),
        case("a port in Host", with("Host: A.example:8080\r\n"), becomes("A.example:8080")),
        case("an empty port", with("Host: a:\r\n"), becomes("a:")),
        case("a port in words", with("Host: a:http\r\n"), Refused(400)),
        case("a signed port", with("Host: a:+80\r\n"), Refused(400)),
        case("a long port", with("Host: a:000080\r\n"), Refused(400)),
        case("two ports", with("Host: a:80:81\r\n"), Refused(400)),
        case("IPv6", with("Host: [::1]:80\r\n"), becomes("[::1]:80")),
        case("IPv6 without its end", with("Host: [::1\r\n"), Refused(400)),
        case("IPv6 and more", with("Host: [::1]a\r\n"), Refused(400)),
        case("a name in brackets", with("Host: [a.example]\r\n"), Refused(400)),
        case("bytes beyond ASCII in Host", with("Host: \u{e9}.example\r\n"), Refused(400)),
        case("quotes in Host", with("Host: \"a\"\r\n"), Refused(400)),
        case("a tab in Host", with("Host: a\tb\r\n"), Refused(400)),
        case("blanks around Host", with("Host: \t a \t\r\n"), becomes("a")),
        case("a folded Host", with("Host: a\r\n b\r\n"), Refused(400)),
        case("Host with a blank before the colon", with("Host : a\r\n"), Refused(400)),
        case("Host behind a blank", with(" Host: a\r\n"), Refused(400)),
        case("a Host that is too large", with(&format!("Host: {large}\r\n")), Refused(431)),
    ]
}

fn fields() -> Vec<Case> {
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(62_000));
    vec![
        case("names in lower case", get("X-Some: Value\r\n"), got("x-some: Value\r\n")),
        case("an empty value", get("x:\r\n"), got("x: \r\n")),
        case("blanks around a value", get("x: \t y z \t \r\n"), got("x: y z\r\n")),
        case("no blank", get("x:y\r\n"), got("x: y\r\n")),
        case(
            "the same twice stays twice",
            get("x: 1\r\ny: 2\r\nX: 3\r\n"),
            got("x: 1\r\nx: 3\r\ny: 2\r\n"),
        ),
        case("a folded value", get("x: y\r\n z\r\n"), Refused(400)),
        case("a value folded with a tab", get("x: y\r\n\tz\r\n"), Refused(400)),
        case("a folded empty value", get("x:\r\n y\r\n"), Refused(400)),
        case("a line of blanks", get("x: y\r\n \r\n"), Refused(400)),
        case("a blank before the colon", get("x : y\r\n"), Refused(400)),
        case("a tab before the colon", get("x\t: y\r\n"), Refused(400)),
        case("a blank in the name", get("x y: z\r\n"), Refused(400)),
        case("no colon", get("x\r\n"), Refused(400)),
        case("no name", get(": y\r\n"), Refused(400)),
        case("parentheses in a name", get("x(y): z\r\n"), Refused(400)),
        case("a slash in a name", get("x/y: z\r\n"), Refused(400)),
        case("quotes in a name", get("\"x\": z\r\n"), Refused(400)),
        case("an at sign in a name", get("x@y: z\r\n"), Refused(400)),
        case("brackets in a name", get("x[0]: z\r\n"), Refused(400)),
        case("NUL in a name", get("x\0y: z\r\n"), Refused(400)),
        case("DEL in a name", get("x\x7f: z\r\n"), Refused(400)),
        case("bytes beyond ASCII in a name", get("\u{e9}: z\r\n"), Refused(400)),
        case("an underscore stays", get("x_y: z\r\n"), got("x_y: z\r\n")),
        case("NUL in a value", get("x: y\0z\r\n"), Refused(400)),
        case("a bare CR in a value", get("x: y\rz: 1\r\n"), Refused(400)),
        case("two CRs after a value", get("x: y\r\r\n"), Refused(400)),
        case("a vertical tab in a value", get("x: y\x0bz\r\n"), Refused(400)),
        case("a form feed in a value", get("x: y\x0cz\r\n"), Refused(400)),
        case("ESC in a value", get("x: y\x1bz\r\n"), Refused(400)),
        case("DEL in a value", get("x: y\x7fz\r\n"), Refused(400)),
        case("a tab in a value stays", get("x: y\tz\r\n"), got("x: y\tz\r\n")),
        case("UTF-8 in a value stays", get("x: \u{e9}\r\n"), got("x: \u{e9}\r\n")),
        case("too many fields", get(&many), Refused(431)),
        case("a field that is too large", get(&large), Refused(431)),
        case("an expectation of one's own", get("Expect: 200-ok\r\n"), Refused(417)),
        case("100-continue and another", get("Expect: 100-continue, x\r\n"), Refused(417)),
        case("an empty expectation", get("Expect:\r\n"), Refused(417)),
        case("100-continue without a body", get("Expect: 100-continue\r\n"), got("")),
    ]
}

fn connections() -> Vec<Case> {
    let last = |text: &str| Last(text.as_bytes().to_vec());
    vec![
        case("keep-alive", get("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), got("")),
        case(
            "a listed field goes",
            get("Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\n"),
            got("x-b: 2\r\n"),
        ),
        case(
            "listed fields go",
            get("Connection: x-a, ,\tX-B\r\nConnection: x-c\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n"),
            got(""),
        ),
        case("host cannot be listed away", get("Connection: host\r\n"), got("")),
        case(
            "content-length cannot be listed away",
            get("Connection: content-length\r\nContent-Length: 0\r\n"),
            got("content-length: 0\r\n"),
        ),
        case("a listed cookie goes", get("Connection: cookie\r\nCookie: a=b\r\n"), got("")),
        case("what is no token lists nothing", get("Connection: x y\r\nx: 1\r\n"), got("x: 1\r\n")),
        case("close", get("Connection: close\r\n"), last("GET /p HTTP/1.1\r\nhost: a\r\n\r\n")),
        case(
            "close among others",
            get("Connection: x, CLOSE\r\n"),
            last("GET /p HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case(
            "close and keep-alive",
            get("Connection: keep-alive, close\r\n"),
            last("GET /p HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case(
            "HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            last("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case(
            "HTTP/1.0 that stays",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case(
            "HTTP/1.0 with two wishes",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
            last("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        case("proxy-connection goes", get("Proxy-Connection: close\r\n"), got("")),
        case("te goes", get("TE: gzip, deflate;q=0.5\r\n"), got("")),
        case(
            "te: trailers stays",
            get("TE: gzip, trailers\r\nConnection: te\r\n"),
            got("te: trailers\r\n"),
        ),
        case(
            "an upgrade to h2c goes",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
            got(""),
        ),
        case("an upgrade that is not listed goes", get("Upgrade: websocket\r\n"), got("")),
        case("an upgrade to TLS goes", get("Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"), got("")),
        case(
            "a WebSocket",
            get("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            got("upgrade: websocket\r\nconnection: upgrade\r\n"),
        ),
        case(
            "a WebSocket of HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
            sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
    ]
}
