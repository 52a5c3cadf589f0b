//! Any URL map and any request: no panic; the same number gives the same decision; the explanation
//! says what was decided; every defect has words.
//!
//! Input: a URL map as the programs exchange it (JSON), a line `%%`, then method, host, path and
//! query and a number on a line each, then header lines. Its backend services are those of the generated case 1.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use slice::load_balancer::UrlMap;
use url_map::{Decision, Explanation, Outcome, RequestHead, RuleMatch, Snapshot, explain};
use url_map_model::{FRONT, Profile, case};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((map, request)) = text.split_once("\n%%\n") else { return };
    let Ok(map) = serde_json::from_str::<UrlMap>(map) else { return };
    let mut all = case(1, Profile::Engine).load_balancing;
    for rule in &mut all.forwarding_rules {
        rule.target.url_map = map.self_link.clone();
    }
    all.url_maps = vec![map];
    let snapshot = match Snapshot::compile(&all) {
        Ok(snapshot) => snapshot,
        Err(errors) => return assert!(errors.iter().all(|one| one.to_string().len() > 10)),
    };
    for failure in snapshot.run_tests() {
        assert!(!failure.expected.is_empty() && !failure.actual.is_empty());
    }
    let mut lines = request.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (method, host, target, roll) = (next(), next(), next(), next());
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
    }
    let head = RequestHead::new(host, target).with_method(method).with_headers(&headers);
    let head = head.with_roll(roll.parse().unwrap_or_default());
    let front = snapshot.front(FRONT).expect("the forwarding rule");
    let decision = front.decide(&head);
    agrees(&decision, &explain(&decision, &head));
    assert_eq!(format!("{:?}", front.decide(&head).outcome), format!("{:?}", decision.outcome));
    // Chance chooses among backends, never among rules.
    let likely = front.decide(&head.with_roll(decision.likely_roll()));
    assert_eq!(likely.rule.to_string(), decision.rule.to_string());
    if !decision.by_chance() {
        assert_eq!(format!("{:?}", likely.outcome), format!("{:?}", decision.outcome));
    }
});

fn agrees(decision: &Decision<'_, '_>, explanation: &Explanation) {
    let text = explanation.to_string();
    let kinds: Vec<_> = explanation.steps.iter().map(|step| step.kind).collect();
    assert!(!explanation.steps.is_empty());
    if let RuleMatch::RouteRule { rule, match_rule } = decision.rule {
        let here = format!("route rule {}", rule.priority);
        assert!(text.contains(&format!("{here}, match rule {}: ", match_rule + 1))
            || text.contains(&format!("{here} (")));
    }
    match &decision.outcome {
        Outcome::Redirect(redirect) => assert!(text.contains(&redirect.location)),
        Outcome::Preflight => assert!(text.contains("preflight")),
        Outcome::CloudRun { target, budget } => {
            assert!(text.contains(target.service.name()) && text.contains(&budget.to_string()));
        }
        Outcome::Endpoints { budget } => assert!(text.contains(&budget.to_string())),
        Outcome::Refuse { .. } => assert!(decision.detail().is_some()),
    }
    if matches!(decision.outcome, Outcome::CloudRun { .. } | Outcome::Endpoints { .. }) {
        assert_eq!(&kinds[kinds.len() - 2..], ["backendService", "networkEndpointGroup"]);
        let service = decision.backend_service.expect("it is forwarded");
        assert_eq!(explanation.steps[kinds.len() - 2].resource, service.self_link);
    }
    if let Some(new) = &decision.rewrite.path_and_query {
        assert!(new.starts_with('/') && text.contains(new.as_str()));
    }
}
