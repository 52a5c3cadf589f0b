//! Any text as an expression of a security policy, over any request: no panic, no endless work, and
//! negation and parentheses change what they should.
//!
//! Input: the expression, a line `%%`, and a request (path, query, `name: value` headers).
#![no_main]

use libfuzzer_sys::fuzz_target;
use names::SelfLink;
use security_policy::{Expression, Policy, Request, Tried};
use slice::load_balancer::{SecurityAction, SecurityMatch, SecurityPolicy, SecurityRule};

fn policy(expression: &str) -> Option<Policy> {
    let rule = SecurityRule {
        priority: 1,
        description: String::new(),
        preview: false,
        matches: SecurityMatch::Expression(expression.to_owned()),
        action: SecurityAction::Deny(403),
        request_headers_to_add: Vec::new(),
    };
    Policy::compile(&SecurityPolicy {
        self_link: SelfLink::global("p", "securityPolicies", "fuzz"),
        rules: vec![rule],
        user_ip_request_headers: Vec::new(),
        address_groups: Vec::new(),
        origins: Vec::new(),
    })
    .ok()
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, rest) = text.split_once("\n%%\n").unwrap_or((text, ""));
    Expression::groups_of(source);
    let Some(plain) = policy(source) else { return };
    let mut lines = rest.lines();
    let (path, query) = (lines.next().unwrap_or("/"), lines.next().unwrap_or(""));
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            headers.append(name, value);
        }
    }
    let request = Request {
        client: [203, 0, 113, 7].into(),
        method: "GET",
        scheme: "https",
        host: "example.com",
        path,
        query,
        headers: &headers,
        sni: None,
    };
    let tried = |policy: &Policy| match policy.tries(&policy.rules()[0], &request) {
        Tried::Matches => Some(true),
        Tried::Differs => Some(false),
        Tried::Missing(_) => None,
    };
    let first = tried(&plain);
    // Only too much length or nesting may be refused here.
    if let Some(same) = policy(&format!("({source}\n)")) {
        assert_eq!(tried(&same), first);
    }
    if let Some(not) = policy(&format!("!({source}\n)")) {
        assert_eq!(tried(&not), first.map(|value| !value));
    }
});
