//! The rules language: what holds, what is an error, what is refused and why.

mod common;

use common::{headers, policy, request, rule};
use proptest::prelude::*;
use security_policy::{Expression, ExpressionError, Policy, Tried};
use slice::load_balancer::{SecurityAction, SecurityMatch};

fn compiled(expression: &str) -> Policy {
    let matches = SecurityMatch::Expression(expression.to_owned());
    Policy::compile(&policy(vec![rule(1, matches, SecurityAction::Deny(403))]))
        .unwrap_or_else(|errors| panic!("{expression}: {}", errors[0].1))
}

/// `t`rue, `f`alse or `e`rror.
fn holds(expression: &str, fields: &[(&str, &str)]) -> char {
    let (policy, fields) = (compiled(expression), headers(fields));
    match policy.tries(&policy.rules()[0], &request(&fields)) {
        Tried::Matches => 't',
        Tried::Differs => 'f',
        Tried::Missing(_) => 'e',
    }
}

#[test]
fn what_holds() {
    let fields = [
        ("user-agent", "curl/8"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b64", "bXlWYWx1ZQ.."),
        ("x-length", "42"),
        ("x-user-ip", "198.51.100.4"),
        ("x-ip", "10.1.2.3"),
    ];
    for (expression, expected) in [
        ("true", 't'),
        ("inIpRange(origin.ip, '203.0.113.0/24')", 't'),
        ("origin.ip.inIpRange('203.0.114.0/24')", 'f'),
        ("inIpRange(origin.ip, '2001:db8::/32')", 'f'),
        ("inIpRange(request.headers['x-ip'], '10.0.0.0/8')", 't'),
        ("inIpRange(request.headers['user-agent'], '10.0.0.0/8')", 'e'),
        ("origin.ip == '203.0.113.7'", 't'),
        ("inIpRange(origin.user_ip, '198.51.100.0/24')", 't'),
        ("origin.region_code == 'DE' && origin.asn == 64500", 't'),
        ("origin.region_code != \"DE\"", 'f'),
        ("evaluateAddressGroup('partners', origin.ip)", 't'),
        ("evaluateAddressGroup('partners', origin.ip, ['203.0.113.7'])", 'f'),
        ("evaluateAddressGroup('partners', origin.user_ip)", 'f'),
        // `matches` finds its pattern anywhere, unless it is anchored.
        ("request.path.matches('Log')", 't'),
        ("request.path.matches('^Log')", 'f'),
        ("request.path.matches('/a/(?i:login)$')", 't'),
        ("request.path.lower().startsWith('/a/login')", 't'),
        ("request.path.upper().endsWith('LOGIN')", 't'),
        ("request.path.contains('login')", 'f'),
        ("request.method == 'GET' && request.scheme == 'https'", 't'),
        ("request.query.urlDecode().contains(' or ')", 't'),
        ("request.headers['host'] == 'shop.example.com'", 't'),
        ("request.headers['x-a'] == '1,2'", 't'),
        ("request.headers['x-b64'].base64Decode() == 'myValue'", 't'),
        ("int(request.headers['x-length']) >= 42", 't'),
        ("int(request.headers['user-agent']) > 1", 'e'),
        ("size(request.headers['user-agent']) == 6", 't'),
        ("request.headers['user-agent'].size() < 6", 'f'),
        ("request.method + ' ' + request.path == 'GET /a/Login'", 't'),
        ("(request.method == 'GET') == true", 't'),
        // A header that is not there is an error, and the rule does not match.
        ("has(request.headers['x-none'])", 'f'),
        ("!has(request.headers['x-a'])", 'f'),
        ("request.headers['x-none'] == 'a'", 'e'),
        ("request.headers['x-none'] != 'a'", 'e'),
        ("!(request.headers['x-none'] == 'a')", 'e'),
        ("request.headers['X-A'] == '1,2'", 'e'),
        // An error that cannot change the answer is none.
        ("has(request.headers['x-none']) && request.headers['x-none'] == 'a'", 'f'),
        ("request.headers['x-none'] == 'a' && false", 'f'),
        ("request.headers['x-none'] == 'a' || true", 't'),
        ("request.headers['x-none'] == 'a' || false", 'e'),
        (r"request.path.matches(R'^/a/\w+$')", 't'),
        (r#"request.path.matches(r"\d")"#, 'f'),
    ] {
        assert_eq!(holds(expression, &fields), expected, "{expression}");
    }
}

#[test]
fn what_is_refused() {
    use ExpressionError as E;
    let parse = |text: &str| Expression::parse(text, &[]).expect_err(text);
    for (text, part) in [
        ("evaluatePreconfiguredWaf('sqli-v33-stable', {'sensitivity': 1})", "rule sets"),
        ("evaluatePreconfiguredExpr('xss-stable')", "rule sets"),
        ("evaluateThreatIntelligence('iplist-tor-exit-nodes')", "threat intelligence"),
        ("evaluateAdaptiveProtectionAutoDeploy()", "adaptive protection"),
        ("evaluateOrganizationAddressGroup('org/g', origin.ip)", "organizations"),
        ("origin.tls_ja3_fingerprint == 'x'", "fingerprints"),
        ("token.recaptcha_action.score >= 0.8", "reCAPTCHA"),
    ] {
        assert!(matches!(parse(text), E::Unavailable(..)), "{text}: {}", parse(text));
        assert!(parse(text).to_string().contains(part), "{text}: {}", parse(text));
    }
    for text in [
        "request.body == 'a'",
        "request.path in ['/a']",
        "size(request.path) - 1 == 0",
        "[1].all(x, x > 0)",
        "request.path.replace('a', 'b') == 'c'",
        "request.method == 'GET' ? true : false",
        "has(request.path)",
        "origin['ip'] == 'a'",
    ] {
        let error = parse(text);
        assert!(matches!(error, E::Unknown(_) | E::Syntax(_)), "{text}: {error:?}");
    }
    assert!(matches!(parse("request.path"), E::WrongType { .. }));
    assert!(matches!(parse("request.path == 1"), E::WrongType { .. }));
    assert!(matches!(parse("request.path && true"), E::WrongType { .. }));
    assert!(matches!(parse("request.path.contains()"), E::Arguments(..)));
    assert!(matches!(parse("request.path.matches('(')"), E::Pattern(_)));
    assert!(matches!(parse("request.path.matches(request.query)"), E::NotLiteral(_)));
    assert!(matches!(parse("inIpRange(origin.ip, '10.0.0.0/33')"), E::Range(_)));
    assert!(matches!(parse("evaluateAddressGroup('x', origin.ip)"), E::UnknownGroup(_)));
    assert!(matches!(parse("request.path =="), E::Syntax(_)));
    assert!(matches!(parse(""), E::Syntax(_)));
    let six = ["true"; 6].join(" && ");
    assert_eq!(parse(&six), E::TooManySubexpressions(6));
    let long = format!("request.path == '{}'", "a".repeat(1024));
    assert!(matches!(parse(&long), E::SubexpressionTooLong(_)));
    assert!(matches!(parse(&"a".repeat(2049)), E::TooLong(2049)));
    assert!(Expression::parse(&["true"; 5].join(" || "), &[]).is_ok());
    for text in [six.as_str(), "request.path", "(", "evaluatePreconfiguredExpr('x')"] {
        assert!(!parse(text).fix().is_empty());
    }
    // However deep: no more than the text is long.
    for (open, close) in [("(", ")"), ("!", ""), ("[", "]"), ("lower(", ")"), ("-", "")] {
        let count = 2040 / (open.len() + close.len());
        let deep = format!("{}true{}", open.repeat(count), close.repeat(count));
        drop(Expression::parse(&deep[..deep.len().min(1024)], &[]));
        drop(Expression::parse(&deep, &[]));
    }
}

#[test]
fn headers_that_no_request_has_are_told() {
    let expression = Expression::parse("has(request.headers['X-Api-Key'])", &[]).expect("it reads");
    assert_eq!(expression.impossible_headers(), ["X-Api-Key"]);
    assert_eq!(Expression::groups_of("true && evaluateAddressGroup('g', origin.ip)"), ["g"]);
}

/// Expressions over three headers, of which any may be missing.
fn expression() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("request.headers['x-a']".to_owned()),
        Just("request.headers['x-b']".to_owned()),
        Just("request.headers['x-c']".to_owned()),
        "'[a-c]{0,2}'",
        Just("request.headers['x-a'] + 'b'".to_owned()),
    ];
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a}) == ({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a}) != ({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a}).contains({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a}).startsWith({b})")),
        (text.clone(), text.clone()).prop_map(|(a, b)| format!("({a}).endsWith({b})")),
        (text.clone(), "[a-c.*]{1,3}").prop_map(|(a, b)| format!("({a}).matches('{b}')")),
        (text, 0..3).prop_map(|(a, b)| format!("size({a}) > {b}")),
    ];
    leaf.prop_recursive(3, 5, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The crate `cel` has an interpreter of its own; it must say the same of what both know.
    #[test]
    fn the_interpreter_of_cel_says_the_same(
        text in expression(),
        values in prop::array::uniform3(prop::option::of("[a-c]{0,3}")),
    ) {
        prop_assume!(Expression::parse(&text, &[]).is_ok());
        let all: Vec<(&str, &str)> = ["x-a", "x-b", "x-c"]
            .into_iter()
            .zip(&values)
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        let ours = holds(&text, &all);
        let fields: std::collections::HashMap<String, String> =
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = std::collections::HashMap::from([("headers".to_owned(), fields)]);
        let mut context = cel::Context::default();
        context.add_variable("request", request).expect("a variable");
        let program = cel::Program::compile(&text).expect("it reads");
        let theirs = match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => 't',
            Ok(cel::Value::Bool(false)) => 'f',
            Ok(other) => panic!("{text}: {other:?}"),
            Err(_) => 'e',
        };
        prop_assert_eq!(ours, theirs, "{} with {:?}", text, all);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~é]{0,80}") {
        if let Ok(expression) = Expression::parse(&text, &[]) {
            prop_assert_eq!(expression.text(), &text);
        }
        Expression::groups_of(&text);
    }
}
