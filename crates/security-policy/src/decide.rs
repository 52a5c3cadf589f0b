//! The decision itself.

use crate::compile::{Action, Policy, Rate, Rule, Test};
use crate::expression::{Missing, Scope};
use crate::key::key;
use crate::limits::{Limits, RateOutcome};
use crate::request::{Request, within};
use http::{HeaderName, HeaderValue};
use names::Reason;
use slice::load_balancer::ExceedAction;
use std::time::Duration;

/// What a policy says of a request.
#[derive(Debug)]
pub struct Decision<'p> {
    /// The first rule that matches and is no preview. None only where the policy has no default
    /// rule, and then the request passes.
    pub rule: Option<&'p Rule>,
    /// What becomes of the request.
    pub verdict: Verdict<'p>,
    /// Where the rule counts: how.
    pub counted: Option<Counted>,
    /// The first rule in preview that matches, tried before [`Decision::rule`].
    pub preview: Option<Preview<'p>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'p> {
    /// It passes, with these fields more.
    Allow(&'p [(HeaderName, HeaderValue)]),
    /// It is answered with this status.
    Deny(u16),
    /// It is answered with 302 and this target.
    Redirect(&'p str),
}

/// A request that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The key, for the log: without the backend service and the rule.
    pub key: String,
    /// How it stands.
    pub outcome: RateOutcome,
}

/// A rule that was only to be logged.
#[derive(Debug)]
pub struct Preview<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// What would have become of the request.
    pub verdict: Verdict<'p>,
    /// Where the rule counts: how.
    pub counted: Option<Counted>,
}

/// How one rule stands to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried<'p> {
    /// It matches.
    Matches,
    /// It does not.
    Differs,
    /// Its expression asks for something that the request lacks, and so does not match.
    Missing(Missing<'p>),
}

impl Policy {
    /// Decides on one request for a backend service, and counts it where a rule says so.
    pub fn decide(
        &self,
        request: &Request<'_>,
        service: &str,
        limits: &Limits,
        now: Duration,
    ) -> Decision<'_> {
        let mut preview = None;
        for rule in &self.rules {
            if rule.preview && preview.is_some() || self.tries(rule, request) != Tried::Matches {
                continue;
            }
            let (verdict, counted) = self.apply(rule, request, service, limits, now);
            if rule.preview {
                // Evaluation goes on with the next rule ((unconfirmed)).
                preview = Some(Preview { rule, verdict, counted });
                continue;
            }
            return Decision { rule: Some(rule), verdict, counted, preview };
        }
        Decision { rule: None, verdict: Verdict::Allow(&[]), counted: None, preview }
    }

    /// Does a rule of this policy match?
    pub fn tries<'p>(&'p self, rule: &'p Rule, request: &Request<'_>) -> Tried<'p> {
        let matches = match &rule.test {
            Test::Everyone => Ok(true),
            Test::Ranges(ranges) => Ok(within(ranges, request.client)),
            Test::Expression(expression) => expression.holds(&Scope { policy: self, request }),
        };
        match matches {
            Ok(true) => Tried::Matches,
            Ok(false) => Tried::Differs,
            Err(missing) => Tried::Missing(missing),
        }
    }

    fn apply<'p>(
        &self,
        rule: &'p Rule,
        request: &Request<'_>,
        service: &str,
        limits: &Limits,
        now: Duration,
    ) -> (Verdict<'p>, Option<Counted>) {
        let verdict = match &rule.action {
            Action::Allow => Verdict::Allow(&rule.headers),
            Action::Deny(status) => Verdict::Deny(*status),
            Action::Redirect(target) => Verdict::Redirect(target),
            Action::Rate(rate) => return self.rate(rule, rate, request, service, limits, now),
        };
        (verdict, None)
    }

    fn rate<'p>(
        &self,
        rule: &'p Rule,
        rate: &'p Rate,
        request: &Request<'_>,
        service: &str,
        limits: &Limits,
        now: Duration,
    ) -> (Verdict<'p>, Option<Counted>) {
        let key = key(self, rule, &rate.limit.keys, service, request);
        let outcome = limits.count(&key, rate, now);
        let verdict = match (outcome, &rate.limit.exceed) {
            (RateOutcome::Conform, _) => Verdict::Allow(&rule.headers),
            (_, ExceedAction::Deny(status)) => Verdict::Deny(*status),
            (_, ExceedAction::Redirect(target)) => Verdict::Redirect(target),
        };
        let shown = key.splitn(3, '\0').nth(2).unwrap_or_default().replace('\0', ",");
        (verdict, Some(Counted { key: shown, outcome }))
    }
}

impl Verdict<'_> {
    /// `outcome` of the log.
    pub fn outcome(&self) -> &'static str {
        match self {
            Verdict::Allow(_) => "ACCEPT",
            Verdict::Deny(_) => "DENY",
            Verdict::Redirect(_) => "REDIRECT",
        }
    }
}

impl RateOutcome {
    /// `rateLimitAction.outcome` of the log ((unconfirmed) names).
    pub fn logged(self) -> &'static str {
        match self {
            RateOutcome::Conform => "RATE_LIMIT_THRESHOLD_CONFORM",
            RateOutcome::Exceed => "RATE_LIMIT_THRESHOLD_EXCEED",
            RateOutcome::Banned => "BAN_THRESHOLD_EXCEED",
        }
    }
}

impl Decision<'_> {
    /// Why the request does not pass.
    pub fn reason(&self) -> Option<Reason> {
        let outcome = self.counted.as_ref().map(|counted| counted.outcome);
        match (&self.verdict, outcome) {
            (Verdict::Allow(_), _) => None,
            (_, Some(RateOutcome::Banned)) => Some(Reason::SecurityPolicyBanned),
            (_, Some(_)) => Some(Reason::SecurityPolicyRateLimited),
            (Verdict::Deny(_), None) => Some(Reason::DeniedBySecurityPolicy),
            (Verdict::Redirect(_), None) => Some(Reason::RedirectedBySecurityPolicy),
        }
    }

    /// What exactly, for the log and for people.
    pub fn detail(&self, policy: &Policy) -> String {
        let name = policy.link.name();
        match self.rule {
            Some(rule) => {
                format!("rule {} of {name} ({}): {}", rule.priority, rule.test, rule.action)
            }
            None => format!("no rule of {name} matches"),
        }
    }
}
