//! One try within its time, and the pause before the next one.

use crate::backends;
use crate::clock::Clock;
use crate::respond;
use http::Response;
use http_proxy::{Incoming, SendError};
use names::Reason;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use url_map::TryOutcome;

/// Envoy's default pauses between retries: a random part of a bound that doubles.
const BACK_OFF: Duration = Duration::from_millis(25);
const BACK_OFF_MAX: Duration = Duration::from_millis(250);

/// What became of a try.
// Nearly every outcome is an answer, and boxing it would cost an allocation each.
#[allow(clippy::large_enum_variant)]
pub enum Outcome {
    /// A response head.
    Answered(Response<Incoming>),
    /// None.
    Failed(SendError),
    /// None within the time for one try.
    TryTimedOut,
    /// The request's deadline has come.
    TimedOut,
}

impl Outcome {
    /// As the retry policy asks for it; none where no policy would send again: the client has gone,
    /// or the time is up.
    pub fn for_policy(&self) -> Option<TryOutcome> {
        Some(match self {
            Outcome::Answered(response) => TryOutcome::Answered {
                status: response.status().as_u16(),
                grpc_status: grpc_status(response),
            },
            // Our own bound: sending again would only add to what is too much already.
            Outcome::Failed(error) if overflows(error) => return None,
            Outcome::Failed(SendError::Connect(_) | SendError::Timeout) => {
                TryOutcome::ConnectFailure
            }
            // Of HTTP/2: the pool sends again by itself what a kept connection has not taken.
            Outcome::Failed(SendError::Closed { sent: false }) => TryOutcome::RefusedStream,
            Outcome::Failed(SendError::Closed { sent: true } | SendError::Protocol(_)) => {
                TryOutcome::Reset
            }
            Outcome::TryTimedOut => TryOutcome::PerTryTimeout,
            Outcome::Failed(SendError::Body(_)) | Outcome::TimedOut => return None,
        })
    }
}

impl Outcome {
    /// HTTP status, where there is one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Outcome::Answered(response) => Some(response.status().as_u16()),
            _ => None,
        }
    }

    /// In RFC 9209's words, where there is no answer.
    pub fn error(&self) -> Option<&'static str> {
        match self {
            Outcome::Answered(_) => None,
            Outcome::Failed(error) => Some(respond::unanswered(error, false).error),
            Outcome::TryTimedOut | Outcome::TimedOut => Some(respond::timed_out().error),
        }
    }
}

/// Is it a circuit breaker of ours that is open, and no fault of the endpoint?
pub fn overflows(error: &SendError) -> bool {
    let SendError::Connect(error) = error else { return false };
    backends::refused(error)
        .is_some_and(|refused| refused.reason == Reason::BackendCircuitBreakerOpen)
}

/// The gRPC status of an answer without a message, which has it in its head.
fn grpc_status(response: &Response<Incoming>) -> Option<u8> {
    response.headers().get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Waits for a try's end, its own time, or the request's deadline. The try's time begins when the
/// request has been sent.
pub async fn one_try(
    mut sent: Pin<&mut impl Future<Output = Result<Response<Incoming>, SendError>>>,
    clock: &Clock,
    per_try: Option<Duration>,
) -> Outcome {
    let began = Instant::now();
    let mut sleep: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        match sent.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Outcome::Answered(response)),
            Poll::Ready(Err(error)) => return Poll::Ready(Outcome::Failed(error)),
            Poll::Pending => {}
        }
        if clock.poll(cx).is_ready() {
            return Poll::Ready(Outcome::TimedOut);
        }
        if let (Some(limit), Some(complete)) = (per_try, clock.began()) {
            let deadline = began.max(complete) + limit;
            let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::TryTimedOut);
            }
        }
        Poll::Pending
    })
    .await
}

/// How long to wait before the next retry.
pub fn back_off(retried: u32, roll: u64) -> Duration {
    let bound = (BACK_OFF * 2u32.pow(retried.min(8))).min(BACK_OFF_MAX);
    let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(roll % micros)
}
