//! Tables of the documented examples (section 5).

use super::*;
use crate::message::Message;
use proptest::prelude::*;

fn context() -> Context {
    let mut request = Message::request();
    request.path = "/login".into();
    assert!(request.add_header(&http::HeaderName::from_static("x-id"), "7"));
    let mut context = Context::detached(request, 1_494_390_266_000, || 0x0123_4567_89ab_cdef);
    for (name, value) in [
        ("v", "V"),
        ("user.name", "Jdoe"),
        ("alpha", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("seven", "7"),
        ("empty", ""),
        ("header", "Bearer ABCDEFGHIJKLMNOPQRSTUVWXYZ-9993"),
        ("regex1", "^Bearer "),
        ("replacement", "TOKEN: "),
        ("epoch_time_ms", "1494390266000"),
        ("epoch_time", "1494390266"),
        ("fmt2", "yyyy-MM-dd HH-mm-ss"),
        ("fmt_colon", "HH:mm:ss"),
        ("food", "\"bread\" & 'butter' <é>"),
        ("quoted", "Invalid value for \"logonId\" a/b\n"),
        ("str", "abc"),
        ("control", "a\u{1}b\u{7f}"),
        (
            "results",
            r#"{"results":[{"address":{"line1":"18250 142ND AV NE"},"name":"Fred Meyer"},{"address":{"line1":"1060 West Addison Street"},"name":"Mae West"}]}"#,
        ),
        (
            "config",
            r#"{"config":{"quota":[{"appname":"A","operation":"ManageOrder"},{"appname":"B","operation":"ManageOrder"},{"appname":"B","operation":"SubmitOrder"}]}}"#,
        ),
        ("the_query", r#"$.config.quota[?(@.operation=="ManageOrder")].appname"#),
    ] {
        context.set(name, Value::text(value));
    }
    context
}

fn check(template: &str, expected: &str) {
    let parsed = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    assert_eq!(parsed.render(&context()), expected, "{template}");
}

#[test]
fn what_is_no_reference_stays_as_it_is() {
    for (template, expected) in [
        ("plain", "plain"),
        ("", ""),
        ("{v}", "V"),
        ("a{v}b{v}c", "aVbVc"),
        (r#"{"a":"{v}"}"#, r#"{"a":"V"}"#),
        (r#"{ "a": "{v}", "b": {"c": "{user.name}" } }"#, r#"{ "a": "V", "b": {"c": "Jdoe" } }"#),
        ("{{v}}", "{V}"),
        ("{}", "{}"),
        ("{3}", "{3}"),
        ("{ v }", "{ v }"),
        ("{v", "{v"),
        ("v}", "v}"),
        ("{a[]}", "{a[]}"),
        ("{unknown}", ""),
        ("{environment.{v}}", "{environment.V}"),
        ("ä{v}ö", "äVö"),
        ("{ createUuid( ) }", "{ createUuid( ) }"),
        ("{substring( alpha, 0, 4 )}", "{substring( alpha, 0, 4 )}"),
        ("{request.header.X-Id}", "7"),
    ] {
        check(template, expected);
    }
}

#[test]
fn a_default_stands_for_what_is_unresolved() {
    for (template, expected) in [
        ("id = {request.header.id:Unknown}", "id = Unknown"),
        ("id = {request.header.x-id:Unknown}", "id = 7"),
        ("{protocol:https}://{site:google.com}/path", "https://google.com/path"),
        ("{nothing:}", ""),
        ("{empty:x}", ""),
        ("{toLowerCase(foo.bar:FOO)}", "foo"),
        ("{toLowerCase(user.name:FOO)}", "jdoe"),
        ("{a:{v}}", "{a:V}"),
        ("{nothing:two words}", "two words"),
    ] {
        check(template, expected);
    }
}

#[test]
fn functions_give_the_documented_results() {
    for (template, expected) in [
        ("{sha256Hex('abc')}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{sha256Hex(str)}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{sha256Base64('abc')}", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="),
        ("{md5Hex('abc')}", "900150983cd24fb0d6963f7d28e17f72"),
        ("{sha1Hex('abc')}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "{hmacSha1('key','The quick brown fox jumps over the lazy dog','utf-8','hex')}",
            "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9",
        ),
        (
            "{hmacSha256('6b6579','The quick brown fox jumps over the lazy dog','HEX','base16')}",
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
        ),
        (
            "{hmacMd5('key','The quick brown fox jumps over the lazy dog')}",
            "gAcHE0Y+d0m5DC3CSRHidQ==",
        ),
        ("{encodeBase64('abc')}", "YWJj"),
        ("Hello, {decodeBase64('d29ybGQK')}", "Hello, world\n"),
        ("{decodeBase64('_-__')}", ""),
        ("{toUpperCase(user.name)}", "JDOE"),
        ("Test header: Hello, {toLowerCase(user.name)}", "Test header: Hello, jdoe"),
        ("{substring(alpha,22)}", "WXYZ"),
        ("hello {substring(alpha,22)}", "hello WXYZ"),
        ("{substring(alpha,-4)}", "WXYZ"),
        ("{substring(alpha,-8,-4)}", "STUV"),
        ("{substring(alpha,0,10)}", "ABCDEFGHIJ"),
        ("{substring(alpha,0,seven)}", "ABCDEFG"),
        ("{substring(alpha,99)}", ""),
        ("{replaceAll(header,'9993','')}", "Bearer ABCDEFGHIJKLMNOPQRSTUVWXYZ-"),
        ("{replaceAll(header,regex1,'')}", "ABCDEFGHIJKLMNOPQRSTUVWXYZ-9993"),
        ("{replaceAll(header,regex1,replacement)}", "TOKEN: ABCDEFGHIJKLMNOPQRSTUVWXYZ-9993"),
        ("{replaceFirst('aXbXc','X','-')}", "a-bXc"),
        ("{replaceAll('BEARER: 1234','^Bearer ','TOKEN:')}", "BEARER: 1234"),
        ("{escapeJSON(quoted)}", r#"Invalid value for \"logonId\" a\/b\n"#),
        ("{escapeXML(food)}", "&quot;bread&quot; &amp; &apos;butter&apos; &lt;é&gt;"),
        ("{escapeXML(control)}", "ab&#127;"),
        ("{escapeXML11(control)}", "a&#1;b&#127;"),
        ("{encodeHTML(food)}", "&quot;bread&quot; &amp; 'butter' &lt;&eacute;&gt;"),
        ("{timeFormatMs('yyyy-MM-dd',epoch_time_ms)}", "2017-05-10"),
        ("{timeFormatUTC(fmt2,epoch_time)}", "2017-05-10 04-24-26"),
        ("{timeFormatUTCMs(fmt_colon,system.timestamp)}", "04:24:26"),
        ("{createUuid()}", "01234567-89ab-4def-8123-456789abcdef"),
        ("{randomLong()}", "81985529216486895"),
        ("{randomLong(10,10)}", "10"),
        ("{xeger('[a]{3}')}", "aaa"),
        ("{firstnonnull(nope,user.name)}", "Jdoe"),
        ("{firstnonnull(empty,user.name)}", ""),
        ("{firstnonnull(nope,nada,'fallback value')}", "fallback value"),
        ("{firstnonnull(nope,nada)}", ""),
        (
            r#"The address is {jsonPath('$.results[?(@.name == "Mae West")].address.line1',results)}"#,
            "The address is 1060 West Addison Street",
        ),
        (
            r#"{jsonPath('$.config.quota[?(@.operation=="ManageOrder")].appname',config,true)}"#,
            r#"["A","B"]"#,
        ),
        ("{jsonPath(the_query,config,'true')}", r#"["A","B"]"#),
        ("{jsonPath(the_query,config)}", "A"),
        ("{jsonPath('$.nothing',config)}", ""),
    ] {
        check(template, expected);
    }
}

#[test]
fn what_is_unresolved_is_named_where_it_must_not_be() {
    for (template, expected) in [
        ("{v}", Ok("V")),
        ("a{nope}", Err("nope")),
        ("{nope:x}", Ok("x")),
        ("{toUpperCase(nope)}", Err("toUpperCase(nope)")),
        ("{firstnonnull(a,b)}", Err("firstnonnull(a,b)")),
    ] {
        let rendered = Template::parse(template).expect("a template").render_strictly(&context());
        assert_eq!(
            rendered,
            expected.map(String::from).map_err(|n| Unresolved(n.into())),
            "{template}"
        );
    }
}

#[test]
fn unknown_functions_and_bad_literals_are_refused_by_name() {
    for (template, what) in [
        ("{nope(v)}", "no function `nope`"),
        ("{xpath('/a',v)}", "`xpath` is not supported"),
        ("{substring(v)}", "takes 2 to 3 arguments"),
        ("{replaceAll(v,'(?=a)','')}", "look-around"),
        ("{timeFormat('bbb',v)}", "no letter"),
        ("{hmacSha256(k,v,'rot13')}", "no encoding"),
        ("{jsonPath('$[',v)}", "jsonPath"),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert!(error.what.contains(what), "{template}: {error}");
    }
}

#[test]
fn other_delimiters_replace_the_braces() {
    let template = Template::with_delimiters(r#"{"type":"@v#","b":"{v}"}"#, "@", "#");
    let rendered = template.expect("a template").render(&context());
    assert_eq!(rendered, r#"{"type":"V","b":"{v}"}"#);
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in "\\PC{0,60}") {
        if let Ok(template) = Template::parse(&text) {
            template.render(&context());
        }
    }

    #[test]
    fn text_without_braces_is_itself(text in "[^{}]{0,60}") {
        prop_assert_eq!(Template::parse(&text).expect("a template").render(&context()), text);
    }
}
