//! URL masks: every row of private-connectivity 3.2, the choices of 3.3, and properties.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use url_map::{MaskError, Part, Placeholder, UrlMask, is_legal_name};

/// URL without scheme → what the mask yields, as `service=… tag=…`, or the mismatch in words.
#[track_caller]
fn check(mask: &str, rows: &[(&str, &str)]) {
    let mask = UrlMask::parse(mask).unwrap();
    for (url, expected) in rows {
        let slash = url.find('/').unwrap_or(url.len());
        let (host, path) = url.split_at(slash);
        let path = if path.is_empty() { "/" } else { path };
        let got = match mask.find(host, path) {
            Ok(found) => {
                let service = found.service.map(|text| format!("service={text}"));
                let tag = found.tag.map(|text| format!("tag={text}"));
                service.into_iter().chain(tag).collect::<Vec<_>>().join(" ")
            }
            Err(mismatch) => mismatch.to_string(),
        };
        assert_eq!(got, *expected, "{} on {url}", mask.as_str());
    }
}

#[test]
fn every_documented_example_holds() {
    check("<service>-home.example.com", &[("login-home.example.com/web", "service=login")]);
    check("example.com/<service>", &[("example.com/login/web", "service=login")]);
    check("/<service>", &[("example.com/login/web", "service=login")]);
    check(
        "<tag>.<service>.example.com",
        &[("test.login.example.com/web", "service=login tag=test")],
    );
    for mask in ["example.com/home/<service>/<tag>", "/home/<service>/<tag>"] {
        check(mask, &[("example.com/home/login/test", "service=login tag=test")]);
    }
    check(
        "<tag>.example.com/home/<service>",
        &[("test.example.com/home/login/web", "service=login tag=test")],
    );
    check("<tag>.domain.com/<service>", &[("foo1.domain.com/bar1", "service=bar1 tag=foo1")]);
}

#[test]
fn placeholders_of_functions_and_app_engine_are_refused_by_name() {
    for (mask, name) in [
        ("<service>-dot-appname.appspot.com/<version>", "version"),
        ("/<function>", "function"),
        ("/<Service>", "Service"),
        ("/<>", ""),
    ] {
        assert_eq!(UrlMask::parse(mask), Err(MaskError::Unknown(name.to_owned())), "{mask}");
    }
}

#[test]
fn the_host_part_is_anchored_at_the_right_without_port_and_case() {
    check(
        "<service>.example.com",
        &[
            ("login.example.com", "service=login"),
            ("LOGIN.Example.COM:8443/x", "service=login"),
            ("eu.login.example.com", "service=login"),
            (
                "example.com",
                "label 3 of the host, counted from the right: \
                 the mask has `<service>`, the URL has none",
            ),
            (
                "login.example.net",
                "label 1 of the host, counted from the right: \
                 the mask has `com`, the URL has `net`",
            ),
            (
                "login.sample.com",
                "label 2 of the host, counted from the right: \
                 the mask has `example`, the URL has `sample`",
            ),
            (
                ".example.com",
                "label 3 of the host, counted from the right: \
                 the mask has `<service>`, the URL has an empty one",
            ),
        ],
    );
    check("API.example.com/<service>", &[("api.example.com/login", "service=login")]);
}

#[test]
fn the_path_part_is_anchored_at_the_left_on_whole_segments() {
    check(
        "/home/<service>",
        &[
            ("h/home/login", "service=login"),
            ("h/home/login/", "service=login"),
            ("h/home/login.html", "service=login.html"),
            ("h/home/a%2Fb", "service=a%2Fb"),
            ("h/home/Login", "service=Login"),
            ("h/home", "segment 2 of the path: the mask has `<service>`, the URL has none"),
            (
                "h/home/",
                "segment 2 of the path: the mask has `<service>`, the URL has an empty one",
            ),
            ("h/homes/login", "segment 1 of the path: the mask has `home`, the URL has `homes`"),
            ("h/Home/login", "segment 1 of the path: the mask has `home`, the URL has `Home`"),
            (
                "h//home/login",
                "segment 1 of the path: the mask has `home`, the URL has an empty one",
            ),
        ],
    );
    check("lb.example.com/<service>/", &[("lb.example.com/login", "service=login")]);
    check(
        "/<service>/v1",
        &[
            ("h/login/v1/x", "service=login"),
            ("h/login", "segment 2 of the path: the mask has `v1`, the URL has none"),
        ],
    );
}

#[test]
fn a_placeholder_may_be_a_part_of_a_label_or_segment() {
    check(
        "/<tag>--<service>.do",
        &[
            ("h/test--login.do", "service=login tag=test"),
            ("h/a--b--c.do", "service=b--c tag=a"),
            ("h/---a.do", "service=a tag=-"),
            (
                "h/--login.do",
                "segment 1 of the path: the mask has `<tag>--<service>.do`, \
                 the URL has `--login.do`",
            ),
        ],
    );
    check("/v<service>-x", &[("h/va-x-x", "service=a-x")]);
}

#[test]
fn a_mask_that_can_pick_nothing_is_refused() {
    for (mask, expected) in [
        ("", MaskError::Empty),
        ("  ", MaskError::Empty),
        ("https://example.com/<service>", MaskError::Scheme),
        ("example.com/home", MaskError::NoPlaceholder),
        ("/", MaskError::NoPlaceholder),
        ("<service>.example.com/<service>", MaskError::Repeated(Placeholder::Service)),
        ("/<tag>-<tag>", MaskError::Repeated(Placeholder::Tag)),
        ("/<tag><service>", MaskError::Adjacent),
        ("/<service", MaskError::Bracket),
        ("/service>", MaskError::Bracket),
        ("/<<service>>", MaskError::Bracket),
        ("/<service>?x=<tag>", MaskError::QueryOrFragment),
        ("/<service>#top", MaskError::QueryOrFragment),
        ("example.com:8080/<service>", MaskError::Port),
        ("example..com/<service>", MaskError::EmptyComponent),
        ("/a//<service>", MaskError::EmptyComponent),
        ("/a <service>", MaskError::Character(' ')),
        ("*.example.com/<service>", MaskError::Character('*')),
        ("/é<service>", MaskError::Character('é')),
    ] {
        assert_eq!(UrlMask::parse(mask), Err(expected), "{mask}");
    }
}

#[test]
fn names_are_legal_as_cloud_run_says() {
    let s49 = "a".repeat(49);
    let s50 = "a".repeat(50);
    for (name, legal) in [
        ("login", true),
        ("a", true),
        ("a-1", true),
        (&s49, true),
        (&s50, false),
        ("", false),
        ("1a", false),
        ("-a", false),
        ("a-", false),
        ("Login", false),
        ("login.html", false),
        ("a%20b", false),
        ("é", false),
    ] {
        assert_eq!(is_legal_name(Placeholder::Service, name), legal, "{name}");
    }
    assert!(is_legal_name(Placeholder::Tag, &s50));
}

#[test]
fn the_evidence_counts_from_the_anchored_end() {
    let mask = UrlMask::parse("<service>.example.com/v1/<tag>").unwrap();
    let host = mask.find("login.test.com", "/v1/x").unwrap_err();
    assert_eq!((host.part, host.index, host.expected), (Part::Host, 1, "example"));
    let path = mask.find("login.example.com", "/v2/x").unwrap_err();
    assert_eq!((path.part, path.index, path.got.as_deref()), (Part::Path, 0, Some("v2")));
}

/// A mask's label or segment around a placeholder, without text that a name could contain.
fn around(placeholder: &'static str) -> impl Strategy<Value = String> {
    ("[A-Z0-9]{0,3}", "[A-Z0-9]{0,3}").prop_map(move |(a, b)| format!("{a}{placeholder}{b}"))
}

proptest! {
    #[test]
    fn what_a_mask_renders_it_finds_again(
        host in prop::collection::vec("[a-z][a-z0-9]{0,5}", 0..3),
        service in around("<service>"),
        tag in around("<tag>"),
        path in prop::collection::vec("[a-z]{1,4}", 0..3),
        tag_in_host in any::<bool>(),
        name in "[a-z]([-a-z0-9]{0,10}[a-z0-9])?",
        label in "[a-z]([-a-z0-9]{0,10}[a-z0-9])?",
        more_labels in "([a-z]{1,3}\\.){0,2}",
        more_path in "(/[a-z]{0,3}){0,2}",
    ) {
        let mut labels = host;
        let mut segments = path;
        match tag_in_host {
            true => labels.insert(0, "<tag>".to_owned()),
            false => segments.insert(0, tag),
        }
        segments.push(service);
        let mask = UrlMask::parse(&format!("{}/{}", labels.join("."), segments.join("/"))).unwrap();
        let (host, path) = mask.render(&name, &label);
        let host = if host.is_empty() { "any".to_owned() } else { format!("{more_labels}{host}") };
        let path = format!("{path}{more_path}");
        let found = mask.find(&host, &path).unwrap();
        prop_assert_eq!(found.service.as_deref(), Some(name.as_str()));
        prop_assert_eq!(found.tag.as_deref(), Some(label.as_str()));
    }

    #[test]
    fn no_mask_and_no_url_panics(mask in "\\PC{0,30}|[a-z</>.:-]{0,20}", host in "\\PC{0,20}", path in "/?\\PC{0,20}") {
        if let Ok(mask) = UrlMask::parse(&mask) {
            let _ = mask.find(&host, &path).map_err(|mismatch| mismatch.to_string());
        }
    }
}
