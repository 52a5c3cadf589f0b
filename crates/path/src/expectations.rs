//! The static run of a topology's expectations: `check` without a socket.

use crate::caller::From;
use crate::request::{ExplainRequest, Token};
use crate::trace::Explanation;
use crate::walk::explain;
use crate::world::World;
use slice::Expectation;

/// What became of one expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectationResult {
    /// `file:line:column`.
    pub at: String,
    /// The expectation's own description.
    pub description: String,
    /// What is not as expected; empty: it holds.
    pub failures: Vec<String>,
    /// What the static run said.
    pub explanation: Option<Explanation>,
}

impl ExpectationResult {
    /// Does the expectation hold?
    pub fn holds(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Runs expectations at the time `now`, in seconds since 1970.
///
/// What a program answers is not known without running it: where a request is delivered, any
/// status that is below 400 is taken for the program's own, and every status if the expectation
/// names the service that answers.
pub fn check_expectations(
    world: &World,
    expectations: &[Expectation],
    now: u64,
) -> Vec<ExpectationResult> {
    expectations.iter().map(|expectation| check(world, expectation, now)).collect()
}

fn check(world: &World, expectation: &Expectation, now: u64) -> ExpectationResult {
    let mut result = ExpectationResult {
        at: expectation.at.clone(),
        description: expectation.description.clone(),
        failures: Vec::new(),
        explanation: None,
    };
    let from: From = match expectation.from.parse() {
        Ok(from) => from,
        Err(error) => {
            result.failures.push(format!("from: {error}"));
            return result;
        }
    };
    let explanation = explain(world, &request(expectation, from, now));
    result.failures = failures(expectation, &explanation);
    result.explanation = Some(explanation);
    result
}

fn request(expectation: &Expectation, from: From, now: u64) -> ExplainRequest {
    ExplainRequest {
        from,
        region: expectation.region.clone(),
        service_account: expectation.as_service_account.clone(),
        tags: expectation.tags.clone(),
        token: match &expectation.id_token_audience {
            Some(audience) => Token::ForAudience(audience.clone()),
            None => Token::None,
        },
        method: expectation.method.clone(),
        url: expectation.url.clone(),
        headers: expectation.headers.clone(),
        now,
    }
}

fn failures(expectation: &Expectation, explanation: &Explanation) -> Vec<String> {
    let mut failures = Vec::new();
    let answer = &explanation.answer;
    let because = match answer.reason {
        Some(reason) => {
            format!("{} ({reason}: {})", answer.seen, answer.why.as_deref().unwrap_or_default())
        }
        None => answer.seen.clone(),
    };
    let delivered = explanation.is_delivered();
    if let Some(connected) = expectation.connected
        && connected != delivered
    {
        let word = if connected { "a connection" } else { "no connection" };
        failures.push(format!("expected {word}, but it is {because}"));
    }
    match (expectation.status, answer.status) {
        (expected, status) if expected == status && !delivered => {}
        (Some(expected), status) if delivered => {
            let known = status.is_some_and(|status| status == expected);
            if !known && expected >= 400 && expectation.service.is_none() {
                failures.push(format!("expected HTTP {expected}, but it is {because}"));
            }
        }
        (Some(expected), _) => {
            failures.push(format!("expected HTTP {expected}, but it is {because}"));
        }
        (None, _) if expectation.connected.is_some() => {}
        (None, _) => failures.push(format!("expected no HTTP answer, but it is {because}")),
    }
    if let Some(expected) = &expectation.reason
        && answer.reason.map(|reason| reason.code()) != Some(expected)
    {
        failures.push(match answer.reason {
            Some(reason) => format!("expected the reason {expected}, but it is {reason}"),
            None => format!("expected the reason {expected}, but the request is not refused"),
        });
    }
    if let Some(expected) = &expectation.service {
        let answering = explanation.service.as_ref();
        let same =
            answering.is_some_and(|link| link.name() == expected || link.as_str() == expected);
        if !same {
            failures.push(match answering {
                Some(link) => format!("expected an answer of {expected}, but it is {link}'s"),
                None => format!("expected an answer of {expected}, but it is {because}"),
            });
        }
    }
    failures
}
