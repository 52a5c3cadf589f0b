//! External Application Load Balancers and Cloud Armor: on the wire, as `explain` says and as the
//! log tells.

mod common;

use common::{Up, have, namespaces, root};
use serde_json::Value;
use std::process::Command;

const SHOP: &str = "https://shop.example.com";

/// Status, `Content-Type` and `Location`, then the body.
fn curl(up: &Up, options: &str, url: &str) -> (String, String) {
    let script = format!(
        "curl -s -m 10 -w '\\n%{{http_code}} %{{content_type}} %{{redirect_url}}' {options} '{url}'"
    );
    let text = up.text(&["--network", "internet"], &script);
    let (body, head) = text.rsplit_once('\n').unwrap_or(("", &text));
    (head.trim().to_owned(), body.to_owned())
}

fn page(status: u16, phrase: &str) -> String {
    format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=viewport content=\"width=device-width, initial-scale=1\"><title>{status}</title>{status} {phrase}"
    )
}

/// The entries of requests, each with its path.
fn entries(up: &Up) -> Vec<(String, Value)> {
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(&line[line.find('{')?..]).ok()?;
        let url = entry.pointer("/httpRequest/requestUrl")?.as_str()?.to_owned();
        Some((url, entry))
    };
    let output = up.run(&["logs", "--json"]);
    String::from_utf8_lossy(&output.stdout).lines().filter_map(entry).collect()
}

fn external(isolation: &str) {
    let up = Up::start(root().join("topology/external-alb"), &["--isolation", isolation]);
    let html = "text/html; charset=UTF-8";
    let (head, body) = curl(&up, "", &format!("{SHOP}/"));
    assert!(head.starts_with("200"), "{head} {body}");
    let lower = body.to_lowercase();
    assert!(lower.contains(",203.0.113.10"), "X-Forwarded-For: CLIENT,LB in {body}");
    assert!(lower.contains("1.1 google"), "{body}");
    for (options, path, expected, body) in [
        ("-A sqlmap/1.0", "/", format!("403 {html}"), page(403, "Forbidden")),
        ("", "/.git/config", format!("404 {html}"), page(404, "Not Found")),
        ("", "/?q=1%20UNION+SELECT", format!("502 {html}"), page(502, "Bad Gateway")),
        ("", "/old", "302  https://shop.example.com/new".to_owned(), String::new()),
    ] {
        assert_eq!(curl(&up, options, &format!("{SHOP}{path}")), (expected, body), "{path}");
    }
    // An empty User-Agent is none: the rule's `has()` is false, and nothing is an error.
    assert!(curl(&up, "-H 'User-Agent:'", &format!("{SHOP}/")).0.starts_with("200"));
    let (head, _) = curl(&up, "", "http://shop.example.com/a?b");
    assert!(head.starts_with("301") && head.ends_with("https://shop.example.com/a?b"), "{head}");
    // Three of each key pass, whichever address each session has: the key has the address too.
    let script = "for n in 1 2 3 4 5; do curl -s -o /dev/null -w '%{http_code} ' \
         https://shop.example.com/api/a; done; \
         curl -s -w ' %{http_code}' https://shop.example.com/api/b; \
         curl -s -o /dev/null -w ' %{http_code}' -H 'x-api-key: other' https://shop.example.com/api/a";
    let said = up.text(&["--network", "internet"], script);
    let throttled = format!("200 200 200 429 429 {} 429 200", page(429, "Too Many Requests"));
    assert_eq!(said.trim(), throttled);
    // Two pass, the third is one too many and bans; other paths are of other rules.
    let script = "for n in 1 2 3 4; do curl -s -o /dev/null -w '%{http_code} ' -d a=b \
         https://shop.example.com/login; done; \
         curl -s -o /dev/null -w '%{http_code}' https://shop.example.com/";
    assert_eq!(up.text(&["--network", "internet"], script).trim(), "200 200 403 403 200");
    // Preview is logged only.
    assert!(curl(&up, "", &format!("{SHOP}/news/1")).0.starts_with("200"));
    let (_, body) = curl(&up, "-H 'x-user-ip: 192.0.2.9'", &format!("{SHOP}/partner"));
    assert!(body.to_lowercase().contains("x-partner"), "{body}");
    assert!(curl(&up, "", &format!("{SHOP}/admin")).0.starts_with("404"));
    assert!(curl(&up, "", &format!("{SHOP}/open")).0.starts_with("403"));

    up.wait("the log of all", |_| entries(&up).iter().any(|(url, _)| url.ends_with("/open")));
    let entries = entries(&up);
    let find = |end: &str, status: u64| {
        let fits = |(url, entry): &&(String, Value)| {
            url.ends_with(end)
                && entry.pointer("/httpRequest/status").and_then(Value::as_u64) == Some(status)
                && entry.pointer("/resource/type").and_then(Value::as_str)
                    == Some("http_load_balancer")
        };
        let found = entries.iter().find(fits);
        found.unwrap_or_else(|| panic!("no entry for {end} {status}: {entries:#?}")).1.clone()
    };
    let text = |entry: &Value, at: &str| {
        entry.pointer(&format!("/jsonPayload/{at}")).map(ToString::to_string).unwrap_or_default()
    };
    for (end, status, at, expected) in [
        ("/.git/config", 404, "enforcedSecurityPolicy/priority", "200"),
        ("/.git/config", 404, "enforcedSecurityPolicy/name", "\"shop-policy\""),
        ("/.git/config", 404, "enforcedSecurityPolicy/configuredAction", "\"DENY\""),
        ("/.git/config", 404, "enforcedSecurityPolicy/outcome", "\"DENY\""),
        ("/.git/config", 404, "statusDetails", "\"denied_by_security_policy\""),
        ("/old", 302, "enforcedSecurityPolicy/outcome", "\"REDIRECT\""),
        ("/news/1", 200, "enforcedSecurityPolicy/outcome", "\"ACCEPT\""),
        ("/news/1", 200, "previewSecurityPolicy/priority", "500"),
        ("/news/1", 200, "previewSecurityPolicy/outcome", "\"DENY\""),
        ("/news/1", 200, "statusDetails", "\"response_sent_by_backend\""),
        ("/api/a", 200, "enforcedSecurityPolicy/configuredAction", "\"THROTTLE\""),
        (
            "/api/a",
            429,
            "enforcedSecurityPolicy/rateLimitAction/outcome",
            "\"RATE_LIMIT_THRESHOLD_EXCEED\"",
        ),
        (
            "/login",
            403,
            "enforcedSecurityPolicy/rateLimitAction/outcome",
            "\"BAN_THRESHOLD_EXCEED\"",
        ),
    ] {
        assert_eq!(text(&find(end, status), at), expected, "{end} {at}");
    }

    let explained = up.run(&["explain", "--from", "internet", &format!("{SHOP}/news")]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.status.success() && said.contains("in preview"), "{said}");
    let explained = up.run(&["explain", "--from", "internet", &format!("{SHOP}/.env")]);
    let said = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(1), "{said}");
    for part in ["shop-https", "rule 200 of shop-policy", "denied_by_security_policy", "HTTP 404"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // From the host itself, where the forwarding rule is published.
    let published = published(&up, "shop-https");
    let (host, port) = published.rsplit_once(':').expect("an address");
    let ca = up.status()["ca"].as_str().expect("a path").to_owned();
    let resolve = format!("shop.example.com:{port}:{host}");
    let output = Command::new("curl")
        .args(["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &ca])
        .args(["--resolve", &resolve, &format!("https://shop.example.com:{port}/.env")])
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "404", "{output:?}");
}

/// Where a forwarding rule is published on the host.
fn published(up: &Up, rule: &str) -> String {
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    let mut listeners =
        programs.iter().flat_map(|program| program["listeners"].as_array().expect("listeners"));
    let key = format!("northbound projects/edge-project/global/forwardingRules/{rule}");
    let found = listeners.find(|listener| listener["key"] == key.as_str());
    found.expect("it is published")["actual"].as_str().expect("an address").to_owned()
}

#[test]
fn external_load_balancers_in_namespaces() {
    if have(&["curl"]) && namespaces() {
        external("netns");
    }
}

#[test]
fn external_load_balancers_on_loopback() {
    if have(&["curl"]) {
        external("loopback");
    }
}
