//! Route rules (private-connectivity 2.5): every kind of match, what nearly matches, and how that is
//! told.

mod common;

use common::*;
use slice::load_balancer::{HeaderPredicate, MatchRule, PathPredicate, QueryPredicate};
use url_map::explain;

/// A match rule, a request, and whether the one is for the other.
#[track_caller]
fn check(match_rule: MatchRule, line: &str, headers: &[&str], expected: bool) {
    let snapshot = route_rules(vec![rule(1, vec![match_rule.clone()], to("a"))]);
    let got = matched(&snapshot, &request(line, headers)) == "1";
    assert_eq!(got, expected, "{match_rule:?} {line} {headers:?}");
}

#[test]
fn exactly_one_of_four_path_predicates_is_asked() {
    use PathPredicate::*;
    for (predicate, ignore_case, url, expected) in [
        (PrefixMatch("/foo".into()), false, "h/foo", true),
        (PrefixMatch("/foo".into()), false, "h/foobar", true),
        (PrefixMatch("/foo/".into()), false, "h/foo", false),
        (PrefixMatch("/foo".into()), false, "h/Foo", false),
        (PrefixMatch("/foo".into()), true, "h/FOO/x", true),
        (PrefixMatch("/".into()), false, "h/", true),
        (FullPathMatch("/foo".into()), false, "h/foo", true),
        (FullPathMatch("/foo".into()), false, "h/foo?query", true),
        (FullPathMatch("/foo".into()), false, "h/foo/", false),
        (FullPathMatch("/foo".into()), true, "h/fOO", true),
        (RegexMatch("/videos/hd.*".into()), false, "h/videos/hd-abcd", true),
        (RegexMatch("/videos/hd.*".into()), false, "h/videos/hd-abcd?key=245", true),
        (RegexMatch("/videos/hd".into()), false, "h/videos/hd-abcd", false),
        (RegexMatch(".*Android.*-hd".into()), false, "h/x/Android/y-hd", true),
        (RegexMatch("/a|/b".into()), false, "h/bc", false),
        (
            PathTemplateMatch("/users/{name}/carts/{id=**}".into()),
            false,
            "h/users/u/carts/1/2",
            true,
        ),
        (PathTemplateMatch("/users/{name}/carts/{id=**}".into()), false, "h/users/carts/1", false),
        (PathTemplateMatch("/u/{n}".into()), false, "h/u/abc%40xyz.com", true),
        (PathTemplateMatch("/u/{n}".into()), false, "h/u/a%2Fb", true),
    ] {
        check(MatchRule { ignore_case, ..path(predicate) }, url, &[], expected);
    }
}

#[test]
fn every_kind_of_header_match_may_be_inverted() {
    use HeaderPredicate::*;
    for (predicate, value, expected) in [
        (ExactMatch("prod".into()), "prod", true),
        (ExactMatch("prod".into()), "Prod", false),
        (ExactMatch("prod".into()), "prod2", false),
        (PrefixMatch("pro".into()), "prod", true),
        (PrefixMatch("rod".into()), "prod", false),
        (SuffixMatch("rod".into()), "prod", true),
        (SuffixMatch("pro".into()), "prod", false),
        (RegexMatch(".*Android.*-hd".into()), "an Android 9-hd", true),
        (RegexMatch("pro".into()), "prod", false),
        (PresentMatch(true), "", true),
        (PresentMatch(false), "x", false),
        // The documented range [-5,0).
        (RangeMatch { start: -5, end: 0 }, "-3", true),
        (RangeMatch { start: -5, end: 0 }, "-5", true),
        (RangeMatch { start: -5, end: 0 }, "0", false),
        (RangeMatch { start: -5, end: 0 }, "0.25", false),
        (RangeMatch { start: -5, end: 0 }, "-3x", false),
        (RangeMatch { start: -5, end: 0 }, "", false),
        (RangeMatch { start: 0, end: i64::MAX }, "9223372036854775808", false),
    ] {
        let line = format!("X-Env: {value}");
        check(header("x-env", predicate.clone(), false), "h/", &[&line], expected);
        check(header("x-env", predicate, true), "h/", &[&line], !expected);
    }
}

#[test]
fn a_header_that_is_not_there_meets_only_its_absence() {
    use HeaderPredicate::*;
    for (predicate, expected) in [
        (ExactMatch("".into()), false),
        (RegexMatch(".*".into()), false),
        (PresentMatch(true), false),
        (PresentMatch(false), true),
        (RangeMatch { start: -5, end: 5 }, false),
    ] {
        check(header("x-env", predicate.clone(), false), "h/", &["x-other: prod"], expected);
        check(header("x-env", predicate, true), "h/", &["x-other: prod"], !expected);
    }
}

#[test]
fn of_several_lines_of_one_name_one_is_enough() {
    let exact = |value: &str| HeaderPredicate::ExactMatch(value.into());
    for (value, expected) in [("a", true), ("b", true), ("a,b", false), ("c", false)] {
        check(header("x-a", exact(value), false), "h/", &["x-a: a", "x-a: b"], expected);
        check(header("x-a", exact(value), true), "h/", &["x-a: a", "x-a: b"], !expected);
    }
}

#[test]
fn authority_method_and_port_are_names_too() {
    use HeaderPredicate::*;
    for (name, predicate, line, expected) in [
        (":authority", ExactMatch("api.example.com:8080".into()), "api.example.com:8080/", true),
        (":authority", ExactMatch("api.example.com".into()), "api.example.com:8080/", false),
        ("host", PrefixMatch("api.".into()), "api.example.com/", true),
        (":method", ExactMatch("POST".into()), "POST h/", true),
        (":method", ExactMatch("POST".into()), "h/", false),
        ("PORT", RegexMatch("80.*".into()), "h:8080/", true),
        ("PORT", RegexMatch("80.*".into()), "h:443/", false),
        ("PORT", RegexMatch(".*".into()), "h/", false),
        ("PORT", ExactMatch("80".into()), "[::1]:80/", true),
        ("PORT", PresentMatch(true), "[::1]/", false),
    ] {
        check(header(name, predicate, false), line, &[], expected);
    }
}

#[test]
fn a_query_parameter_must_be_there_and_the_first_one_counts() {
    use QueryPredicate::*;
    for (predicate, url, expected) in [
        (ExactMatch("1".into()), "h/?p=1", true),
        (ExactMatch("1".into()), "h/?q=1&p=1", true),
        (ExactMatch("1".into()), "h/?p=2&p=1", false),
        (ExactMatch("1".into()), "h/?P=1", false),
        (ExactMatch("1".into()), "h/?pp=1", false),
        (ExactMatch("".into()), "h/?p", true),
        (ExactMatch("".into()), "h/", false),
        (ExactMatch("a b".into()), "h/?p=a%20b", false),
        (ExactMatch("a%20b".into()), "h/?p=a%20b", true),
        (ExactMatch("a=b".into()), "h/?p=a=b", true),
        (RegexMatch("[0-9]+".into()), "h/?p=12", true),
        (RegexMatch("[0-9]+".into()), "h/?p=12x", false),
        (PresentMatch(true), "h/?p", true),
        (PresentMatch(true), "h/?q", false),
        (PresentMatch(false), "h/", true),
        (PresentMatch(false), "h/?p=1", false),
    ] {
        check(query("p", predicate), url, &[], expected);
    }
}

#[test]
fn the_lowest_priority_wins_and_match_rules_are_alternatives() {
    let prod = header("x-env", HeaderPredicate::ExactMatch("prod".into()), false);
    let both = MatchRule {
        query_parameter_matches: query("v", QueryPredicate::PresentMatch(true))
            .query_parameter_matches,
        ..prod.clone()
    };
    let snapshot = route_rules(vec![
        rule(2_147_483_647, vec![prefix("/")], to("c")),
        rule(20, vec![prefix("/a"), prefix("/b"), prod], to("b")),
        rule(7, vec![both], to("a")),
    ]);
    for (url, headers, expected) in [
        ("h/x", &[][..], "2147483647"),
        ("h/a", &[], "20"),
        ("h/b?v", &[], "20.1"),
        ("h/x", &["x-env: prod"], "20.2"),
        ("h/x?v", &["x-env: prod"], "7"),
        ("h/a", &["x-env: prod"], "20"),
    ] {
        assert_eq!(matched(&snapshot, &request(url, headers)), expected, "{url} {headers:?}");
    }
}

#[test]
fn no_route_rule_leads_to_the_matchers_default() {
    let snapshot = route_rules(vec![rule(1, vec![prefix("/a")], to("a"))]);
    let request = request("h/x", &[]);
    assert_eq!(outcome(&snapshot, &request), "c h/x");
    assert_eq!(decide(&snapshot, &request.head()).rule.to_string(), "UNMATCHED");
}

/// What the rule is said to miss by.
#[track_caller]
fn miss(match_rule: MatchRule, line: &str, headers: &[&str], expected: &str) {
    let snapshot = route_rules(vec![rule(20, vec![match_rule], to("a"))]);
    let request = request(line, headers);
    let head = request.head();
    let explained = explain(&decide(&snapshot, &head), &head);
    let near = &explained.steps[1].near_misses[0];
    let text = format!("{}: {}", near.candidate, near.why);
    assert_eq!(text, format!("route rule 20, match rule 1: {expected}"));
}

#[test]
fn a_near_miss_names_the_first_predicate_that_failed() {
    use HeaderPredicate as H;
    use PathPredicate as P;
    let exact = |invert| header("x-env", H::ExactMatch("prod".into()), invert);
    miss(exact(false), "h/", &["x-env: dev"], "header x-env is `dev`, not `prod`");
    miss(exact(false), "h/", &["x-env: a", "x-env: b"], "header x-env is `a`, `b`, not `prod`");
    miss(exact(false), "h/", &[], "header x-env is missing, not `prod`");
    let inverted = "header x-env is `prod`, which invertMatch excludes (exactMatch `prod`)";
    miss(exact(true), "h/", &["x-env: prod"], inverted);
    let range = header("x-n", H::RangeMatch { start: -5, end: 0 }, false);
    miss(range, "h/", &["x-n: 0"], "header x-n is `0`, not an integer from -5 to below 0");
    let absent = header("x-a", H::PresentMatch(false), false);
    miss(absent, "h/", &["x-a: 1"], "header x-a is `1`, and has to be absent");
    let there = header("x-a", H::PresentMatch(true), false);
    miss(there, "h/", &[], "header x-a is missing");
    let method = header(":method", H::ExactMatch("POST".into()), false);
    miss(method, "h/", &[], ":method is `GET`, not `POST`");
    let value = query("v", QueryPredicate::RegexMatch("[0-9]".into()));
    miss(value.clone(), "h/?v=x", &[], "query parameter v is `x`, not all of `[0-9]`");
    miss(value, "h/", &[], "query parameter v is missing, not all of `[0-9]`");
    miss(prefix("/orders"), "h/ordres/1", &[], "path `/ordres/1` does not begin with `/orders`");
    let capitals = "path `/Orders` does not begin with `/orders`; capitals count";
    miss(prefix("/orders"), "h/Orders", &[], capitals);
    let full = path(P::FullPathMatch("/orders".into()));
    miss(full.clone(), "h/orders/1", &[], "path `/orders/1` goes on after `/orders`");
    miss(full, "h/x", &[], "path `/x` is not `/orders`");
    let regex = path(P::RegexMatch("/a[0-9]".into()));
    miss(regex, "h/a10", &[], "path `/a10` does not match all of `/a[0-9]`");
    let why = "path `/users` does not match the template `/users/*`";
    miss(template("/users/*"), "h/users", &[], why);
}

#[test]
fn the_rule_that_came_farthest_is_the_nearest() {
    let prod = header("x-env", HeaderPredicate::ExactMatch("prod".into()), false);
    let snapshot = route_rules(vec![
        rule(1, vec![prefix("/elsewhere")], to("a")),
        rule(2, vec![prefix("/itmes"), prod], to("a")),
        rule(3, vec![prefix("/items")], to("b")),
        rule(4, vec![prefix("/item")], to("c")),
    ]);
    let request = request("h/items/7", &[]);
    let head = request.head();
    let text = explain(&decide(&snapshot, &head), &head).to_string();
    let expected =
        "routeRule lb: route rule 3, match rule 1: prefixMatch `/items` matches `/items/7`
  not `route rule 2, match rule 2`: header x-env is missing, not `prod`
  not `route rule 2, match rule 1`: path `/items/7` does not begin with `/itmes`
backendService";
    assert!(text.contains(expected), "{text}");
}
