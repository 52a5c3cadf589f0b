//! Policies and requests.
#![allow(dead_code)]

use http::{HeaderMap, HeaderName, HeaderValue};
use names::SelfLink;
use security_policy::Request;
use slice::load_balancer::{
    AddressGroup, KnownOrigin, SecurityAction, SecurityMatch, SecurityPolicy, SecurityRule,
};

pub fn headers(all: &[(&str, &str)]) -> HeaderMap {
    let one = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    all.iter().map(one).collect()
}

pub fn request(headers: &HeaderMap) -> Request<'_> {
    Request {
        client: "203.0.113.7".parse().expect("an address"),
        method: "GET",
        scheme: "https",
        host: "shop.example.com",
        path: "/a/Login",
        query: "q=1%20or%201",
        headers,
        sni: Some("shop.example.com"),
    }
}

pub fn rule(priority: u32, matches: SecurityMatch, action: SecurityAction) -> SecurityRule {
    SecurityRule {
        priority,
        description: String::new(),
        preview: false,
        matches,
        action,
        request_headers_to_add: Vec::new(),
    }
}

pub fn policy(rules: Vec<SecurityRule>) -> SecurityPolicy {
    SecurityPolicy {
        self_link: SelfLink::global("p", "securityPolicies", "edge"),
        rules,
        user_ip_request_headers: vec!["x-user-ip".to_owned()],
        address_groups: vec![AddressGroup {
            name: "partners".to_owned(),
            items: vec!["203.0.113.0/24".parse().expect("a range")],
        }],
        origins: vec![
            KnownOrigin {
                range: "203.0.0.0/8".parse().expect("a range"),
                region_code: Some("FR".to_owned()),
                asn: None,
            },
            KnownOrigin {
                range: "203.0.113.0/24".parse().expect("a range"),
                region_code: Some("DE".to_owned()),
                asn: Some(64500),
            },
        ],
    }
}
