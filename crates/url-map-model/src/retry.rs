//! Retry policies (2.6), as the sentences say.

use slice::load_balancer::{RetryCondition, RetryPolicy};

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An answer with this status.
    Status(u16),
    /// An answer with this gRPC status.
    Grpc(u8),
    /// No connection.
    Connect,
    /// The connection or stream ended before the answer.
    Reset,
    /// The stream was reset with REFUSED_STREAM.
    RefusedStream,
}

/// May the request be sent once more after this try, the first one being number 1?
pub fn again(policy: Option<&RetryPolicy>, attempt: u32, failure: Failure, bodiless: bool) -> bool {
    // What ended without an answer counts as the 503 that it would become (Envoy).
    let unanswered = matches!(failure, Failure::Connect | Failure::Reset | Failure::RefusedStream);
    let gateway = unanswered || matches!(failure, Failure::Status(502..=504));
    let Some(policy) = policy else {
        // "Body-less requests that get 502/503/504 are retried once; POST never."
        return attempt == 1 && bodiless && gateway;
    };
    let fits = |condition: &RetryCondition| match condition {
        RetryCondition::ServerError => unanswered || matches!(failure, Failure::Status(500..)),
        RetryCondition::GatewayError => gateway,
        RetryCondition::ConnectFailure => failure == Failure::Connect,
        RetryCondition::Retriable4xx => failure == Failure::Status(409),
        RetryCondition::RefusedStream => failure == Failure::RefusedStream,
        RetryCondition::Cancelled => failure == Failure::Grpc(1),
        RetryCondition::DeadlineExceeded => failure == Failure::Grpc(4),
        RetryCondition::ResourceExhausted => failure == Failure::Grpc(8),
        RetryCondition::Internal => failure == Failure::Grpc(13),
        RetryCondition::Unavailable => failure == Failure::Grpc(14),
    };
    attempt <= policy.num_retries && policy.retry_conditions.iter().any(fits)
}
