//! Metrics: Google's names with `/` and `.` as `_`, for every forwarding rule, URL-map rule and
//! backend service. The labels come from the configuration and from status codes, so there is a
//! bound to their number.

use crate::compile::{Front, Service};
use foldhash::fast::RandomState;
use metrics::{Counter, Histogram};
use names::Reason;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// Handles of one thread's metrics: made at their first use, found by number afterwards.
#[derive(Default)]
pub struct Meters {
    requests: RefCell<HashMap<Key, Meter, RandomState>>,
    /// A number for every rule's text.
    rules: RefCell<HashMap<Box<str>, u32, RandomState>>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

/// Forwarding rule, URL-map rule, backend service (0: none), status.
type Key = (u32, u32, u32, u16);

struct Meter {
    requests: Counter,
    request_bytes: Counter,
    response_bytes: Counter,
    /// Milliseconds, as Google's metric.
    total: Histogram,
    /// From when the request was sent on; none where no backend was asked.
    backend: Histogram,
}

/// A request that has ended.
pub struct Ended<'a> {
    /// Its forwarding rule.
    pub front: &'a Front,
    /// Its backend service.
    pub service: Option<&'a Service>,
    /// The URL map's rule; none: a default.
    pub rule: Option<&'a str>,
    /// 0: without an answer.
    pub status: u16,
    /// Head and body.
    pub request_bytes: u64,
    /// Body.
    pub response_bytes: u64,
    /// From its head to the end of its answer.
    pub total: Duration,
    /// From when it was sent to a backend.
    pub backend: Option<Duration>,
}

impl Meters {
    /// Counts a request.
    pub fn request(&self, ended: &Ended<'_>) {
        let rule = ended.rule.map_or(0, |rule| self.rule(rule));
        let service = ended.service.map_or(0, |service| service.number);
        let key = (ended.front.number, rule, service, ended.status);
        let mut requests = self.requests.borrow_mut();
        let meter = requests.entry(key).or_insert_with(|| Meter::new(ended));
        meter.requests.increment(1);
        meter.request_bytes.increment(ended.request_bytes);
        meter.response_bytes.increment(ended.response_bytes);
        meter.total.record(ended.total.as_secs_f64() * 1000.0);
        if let Some(backend) = ended.backend {
            meter.backend.record(backend.as_secs_f64() * 1000.0);
        }
    }

    fn rule(&self, rule: &str) -> u32 {
        let mut rules = self.rules.borrow_mut();
        if let Some(number) = rules.get(rule) {
            return *number;
        }
        let number = u32::try_from(rules.len() + 1).unwrap_or(u32::MAX);
        rules.insert(rule.into(), number);
        number
    }

    /// Counts a refusal.
    pub fn refusal(&self, reason: Reason) {
        let mut refusals = self.refusals.borrow_mut();
        let counter = refusals.entry(reason).or_insert_with(
            || metrics::counter!("postern_refusals_total", "reason" => reason.code()),
        );
        counter.increment(1);
    }
}

impl Meter {
    fn new(ended: &Ended<'_>) -> Meter {
        let mut labels = ended.front.labels.clone();
        labels.push(("matched_url_path_rule", ended.rule.unwrap_or("UNMATCHED").to_owned()));
        match ended.service {
            Some(service) => labels.extend(service.labels.iter().cloned()),
            None => labels.push(("backend_target_name", String::new())),
        }
        labels.push(("response_code", ended.status.to_string()));
        labels.push(("response_code_class", format!("{}xx", ended.status / 100)));
        macro_rules! named {
            ($kind:ident, $name:literal) => {
                metrics::$kind!(
                    concat!("loadbalancing_googleapis_com_https_internal_", $name),
                    &labels
                )
            };
        }
        Meter {
            requests: named!(counter, "request_count"),
            request_bytes: named!(counter, "request_bytes_count"),
            response_bytes: named!(counter, "response_bytes_count"),
            total: named!(histogram, "total_latencies"),
            backend: named!(histogram, "backend_latencies"),
        }
    }
}
