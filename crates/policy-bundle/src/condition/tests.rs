//! Tables of the documented examples (section 4) and of the linter's own tests.

use super::*;
use crate::context::Context;
use crate::message::{Message, Query};
use crate::value::Value;
use http::Method;
use proptest::prelude::*;

fn context() -> Context {
    let mut request = Message::request();
    request.method = Method::GET;
    request.path = "/v1/crun/login".into();
    request.query = Query::parse("n=5&m=&size=10");
    for (name, value) in [("accept", "a, b"), ("content-type", "text/xml"), ("x-n", "12")] {
        let name = http::HeaderName::from_static(name);
        assert!(request.add_header(&name, value));
    }
    let mut context = Context::detached(request, 1_700_000_000_000, || 4);
    context.base_path = "/v1/crun".into();
    context.path_suffix = "/login".into();
    let mut response = Message::response();
    response.status = 404;
    context.response = Some(response);
    for (name, value) in [
        ("valid", Value::Boolean(true)),
        ("invalid", Value::Boolean(false)),
        ("flag", Value::text("true")),
        ("seven", Value::Integer(7)),
        ("long", Value::Long(12_321_421_312)),
        ("half", Value::Double(0.5)),
        ("word", Value::text("Abc")),
        ("other", Value::text("Abc")),
        ("recaptcha-score", Value::Double(0.7)),
    ] {
        context.set(name, value);
    }
    context
}

fn check(condition: &str, expected: bool) {
    let parsed = Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    assert_eq!(parsed.evaluate(&context()).result, expected, "{condition}");
}

#[test]
fn every_operator_and_alias_has_its_meaning() {
    for (condition, expected) in [
        (r#"request.verb = "GET""#, true),
        (r#"request.verb == "GET""#, true),
        (r#"request.verb Equals "GET""#, true),
        (r#"request.verb Is "GET""#, true),
        (r#"request.verb="GET""#, true),
        (r#"request.verb = "get""#, false),
        (r#"request.verb != "GET""#, false),
        (r#"request.verb NotEquals "POST""#, true),
        (r#"request.verb IsNot "POST""#, true),
        (r#"request.verb := "get""#, true),
        (r#"request.verb EqualsCaseInsensitive "gEt""#, true),
        ("seven > 6", true),
        ("seven GreaterThan 7", false),
        ("seven >= 7", true),
        ("seven GreaterThanOrEquals 8", false),
        ("seven < 8", true),
        ("seven LesserThan 7", false),
        ("seven <= 7", true),
        ("seven LesserThanOrEquals 6", false),
        (r#"request.header.content-type ~ "text/*""#, true),
        (r#"request.path Matches "/v1/*""#, true),
        (r#"request.path Like "*/login""#, true),
        (r#"proxy.pathsuffix MatchesPath "/login""#, true),
        (r#"proxy.pathsuffix ~/ "/*""#, true),
        (r#"proxy.pathsuffix LikePath "/*/x""#, false),
        (r#"request.path MatchesPath "/v1/**""#, true),
        (r#"request.verb ~~ "G.T""#, true),
        (r#"request.verb JavaRegex "G""#, false),
        (r#"request.header.content-type =| "text/""#, true),
        (r#"request.verb StartsWith "P""#, false),
        (r#"word StartsWith other"#, true),
        (r#"word = other"#, true),
        (r#"word ~ "a*""#, false),
    ] {
        check(condition, expected);
    }
}

#[test]
fn precedence_is_not_then_comparison_then_and_then_or() {
    for (condition, expected) in [
        (r#"valid or invalid and invalid"#, true),
        (r#"(valid or invalid) and invalid"#, false),
        (r#"invalid and invalid or valid"#, true),
        (r#"not invalid and valid"#, true),
        (r#"not valid or valid"#, true),
        (r#"!proxy.pathsuffix MatchesPath "/path""#, true),
        (r#"!(request.verb = "POST")"#, true),
        (r#"not not valid"#, true),
        (r#"NOT(request.header.content-type =| "text/xml")"#, false),
        (r#"request.verb IsNot "GET" and !proxy.pathsuffix MatchesPath "/path""#, false),
        (r#"request.verb="POST" || request.verb="GET" && seven=7"#, true),
        ("true OR false", true),
        ("true AND false", false),
        ("", true),
        ("  \n ", true),
        ("((valid))", true),
    ] {
        check(condition, expected);
    }
}

#[test]
fn infix_not_stands_before_pattern_operators_only() {
    for (condition, expected) in [
        (r#"proxy.pathsuffix Not MatchesPath "/path""#, true),
        (r#"request.verb Not StartsWith "G""#, false),
        (r#"request.verb Not Matches "P*""#, true),
        (r#"request.verb ! JavaRegex "G.*""#, false),
        (r#"proxy.pathsuffix ! ~/ "/login""#, false),
        (r#"request.verb !~ "P*""#, true),
        (r#"request.verb !~~ "P.*""#, true),
        (r#"request.verb !=| "P""#, true),
        (r#"word !Like "foo""#, true),
        (r#"word Not Like "A*""#, false),
    ] {
        check(condition, expected);
    }
    for condition in [
        r#"proxy.pathsuffix Not Equals "/path""#,
        r#"proxy.pathsuffix Not EqualsCaseInsensitive "/path""#,
        "request.header.content-length Not GreaterThan 7",
        "request.header.content-length ! LesserThanOrEquals 2",
        r#"proxy.pathsuffix ! NotEquals "/path""#,
        r#"proxy.pathsuffix ! = "/path""#,
        "request.header.content-length ! > 7",
    ] {
        assert!(Condition::parse(condition).is_err(), "{condition}");
    }
}

#[test]
fn operands_adapt_to_a_common_type() {
    for (condition, expected) in [
        (r#"response.status.code = "404""#, true),
        ("response.status.code = 404", true),
        ("response.status.code = 404L", true),
        ("response.status.code = 404.0d", true),
        ("response.status.code >= 400 and response.status.code < 500", true),
        ("seven = 7.0f", true),
        ("half = 0.5", true),
        ("half = 0.5f", true),
        ("half > seven", false),
        ("long > 12321421311L", true),
        ("recaptcha-score <= 0.7", true),
        ("recaptcha-score > 0.72928", false),
        ("request.queryparam.n = 5", true),
        (r#"request.queryparam.n = "05""#, false),
        ("request.queryparam.size > 9", true),
        (r#"request.queryparam.size > "9""#, true),
        (r#"word > "Abb""#, true),
        ("valid = true", true),
        ("valid is true", true),
        (r#"valid = "true""#, true),
        ("flag = true", true),
        ("flag", true),
        ("seven", false),
        ("valid = 1", true),
        ("request = request", false),
        (r#"request != "x""#, false),
        (r#"request.header.accept = "a""#, true),
        (r#"request.header.ACCEPT.2 = "b""#, true),
        ("request.header.accept.values.count = 2", true),
        (r#"request.header.accept.values.string = "a, b""#, true),
        (r#"request.queryparam.m = """#, true),
    ] {
        check(condition, expected);
    }
}

#[test]
fn null_behaves_as_the_documented_table_says() {
    // `nothing` is null; (left null, right null, both null).
    for (operator, left, right, both) in [
        ("=", false, false, true),
        ("==", false, false, true),
        (":=", false, false, true),
        ("=|", false, false, false),
        ("!=", true, true, false),
        (">", true, false, false),
        (">=", false, true, true),
        ("<", true, false, false),
        ("<=", true, false, true),
        ("~", false, false, false),
        ("~~", false, false, false),
        ("~/", false, false, false),
        ("!~", true, false, false),
    ] {
        check(&format!("nothing {operator} \"x\""), left);
        check(&format!("word {operator} null"), right);
        check(&format!("nothing {operator} null"), both);
    }
    check("nothing = nowhere", true);
    check("nothing", false);
    check("not nothing", true);
    check(r#"not (nothing = "a")"#, true);
    check("request.header.host is null", true);
    check("request.header.accept != null", true);
}

#[test]
fn a_quoted_name_may_hold_operators() {
    let condition = Condition::parse("'request.header.help!me' = \"x\"").expect("a condition");
    let mut request = Message::request();
    assert!(request.add_header(&"help!me".parse().expect("a token"), "x"));
    let context = Context::detached(request, 0, || 4);
    assert!(condition.evaluate(&context).result);
}

#[test]
fn what_is_no_condition_says_where_and_why() {
    for (condition, offset, what) in [
        (r#"request.verb = 'GET'"#, 15, "single quotes"),
        (r#""GET" = request.verb"#, 0, "begins with a variable"),
        (r#"request.verb = "GET" request.verb"#, 21, "should end here"),
        (r#"(request.verb = "GET""#, 0, "has no `)`"),
        (r#"request.verb = "GET")"#, 20, "too many"),
        (r#"request.verb ="#, 14, "a value should stand here"),
        (r#"request.verb = "GET"#, 15, "closing quote"),
        (r#"a + b = 3"#, 2, "no meaning"),
        (r#"request.header.hello Not StartsWih "world""#, 25, "operator should stand"),
        (r#"recaptcha-score <= 0.ahdjh"#, 19, "not a number"),
        (r#"word ~ other"#, 7, "no variable"),
        (r#"word := other"#, 8, "no variable"),
        (r#"word ~ 7"#, 7, "no number"),
        (r#"and = "x""#, 0, "word of the language"),
        (r#"word ~~ "(?=a)b""#, 8, "look-around"),
        (r#"word"x""#, 4, "operator should stand"),
    ] {
        let error = Condition::parse(condition).expect_err(condition);
        assert!(error.what.contains(what), "{condition}: {error}");
        assert_eq!(error.offset, offset, "{condition}: {error}");
    }
    let deep = "(".repeat(10_000);
    assert!(Condition::parse(&deep).is_err());
    assert!(Condition::parse(&"not ".repeat(10_000)).is_err());
}

#[test]
fn an_unparenthesised_mix_is_noticed() {
    for (condition, mixed) in [
        ("a or b and c", true),
        ("a and b or c", true),
        ("a or (b and c)", false),
        ("(a and b) or (c and d)", false),
        ("a and b and c", false),
    ] {
        assert_eq!(
            Condition::parse(condition).expect("a condition").is_mixed(),
            mixed,
            "{condition}"
        );
    }
}

#[test]
fn the_evidence_is_the_comparison_that_decided() {
    let condition =
        Condition::parse(r#"(proxy.pathsuffix MatchesPath "/search") and (request.verb = "GET")"#)
            .expect("a condition");
    let evaluation = condition.evaluate(&context());
    assert!(!evaluation.result);
    let leaf = evaluation.leaf.expect("a comparison decided");
    assert_eq!(condition.leaf(leaf), Some(r#"proxy.pathsuffix MatchesPath "/search""#));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        if let Ok(condition) = Condition::parse(&text) {
            condition.evaluate(&context());
        }
    }

    #[test]
    fn and_or_not_are_boolean_algebra(a: bool, b: bool, c: bool) {
        let text = format!("not {a} and {b} or {b} and not ({c} or {a})");
        let condition = Condition::parse(&text).expect("a condition");
        prop_assert_eq!(condition.evaluate(&context()).result, b && !a);
    }
}
