//! What is remembered of a request: one entry of the request log (cloud-run 7.2) and the metrics
//! (7.3), written once, on whichever way the request ends.

use crate::headers::Trace;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Version};
use metrics::{Counter, Histogram};
use names::Reason;
use runtime::log::{self, Severity, Shown};
use slice::run::Service;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// A request, as its log entry shows it.
#[derive(Debug)]
pub struct Asked {
    /// When its head had arrived.
    pub at: Instant,
    /// Method.
    pub method: Method,
    /// `Host`.
    pub host: Option<HeaderValue>,
    /// Path and query as sent.
    pub target: PathAndQuery,
    /// Protocol.
    pub version: Version,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Referer`.
    pub referer: Option<HeaderValue>,
    /// The client's address, by the fabric's word.
    pub remote: Option<Box<str>>,
    /// Its trace.
    pub trace: Trace,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Status.
    pub status: u16,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// Why it was refused or cut.
    pub reason: Option<Reason>,
}

/// The client went away before the answer; the figure is nginx's and the load balancers'
/// (unconfirmed).
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Where a request ended up, for the labels of its entry.
#[derive(Clone, Debug)]
pub struct Served {
    /// The service.
    pub service: Arc<Service>,
    /// A number that no other service of this process has.
    pub deployment: u64,
    /// Which instance; none if it came to none.
    pub instance: Option<Arc<str>>,
    /// The revision's name, where another than the service's newest one served.
    pub revision: Option<Arc<Service>>,
}

/// Handles of metrics of one thread: made at the first use, looked up by number afterwards.
#[derive(Default)]
pub struct Meters {
    requests: RefCell<HashMap<(u64, u16), (Counter, Histogram)>>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

impl Meters {
    fn request(&self, served: &Served, status: u16, seconds: f64) {
        let mut requests = self.requests.borrow_mut();
        let (count, latencies) = requests.entry((served.deployment, status)).or_insert_with(|| {
            let service = &served.service;
            let labels = [
                ("project_id", service.project.clone()),
                ("location", service.region.clone()),
                ("service_name", service.name.clone()),
                ("response_code", status.to_string()),
                ("response_code_class", format!("{}xx", status / 100)),
            ];
            (
                metrics::counter!("run_googleapis_com_request_count", &labels),
                metrics::histogram!("run_googleapis_com_request_latencies", &labels),
            )
        });
        count.increment(1);
        latencies.record(seconds * 1000.0); // milliseconds, as Google's metric
    }

    /// Counts a refusal.
    pub fn refusal(&self, reason: Reason) {
        let mut refusals = self.refusals.borrow_mut();
        let count = refusals.entry(reason).or_insert_with(
            || metrics::counter!("postern_refusals_total", "reason" => reason.code()),
        );
        count.increment(1);
    }
}

/// Writes the entry of a request that reached a service, and counts it.
pub fn request(
    meters: &Rc<Meters>,
    asked: &Asked,
    served: &Served,
    ended: Ended,
    severity: Severity,
    text: &str,
    detail: Option<&dyn fmt::Display>,
) {
    let latency = asked.at.elapsed();
    meters.request(served, ended.status, latency.as_secs_f64());
    if let Some(reason) = ended.reason {
        meters.refusal(reason);
    }
    let service = &served.service;
    let revision = &served.revision.as_ref().unwrap_or(service).revision.name;
    let project = &service.project;
    log::entry(severity, text)
        .field(
            "logName",
            Plain(format_args!("projects/{project}/logs/run.googleapis.com%2Frequests")),
        )
        .nested("resource", |resource| {
            resource.field("type", "cloud_run_revision").nested("labels", |labels| {
                labels
                    .field("project_id", project)
                    .field("location", &service.region)
                    .field("service_name", &service.name)
                    .field("revision_name", revision)
                    .field("configuration_name", &service.name)
            })
        })
        .nested("labels", |labels| labels.field("instanceId", served.instance.as_deref()))
        .field("trace", Plain(format_args!("projects/{project}/traces/{:032x}", asked.trace.id)))
        .field("spanId", Plain(format_args!("{:016x}", asked.trace.span)))
        .field("traceSampled", asked.trace.sampled)
        .nested("httpRequest", |entry| {
            entry
                .field("requestMethod", asked.method.as_str())
                .field("requestUrl", Shown(Url(asked)))
                .field("requestSize", Plain(ended.request_bytes))
                .field("status", ended.status)
                .field("responseSize", Plain(ended.response_bytes))
                .field("userAgent", text_of(asked.user_agent.as_ref()))
                .field("remoteIp", asked.remote.as_deref())
                .field("referer", text_of(asked.referer.as_ref()))
                .field("latency", Plain(format_args!("{:.6}s", latency.as_secs_f64())))
                .field("protocol", protocol(asked.version))
        })
        .field("reason", ended.reason)
        .field("detail", detail.map(Shown))
        .emit();
}

/// Writes a line of our own about a request that the request log keeps silent about: an ingress
/// refusal, an unknown host (cloud-run 0 row 2, 4).
pub fn unlogged(
    meters: &Rc<Meters>,
    asked: &Asked,
    service: Option<&str>,
    status: u16,
    reason: Reason,
    detail: &dyn fmt::Display,
) {
    meters.refusal(reason);
    log::entry(Severity::Warning, reason.summary())
        .field("logName", "postern")
        .field("reason", reason)
        .field("detail", Shown(detail))
        .field("service", service)
        .field("method", asked.method.as_str())
        .field("url", Shown(Url(asked)))
        .field("status", status)
        .field("remoteIp", asked.remote.as_deref())
        .emit();
}

/// The severity of an ordinary answer (7.2; below 400 (unconfirmed)).
pub fn severity(status: u16) -> Severity {
    match status {
        500.. => Severity::Error,
        400.. => Severity::Warning,
        _ => Severity::Info,
    }
}

/// Text that needs no escape in JSON: numbers, project ids. Written without a detour.
struct Plain<T>(T);

impl<T: fmt::Display> log::Value for Plain<T> {
    fn write(&self, text: &mut Vec<u8>) {
        use std::io::Write;
        // Writing to a `Vec` does not fail.
        let _ = write!(text, "\"{}\"", self.0);
    }
}

struct Url<'a>(&'a Asked);

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = text_of(self.0.host.as_ref()).unwrap_or_default();
        write!(f, "https://{host}{}", self.0.target)
    }
}

fn text_of(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
