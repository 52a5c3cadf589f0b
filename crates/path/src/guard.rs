//! The security policy of a backend service (cloud-run 6.2).

use crate::request::Asked;
use crate::trace::{Refusal, State, Step};
use crate::walk::{End, Walk};
use names::Reason;
use security_policy::{Action, Decision, Limits, Policy, Request, Tried, Verdict};
use std::net::Ipv4Addr;
use std::time::Duration;

/// So many rules that nearly matched are told.
const NEAR_MAX: usize = 3;

impl Walk<'_> {
    /// Asks the policy of a backend service, as for a client that was not counted yet.
    pub(crate) fn guard(
        &mut self,
        client: Ipv4Addr,
        service: &url_map::BackendService,
        asked: &Asked,
    ) -> Option<End> {
        let policy = self.world.security_policies.get(&service.self_link)?;
        let headers = asked.header_map();
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let request = Request {
            client: client.into(),
            method: &asked.method,
            scheme: if asked.https { "https" } else { "http" },
            host: &asked.authority,
            path: if path.is_empty() { "/" } else { path },
            query,
            headers: &headers,
            sni: asked.https.then_some(asked.host.as_str()),
        };
        let limits = Limits::default();
        let decision = policy.decide(&request, service.self_link.as_str(), &limits, Duration::ZERO);
        let mut text = decision.detail(policy);
        if let Some(Action::Rate(rate)) = decision.rule.map(|rule| &rule.action) {
            let threshold = rate.limit.threshold;
            text.push_str(&format!(
                ", {} of each key in {} s pass (what was counted before is not known here)",
                threshold.count, threshold.interval_sec
            ));
        }
        if let Some(preview) = &decision.preview {
            text.push_str(&format!(
                "; in preview, logged only: rule {} ({}): {}",
                preview.rule.priority, preview.rule.test, preview.rule.action
            ));
        }
        let mut step = Step::new(State::ApplySecurityPolicy, text).on(policy.link());
        step.near_misses = near(policy, &decision, &request);
        let (end, reason) = match decision.verdict {
            Verdict::Allow(_) => {
                self.push(step);
                return None;
            }
            Verdict::Deny(status) => (End::Answered { status, location: None }, decision.reason()),
            Verdict::Redirect(target) => {
                let location = Some(target.to_owned());
                (End::Answered { status: 302, location }, decision.reason())
            }
        };
        let reason = reason.unwrap_or(Reason::DeniedBySecurityPolicy);
        let refusal = Refusal::new(reason, decision.detail(policy));
        Some(self.refuse(step, refusal, end))
    }
}

/// The rules that were tried in vain, those next to the one that matched first.
fn near(policy: &Policy, decision: &Decision<'_>, request: &Request<'_>) -> Vec<String> {
    let end = decision.rule.map_or(u32::MAX, |rule| rule.priority);
    let before = policy.rules().iter().rev().filter(|rule| rule.priority < end);
    let told = before.filter_map(|rule| {
        let why = match policy.tries(rule, request) {
            Tried::Matches => return None,
            Tried::Differs => "does not match".to_owned(),
            Tried::Missing(missing) => missing.to_string(),
        };
        Some(format!("rule {} ({}): {why}", rule.priority, rule.test))
    });
    told.take(NEAR_MAX).collect()
}
