//! Which rule decides, what it does, and what is counted together.

mod common;

use common::{headers, policy, request, rule};
use names::Reason;
use security_policy::{Limits, Policy, RateOutcome, Request, Verdict};
use slice::load_balancer::{
    Ban, ExceedAction, RateKey, RateLimit, RateThreshold, SecurityAction as A, SecurityMatch as M,
    SecurityRule,
};
use std::time::Duration;

fn compiled(rules: Vec<SecurityRule>) -> Policy {
    Policy::compile(&policy(rules)).expect("good rules")
}

fn said(policy: &Policy, request: &Request<'_>, limits: &Limits) -> String {
    let decision = policy.decide(request, "web", limits, Duration::from_secs(1));
    let rule = decision.rule.map_or(0, |rule| rule.priority);
    let preview = decision.preview.map(|one| format!(" preview {}", one.rule.priority));
    let verdict = match decision.verdict {
        Verdict::Allow(headers) => format!("allow {}", headers.len()),
        Verdict::Deny(status) => format!("deny {status}"),
        Verdict::Redirect(target) => format!("redirect {target}"),
    };
    format!("{rule} {verdict}{}", preview.unwrap_or_default())
}

fn ranges(text: &str) -> M {
    M::SrcIpRanges(vec![text.parse().expect("a range")])
}

#[test]
fn the_first_rule_by_priority_decides() {
    let none = headers(&[]);
    let here = || ranges("203.0.113.0/24");
    let preview =
        |priority| SecurityRule { preview: true, ..rule(priority, M::Everyone, A::Deny(404)) };
    let adds = SecurityRule {
        request_headers_to_add: vec![("x-a".to_owned(), "b".to_owned())],
        ..rule(5, here(), A::Allow)
    };
    let last = || rule(2_147_483_647, M::Everyone, A::Deny(502));
    for (rules, expected) in [
        (vec![last(), rule(1, here(), A::Deny(403))], "1 deny 403"),
        (vec![last(), rule(1, ranges("10.0.0.0/8"), A::Allow)], "2147483647 deny 502"),
        (vec![last(), adds], "5 allow 1"),
        (vec![rule(3, M::Everyone, A::Redirect("https://a/".to_owned()))], "3 redirect https://a/"),
        // The first rule in preview that matches is told, those behind the deciding one are not.
        (vec![preview(1), preview(2), rule(3, here(), A::Allow), last()], "3 allow 0 preview 1"),
        (vec![rule(1, here(), A::Allow), preview(2), last()], "1 allow 0"),
        // An error in an expression is no match.
        (
            vec![rule(1, M::Expression("request.headers['x'] != 'a'".to_owned()), A::Deny(403))],
            "0 allow 0",
        ),
    ] {
        assert_eq!(said(&compiled(rules), &request(&none), &Limits::default()), expected);
    }
    let twice = policy(vec![rule(1, here(), A::Allow), rule(1, here(), A::Allow)]);
    assert!(Policy::compile(&twice).is_err());
}

fn throttle(keys: Vec<RateKey>) -> Policy {
    let threshold = RateThreshold { count: 1, interval_sec: 60 };
    let limit = RateLimit { threshold, exceed: ExceedAction::Deny(429), keys };
    compiled(vec![rule(1, M::Everyone, A::Throttle(limit))])
}

#[test]
fn keys_tell_clients_apart() {
    let none = headers(&[]);
    let with = headers(&[
        ("x-key", "a"),
        ("cookie", "b=c; sid=1"),
        ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
        ("x-user-ip", "192.0.2.2"),
    ]);
    let malformed = headers(&[("x-forwarded-for", "nobody"), ("x-user-ip", "nobody")]);
    let long = |end: &str| headers(&[("x-key", &format!("{}{end}", "k".repeat(128)))]);
    let (long_a, long_b) = (long("a"), long("b"));
    let base = request(&none);
    let other = Request { client: "198.51.100.1".parse().expect("an address"), ..base };
    // Are the two counted together?
    for (key, one, two, together) in [
        (RateKey::All, base, other, true),
        (RateKey::Ip, base, other, false),
        (RateKey::Ip, base, request(&with), true),
        (RateKey::HttpHeader("X-Key".to_owned()), base, request(&with), false),
        (RateKey::HttpHeader("X-Key".to_owned()), base, other, true),
        // Values are cut at 128 bytes.
        (RateKey::HttpHeader("x-key".to_owned()), request(&long_a), request(&long_b), true),
        (RateKey::HttpCookie("sid".to_owned()), base, request(&with), false),
        (RateKey::HttpCookie("id".to_owned()), base, request(&with), true),
        (RateKey::XffIp, base, request(&with), false),
        (RateKey::XffIp, base, request(&malformed), true),
        (RateKey::UserIp, base, request(&with), false),
        (RateKey::UserIp, base, request(&malformed), true),
        (RateKey::HttpPath, base, Request { path: "/b", ..base }, false),
        (RateKey::HttpPath, base, Request { query: "", ..other }, true),
        (RateKey::Sni, base, Request { sni: None, ..base }, false),
        (RateKey::RegionCode, base, other, false),
    ] {
        let (policy, limits) = (throttle(vec![key.clone()]), Limits::default());
        assert_eq!(said(&policy, &one, &limits), "1 allow 0", "{key:?}");
        let expected = if together { "1 deny 429" } else { "1 allow 0" };
        assert_eq!(said(&policy, &two, &limits), expected, "{key:?}");
    }
    let (policy, limits) = (throttle(vec![RateKey::Ip, RateKey::HttpPath]), Limits::default());
    assert_eq!(said(&policy, &base, &limits), "1 allow 0");
    assert_eq!(said(&policy, &Request { path: "/b", ..base }, &limits), "1 allow 0");
    assert_eq!(said(&policy, &base, &limits), "1 deny 429");
    // Each backend service counts for itself.
    let elsewhere = policy.decide(&base, "other", &limits, Duration::from_secs(1));
    assert!(matches!(elsewhere.verdict, Verdict::Allow(_)));
}

#[test]
fn a_ban_has_its_reason_and_its_end() {
    let threshold = RateThreshold { count: 1, interval_sec: 60 };
    let exceed = ExceedAction::Redirect("https://slow/".to_owned());
    let limit = RateLimit { threshold, exceed, keys: vec![RateKey::Ip] };
    let ban = Ban { threshold: None, duration_sec: 300 };
    let policy = compiled(vec![rule(1, M::Everyone, A::RateBasedBan(limit, ban))]);
    let (none, limits) = (headers(&[]), Limits::default());
    let at = |seconds| policy.decide(&request(&none), "web", &limits, Duration::from_secs(seconds));
    assert_eq!(at(0).reason(), None);
    let banned = at(1);
    assert_eq!(banned.reason(), Some(Reason::SecurityPolicyBanned));
    assert!(matches!(banned.verdict, Verdict::Redirect("https://slow/")));
    let counted = banned.counted.expect("it was counted");
    assert_eq!((counted.outcome, counted.key.as_str()), (RateOutcome::Banned, "203.0.113.7"));
    assert_eq!(at(300).reason(), Some(Reason::SecurityPolicyBanned));
    assert_eq!(at(301).reason(), None);
}
