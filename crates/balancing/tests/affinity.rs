//! What keeps a client at one endpoint.

use balancing::{Affinity, Bound, stable_hash};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use slice::load_balancer::{LocalityLbPolicy, SessionAffinity};
use std::net::Ipv4Addr;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn affinity(affinity: SessionAffinity) -> Affinity {
    Affinity::new(&affinity, LocalityLbPolicy::Maglev).expect("it is well-formed")
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (
            HeaderName::try_from(*name).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        )
    };
    fields.iter().map(field).collect()
}

fn cookie(line: &str) -> HeaderMap {
    headers(&[("cookie", line)])
}

fn set(affinity: &Affinity, bound: &Bound) -> Option<String> {
    let value = affinity.set_cookie(bound, 0xabc)?;
    Some(value.to_str().expect("text").to_owned())
}

#[test]
fn address_and_header_are_hashed() {
    let by_address = affinity(SessionAffinity::ClientIp);
    let bound = by_address.bound(CLIENT, &HeaderMap::new(), 1);
    assert_eq!(bound.hash, Some(stable_hash(&[10, 0, 0, 9])));
    assert_eq!(set(&by_address, &bound), None);

    let by_header = affinity(SessionAffinity::HeaderField { name: "X-Tenant".to_owned() });
    let of = |fields: &[(&str, &str)]| by_header.bound(CLIENT, &headers(fields), 1).hash;
    assert_eq!(of(&[("x-tenant", "a")]), Some(stable_hash(b"a")));
    assert_eq!(of(&[("x-other", "a")]), None);
}

#[test]
fn a_cookie_is_made_up_once_and_then_leads_to_the_same_place() {
    for (kind, name, attributes) in [
        (SessionAffinity::GeneratedCookie { ttl_sec: 0 }, "GCILB", "; Path=/; HttpOnly"),
        (
            SessionAffinity::GeneratedCookie { ttl_sec: 60 },
            "GCILB",
            "; Max-Age=60; Path=/; HttpOnly",
        ),
        (
            SessionAffinity::HttpCookie {
                name: "session".to_owned(),
                path: Some("/app".to_owned()),
                ttl_sec: Some(5),
            },
            "session",
            "; Max-Age=5; Path=/app; HttpOnly",
        ),
        (
            SessionAffinity::HttpCookie { name: "session".to_owned(), path: None, ttl_sec: None },
            "session",
            "; HttpOnly",
        ),
    ] {
        let affinity = affinity(kind);
        let first = affinity.bound(CLIENT, &cookie("other=1"), 5);
        let line = set(&affinity, &first).expect("a cookie");
        let (pair, rest) = line.split_at(line.find(';').expect("attributes"));
        assert_eq!((&pair[..name.len() + 1], rest), (&*format!("{name}="), attributes));
        for sent in [format!("a=b; {pair}"), pair.replace('"', ""), format!("{pair} ;x=y")] {
            let again = affinity.bound(CLIENT, &cookie(&sent), 6);
            assert_eq!((again.hash, set(&affinity, &again)), (first.hash, None), "{sent}");
        }
        let mut apart = cookie("a=b");
        apart.append(COOKIE, HeaderValue::from_str(pair).expect("a value"));
        assert_eq!(affinity.bound(CLIENT, &apart, 7).hash, first.hash);
        assert_ne!(affinity.bound(CLIENT, &HeaderMap::new(), 8).hash, first.hash, "others spread");
    }
}

#[test]
fn a_strong_cookie_names_the_endpoint_under_any_policy() {
    let strong =
        SessionAffinity::StrongCookie { name: "s".to_owned(), path: None, ttl_sec: Some(9) };
    let affinity = Affinity::new(&strong, LocalityLbPolicy::RoundRobin).expect("well-formed");
    let none = affinity.bound(CLIENT, &HeaderMap::new(), 1);
    assert_eq!((none.endpoint, none.hash), (None, None));
    let line = set(&affinity, &none).expect("a cookie");
    assert_eq!(line, "s=\"0000000000000abc\"; Max-Age=9; Path=/; HttpOnly");
    let kept = affinity.bound(CLIENT, &cookie("s=\"0000000000000abc\""), 1);
    assert_eq!((kept.endpoint, set(&affinity, &kept)), (Some(0xabc), None));
    let moved = affinity.bound(CLIENT, &cookie("s=1"), 1);
    assert!(set(&affinity, &moved).is_some_and(|line| line.starts_with("s=\"0000000000000abc\"")));
    let forged = affinity.bound(CLIENT, &cookie("s=zz"), 1);
    assert_eq!(forged.endpoint, None);
}

#[test]
fn without_a_hashing_policy_there_is_no_hashing_affinity() {
    let affinity = Affinity::new(&SessionAffinity::ClientIp, LocalityLbPolicy::RoundRobin);
    let bound = affinity.expect("well-formed").bound(CLIENT, &HeaderMap::new(), 1);
    assert_eq!(bound, Bound::default());
}

#[test]
fn names_that_cannot_be_one_are_refused() {
    let cookie = |name: &str, path: &str| SessionAffinity::HttpCookie {
        name: name.to_owned(),
        path: Some(path.to_owned()),
        ttl_sec: None,
    };
    for (affinity, word) in [
        (SessionAffinity::HeaderField { name: "a b".to_owned() }, "header"),
        (cookie("a;b", "/"), "cookie"),
        (cookie("a", "/;x"), "cookie"),
        (cookie("a", "/\r\n"), "cookie"),
    ] {
        let error = Affinity::new(&affinity, LocalityLbPolicy::Maglev).expect_err("refused");
        assert!(error.contains(word), "{error}");
    }
}
