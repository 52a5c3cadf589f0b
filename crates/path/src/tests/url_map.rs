//! Route rules on the way: method and headers of the question count, Cloud Run is asked about the
//! request as it is passed on, and what depends on chance is said.

use super::{PROXY, ask_as, explain, reference, seen};
use crate::{ExplainRequest, Explanation, Token};
use names::Reason;
use slice::Topology;
use slice::load_balancer::*;

fn beta(name: &str, value: &str) -> MatchRule {
    MatchRule {
        path: PathPredicate::PrefixMatch("/v1/".into()),
        ignore_case: false,
        header_matches: vec![HeaderMatch {
            header_name: name.into(),
            value: HeaderPredicate::ExactMatch(value.into()),
            invert_match: false,
        }],
        query_parameter_matches: vec![],
    }
}

/// `/v1/…` with the header of [`beta`] is rewritten to `/…`.
fn topology(change: impl FnOnce(&mut RouteRule)) -> Topology {
    let mut topology = reference();
    let map = &mut topology.load_balancing.url_maps[0];
    let mut route = map.default.clone();
    route.action = Some(Box::new(RouteAction {
        url_rewrite: Some(UrlRewrite {
            path_prefix_rewrite: Some("/".into()),
            ..UrlRewrite::default()
        }),
        ..RouteAction::default()
    }));
    let mut rule = RouteRule {
        priority: 20,
        description: String::new(),
        match_rules: vec![beta("x-env", "prod"), beta(":method", "DELETE")],
        route,
        header_action: HeaderAction::default(),
    };
    change(&mut rule);
    for matcher in &mut map.path_matchers {
        matcher.rules = Rules::RouteRules(vec![rule.clone()]);
    }
    topology
}

fn question(method: &str, headers: &[(&str, &str)]) -> ExplainRequest {
    ExplainRequest {
        method: method.into(),
        url: "https://internal.example.com/v1/orders".into(),
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..ask_as(PROXY, Token::ForTarget)
    }
}

fn service(explanation: &Explanation) -> Option<&str> {
    explanation.service.as_ref().map(|link| link.name())
}

#[test]
fn headers_and_method_choose_the_rule_and_the_mask_sees_the_rewritten_path() {
    let topology = topology(|_| {});
    let explanation = explain(&topology, &question("GET", &[("X-Env", "prod")]));
    assert_eq!(service(&explanation), Some("orders"), "{explanation}");
    let text = explanation.to_string();
    assert!(text.contains("urlRewrite: `/v1/orders` becomes `/orders`"), "{text}");
    assert!(text.contains("route rule 20, match rule 1: prefixMatch `/v1/`"), "{text}");
    assert_eq!(service(&explain(&topology, &question("DELETE", &[]))), Some("orders"));

    let explanation = explain(&topology, &question("GET", &[("x-env", "dev")]));
    assert_eq!(seen(&explanation), (Some(404), Some(Reason::CloudRunServiceNotFound)));
    let text = explanation.to_string();
    let near = "near miss: route rule 20, match rule 1: header x-env is `dev`, not `prod`";
    assert!(text.contains(near), "{text}");
}

#[test]
fn cloud_run_is_asked_about_the_headers_as_they_are_passed_on() {
    let topology = topology(|rule| {
        rule.header_action.request_headers_to_remove = vec!["Authorization".into()];
    });
    let question = ExplainRequest {
        token: Token::None,
        ..question("GET", &[("x-env", "prod"), ("authorization", "Bearer nonsense")])
    };
    let explanation = explain(&topology, &question);
    assert_eq!(seen(&explanation), (Some(403), Some(Reason::TokenMissing)), "{explanation}");
}

#[test]
fn what_depends_on_chance_is_said() {
    let faults = |percentage| FaultInjectionPolicy {
        delay: None,
        abort: Some(FaultAbort { http_status: 555, percentage }),
    };
    let with = |percentage| {
        topology(|rule| {
            let action = rule.route.action.get_or_insert_default();
            action.fault_injection_policy = Some(faults(percentage));
        })
    };
    let explanation = explain(&with(10.0), &question("DELETE", &[]));
    assert!(explanation.is_delivered(), "{explanation}");
    let text = explanation.to_string();
    assert!(text.contains("10% of requests are aborted with 555; this one is not"), "{text}");
    assert!(
        text.contains("note: Chance has a part in ilb; shown is what happens to most"),
        "{text}"
    );
    let explanation = explain(&with(90.0), &question("DELETE", &[]));
    assert_eq!(seen(&explanation), (Some(555), Some(Reason::FaultFilterAbort)), "{explanation}");
    let explanation = explain(&with(100.0), &question("DELETE", &[]));
    assert!(explanation.notes.iter().all(|note| !note.contains("Chance")), "{explanation}");
}
