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
    let gateway = matches!(failure, Failure::Status(502..=504));
    let Some(policy) = policy else {
        // "Body-less requests that get 502/503/504 are retried once; POST never." What the load
        // balancer itself would answer with 503 counts as one.
        let unanswered =
            matches!(failure, Failure::Connect | Failure::Reset | Failure::RefusedStream);
        return attempt == 1 && bodiless && (gateway || unanswered);
    };
    let fits = |condition: &RetryCondition| match condition {
        RetryCondition::ServerError => {
            !matches!(failure, Failure::Status(..=499) | Failure::Grpc(_))
        }
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
