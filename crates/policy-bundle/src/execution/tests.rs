//! The pipeline, routing, faults and policies, driven from the request to the answer.

use crate::bundle::tests::reference;
use crate::fault::Fault;
use crate::message::{Content, Origin};
use crate::testing::{BundleText, answer, headers, request};
use crate::{TargetOutcome, TlsMode};

const ROUTE: &str =
    "<RouteRule name=\"default\"><TargetEndpoint>default</TargetEndpoint></RouteRule>";
const NO_TARGET: &str = "<RouteRule name=\"none\"/>";

/// A policy that appends its name to the variable `seen`.
fn mark(name: &str) -> String {
    format!(
        "<AssignMessage name=\"{name}\"><AssignVariable><Name>seen</Name><Template>{{seen}}{name} </Template></AssignVariable><IgnoreUnresolvedVariables>true</IgnoreUnresolvedVariables></AssignMessage>"
    )
}

fn step(name: &str) -> String {
    format!("<Step><Name>{name}</Name></Step>")
}

fn step_if(name: &str, condition: &str) -> String {
    format!("<Step><Name>{name}</Name><Condition>{condition}</Condition></Step>")
}

#[test]
fn the_reference_configuration_routes_with_one_audience_per_service() {
    let deployed = reference().deploy();
    let outcome = deployed.get("/v1/crun/login?x=1");
    assert_eq!(outcome.status(), 200);
    assert_eq!(outcome.url(), Some("https://internal.example.com/login?x=1"));
    assert_eq!(outcome.target_header("host"), Some("internal.example.com"));
    let target = outcome.target.as_ref().expect("a target request");
    let token = target.id_token.as_ref().expect("a token");
    assert_eq!(token.audience, "https://login-hash-ew.a.run.app");
    assert_eq!(&*token.service_account, "proxy@p.iam.gserviceaccount.com");
    assert_eq!((token.header.as_str(), token.include_email), ("authorization", false));
    assert_eq!(target.endpoint.tls, TlsMode::NameOnly, "without SSLInfo the chain is not checked");
    for (method, uri) in [("GET", "/v1/crun/zzz"), ("POST", "/v1/crun/login")] {
        let outcome =
            deployed.call(request(method, uri, &[], ""), |_| panic!("no connection to the target"));
        assert_eq!(
            (outcome.status(), outcome.body()),
            (404, "{\"error\":\"not_found\"}".to_owned()),
            "{method} {uri}"
        );
        assert_eq!(outcome.response.reason.as_deref(), Some("Not Found"));
        assert_eq!(outcome.variable("fault.name").as_deref(), Some("RaiseFault"));
    }
}

#[test]
fn the_pipeline_runs_in_the_documented_order() {
    let names = [
        "p1", "f1", "o1", "tp1", "tf1", "to1", "tp2", "tf2", "to2", "p2", "f2", "o2", "pc", "other",
    ];
    let pair = |request: &str, response: &str| {
        format!("<Request>{}</Request><Response>{}</Response>", step(request), step(response))
    };
    let flows = |p: (&str, &str), f: (&str, &str), o: (&str, &str)| {
        format!(
            "<PreFlow>{}</PreFlow><Flows><Flow name=\"no\"><Condition>false</Condition>{}</Flow><Flow name=\"yes\"><Condition>done != \"x\"</Condition>{}</Flow><Flow name=\"late\">{}</Flow></Flows><PostFlow>{}</PostFlow>",
            pair(p.0, p.1),
            pair("other", "other"),
            pair(f.0, f.1),
            pair("other", "other"),
            pair(o.0, o.1)
        )
    };
    let proxy = format!(
        "{}<PostClientFlow><Response>{}</Response></PostClientFlow>{ROUTE}",
        flows(("p1", "p2"), ("f1", "f2"), ("o1", "o2")),
        step("pc")
    );
    let mut bundle =
        BundleText::new(&proxy).target(&flows(("tp1", "tp2"), ("tf1", "tf2"), ("to1", "to2")));
    for name in names {
        bundle = bundle.policy(&mark(name));
    }
    let outcome = bundle.deploy().get("/v1/crun/x");
    assert_eq!(
        outcome.variable("seen").as_deref(),
        Some("p1 f1 o1 tp1 tf1 to1 tp2 tf2 to2 p2 f2 o2 pc ")
    );
    assert_eq!(outcome.call.flow().map(|flow| &*flow.name), Some("yes"));
}

#[test]
fn the_response_of_a_flow_runs_even_if_its_condition_no_longer_holds() {
    let proxy = format!(
        "<Flows><Flow name=\"f\"><Condition>flag = null</Condition><Request>{}</Request><Response>{}</Response></Flow></Flows>{NO_TARGET}",
        step("Set"),
        step("Mark")
    );
    let outcome = BundleText::new(&proxy)
        .policy("<AssignMessage name=\"Set\"><AssignVariable><Name>flag</Name><Value>x</Value></AssignVariable></AssignMessage>")
        .policy(&mark("Mark"))
        .deploy()
        .get("/v1/crun");
    assert_eq!(outcome.variable("seen").as_deref(), Some("Mark "));
}

#[test]
fn no_target_answers_200_with_the_requests_headers_and_payload() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("Status"));
    let deployed = BundleText::new(&proxy)
        .policy("<AssignMessage name=\"Status\"><Set><StatusCode>404</StatusCode></Set></AssignMessage>")
        .deploy();
    let headers =
        [("x-mine", "1"), ("connection", "x-hop"), ("x-hop", "1"), ("content-type", "text/plain")];
    let outcome =
        deployed.call(request("POST", "/v1/crun", &headers, "hello"), |_| panic!("no target"));
    assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
    assert_eq!(outcome.header("x-mine"), Some("1"));
    assert_eq!(outcome.header("content-type"), Some("text/plain"));
    assert_eq!(outcome.header("x-hop"), None);
    let outcome = deployed.get("/v1/crun");
    assert_eq!((outcome.status(), outcome.body().as_str()), (200, ""));
}

#[test]
fn route_rules_are_tried_from_the_top_and_none_is_route_failed() {
    let rules = "<RouteRule name=\"a\"><Condition>request.queryparam.r = \"a\"</Condition><TargetEndpoint>default</TargetEndpoint></RouteRule><RouteRule name=\"n\"><Condition>request.queryparam.r = \"n\"</Condition></RouteRule>";
    let deployed = BundleText::new(rules).target("").deploy();
    let outcome = deployed.get("/v1/crun?r=a");
    assert_eq!((outcome.status(), outcome.variable("route.name").as_deref()), (200, Some("a")));
    assert_eq!(outcome.variable("route.target").as_deref(), Some("default"));
    assert!(deployed.get("/v1/crun?r=n").target.is_none());
    let outcome = deployed.get("/v1/crun");
    assert_eq!(outcome.status(), 500);
    assert_eq!(
        outcome.body(),
        r#"{"fault":{"faultstring":"Unable to route the message to a Target Endpoint","detail":{"errorcode":"messaging.runtime.RouteFailed"}}}"#
    );
    assert_eq!(outcome.header("content-type"), Some("application/json"));
}

/// One URL each: target URL, target flow assignments, request URI, expected URL.
#[test]
fn the_target_url_is_built_as_documented() {
    let assign = |name: &str, value: &str| {
        format!(
            "<AssignMessage name=\"A\"><AssignVariable><Name>{name}</Name><Value>{value}</Value></AssignVariable></AssignMessage>"
        )
    };
    let nothing = "<AssignMessage name=\"A\"/>".to_owned();
    for (url, policy, uri, expected) in [
        ("https://t", &nothing, "/v1/crun/login", "https://t/login"),
        ("https://t/base", &nothing, "/v1/crun/login?x=1", "https://t/base/login?x=1"),
        ("https://t/base/", &nothing, "/v1/crun/login", "https://t/base/login"),
        ("https://t/base/", &nothing, "/v1/crun", "https://t/base/"),
        ("https://t", &nothing, "/v1/crun", "https://t/"),
        ("https://t/", &nothing, "/v1/crun/", "https://t/"),
        ("https://t/b?u=1", &nothing, "/v1/crun?x=1", "https://t/b?u=1&x=1"),
        ("https://t:8443/b", &nothing, "/v1/crun/a%20b", "https://t:8443/b/a%20b"),
        ("{scheme:https}://{host:a.example}/p", &nothing, "/v1/crun/x", "https://a.example/p/x"),
        ("https://t/b", &assign("target.copy.pathsuffix", "false"), "/v1/crun/x?q=1", "https://t/b?q=1"),
        ("https://t/b", &assign("target.copy.queryparams", "false"), "/v1/crun/x?q=1", "https://t/b/x"),
        ("https://t/b", &assign("target.url", "https://o.example/z"), "/v1/crun/x?q=1", "https://o.example/z?q=1"),
        ("https://t/b", &assign("request.path", "/whole"), "/v1/crun/x", "https://t/whole"),
        ("https://t/b", &assign("request.queryparam.q", "2"), "/v1/crun?q=1&q=3", "https://t/b?q=2"),
        ("https://t/b", &"<AssignMessage name=\"A\"><Set><Path>/set</Path><QueryParams><QueryParam name=\"a\">1 2</QueryParam></QueryParams></Set></AssignMessage>".to_owned(), "/v1/crun/x", "https://t/set?a=1%202"),
        ("https://t/b", &"<AssignMessage name=\"A\"><Remove><QueryParams><QueryParam name=\"apikey\"/></QueryParams></Remove></AssignMessage>".to_owned(), "/v1/crun?apikey=k&q=1", "https://t/b?q=1"),
    ] {
        let target = format!("<PreFlow><Request>{}</Request></PreFlow><HTTPTargetConnection><URL>{}</URL></HTTPTargetConnection>", step("A"), url);
        let outcome = BundleText::new(ROUTE).target(&target).policy(policy).deploy().get(uri);
        assert_eq!(outcome.url(), Some(expected), "{url} {policy} {uri}");
    }
}

#[test]
fn copy_variables_set_in_the_proxy_flow_are_lost() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{ROUTE}", step("A"));
    let outcome = BundleText::new(&proxy)
        .target("")
        .policy("<AssignMessage name=\"A\"><AssignVariable><Name>target.copy.pathsuffix</Name><Value>false</Value></AssignVariable></AssignMessage>")
        .deploy()
        .get("/v1/crun/x");
    assert_eq!(outcome.url(), Some("https://internal.example.com/x"));
}

#[test]
fn host_follows_the_url_unless_the_target_flow_writes_it() {
    let policy = "<AssignMessage name=\"A\"><Set><Headers><Header name=\"Host\">mine.example</Header></Headers></Set></AssignMessage>";
    let in_proxy =
        BundleText::new(&format!("<PreFlow><Request>{}</Request></PreFlow>{ROUTE}", step("A")))
            .target("")
            .policy(policy);
    assert_eq!(
        in_proxy.deploy().get("/v1/crun").target_header("host"),
        Some("internal.example.com")
    );
    let in_target = BundleText::new(ROUTE)
        .target(&format!("<PreFlow><Request>{}</Request></PreFlow>", step("A")))
        .policy(policy);
    assert_eq!(in_target.deploy().get("/v1/crun").target_header("host"), Some("mine.example"));
    let port = BundleText::new(ROUTE)
        .target("<HTTPTargetConnection><URL>http://10.0.0.5:8080</URL></HTTPTargetConnection>");
    assert_eq!(port.deploy().get("/v1/crun").target_header("host"), Some("10.0.0.5:8080"));
}

#[test]
fn the_client_address_is_forwarded_only_on_demand() {
    let with = |property: &str| {
        let connection = format!(
            "<HTTPProxyConnection><BasePath>/v1/crun</BasePath>{property}</HTTPProxyConnection>"
        );
        BundleText::new("").target("").file(
            "apiproxy/proxies/default.xml",
            &format!("<ProxyEndpoint name=\"default\">{connection}{ROUTE}</ProxyEndpoint>"),
        )
    };
    let call = |bundle: BundleText| {
        let request = request("GET", "/v1/crun", &[("x-forwarded-for", "198.51.100.1")], "");
        bundle.deploy().call(request, |_| answer(200, &[], ""))
    };
    assert_eq!(call(with("")).target_header("x-forwarded-for"), Some("198.51.100.1"));
    let on =
        call(with("<Properties><Property name=\"X-Forwarded-For\">true</Property></Properties>"));
    assert_eq!(on.target_header("x-forwarded-for"), Some("198.51.100.1,203.0.113.9"));
}

#[test]
fn path_variables_have_the_documented_values() {
    let outcome = BundleText::new(ROUTE)
        .target("<HTTPTargetConnection><URL>https://t/base</URL></HTTPTargetConnection>")
        .deploy()
        .get("/v1/crun/login?x=1");
    for (name, value) in [
        ("proxy.basepath", "/v1/crun"),
        ("proxy.pathsuffix", "/login"),
        ("proxy.url", "https://api.example.com/v1/crun/login?x=1"),
        ("proxy.name", "default"),
        ("request.uri", "/base/login?x=1"),
        ("request.path", "/base/login"),
        ("request.querystring", "x=1"),
        ("request.url", "https://t/base/login?x=1"),
        ("target.url", "https://t/base/login?x=1"),
        ("target.basepath", "/base"),
        ("target.host", "t"),
        ("target.port", "443"),
        ("target.scheme", "https"),
        ("apiproxy.name", "orders"),
        ("apiproxy.revision", "7"),
        ("environment.name", "prod"),
        ("organization.name", "org"),
        ("client.ip", "203.0.113.9"),
        ("client.scheme", "https"),
        ("system.timestamp", "1700000000000"),
        ("system.time", "Tue, 14 Nov 2023 22:13:20 UTC"),
        ("system.time.dayofweek", "3"),
        ("system.region.name", "europe-west1"),
    ] {
        assert_eq!(outcome.variable(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(outcome.variable("fault.name"), None);
    let deployed = BundleText::new(NO_TARGET).deploy();
    for (uri, suffix) in [("/v1/crun", ""), ("/v1/crun/", "/"), ("/v1/crun/a/b?q", "/a/b")] {
        assert_eq!(
            deployed.get(uri).variable("proxy.pathsuffix").as_deref(),
            Some(suffix),
            "{uri}"
        );
    }
}

#[test]
fn read_only_variables_cannot_be_written() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("A"));
    for name in
        ["proxy.pathsuffix", "system.timestamp", "client.ip", "organization.name", "fault.name"]
    {
        let policy = format!(
            "<AssignMessage name=\"A\"><AssignVariable><Name>{name}</Name><Value>x</Value></AssignVariable></AssignMessage>"
        );
        let outcome = BundleText::new(&proxy).policy(&policy).deploy().get("/v1/crun");
        assert_eq!(outcome.status(), 500, "{name}");
        assert!(
            outcome.body().contains("steps.assignmessage.SetVariableFailed"),
            "{name}: {}",
            outcome.body()
        );
    }
}

/// Fault rules A, B and C are all true: proxy rules run from the bottom, target rules from the top.
#[test]
fn fault_rules_run_bottom_up_in_the_proxy_and_top_down_in_the_target() {
    let rule = |name: &str| {
        format!("<FaultRule name=\"{name}\"><Step><Name>{name}</Name></Step></FaultRule>")
    };
    let rules = format!("<FaultRules>{}{}{}</FaultRules>", rule("A"), rule("B"), rule("C"));
    let fault = "<RaiseFault name=\"RF\"/>";
    let in_proxy = BundleText::new(&format!(
        "{rules}<PreFlow><Request>{}</Request></PreFlow>{ROUTE}",
        step("RF")
    ))
    .target("");
    let in_target = BundleText::new(ROUTE)
        .target(&format!("{rules}<PreFlow><Request>{}</Request></PreFlow>", step("RF")));
    for (bundle, expected) in [(in_proxy, "C "), (in_target, "A ")] {
        let bundle = bundle.policy(fault).policy(&mark("A")).policy(&mark("B")).policy(&mark("C"));
        let outcome = bundle.deploy().get("/v1/crun");
        assert_eq!(outcome.variable("seen").as_deref(), Some(expected));
        assert_eq!(outcome.status(), 500);
    }
}

/// Where a fault arises and which rules there are: what runs.
#[test]
fn the_default_fault_rule_follows_the_documented_rules() {
    let rule = |condition: &str, steps: &str| {
        format!("<FaultRules><FaultRule name=\"r\">{condition}{steps}</FaultRule></FaultRules>")
    };
    let yes = "<Condition>fault.name = \"RaiseFault\"</Condition>";
    let no = "<Condition>fault.name = \"Other\"</Condition>";
    let default = |always: bool| {
        format!(
            "<DefaultFaultRule name=\"d\"><AlwaysEnforce>{always}</AlwaysEnforce>{}</DefaultFaultRule>",
            step("D")
        )
    };
    for (rules, expected, status) in [
        (String::new(), None, 500),
        (default(false), Some("D "), 500),
        (rule(yes, &step("A")) + &default(false), Some("A "), 500),
        (rule(yes, &step("A")) + &default(true), Some("A D "), 500),
        (rule(no, &step("A")) + &default(false), Some("D "), 500),
        // It counts as run even if every step was skipped.
        (rule(yes, &step_if("A", "false")) + &default(false), None, 500),
        // A new fault inside a rule ends the processing, AlwaysEnforce or not.
        (rule(yes, &(step("A") + &step("RF2"))) + &default(true), Some("A "), 418),
    ] {
        let outcome = BundleText::new(&format!("{rules}<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("RF")))
            .policy("<RaiseFault name=\"RF\"/>")
            .policy("<RaiseFault name=\"RF2\"><FaultResponse><Set><StatusCode>418</StatusCode></Set></FaultResponse></RaiseFault>")
            .policy(&mark("A"))
            .policy(&mark("D"))
            .deploy()
            .get("/v1/crun");
        assert_eq!(outcome.variable("seen").as_deref(), expected, "{rules}");
        assert_eq!(outcome.status(), status, "{rules}");
    }
}

#[test]
fn a_fault_rule_edits_the_error_message() {
    let rules = format!(
        "<FaultRules><FaultRule name=\"r\"><Condition>fault.name = \"FailedToResolveAPIKey\"</Condition>{}</FaultRule></FaultRules>",
        step("Edit")
    );
    let outcome = BundleText::new(&format!("{rules}<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("VA")))
        .policy("<VerifyAPIKey name=\"VA\"><APIKey ref=\"request.queryparam.apikey\"/></VerifyAPIKey>")
        .policy("<AssignMessage name=\"Edit\"><Set><Payload contentType=\"text/plain\">{error.status.code} {fault.name} {message.status.code} {oauthV2.VA.failed} {oauthV2.VA.fault.name}</Payload><StatusCode>403</StatusCode></Set></AssignMessage>")
        .deploy()
        .get("/v1/crun");
    assert_eq!(outcome.status(), 403);
    assert_eq!(outcome.body(), "401 FailedToResolveAPIKey 401 true FailedToResolveAPIKey");
    assert_eq!(outcome.header("content-type"), Some("text/plain"));
}

#[test]
fn a_targets_error_passes_through_and_skips_the_response_flows() {
    let proxy = format!("<PostFlow><Response>{}</Response></PostFlow>{ROUTE}", step("A"));
    let run = |target: &str, status: u16| {
        let bundle = BundleText::new(&proxy).target(target).policy(&mark("A")).policy(&mark("T"));
        bundle.deploy().call(request("GET", "/v1/crun", &[], ""), |_| {
            answer(status, &[("x-from", "target"), ("content-type", "text/html")], "no")
        })
    };
    let outcome = run("", 404);
    assert_eq!(
        (outcome.status(), outcome.body().as_str(), outcome.header("x-from")),
        (404, "no", Some("target"))
    );
    assert_eq!(outcome.variable("seen"), None);
    assert_eq!(outcome.variable("fault.name").as_deref(), Some("ErrorResponseCode"));
    assert_eq!(
        outcome.variable("error.class").as_deref(),
        Some("com.apigee.errors.http.server.BadGateway")
    );
    let codes = "<HTTPTargetConnection><URL>https://t</URL><Properties><Property name=\"success.codes\">2xx, 404</Property></Properties></HTTPTargetConnection>";
    assert_eq!(run(codes, 404).variable("seen").as_deref(), Some("A "));
    assert_eq!(run(codes, 302).variable("seen"), None, "a given list replaces the default");
    assert_eq!(run("", 302).variable("seen").as_deref(), Some("A "), "a redirect is a success");
    let rules = format!(
        "<FaultRules><FaultRule name=\"r\"><Condition>response.status.code = 503</Condition>{}</FaultRule></FaultRules>",
        step("T")
    );
    assert_eq!(run(&rules, 503).variable("seen").as_deref(), Some("T "));
    assert_eq!(run(&rules, 500).variable("seen"), None);
}

#[test]
fn proxy_rules_take_a_target_fault_only_where_the_target_defines_none() {
    let rules = |name: &str| {
        format!("<FaultRules><FaultRule name=\"r\">{}</FaultRule></FaultRules>", step(name))
    };
    for (target, expected) in [(String::new(), Some("P ")), (rules("T"), Some("T "))] {
        let bundle = BundleText::new(&format!("{}{ROUTE}", rules("P")))
            .target(&target)
            .policy(&mark("P"))
            .policy(&mark("T"));
        let outcome =
            bundle.deploy().call(request("GET", "/v1/crun", &[], ""), |_| answer(500, &[], ""));
        assert_eq!(outcome.variable("seen").as_deref(), expected, "{target}");
    }
}

#[test]
fn network_failures_are_the_documented_faults() {
    let deployed = BundleText::new(ROUTE).target("").deploy();
    for (fault, status, name) in [
        (Fault::service_unavailable(None), 503, "ServiceUnavailable"),
        (Fault::gateway_timeout(), 504, "GatewayTimeout"),
        (Fault::unexpected_eof_at_target(), 502, "UnexpectedEOFAtTarget"),
        (Fault::ssl_handshake_failed("x"), 503, "SslHandshakeFailed"),
        (Fault::token_generation_failure(""), 500, "GoogleTokenGenerationFailure"),
        (Fault::too_big_body(true), 502, "TooBigBody"),
    ] {
        let outcome =
            deployed.call(request("GET", "/v1/crun", &[], ""), |_| TargetOutcome::Failed(fault));
        assert_eq!(
            (outcome.status(), outcome.variable("fault.name").as_deref()),
            (status, Some(name))
        );
    }
}

#[test]
fn continue_on_error_sets_the_flag_and_goes_on() {
    let proxy =
        format!("<PreFlow><Request>{}{}</Request></PreFlow>{NO_TARGET}", step("VA"), step("A"));
    let outcome = BundleText::new(&proxy)
        .policy("<VerifyAPIKey name=\"VA\" continueOnError=\"true\"><APIKey ref=\"request.header.k\"/></VerifyAPIKey>")
        .policy(&mark("A"))
        .deploy()
        .get("/v1/crun");
    assert_eq!((outcome.status(), outcome.variable("seen").as_deref()), (200, Some("A ")));
    assert_eq!(outcome.variable("oauthV2.VA.failed").as_deref(), Some("true"));
    assert_eq!(outcome.variable("fault.name").as_deref(), Some("FailedToResolveAPIKey"));
}

#[test]
fn raise_fault_always_raises_with_the_documented_default() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("RF"));
    let run = |policy: &str| BundleText::new(&proxy).policy(policy).deploy().get("/v1/crun");
    let outcome = run("<RaiseFault name=\"RF\" continueOnError=\"true\"/>");
    assert_eq!(
        (outcome.status(), outcome.response.reason.as_deref()),
        (500, Some("Internal Server Error"))
    );
    assert_eq!(
        outcome.body(),
        r#"{"fault":{"faultstring":"Raising fault. Fault name : RF","detail":{"errorcode":"steps.raisefault.RaiseFault"}}}"#
    );
    let outcome = run(
        "<RaiseFault name=\"RF\"><FaultResponse><Set><Headers><Header name=\"x-v\">{proxy.basepath}</Header></Headers><Payload contentType=\"text/plain\">no</Payload><StatusCode>911</StatusCode><ReasonPhrase>Help</ReasonPhrase></Set></FaultResponse></RaiseFault>",
    );
    assert_eq!(
        (outcome.status(), outcome.response.reason.as_deref(), outcome.body().as_str()),
        (911, Some("Help"), "no")
    );
    assert_eq!(outcome.header("x-v"), Some("/v1/crun"));
    let disabled = run("<RaiseFault name=\"RF\" enabled=\"false\"/>");
    assert_eq!(disabled.status(), 200);
}

#[test]
fn verify_api_key_answers_the_documented_faults_and_sets_variables() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{ROUTE}", step("VA"));
    let deployed = BundleText::new(&proxy)
        .target("")
        .policy(
            "<VerifyAPIKey name=\"VA\"><APIKey ref=\"request.queryparam.apikey\"/></VerifyAPIKey>",
        )
        .deploy();
    for (query, code, text) in [
        (
            "",
            "steps.oauth.v2.FailedToResolveAPIKey",
            "Failed to resolve API Key variable request.queryparam.apikey",
        ),
        (
            "?apikey=",
            "steps.oauth.v2.FailedToResolveAPIKey",
            "Failed to resolve API Key variable request.queryparam.apikey",
        ),
        ("?apikey=nope", "oauth.v2.InvalidApiKey", "Invalid ApiKey"),
        (
            "?apikey=narrow",
            "oauth.v2.InvalidApiKeyForGivenResource",
            "Invalid ApiKey for given resource",
        ),
        ("?apikey=revoked", "oauth.v2.ApiKeyNotApproved", "ApiKey not approved"),
        ("?apikey=expired", "keymanagement.service.consumer_key_expired", "API Key expired"),
        (
            "?apikey=revoked-app",
            "keymanagement.service.invalid_client-app_not_approved",
            "App is not approved",
        ),
        (
            "?apikey=inactive",
            "keymanagement.service.DeveloperStatusNotActive",
            "Developer Status is not Active",
        ),
    ] {
        let outcome = deployed.get(&format!("/v1/crun/1{query}"));
        assert_eq!(outcome.status(), 401, "{query}");
        assert_eq!(
            outcome.body(),
            format!(r#"{{"fault":{{"faultstring":"{text}","detail":{{"errorcode":"{code}"}}}}}}"#),
            "{query}"
        );
    }
    let outcome = deployed.get("/v1/crun/1?apikey=good");
    for (name, value) in [
        ("verifyapikey.VA.client_id", "good"),
        ("verifyapikey.VA.developer.email", "dev@example.com"),
        ("verifyapikey.VA.apiproduct.developer.quota.limit", "5"),
        ("verifyapikey.VA.app.tier", "gold"),
        ("verifyapikey.VA.failed", "false"),
        ("apigee.client_id", "good"),
        ("apiproduct.name", "orders-product"),
        ("apiproduct.operation.resource", "/**"),
    ] {
        assert_eq!(outcome.variable(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn quota_counts_per_identifier_and_resets() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("Q"));
    let deployed = BundleText::new(&proxy)
        .policy("<Quota name=\"Q\"><Allow count=\"2\"/><Interval>1</Interval><TimeUnit>minute</TimeUnit><Identifier ref=\"request.queryparam.id\"/><MessageWeight ref=\"request.header.w\"/></Quota>")
        .deploy();
    for (uri, weight, status) in [
        ("/v1/crun", "1", 200),
        ("/v1/crun", "1", 200),
        ("/v1/crun", "1", 429),
        ("/v1/crun?id=a", "2", 200),
        ("/v1/crun?id=a", "1", 429),
        ("/v1/crun?id=a", "0", 200),
        ("/v1/crun?id=b", "3", 429),
        ("/v1/crun?id=b", "1.5", 500),
    ] {
        let outcome =
            deployed.call(request("GET", uri, &[("w", weight)], ""), |_| answer(200, &[], ""));
        assert_eq!(outcome.status(), status, "{uri} {weight}: {}", outcome.body());
    }
    let refused = deployed.get("/v1/crun");
    assert_eq!(
        refused.body(),
        r#"{"fault":{"faultstring":"Rate limit quota violation. Quota limit  exceeded. Identifier : _default","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}"#
    );
    for (name, value) in [
        ("ratelimit.Q.allowed.count", "2"),
        ("ratelimit.Q.used.count", "2"),
        ("ratelimit.Q.available.count", "0"),
        ("ratelimit.Q.exceed.count", "1"),
        ("ratelimit.Q.identifier", "_default"),
        ("ratelimit.Q.failed", "true"),
        ("ratelimit.Q.expiry.time", "1700000040000"),
    ] {
        assert_eq!(refused.variable(name).as_deref(), Some(value), "{name}");
    }
    let weight = deployed
        .call(request("GET", "/v1/crun?id=c", &[("w", "1.5")], ""), |_| answer(200, &[], ""));
    assert!(weight.body().contains("Invalid message weight value 1.5"), "{}", weight.body());
    deployed.clock.0.set(1_700_000_040_000);
    assert_eq!(deployed.get("/v1/crun").status(), 200, "the next window");
}

#[test]
fn quota_takes_its_limit_from_references_classes_and_products() {
    let run = |quota: &str, uris: &[(&str, u16)]| {
        let proxy = format!(
            "<PreFlow><Request>{}{}</Request></PreFlow>{NO_TARGET}",
            step_if("VA", "request.queryparam.apikey != null"),
            step("Q")
        );
        let deployed = BundleText::new(&proxy)
            .policy(quota)
            .policy("<VerifyAPIKey name=\"VA\"><APIKey ref=\"request.queryparam.apikey\"/></VerifyAPIKey>")
            .deploy();
        for (uri, status) in uris {
            let outcome = deployed.get(uri);
            assert_eq!(outcome.status(), *status, "{quota} {uri}: {}", outcome.body());
        }
    };
    run(
        "<Quota name=\"Q\"><Allow count=\"1\" countRef=\"request.queryparam.n\"/><Interval ref=\"request.queryparam.i\">1</Interval><TimeUnit ref=\"request.queryparam.u\">hour</TimeUnit></Quota>",
        &[
            ("/v1/crun?n=2", 200),
            ("/v1/crun?n=2", 200),
            ("/v1/crun?n=2", 429),
            ("/v1/crun?n=x", 429),
            ("/v1/crun?u=fortnight", 500),
            ("/v1/crun?n=9", 200),
        ],
    );
    run(
        "<Quota name=\"Q\"><Allow><Class ref=\"request.queryparam.c\"><Allow class=\"peak\" count=\"1\"/><Allow class=\"off\" count=\"2\"/></Class></Allow><Allow count=\"1\"/><Interval>1</Interval><TimeUnit>hour</TimeUnit></Quota>",
        &[
            ("/v1/crun?c=peak", 200),
            ("/v1/crun?c=peak", 429),
            ("/v1/crun?c=off", 200),
            ("/v1/crun?c=off", 200),
            ("/v1/crun?c=off", 429),
            ("/v1/crun", 200),
            ("/v1/crun", 429),
        ],
    );
    run(
        "<Quota name=\"Q\"><Interval ref=\"nope\"/><TimeUnit>hour</TimeUnit><Allow count=\"1\"/></Quota>",
        &[("/v1/crun", 500)],
    );
    let product = "<Quota name=\"Q\"><UseQuotaConfigInAPIProduct stepName=\"VA\"><DefaultConfig><Allow>1</Allow><Interval>1</Interval><TimeUnit>hour</TimeUnit></DefaultConfig></UseQuotaConfigInAPIProduct></Quota>";
    let mut calls = vec![("/v1/crun/1?apikey=good", 200); 5];
    calls.extend([
        ("/v1/crun/1?apikey=good", 429),
        ("/v1/crun/1?apikey=all", 200),
        ("/v1/crun", 200),
        ("/v1/crun", 429),
    ]);
    run(product, &calls);
}

#[test]
fn spike_arrest_smooths_and_names_its_rate() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("SA"));
    let deployed = BundleText::new(&proxy)
        .policy("<SpikeArrest name=\"SA\"><Rate ref=\"request.queryparam.rate\">12pm</Rate><Identifier ref=\"request.queryparam.id\"/></SpikeArrest>")
        .deploy();
    assert_eq!(deployed.get("/v1/crun").status(), 200);
    let refused = deployed.get("/v1/crun");
    assert_eq!(refused.status(), 429);
    assert_eq!(
        refused.body(),
        r#"{"fault":{"faultstring":"Spike arrest violation. Allowed rate : MessageRate{messagesPerPeriod=12, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}","detail":{"errorcode":"policies.ratelimit.SpikeArrestViolation"}}}"#
    );
    assert_eq!(deployed.get("/v1/crun?id=x").status(), 200);
    assert_eq!(deployed.get("/v1/crun?rate=soon").status(), 500);
    deployed.clock.0.set(1_700_000_005_000);
    assert_eq!(deployed.get("/v1/crun").status(), 200);
}

#[test]
fn extract_variables_reads_every_source() {
    let policy = r#"<ExtractVariables name="EV"><VariablePrefix>p</VariablePrefix>
      <URIPath><Pattern>/nope/{x}</Pattern><Pattern ignoreCase="true">/Orders/{id}/items/{item}</Pattern></URIPath>
      <QueryParam name="code"><Pattern>DBN{dbn}</Pattern></QueryParam>
      <QueryParam name="multi.2"><Pattern>{second}</Pattern></QueryParam>
      <Header name="authorization"><Pattern>Bearer {token}</Pattern></Header>
      <Header name="x-empty"><Pattern>a{rest}</Pattern></Header>
      <Variable name="environment.name"><Pattern>p{env}</Pattern></Variable>
      <JSONPayload><Variable name="name"><JSONPath>$.user.name</JSONPath></Variable>
        <Variable name="age" type="integer"><JSONPath>$.user.age</JSONPath></Variable>
        <Variable name="all"><JSONPath>$.items[*].n</JSONPath></Variable>
        <Variable name="dynamic"><JSONPath>$.{request.queryparam.field}</JSONPath></Variable>
        <Variable name="missing"><JSONPath>$.none</JSONPath></Variable></JSONPayload>
      </ExtractVariables>"#;
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("EV"));
    let deployed = BundleText::new(&proxy).policy(policy).deploy();
    let call = |content_type: &str, body: &str| {
        let headers =
            [("content-type", content_type), ("authorization", "Bearer t.o.k"), ("x-empty", "a")];
        let uri = "/v1/crun/orders/7/items/8?code=DBN88271&multi=1&multi=2&field=flag";
        deployed.call(request("POST", uri, &headers, body), |_| answer(200, &[], ""))
    };
    let outcome = call(
        "application/json; charset=utf-8",
        r#"{"user":{"name":"Ada","age":36},"items":[{"n":1},{"n":2}],"flag":true}"#,
    );
    assert_eq!(outcome.status(), 200, "{}", outcome.body());
    for (name, value) in [
        ("p.id", Some("7")),
        ("p.item", Some("8")),
        ("p.x", None),
        ("p.dbn", Some("88271")),
        ("p.second", Some("2")),
        ("p.token", Some("t.o.k")),
        ("p.rest", Some("")),
        ("p.env", Some("rod")),
        ("p.name", Some("Ada")),
        ("p.age", Some("36")),
        ("p.all", Some("[1,2]")),
        ("p.dynamic", Some("true")),
        ("p.missing", None),
    ] {
        assert_eq!(outcome.variable(name).as_deref(), value, "{name}");
    }
    // The wrong type is passed over quietly; broken JSON is a fault.
    let outcome = call("text/plain", "{");
    assert_eq!((outcome.status(), outcome.variable("p.name")), (200, None));
    let outcome = call("application/json", "{");
    assert_eq!(outcome.status(), 500);
    assert!(
        outcome.body().contains("steps.extractvariables.ExecutionFailed"),
        "{}",
        outcome.body()
    );
    let outcome = call("application/json", r#"{"user":{"age":"old"}}"#);
    assert!(outcome.body().contains("steps.extractvariables.UnableToCast"), "{}", outcome.body());
}

#[test]
fn extract_variables_needs_its_source_message() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("EV"));
    let outcome = BundleText::new(&proxy)
        .policy("<ExtractVariables name=\"EV\"><Source>response</Source><Header name=\"x\"><Pattern>{y}</Pattern></Header></ExtractVariables>")
        .deploy()
        .get("/v1/crun");
    assert_eq!(
        outcome.body(),
        r#"{"fault":{"faultstring":"response message is not available for ExtractVariable: EV","detail":{"errorcode":"steps.extractvariables.SourceMessageNotAvailable"}}}"#
    );
}

/// AssignMessage in the request flow of a proxy without a target: what comes back.
fn assign(policy: &str, headers: &[(&str, &str)], body: &str) -> crate::testing::Outcome {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("A"));
    let deployed = BundleText::new(&proxy).policy(policy).deploy();
    deployed.call(request("POST", "/v1/crun/x?q=1", headers, body), |_| panic!("no target"))
}

#[test]
fn assign_message_adds_copies_removes_and_sets() {
    let outcome = assign(
        "<AssignMessage name=\"A\"><Add><Headers><Header name=\"x-a\">2</Header></Headers></Add><Set><Headers><Header name=\"x-b\">{request.verb}</Header><Header name=\"x-c\">1</Header><Header name=\"x-c\">2</Header></Headers></Set><Remove><Headers><Header name=\"x-gone\"/><Header name=\"x-many.1\"/></Headers></Remove></AssignMessage>",
        &[("x-a", "1"), ("x-b", "old"), ("x-gone", "1"), ("x-many", "1"), ("x-many", "2")],
        "body",
    );
    let all = |name: &str| {
        outcome
            .response
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().expect("text"))
            .collect::<Vec<_>>()
    };
    assert_eq!(all("x-a"), ["1", "2"]);
    assert_eq!(all("x-b"), ["POST"]);
    assert_eq!(all("x-c"), ["1", "2"]);
    assert_eq!(all("x-gone"), [""; 0]);
    assert_eq!(all("x-many"), ["2"]);
    assert_eq!(outcome.body(), "body");

    let outcome = assign(
        "<AssignMessage name=\"A\"><AssignTo createNew=\"true\" type=\"response\">response</AssignTo><Copy source=\"request\"><Headers><Header name=\"x-a\"/></Headers><Payload>true</Payload><StatusCode>true</StatusCode></Copy><Set><StatusCode>201</StatusCode></Set></AssignMessage>",
        &[("x-a", "1"), ("x-b", "2")],
        "copied",
    );
    assert_eq!((outcome.status(), outcome.body().as_str()), (201, "copied"));
    assert_eq!((outcome.header("x-a"), outcome.header("x-b")), (Some("1"), None));

    let outcome = assign(
        "<AssignMessage name=\"A\"><Remove><Headers/><Payload>true</Payload></Remove></AssignMessage>",
        &[("x-a", "1")],
        "gone",
    );
    assert_eq!((outcome.header("x-a"), outcome.body().as_str()), (None, ""));
}

#[test]
fn assign_message_sets_payload_text_exactly() {
    let outcome = assign(
        "<AssignMessage name=\"A\"><Set><Payload contentType=\"application/json\">\n  {\"verb\":\"{request.verb}\"}</Payload></Set></AssignMessage>",
        &[],
        "",
    );
    assert_eq!(outcome.body(), "\n  {\"verb\":\"POST\"}");
    assert_eq!(outcome.header("content-type"), Some("application/json"));
    let outcome = assign(
        "<AssignMessage name=\"A\"><Set><Payload contentType=\"text/xml\"><root a=\"1\">{request.verb}<b/></root></Payload></Set></AssignMessage>",
        &[],
        "",
    );
    assert_eq!(outcome.body(), "<root a=\"1\">POST<b/></root>");
    let outcome = assign(
        "<AssignMessage name=\"A\"><Set><Payload variablePrefix=\"@\" variableSuffix=\"#\">{\"v\":\"@request.verb#\"}</Payload></Set></AssignMessage>",
        &[],
        "",
    );
    assert_eq!(outcome.body(), "{\"v\":\"POST\"}");
}

#[test]
fn assign_message_edits_forms() {
    let outcome = assign(
        "<AssignMessage name=\"A\"><Set><FormParams><FormParam name=\"a\">x y</FormParam></FormParams></Set><Add><FormParams><FormParam name=\"c\">3</FormParam></FormParams></Add><Remove><FormParams><FormParam name=\"b\"/></FormParams></Remove></AssignMessage>",
        &[("content-type", "application/x-www-form-urlencoded")],
        "a=1&b=2",
    );
    assert_eq!(outcome.body(), "a=x%20y&c=3");
}

#[test]
fn assign_variable_prefers_template_then_reference_then_value() {
    let variable = |parts: &str| {
        let policy = format!(
            "<AssignMessage name=\"A\"><AssignVariable><Name>v</Name>{parts}</AssignVariable></AssignMessage>"
        );
        let outcome = assign(&policy, &[("x-t", "T-{request.verb}")], "");
        (outcome.status(), outcome.variable("v"))
    };
    for (parts, expected) in [
        ("<Value>literal {request.verb} </Value>", (200, Some("literal {request.verb} "))),
        ("<Ref>request.verb</Ref>", (200, Some("POST"))),
        ("<Ref>nope</Ref><Value>fallback</Value>", (200, Some("fallback"))),
        ("<Ref>nope</Ref>", (500, None)),
        (
            "<Template>a{request.verb}</Template><Ref>proxy.basepath</Ref><Value>v</Value>",
            (200, Some("aPOST")),
        ),
        ("<Template>a{nope}</Template>", (500, None)),
        ("<Template ref=\"request.header.x-t\"/>", (200, Some("T-POST"))),
        ("<Value/>", (200, Some(""))),
    ] {
        let (status, value) = variable(parts);
        assert_eq!((status, value.as_deref()), expected, "{parts}");
    }
}

#[test]
fn unresolved_variables_are_faults_unless_ignored() {
    let policy = |ignore: &str| {
        format!(
            "<AssignMessage name=\"A\">{ignore}<Set><Headers><Header name=\"x\">a{{nope}}b</Header></Headers></Set></AssignMessage>"
        )
    };
    let outcome = assign(&policy(""), &[], "");
    assert_eq!(
        outcome.body(),
        r#"{"fault":{"faultstring":"AssignMessage[A]: unable to resolve variable nope","detail":{"errorcode":"steps.assignmessage.UnresolvedVariable"}}}"#
    );
    assert_eq!(outcome.variable("assignmessage.A.failed").as_deref(), Some("true"));
    let outcome =
        assign(&policy("<IgnoreUnresolvedVariables>true</IgnoreUnresolvedVariables>"), &[], "");
    assert_eq!(outcome.header("x"), Some("ab"));
    let copy =
        "<AssignMessage name=\"A\"><Copy source=\"response\"><Headers/></Copy></AssignMessage>";
    assert!(assign(copy, &[], "").body().contains("unable to resolve variable response"));
    let not_a_message = "<AssignMessage name=\"A\"><AssignVariable><Name>text</Name><Value>x</Value></AssignVariable><Copy source=\"text\"><Headers/></Copy></AssignMessage>";
    assert!(
        assign(not_a_message, &[], "")
            .body()
            .contains("AssignMessage[A]: value of variable text is not of type Message")
    );
}

#[test]
fn assign_message_makes_messages_that_variables_read() {
    let proxy =
        format!("<PreFlow><Request>{}{}</Request></PreFlow>{NO_TARGET}", step("A"), step("B"));
    let outcome = BundleText::new(&proxy)
        .policy("<AssignMessage name=\"A\"><AssignTo createNew=\"true\" type=\"request\">mine</AssignTo><Set><Verb>PUT</Verb><Path>/p</Path><QueryParams><QueryParam name=\"q\">1</QueryParam></QueryParams><Headers><Header name=\"x\">h</Header></Headers><Payload>body</Payload></Set></AssignMessage>")
        .policy("<AssignMessage name=\"B\"><AssignTo>mine</AssignTo><Set><Headers><Header name=\"y\">{mine.header.x}{mine.content}{mine.verb}{mine.path}{mine.queryparam.q}</Header></Headers></Set></AssignMessage>")
        .deploy()
        .get("/v1/crun");
    assert_eq!(outcome.variable("mine.header.y").as_deref(), Some("hbodyPUT/p1"));
    assert_eq!(outcome.header("y"), None);
}

#[test]
fn message_logging_writes_json_after_the_response() {
    let proxy =
        format!("<PostClientFlow><Response>{}</Response></PostClientFlow>{ROUTE}", step("ML"));
    let mut outcome = BundleText::new(&proxy)
        .target("")
        .policy("<MessageLogging name=\"ML\"><CloudLogging><LogName>projects/{organization.name}/logs/apigee</LogName><Message contentType=\"application/json\">{\"status\":{response.status.code},\"path\":\"{proxy.pathsuffix}\"}</Message><Labels><Label><Key>env</Key><Value>{environment.name}</Value></Label></Labels><ResourceType>api</ResourceType></CloudLogging><logLevel>WARN</logLevel></MessageLogging>")
        .deploy()
        .get("/v1/crun/x");
    let logs = outcome.call.context_mut().take_logs();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].log_name, "projects/org/logs/apigee");
    assert_eq!(logs[0].json, Some(serde_json::json!({"status": 200, "path": "/x"})));
    assert_eq!(logs[0].labels, [("env".to_owned(), "prod".to_owned())]);
    assert_eq!(logs[0].severity, "WARNING");
}

#[test]
fn api_timeout_is_checked_after_each_policy() {
    let connection = "<HTTPProxyConnection><BasePath>/v1/crun</BasePath><Properties><Property name=\"api.timeout\">1000</Property></Properties></HTTPProxyConnection>";
    let proxy = format!(
        "<ProxyEndpoint name=\"default\">{connection}<PostFlow><Response>{}</Response></PostFlow>{ROUTE}</ProxyEndpoint>",
        step("A")
    );
    let deployed = BundleText::new("")
        .file("apiproxy/proxies/default.xml", &proxy)
        .target("")
        .policy(&mark("A"))
        .deploy();
    let outcome = deployed.call(request("GET", "/v1/crun", &[], ""), |_| {
        deployed.clock.0.set(1_700_000_001_000);
        answer(200, &[], "")
    });
    assert_eq!(
        (outcome.status(), outcome.variable("fault.name").as_deref()),
        (504, Some("APITimedOut"))
    );
}

#[test]
fn unread_payloads_pass_through_untouched() {
    let deployed = BundleText::new(ROUTE).target("").deploy();
    let mut message = request("POST", "/v1/crun", &[("content-length", "9")], "");
    message.headers = headers(&[("host", "api.example.com"), ("content-length", "9")]);
    message.content = Content::Unread(Origin::Client);
    let outcome = deployed.call(message, |request| {
        assert_eq!(request.content, Content::Unread(Origin::Client));
        TargetOutcome::Response {
            status: 200,
            reason: None,
            headers: headers(&[]),
            content: Content::Unread(Origin::Target),
        }
    });
    assert_eq!(outcome.response.content, Content::Unread(Origin::Target));
    assert!(!outcome.call.needs_request_payload() && !outcome.call.needs_response_payload());
}

#[test]
fn the_trace_says_what_ran_and_why_not() {
    let outcome = reference().deploy().get("/v1/crun/zzz");
    assert_eq!(
        outcome.call.trace_lines(),
        [
            "proxy endpoint default: flow GET /login does not match: `proxy.pathsuffix MatchesPath \"/login\"` decides; proxy.pathsuffix is \"/zzz\"",
            "proxy endpoint default: flow 404 - Not Found has no condition: chosen",
            "proxy endpoint default, flow 404 - Not Found request: RaiseFault RF-404NotFound raised a fault",
            "fault steps.raisefault.RaiseFault: Raising fault. Fault name : RF-404NotFound",
        ]
    );
    let outcome = reference().deploy().get("/v1/crun/login");
    assert_eq!(
        outcome.call.trace_lines(),
        [
            "proxy endpoint default: flow GET /login matches: (proxy.pathsuffix MatchesPath \"/login\") and (request.verb = \"GET\")",
            "proxy endpoint default, PostFlow request: AssignMessage AM-SetAudience ran",
            "route rule default (target endpoint default) has no condition: chosen",
            "target request https://internal.example.com/login",
        ]
    );
}

#[test]
fn token_details_follow_the_bundle() {
    let target = |authentication: &str| {
        let connection = format!(
            "<HTTPTargetConnection><URL>https://svc-hash-ew.a.run.app/base?x=1</URL><Authentication>{authentication}</Authentication></HTTPTargetConnection>"
        );
        let outcome = BundleText::new(ROUTE).target(&connection).deploy().call(
            request("GET", "/v1/crun/x", &[("x-aud", "https://other"), ("x-mail", "true")], ""),
            |_| answer(200, &[], ""),
        );
        outcome.target.and_then(|target| target.id_token).expect("a token")
    };
    for (authentication, audience, email, header) in [
        (
            "<GoogleIDToken><Audience>https://lit</Audience></GoogleIDToken>",
            "https://lit",
            false,
            "authorization",
        ),
        (
            "<GoogleIDToken><Audience ref=\"request.header.x-aud\">https://lit</Audience></GoogleIDToken>",
            "https://other",
            false,
            "authorization",
        ),
        (
            "<GoogleIDToken><Audience ref=\"nope\">https://lit</Audience><IncludeEmail>true</IncludeEmail></GoogleIDToken>",
            "https://lit",
            true,
            "authorization",
        ),
        (
            "<GoogleIDToken><Audience useTargetUrl=\"true\"/><IncludeEmail ref=\"request.header.x-mail\">false</IncludeEmail></GoogleIDToken>",
            "https://svc-hash-ew.a.run.app/base",
            true,
            "authorization",
        ),
        (
            "<HeaderName>X-Serverless-Authorization</HeaderName><GoogleIDToken><Audience>a</Audience></GoogleIDToken>",
            "a",
            false,
            "x-serverless-authorization",
        ),
    ] {
        let token = target(authentication);
        assert_eq!(
            (token.audience.as_str(), token.include_email, token.header.as_str()),
            (audience, email, header),
            "{authentication}"
        );
    }
}

#[test]
fn property_sets_are_variables() {
    let proxy = format!("<PreFlow><Request>{}</Request></PreFlow>{NO_TARGET}", step("A"));
    let outcome = BundleText::new(&proxy)
        .file("apiproxy/resources/properties/hosts.properties", "orders=orders.example\n")
        .policy("<AssignMessage name=\"A\"><AssignVariable><Name>a</Name><Ref>propertyset.hosts.orders</Ref></AssignVariable><AssignVariable><Name>b</Name><PropertySetRef>hosts.{a:x}</PropertySetRef><Value>none</Value></AssignVariable></AssignMessage>")
        .deploy()
        .get("/v1/crun");
    assert_eq!(outcome.variable("a").as_deref(), Some("orders.example"));
    assert_eq!(outcome.variable("b").as_deref(), Some("none"));
}
