//! Lengths, codings, chunks, trailers.

use super::h1::{Case, Fate, broken, case, chunked, get, post, posted, sent};
use Fate::{Refused, Waits};

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

pub fn cases() -> Vec<Case> {
    let mut all = lengths();
    all.extend(codings());
    all.extend(chunks());
    all.extend(trailers());
    all
}

fn lengths() -> Vec<Case> {
    let two = |one: &str, other: &str| {
        post(format!("Content-Length: {one}\r\nContent-Length: {other}\r\n"), "hello")
    };
    let one = |value: &str| post(format!("Content-Length: {value}\r\n"), "hello");
    let five = || posted("content-length: 5\r\n", "hello");
    let with_body = "GET /p HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    vec![
        case("a length", one("5"), five()),
        case("a length with blanks", one(" \t5\t "), five()),
        case("a length with zeros", one("0005"), five()),
        case("the same length twice", two("5", "5"), five()),
        case("two lengths", two("5", "6"), Refused(400)),
        case("two lengths, one empty", two("5", ""), Refused(400)),
        case("the same length twice, written otherwise", two("5", "05"), five()),
        case("a list of lengths", one("5, 5"), Refused(400)),
        case("a list of different lengths", one("5, 6"), Refused(400)),
        case("a list with nothing in it", one("5,"), Refused(400)),
        case("a signed length", one("+5"), Refused(400)),
        case("a negative length", one("-5"), Refused(400)),
        case("a hexadecimal length", one("0x5"), Refused(400)),
        case("a length in hexadecimal digits", one("a"), Refused(400)),
        case("an octal length", one("0o5"), Refused(400)),
        case("a length with a fraction", one("5.0"), Refused(400)),
        case("a length with an exponent", one("5e0"), Refused(400)),
        case("a length with an underscore", one("5_0"), Refused(400)),
        case("a length with a blank in it", one("5 0"), Refused(400)),
        case("a quoted length", one("\"5\""), Refused(400)),
        case("a length with a vertical tab", one("\x0b5"), Refused(400)),
        case("a length with a semicolon", one("5;x"), Refused(400)),
        case("an empty length", one(""), Refused(400)),
        case("a length beyond 64 bits", one("18446744073709551621"), Refused(400)),
        case(
            "a length beyond 128 bits",
            one("340282366920938463463374607431768211461"),
            Refused(400),
        ),
        case("a length in other digits", one("\u{665}"), Refused(400)),
        case(
            "Content-Length with a blank before the colon",
            post("Content-Length : 5\r\n", "hello"),
            Refused(400),
        ),
        case(
            "Content-Length behind a blank",
            post("X: y\r\n Content-Length: 5\r\n", "hello"),
            Refused(400),
        ),
        case(
            "a name like Content-Length",
            post("Content_Length: 5\r\n", ""),
            posted("content_length: 5\r\ncontent-length: 0\r\n", ""),
        ),
        case("POST without a body", post("", ""), posted("content-length: 0\r\n", "")),
        case(
            "GET with a body",
            get("Content-Length: 5\r\n").into_iter().chain(*b"hello").collect::<Vec<_>>(),
            sent(with_body),
        ),
        case(
            "GET with an empty body",
            get("Content-Length: 0\r\n"),
            sent("GET /p HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
        ),
        case(
            "HEAD with a body",
            "HEAD /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            sent("HEAD /p HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"),
        ),
        case(
            "a body that is a request",
            post("Content-Length: 30\r\n", "GET /in HTTP/1.1\r\nHost: in\r\n\r\n"),
            posted("content-length: 30\r\n", "GET /in HTTP/1.1\r\nHost: in\r\n\r\n"),
        ),
        case("a body without its end", post("Content-Length: 6\r\n", "hello"), Waits),
        case(
            "CONNECT with a body",
            "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\nContent-Length: 2\r\n\r\nhi",
            sent("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\ncontent-length: 2\r\n\r\nhi"),
        ),
    ]
}

fn codings() -> Vec<Case> {
    let te = |lines: &str| post(lines, "5\r\nhello\r\n0\r\n\r\n");
    let whole = || posted(CHUNKED, "5\r\nhello\r\n0\r\n\r\n");
    vec![
        case("chunked", te("Transfer-Encoding: chunked\r\n"), whole()),
        case("chunked in upper case", te("TRANSFER-ENCODING: CHUNKED\r\n"), whole()),
        case("chunked with blanks", te("Transfer-Encoding: \t chunked \t\r\n"), whole()),
        case(
            "a length, then chunked",
            te("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            Refused(400),
        ),
        case(
            "chunked, then a length",
            te("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            Refused(400),
        ),
        case(
            "chunked and no length",
            te("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
            Refused(400),
        ),
        case(
            "a length and another coding",
            te("Content-Length: 15\r\nTransfer-Encoding: identity\r\n"),
            Refused(400),
        ),
        case(
            "chunked twice",
            te("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Refused(400),
        ),
        case("chunked twice in one", te("Transfer-Encoding: chunked, chunked\r\n"), Refused(400)),
        case("chunked and identity", te("Transfer-Encoding: chunked, identity\r\n"), Refused(501)),
        case("identity and chunked", te("Transfer-Encoding: identity, chunked\r\n"), Refused(501)),
        case("identity", te("Transfer-Encoding: identity\r\n"), Refused(501)),
        case("gzip and chunked", te("Transfer-Encoding: gzip, chunked\r\n"), Refused(501)),
        case("chunked and gzip", te("Transfer-Encoding: chunked, gzip\r\n"), Refused(501)),
        case(
            "chunked and gzip apart",
            te("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"),
            Refused(501),
        ),
        case("xchunked", te("Transfer-Encoding: xchunked\r\n"), Refused(501)),
        case("chunkedx", te("Transfer-Encoding: chunkedx\r\n"), Refused(501)),
        case("quoted", te("Transfer-Encoding: \"chunked\"\r\n"), Refused(501)),
        case("with a parameter", te("Transfer-Encoding: chunked;q=1\r\n"), Refused(501)),
        case("with a comma", te("Transfer-Encoding: chunked,\r\n"), Refused(501)),
        case("behind a comma", te("Transfer-Encoding: ,chunked\r\n"), Refused(501)),
        case("apart by a blank", te("Transfer-Encoding: chunked chunked\r\n"), Refused(501)),
        case("empty", te("Transfer-Encoding:\r\n"), Refused(501)),
        case("with a vertical tab", te("Transfer-Encoding: \x0bchunked\r\n"), Refused(400)),
        case("with a form feed", te("Transfer-Encoding: chunked\x0c\r\n"), Refused(400)),
        case("with NUL", te("Transfer-Encoding: chunked\0\r\n"), Refused(400)),
        case("with a no-break space", te("Transfer-Encoding: \u{a0}chunked\r\n"), Refused(501)),
        case("folded", te("Transfer-Encoding:\r\n chunked\r\n"), Refused(400)),
        case("behind a bare CR", te("X: y\rTransfer-Encoding: chunked\r\n"), Refused(400)),
        case("behind a bare LF", te("X: y\nTransfer-Encoding: chunked\r\n"), Refused(400)),
        case("with a blank before the colon", te("Transfer-Encoding : chunked\r\n"), Refused(400)),
        case(
            "a name like Transfer-Encoding",
            post("Transfer_Encoding: chunked\r\n", ""),
            posted("transfer_encoding: chunked\r\ncontent-length: 0\r\n", ""),
        ),
        case(
            "in HTTP/1.0",
            "POST /p HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(400),
        ),
        case(
            "listed in connection",
            te("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"),
            whole(),
        ),
        case(
            "100-continue and chunked",
            te("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"),
            whole(),
        ),
        case(
            "GET with chunks",
            get("Transfer-Encoding: chunked\r\n")
                .into_iter()
                .chain(*b"2\r\nhi\r\n0\r\n\r\n")
                .collect::<Vec<_>>(),
            sent(
                "GET /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            ),
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let head = "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let cut = || broken(head);
    let cut_after = |data: &str| broken(format!("{head}{data}"));
    let hello = || posted(CHUNKED, "5\r\nhello\r\n0\r\n\r\n");
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(5000));
    vec![
        case("no chunk", chunked("0\r\n\r\n"), posted(CHUNKED, "0\r\n\r\n")),
        case("zeros in front", chunked("0005\r\nhello\r\n000\r\n\r\n"), hello()),
        case(
            "digits in upper case",
            chunked("A\r\n0123456789\r\n0\r\n\r\n"),
            posted(CHUNKED, "a\r\n0123456789\r\n0\r\n\r\n"),
        ),
        case("an extension goes", chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), hello()),
        case("a quoted extension goes", chunked("5 ; a=\"b;c\"\r\nhello\r\n0\r\n\r\n"), hello()),
        case("an extension with a bare LF", chunked("5;a\nhello\r\n0\r\n\r\n"), cut()),
        case("an extension with a bare CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), cut()),
        case("an extension that is too long", chunked(&long), cut()),
        case("a size of 2^64", chunked("10000000000000000\r\nhello\r\n0\r\n\r\n"), cut()),
        case(
            "a size that wraps around to 5",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
            cut(),
        ),
        case(
            "a size with many zeros",
            chunked("00000000000000000005\r\nhello\r\n0\r\n\r\n"),
            cut(),
        ),
        case("a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a signed size", chunked("+5\r\nhello\r\n0\r\n\r\n"), cut()),
        case("0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n"), cut()),
        case("no size", chunked("\r\nhello\r\n0\r\n\r\n"), cut()),
        case("an extension without a size", chunked(";a\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a size that is no number", chunked("g\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a blank before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a blank after the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), cut()),
        case("a form feed after the size", chunked("5\x0c\r\nhello\r\n0\r\n\r\n"), cut()),
        case("two sizes", chunked("5 5\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a size with NUL", chunked("5\0\r\nhello\r\n0\r\n\r\n"), cut()),
        case("a bare LF after the size", chunked("5\nhello\r\n0\r\n\r\n"), cut()),
        case("a bare CR after the size", chunked("5\rhello\r\n0\r\n\r\n"), cut()),
        case(
            "a bare LF after the data",
            chunked("5\r\nhello\n0\r\n\r\n"),
            cut_after("5\r\nhello\r\n"),
        ),
        case("nothing after the data", chunked("5\r\nhello0\r\n\r\n"), cut_after("5\r\nhello\r\n")),
        case(
            "more data than the size",
            chunked("4\r\nhello\r\n0\r\n\r\n"),
            cut_after("4\r\nhell\r\n"),
        ),
        case(
            "less data than the size",
            chunked("6\r\nhello\r\n0\r\n\r\n"),
            cut_after("6\r\nhello\r\r\n"),
        ),
        case("a bare LF after the last chunk", chunked("0\n\r\n"), cut()),
        case("a bare LF for the end", chunked("0\r\n\n"), cut()),
        case("no end", chunked("5\r\nhello\r\n0\r\n"), Waits),
        case("no last chunk", chunked("5\r\nhello\r\n"), Waits),
    ]
}

fn trailers() -> Vec<Case> {
    let with = |lines: &str| chunked(format!("0\r\n{lines}\r\n"));
    let kept = |lines: &str| posted(CHUNKED, &format!("0\r\n{lines}\r\n"));
    let cut = || broken("POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let large = format!("x: {}\r\n", "y".repeat(62_000));
    vec![
        case("trailers", with("X-A: 1\r\nx-b: 2\r\n"), kept("x-a: 1\r\nx-b: 2\r\n")),
        case("a length among trailers", with("Content-Length: 5\r\nx: y\r\n"), kept("x: y\r\n")),
        case("a coding among trailers", with("Transfer-Encoding: chunked\r\n"), kept("")),
        case("a host among trailers", with("Host: b\r\n"), kept("")),
        case("a token among trailers", with("Authorization: Bearer x\r\n"), kept("")),
        case("a sender among trailers", with("X-Forwarded-For: 1.1.1.1\r\n"), kept("")),
        case("a folded trailer", with("x: y\r\n z\r\n"), cut()),
        case("a trailer with a bare LF", with("x: y\nz: 1\r\n"), cut()),
        case("a trailer without a colon", with("x\r\n"), cut()),
        case("a trailer with a blank before the colon", with("x : y\r\n"), cut()),
        case("a trailer with NUL", with("x: \0\r\n"), cut()),
        case("trailers that are too large", with(&large), cut()),
        case("too many trailers", with(&"x: y\r\n".repeat(65)), cut()),
        case("a request among trailers", with("GET /in HTTP/1.1\r\n"), cut()),
    ]
}
