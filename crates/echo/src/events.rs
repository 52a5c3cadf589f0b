//! Server-sent events: `?count=5&interval=100`, the interval in milliseconds.

use crate::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

const COUNT_MAX: u64 = 100_000;
const INTERVAL_MAX: u64 = 60_000;

/// The answer: a stream of `tick` events with growing ids.
pub(crate) fn answer(query: Option<&str>, instance: String) -> http::Response<Body> {
    let number = |name: &str, default: u64, max: u64| {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
        value.and_then(|value| value.parse().ok()).unwrap_or(default).min(max)
    };
    let period = Duration::from_millis(number("interval", 100, INTERVAL_MAX).max(1));
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events { instance, interval, next: 0, count: number("count", 5, COUNT_MAX) };
    let mut response = http::Response::new(events.map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    let stream = http::HeaderValue::from_static("text/event-stream");
    headers.insert(http::header::CONTENT_TYPE, stream);
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

struct Events {
    instance: String,
    interval: Interval,
    next: u64,
    count: u64,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.next == this.count {
            return Poll::Ready(None);
        }
        ready!(this.interval.poll_tick(context));
        let id = this.next;
        this.next += 1;
        let data = serde_json::json!({"number": id, "instance": this.instance});
        let event = format!("id: {id}\nevent: tick\ndata: {data}\n\n");
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
