//! Bundles: what is read, and what is refused by name, file and line.

use super::*;
use crate::testing::BundleText;

const ROUTE: &str = "<RouteRule name=\"r\"><TargetEndpoint>default</TargetEndpoint></RouteRule>";

/// The reference configuration of section 12.
pub(crate) fn reference() -> BundleText {
    BundleText::new(
        r#"
  <PreFlow name="PreFlow"><Request/><Response/></PreFlow>
  <Flows>
    <Flow name="GET /login"><Description/><Request/><Response/>
      <Condition>(proxy.pathsuffix MatchesPath "/login") and (request.verb = "GET")</Condition></Flow>
    <Flow name="404 - Not Found"><Description/>
      <Request><Step><Name>RF-404NotFound</Name></Step></Request><Response/></Flow>
  </Flows>
  <PostFlow name="PostFlow"><Request><Step><Name>AM-SetAudience</Name></Step></Request><Response/></PostFlow>
  <RouteRule name="default"><TargetEndpoint>default</TargetEndpoint></RouteRule>"#,
    )
    .policy(
        r#"<RaiseFault name="RF-404NotFound"><FaultResponse><Set><Payload contentType="application/json">{"error":"not_found"}</Payload><StatusCode>404</StatusCode><ReasonPhrase>Not Found</ReasonPhrase></Set></FaultResponse></RaiseFault>"#,
    )
    .policy(
        r#"<AssignMessage name="AM-SetAudience"><AssignVariable><Name>flow.audience</Name><Template>https:/{proxy.pathsuffix}-hash-ew.a.run.app</Template></AssignVariable></AssignMessage>"#,
    )
    .target(
        r#"<HTTPTargetConnection><URL>https://internal.example.com</URL><Authentication><GoogleIDToken><Audience ref="flow.audience"/></GoogleIDToken></Authentication></HTTPTargetConnection>"#,
    )
}

#[test]
fn the_reference_bundle_is_good() {
    let loaded = load(&reference().files()).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.bundle.name, "orders");
    assert!(loaded.bundle.needs_service_account());
    assert_eq!(loaded.bundle.needs, Needs::default(), "nothing reads a payload");
}

/// One mistake each: the bundle, the code, the file, the line, and a word of the message.
fn check(bundle: BundleText, code: &str, file: &str, line: u32, word: &str) {
    let errors =
        load(&bundle.files()).err().unwrap_or_else(|| panic!("{code}: the bundle was accepted"));
    assert_eq!(errors.len(), 1, "{code}: {errors:?}");
    let error = &errors[0];
    assert_eq!((error.code, &*error.file, error.line), (code, file, line), "{error}");
    assert!(error.what.contains(word), "{error}");
}

#[test]
fn whatever_is_not_supported_is_refused_by_name_and_line() {
    let proxy = "apiproxy/proxies/default.xml";
    let target = "apiproxy/targets/default.xml";
    let with_target = |text: &str| BundleText::new(ROUTE).target(text);
    let connection = |text: &str| {
        with_target(&format!(
            "<HTTPTargetConnection>\n<URL>https://t</URL>\n{text}</HTTPTargetConnection>"
        ))
    };
    let policy = |text: &str| {
        BundleText::new("<PreFlow><Request><Step><Name>P</Name></Step></Request></PreFlow>")
            .file("apiproxy/policies/p.xml", text)
    };
    for (bundle, code, file, line, word) in [
        (BundleText::new("\n<Wrong/>"), "UNSUPPORTED_ELEMENT", proxy, 2, "`<Wrong>`"),
        (BundleText::new("\n<PreFlow nam=\"x\"/>"), "UNSUPPORTED_ATTRIBUTE", proxy, 2, "`nam`"),
        (BundleText::new("\ntext"), "UNEXPECTED_TEXT", proxy, 1, "ProxyEndpoint"),
        (BundleText::new("<PreFlow/>\n<PreFlow/>"), "DUPLICATE_ELEMENT", proxy, 2, "PreFlow"),
        (BundleText::new("<RouteRule name=\"r\">\n<IntegrationEndpoint>x</IntegrationEndpoint></RouteRule>"), "UNSUPPORTED_ELEMENT", proxy, 2, "IntegrationEndpoint"),
        (BundleText::new("<RouteRule name=\"r\"><TargetEndpoint>nope</TargetEndpoint></RouteRule>"), "UNRESOLVED_TARGET_ENDPOINT", proxy, 1, "nope"),
        (BundleText::new("<PreFlow><Request>\n<Step><Name>nope</Name></Step></Request></PreFlow>"), "UNRESOLVED_STEP", proxy, 2, "nope"),
        (BundleText::new("<Flows><Flow name=\"f\">\n<Condition>a = 'b'</Condition></Flow></Flows>"), "INVALID_CONDITION", proxy, 2, "single quotes"),
        (BundleText::new("<RouteRule name=\"r\"/>").file(proxy, "<ProxyEndpoint name=\"d\"><HTTPProxyConnection>\n<BasePath>v1</BasePath></HTTPProxyConnection></ProxyEndpoint>"), "INVALID_BASE_PATH", proxy, 2, "slash"),
        (BundleText::new("").file(proxy, "<ProxyEndpoint name=\"d\"/>"), "MISSING_BASE_PATH", proxy, 1, "base path"),
        (BundleText::new("").file(proxy, "<Flow/>"), "WRONG_ROOT_ELEMENT", proxy, 1, "`<Flow>`"),
        (BundleText::new("").file("apiproxy/targets/x.xml", "<TargetEndpoint name='x'>"), "MALFORMED_XML", "apiproxy/targets/x.xml", 1, "not XML"),
        (connection("<LoadBalancer><Server name=\"s\"/></LoadBalancer>"), "UNSUPPORTED_ELEMENT", target, 3, "LoadBalancer"),
        (connection("<SSLInfo>\n<TrustStore>ref://ts</TrustStore></SSLInfo>"), "UNSUPPORTED_ELEMENT", target, 4, "TrustStore"),
        (connection("<SSLInfo><ClientAuthEnabled>true</ClientAuthEnabled></SSLInfo>"), "UNSUPPORTED_ELEMENT", target, 3, "ClientAuthEnabled"),
        (connection("<Authentication><GoogleAccessToken/><GoogleIDToken><Audience>a</Audience></GoogleIDToken></Authentication>"), "UNSUPPORTED_ELEMENT", target, 3, "GoogleAccessToken"),
        (connection("<Authentication><GoogleIDToken><Audience>https://{v}</Audience></GoogleIDToken></Authentication>"), "INVALID_AUDIENCE", target, 3, "must not contain variables"),
        (connection("<Properties><Property name=\"no.such\">1</Property></Properties>"), "UNSUPPORTED_PROPERTY", target, 3, "no.such"),
        (connection("<Properties><Property name=\"io.timeout.millis\">soon</Property></Properties>"), "UNSUPPORTED_PROPERTY", target, 3, "milliseconds"),
        (connection("<Properties><Property name=\"compression.algorithm\">gzip</Property></Properties>"), "UNSUPPORTED_PROPERTY", target, 3, "compression"),
        (with_target("<HTTPTargetConnection><URL>ftp://t</URL></HTTPTargetConnection>"), "INVALID_URL", target, 1, "ftp"),
        (with_target("<EventFlow name=\"e\"/>"), "UNSUPPORTED_ELEMENT", target, 1, "EventFlow"),
        (BundleText::new(ROUTE).file(target, "<TargetEndpoint name=\"default\"><LocalTargetConnection/></TargetEndpoint>"), "UNSUPPORTED_ELEMENT", target, 1, "LocalTargetConnection"),
        (policy("\n<Javascript name=\"P\"><ResourceURL>jsc://x.js</ResourceURL></Javascript>"), "UNSUPPORTED_POLICY", "apiproxy/policies/p.xml", 2, "`<Javascript>`"),
        (policy("<FlowCallout name=\"P\"><SharedFlowBundle>s</SharedFlowBundle></FlowCallout>"), "UNSUPPORTED_POLICY", "apiproxy/policies/p.xml", 1, "`<FlowCallout>`"),
        (policy("<AssignMessage name=\"P\">\n<Set><Authentication/></Set></AssignMessage>"), "UNSUPPORTED_ELEMENT", "apiproxy/policies/p.xml", 2, "Authentication"),
        (policy("<AssignMessage name=\"P\">\n<Set><Payload>{nope(v)}</Payload></Set></AssignMessage>"), "INVALID_TEMPLATE", "apiproxy/policies/p.xml", 2, "no function `nope`"),
        (policy("<AssignMessage name=\"P\"><AssignVariable>\n<Name>{v}</Name><Value/></AssignVariable></AssignMessage>"), "InvalidVariableName", "apiproxy/policies/p.xml", 2, "{v}"),
        (policy("<SpikeArrest name=\"P\">\n<Rate>30s</Rate></SpikeArrest>"), "InvalidAllowedRate", "apiproxy/policies/p.xml", 2, "Invalid spike arrest rate 30s."),
        (policy("<Quota name=\"P\" type=\"sliding\"><Allow count=\"1\"/><Interval>1</Interval><TimeUnit>minute</TimeUnit></Quota>"), "InvalidQuotaType", "apiproxy/policies/p.xml", 1, "sliding"),
        (policy("<Quota name=\"P\"><Allow count=\"1\"/><Interval>1</Interval><TimeUnit>fortnight</TimeUnit></Quota>"), "InvalidQuotaTimeUnit", "apiproxy/policies/p.xml", 1, "fortnight"),
        (policy("<Quota name=\"P\"><Allow count=\"1\"/><Interval>0</Interval><TimeUnit>minute</TimeUnit></Quota>"), "InvalidQuotaInterval", "apiproxy/policies/p.xml", 1, "0"),
        (policy("<Quota name=\"P\" type=\"flexi\"><Allow count=\"1\"/><Interval>1</Interval><TimeUnit>minute</TimeUnit><StartTime>2017-02-18 10:30:00</StartTime></Quota>"), "StartTimeNotSupported", "apiproxy/policies/p.xml", 1, "flexi"),
        (policy("<Quota name=\"P\" type=\"calendar\"><Allow count=\"1\"/><Interval>1</Interval><TimeUnit>minute</TimeUnit><StartTime>soon</StartTime></Quota>"), "InvalidStartTime", "apiproxy/policies/p.xml", 1, "soon"),
        (policy("<VerifyAPIKey name=\"P\"/>"), "SpecifyValueOrRefApiKey", "apiproxy/policies/p.xml", 1, "no API key"),
        (policy("<ExtractVariables name=\"P\"/>"), "NothingToExtract", "apiproxy/policies/p.xml", 1, "mandatory"),
        (policy("<ExtractVariables name=\"P\"><URIPath>\n<Pattern>/a/b</Pattern></URIPath></ExtractVariables>"), "PatternWithoutVariable", "apiproxy/policies/p.xml", 2, "/a/b"),
        (policy("<ExtractVariables name=\"P\"><Header name=\"h\"><Pattern>{x}</Pattern></Header><XMLPayload/></ExtractVariables>"), "UNSUPPORTED_ELEMENT", "apiproxy/policies/p.xml", 1, "XMLPayload"),
        (policy("<ExtractVariables name=\"P\"><JSONPayload><Variable name=\"x\">\n<JSONPath>$[</JSONPath></Variable></JSONPayload></ExtractVariables>"), "JSONPathCompilationFailed", "apiproxy/policies/p.xml", 2, "JSONPath"),
        (policy("<MessageLogging name=\"P\"><Syslog/></MessageLogging>"), "UNSUPPORTED_ELEMENT", "apiproxy/policies/p.xml", 1, "Syslog"),
        (policy("<MessageLogging name=\"P\"/>"), "NO_DESTINATION", "apiproxy/policies/p.xml", 1, "nowhere"),
        (policy("<RaiseFault name=\"P\" continueOnError=\"maybe\"/>"), "INVALID_VALUE", "apiproxy/policies/p.xml", 1, "maybe"),
        (BundleText::new("").policy("<RaiseFault/>"), "MissingName", "apiproxy/policies/p2.xml", 1, "name"),
    ] {
        check(bundle, code, file, line, word);
    }
}

#[test]
fn a_shared_flow_bundle_is_refused() {
    let files = BundleText::default()
        .file("sharedflowbundle/sharedflows/default.xml", "<SharedFlow name=\"default\"/>")
        .files();
    let errors = load(&files).expect_err("a shared flow");
    assert!(errors.iter().any(|error| error.code == "UNSUPPORTED_SHARED_FLOW"), "{errors:?}");
}

#[test]
fn all_mistakes_are_reported_at_once_in_order() {
    let bundle = BundleText::new("<A/>\n<PreFlow><Request><Step><Name>P</Name><Condition>a ~</Condition></Step></Request></PreFlow>\n<RouteRule><TargetEndpoint>nope</TargetEndpoint></RouteRule>")
        .file("apiproxy/policies/p.xml", "<SpikeArrest name=\"P\">\n<Rate>x</Rate>\n<Burst/></SpikeArrest>")
        .file("apiproxy/policies/q.xml", "<Quota name=\"Q\"/>")
        .target("<HTTPTargetConnection><URL>https://t</URL><Properties><Property name=\"x\">1</Property></Properties></HTTPTargetConnection>");
    let errors = load(&bundle.files()).expect_err("many mistakes");
    let found: Vec<_> = errors.iter().map(|error| (error.code, error.line)).collect();
    assert_eq!(
        found,
        [
            ("InvalidAllowedRate", 2),
            ("UNSUPPORTED_ELEMENT", 3),
            ("INVALID_QUOTA", 1),
            ("InvalidQuotaInterval", 1),
            ("InvalidQuotaTimeUnit", 1),
            ("UNSUPPORTED_ELEMENT", 1),
            ("INVALID_CONDITION", 2),
            ("MissingName", 3),
            ("UNRESOLVED_TARGET_ENDPOINT", 3),
            ("UNSUPPORTED_PROPERTY", 1),
        ],
        "{errors:#?}"
    );
    for (line, severity) in
        [(errors[0].to_string(), "error"), (errors[0].as_warning().to_string(), "warning")]
    {
        let begin = format!("apiproxy/policies/p.xml:2:1: {severity} InvalidAllowedRate: ");
        assert!(line.starts_with(&begin), "{line}");
    }
}

/// An unknown element in any place must be refused, wherever it stands.
#[test]
fn an_unknown_element_anywhere_is_refused() {
    let policies = [
        "<AssignMessage name=\"P\"><AssignTo/><AssignVariable><Name>a</Name><Ref>b</Ref></AssignVariable><Add><Headers/></Add><Copy source=\"request\"><Headers/></Copy><Remove><Headers/></Remove><Set><Headers><Header name=\"x\">1</Header></Headers></Set></AssignMessage>",
        "<RaiseFault name=\"P\"><FaultResponse><Set><Headers/></Set></FaultResponse></RaiseFault>",
        "<Quota name=\"P\"><Allow count=\"1\"><Class ref=\"c\"><Allow class=\"a\" count=\"1\"/></Class></Allow><Interval>1</Interval><TimeUnit>minute</TimeUnit><UseQuotaConfigInAPIProduct stepName=\"V\"><DefaultConfig><Allow>1</Allow></DefaultConfig></UseQuotaConfigInAPIProduct></Quota>",
        "<SpikeArrest name=\"P\"><Rate>1ps</Rate></SpikeArrest>",
        "<VerifyAPIKey name=\"P\"><APIKey ref=\"k\"/></VerifyAPIKey>",
        "<ExtractVariables name=\"P\"><URIPath><Pattern>/{a}</Pattern></URIPath><JSONPayload><Variable name=\"v\"><JSONPath>$.a</JSONPath></Variable></JSONPayload></ExtractVariables>",
        "<MessageLogging name=\"P\"><CloudLogging><LogName>l</LogName><Message>m</Message><Labels><Label><Key>k</Key><Value>v</Value></Label></Labels></CloudLogging></MessageLogging>",
    ];
    let target = "<FaultRules><FaultRule name=\"f\"><Step><Name>P</Name></Step></FaultRule></FaultRules><HTTPTargetConnection><URL>https://t</URL><SSLInfo><Enforce>true</Enforce></SSLInfo><Authentication><GoogleIDToken><Audience>a</Audience></GoogleIDToken></Authentication><Properties><Property name=\"io.timeout.millis\">5</Property></Properties></HTTPTargetConnection>";
    let proxy = "<FaultRules><FaultRule name=\"f\"><Condition>a = 1</Condition></FaultRule></FaultRules><DefaultFaultRule name=\"d\"><AlwaysEnforce>true</AlwaysEnforce></DefaultFaultRule><PreFlow><Request><Step><Name>P</Name></Step></Request></PreFlow><Flows><Flow name=\"x\"><Request/></Flow></Flows><PostClientFlow><Response/></PostClientFlow><RouteRule name=\"r\"><TargetEndpoint>default</TargetEndpoint></RouteRule>";
    let mut tried = 0;
    for policy in policies {
        let good = BundleText::new(proxy).target(target).file("apiproxy/policies/p.xml", policy);
        load(&good.files()).unwrap_or_else(|errors| panic!("{errors:?}"));
        for (path, content) in good.files().iter() {
            let text = std::str::from_utf8(content).expect("text");
            for (at, _) in text.match_indices("</") {
                let broken = format!("{}<Zzz/>{}", &text[..at], &text[at..]);
                // The root file is read for its name only, but its children are known, too.
                let bundle = good.clone().file(path, &broken);
                // Payloads and templates may hold XML as text.
                if text[..at].ends_with("</Payload>") || text[at..].starts_with("</Message>") {
                    continue;
                }
                let errors =
                    load(&bundle.files()).err().unwrap_or_else(|| panic!("accepted: {broken}"));
                assert!(
                    errors.iter().any(|error| error.what.contains("Zzz")),
                    "{broken}: {errors:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn what_is_accepted_without_effect_is_said() {
    let bundle = BundleText::new("<Flows><Flow name=\"a\"/><Flow name=\"b\"/></Flows><RouteRule name=\"r\"/><RouteRule name=\"s\"><Condition>a = 1 or b = 2 and c = 3</Condition></RouteRule>")
        .target("<HTTPTargetConnection><URL>https://t</URL><Properties><Property name=\"copy.pathsuffix\">false</Property></Properties></HTTPTargetConnection>")
        .policy("<Javascript name=\"J\"/>")
        .file("apiproxy/resources/jsc/x.js", "1");
    let loaded = load(&bundle.files()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut codes: Vec<_> = loaded.warnings.iter().map(|warning| warning.code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "MIXED_OPERATORS",
            "NOT_READ",
            "NO_EFFECT",
            "UNREACHABLE_FLOW",
            "UNREACHABLE_ROUTE_RULE",
            "UNSUPPORTED_POLICY"
        ]
    );
}

#[test]
fn property_sets_are_java_properties() {
    let text = "# comment\nkey=value\nspaced : a b \nlong = one, \\\n   two\nuni=\\u00e9\\t!\nempty\na\\ b=c";
    let expected: Vec<(String, String)> = [
        ("key", "value"),
        ("spaced", "a b "),
        ("long", "one, two"),
        ("uni", "é\t!"),
        ("empty", ""),
        ("a b", "c"),
    ]
    .iter()
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .collect();
    assert_eq!(java_properties(text), expected);
}

#[test]
fn payloads_are_needed_only_where_something_reads_them() {
    for (proxy, policy, request, response) in [
        (
            "",
            "<AssignMessage name=\"P\"><Set><Headers><Header name=\"x\">{request.header.y}</Header></Headers></Set></AssignMessage>",
            false,
            false,
        ),
        (
            "",
            "<AssignMessage name=\"P\"><Set><Payload>x</Payload></Set></AssignMessage>",
            false,
            false,
        ),
        (
            "",
            "<AssignMessage name=\"P\"><Set><Headers><Header name=\"x\">{request.content}</Header></Headers></Set></AssignMessage>",
            true,
            false,
        ),
        (
            "",
            "<AssignMessage name=\"P\"><Set><Headers><Header name=\"x\">{message.content}</Header></Headers></Set></AssignMessage>",
            true,
            true,
        ),
        (
            "",
            "<AssignMessage name=\"P\"><AssignTo>response</AssignTo><Copy source=\"request\"><Payload>true</Payload></Copy></AssignMessage>",
            true,
            false,
        ),
        (
            "",
            "<AssignMessage name=\"P\"><Set><FormParams><FormParam name=\"a\">1</FormParam></FormParams></Set></AssignMessage>",
            true,
            true,
        ),
        (
            "",
            "<ExtractVariables name=\"P\"><Source>response</Source><JSONPayload><Variable name=\"v\"><JSONPath>$.a</JSONPath></Variable></JSONPayload></ExtractVariables>",
            false,
            true,
        ),
        (
            "",
            "<MessageLogging name=\"P\"><CloudLogging><LogName>l</LogName><Message>{error.content}</Message></CloudLogging></MessageLogging>",
            false,
            true,
        ),
        (
            "<Flows><Flow name=\"f\"><Condition>request.formparam.a = \"1\"</Condition></Flow></Flows>",
            "<RaiseFault name=\"P\"/>",
            true,
            false,
        ),
    ] {
        let bundle = BundleText::new(proxy).policy(policy);
        let needs =
            load(&bundle.files()).unwrap_or_else(|errors| panic!("{errors:?}")).bundle.needs;
        assert_eq!(
            (needs.request_payload, needs.response_payload),
            (request, response),
            "{policy}"
        );
    }
}
