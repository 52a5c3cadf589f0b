//! When a request is sent again (private-connectivity 2.6).

use slice::load_balancer::{RetryCondition, RetryPolicy};
use std::time::Duration;

/// A retry policy, or the default of having none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often at the most.
    pub retries: u32,
    /// For each try; none: the route's timeout alone.
    pub per_try_timeout: Option<Duration>,
    /// Is there no policy? Then only a request without body is sent again, once.
    pub default: bool,
    /// One bit per [`RetryCondition`].
    conditions: u16,
}

/// "No policy at all: body-less requests (e.g. GET) that get 502, 503 or 504 are retried once; POST
/// never" (2.6).
pub(crate) static DEFAULT: Retry = Retry {
    retries: 1,
    per_try_timeout: None,
    default: true,
    conditions: bit(RetryCondition::GatewayError),
};

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryOutcome {
    /// A status, and the gRPC status where the response's head has one.
    Answered {
        /// HTTP status.
        status: u16,
        /// `grpc-status`.
        grpc_status: Option<u8>,
    },
    /// The connection did not come about.
    ConnectFailure,
    /// The connection broke or the stream was reset before there was a response head.
    Reset,
    /// The stream was reset with REFUSED_STREAM.
    RefusedStream,
    /// No response head within the time for one try.
    PerTryTimeout,
}

const ALL: [RetryCondition; 10] = [
    RetryCondition::ServerError,
    RetryCondition::GatewayError,
    RetryCondition::ConnectFailure,
    RetryCondition::Retriable4xx,
    RetryCondition::RefusedStream,
    RetryCondition::Cancelled,
    RetryCondition::DeadlineExceeded,
    RetryCondition::Internal,
    RetryCondition::ResourceExhausted,
    RetryCondition::Unavailable,
];

/// Google's word for a condition.
pub(crate) const fn name(condition: RetryCondition) -> &'static str {
    match condition {
        RetryCondition::ServerError => "5xx",
        RetryCondition::GatewayError => "gateway-error",
        RetryCondition::ConnectFailure => "connect-failure",
        RetryCondition::Retriable4xx => "retriable-4xx",
        RetryCondition::RefusedStream => "refused-stream",
        RetryCondition::Cancelled => "cancelled",
        RetryCondition::DeadlineExceeded => "deadline-exceeded",
        RetryCondition::Internal => "internal",
        RetryCondition::ResourceExhausted => "resource-exhausted",
        RetryCondition::Unavailable => "unavailable",
    }
}

const fn bit(condition: RetryCondition) -> u16 {
    1 << condition as u16
}

impl Retry {
    pub(crate) fn compile(policy: &RetryPolicy) -> Retry {
        let conditions = policy.retry_conditions.iter().fold(0, |all, one| all | bit(*one));
        Retry {
            retries: policy.num_retries,
            per_try_timeout: policy.per_try_timeout,
            default: false,
            conditions,
        }
    }

    /// The conditions, in the order of the fact sheet.
    pub fn conditions(&self) -> impl Iterator<Item = RetryCondition> + '_ {
        ALL.into_iter().filter(|one| self.has(*one))
    }

    fn has(&self, condition: RetryCondition) -> bool {
        self.conditions & bit(condition) != 0
    }

    /// May a request like this be sent again at all? What may not need not be kept.
    pub fn applies(&self, method: &str, bodiless: bool) -> bool {
        self.retries > 0 && (!self.default || (bodiless && method != "POST"))
    }

    /// Is the request sent again after `retried` retries and this outcome? A reset counts as the
    /// 5xx that it would become, as in Envoy.
    pub fn again(&self, retried: u32, outcome: TryOutcome, method: &str, bodiless: bool) -> bool {
        use RetryCondition as On;
        if retried >= self.retries || !self.applies(method, bodiless) {
            return false;
        }
        let any_reset = self.has(On::ServerError) || self.has(On::GatewayError);
        match outcome {
            TryOutcome::Answered { status, grpc_status } => {
                let of_status = match status {
                    409 => self.has(On::Retriable4xx),
                    502..=504 => any_reset,
                    500..=599 => self.has(On::ServerError),
                    _ => false,
                };
                let of_grpc = match grpc_status {
                    Some(1) => self.has(On::Cancelled),
                    Some(4) => self.has(On::DeadlineExceeded),
                    Some(8) => self.has(On::ResourceExhausted),
                    Some(13) => self.has(On::Internal),
                    Some(14) => self.has(On::Unavailable),
                    _ => false,
                };
                of_status || of_grpc
            }
            TryOutcome::ConnectFailure => any_reset || self.has(On::ConnectFailure),
            TryOutcome::RefusedStream => any_reset || self.has(On::RefusedStream),
            TryOutcome::Reset | TryOutcome::PerTryTimeout => any_reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> TryOutcome {
        TryOutcome::Answered { status, grpc_status: None }
    }

    #[test]
    fn without_a_policy_a_request_without_body_is_retried_once() {
        for (outcome, method, bodiless, retried, expected) in [
            (status(503), "GET", true, 0, true),
            (status(503), "GET", true, 1, false),
            (status(503), "POST", true, 0, false),
            (status(502), "PUT", false, 0, false),
            (status(504), "DELETE", true, 0, true),
            (status(500), "GET", true, 0, false),
            (TryOutcome::ConnectFailure, "GET", true, 0, true),
            (TryOutcome::Reset, "HEAD", true, 0, true),
        ] {
            assert_eq!(DEFAULT.again(retried, outcome, method, bodiless), expected, "{outcome:?}");
        }
    }

    #[test]
    fn each_condition_covers_its_outcomes_and_no_others() {
        use RetryCondition::*;
        let grpc = |code| TryOutcome::Answered { status: 200, grpc_status: Some(code) };
        let outcomes = [
            status(500),
            status(503),
            status(409),
            TryOutcome::ConnectFailure,
            TryOutcome::Reset,
            TryOutcome::RefusedStream,
            TryOutcome::PerTryTimeout,
            grpc(1),
            grpc(4),
            grpc(8),
            grpc(13),
            grpc(14),
        ];
        for (condition, covered) in [
            (ServerError, "110111100000"),
            (GatewayError, "010111100000"),
            (ConnectFailure, "000100000000"),
            (Retriable4xx, "001000000000"),
            (RefusedStream, "000001000000"),
            (Cancelled, "000000010000"),
            (DeadlineExceeded, "000000001000"),
            (ResourceExhausted, "000000000100"),
            (Internal, "000000000010"),
            (Unavailable, "000000000001"),
        ] {
            let policy = RetryPolicy {
                num_retries: 2,
                per_try_timeout: None,
                retry_conditions: vec![condition],
            };
            let retry = Retry::compile(&policy);
            let got: String = outcomes
                .iter()
                .map(|outcome| if retry.again(1, *outcome, "POST", false) { '1' } else { '0' })
                .collect();
            assert_eq!(got, covered, "{condition:?}");
            assert!(!retry.again(2, status(503), "GET", true));
            assert_eq!(retry.conditions().collect::<Vec<_>>(), [condition]);
        }
    }
}
