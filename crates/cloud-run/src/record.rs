//! What is remembered of a request: one entry of the request log (cloud-run 7.2) and the metrics
//! (7.3), written once, on whichever way the request ends.

use crate::headers::Trace;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Method, Version};
use metrics::{Counter, Histogram};
use names::Reason;
use runtime::log::{self, Severity, Shown, Value};
use slice::run::Service;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
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
    /// The address that the client called, where a front end took the call.
    pub server: Option<Ipv4Addr>,
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

/// One thread's metrics and texts: made at the first use, looked up by number afterwards.
#[derive(Default)]
pub struct Meters {
    deployments: RefCell<HashMap<u64, Kept>>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

/// What is the same for every request of a service.
struct Kept {
    /// JSON up to the value of the revision's name.
    head: String,
    /// JSON up to a trace id.
    trace: String,
    /// By status: a service has a few.
    answers: Vec<(u16, Counter, Histogram)>,
}

impl Kept {
    fn new(service: &Service) -> Self {
        let text = |value: &str| {
            let mut text = Vec::new();
            value.write(&mut text);
            String::from_utf8(text).unwrap_or_default()
        };
        let (project, name) = (&service.project, text(&service.name));
        let log_name = text(&format!("projects/{project}/logs/run.googleapis.com%2Frequests"));
        let (project_id, location) = (text(project), text(&service.region));
        let trace = text(&format!("projects/{project}/traces/"));
        Kept {
            head: format!(
                ",\"logName\":{log_name},\"resource\":{{\"type\":\"cloud_run_revision\",\
                 \"labels\":{{\"project_id\":{project_id},\"location\":{location},\
                 \"service_name\":{name},\"configuration_name\":{name},\"revision_name\":"
            ),
            trace: format!(",\"trace\":{}", trace.trim_end_matches('"')),
            answers: Vec::new(),
        }
    }

    fn count(&mut self, service: &Service, status: u16, seconds: f64) {
        let known = self.answers.iter().position(|(known, ..)| *known == status);
        let known = known.unwrap_or_else(|| {
            let labels = [
                ("project_id", service.project.clone()),
                ("location", service.region.clone()),
                ("service_name", service.name.clone()),
                ("response_code", status.to_string()),
                ("response_code_class", format!("{}xx", status / 100)),
            ];
            self.answers.push((
                status,
                metrics::counter!("run_googleapis_com_request_count", &labels),
                metrics::histogram!("run_googleapis_com_request_latencies", &labels),
            ));
            self.answers.len() - 1
        });
        let (_, count, latencies) = &self.answers[known];
        count.increment(1);
        latencies.record(seconds * 1000.0); // milliseconds, as Google's metric
    }
}

impl Meters {
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
    if let Some(reason) = ended.reason {
        meters.refusal(reason);
    }
    let service = &served.service;
    let revision = &served.revision.as_ref().unwrap_or(service).revision.name;
    let mut deployments = meters.deployments.borrow_mut();
    let kept = deployments.entry(served.deployment).or_insert_with(|| Kept::new(service));
    kept.count(service, ended.status, latency.as_secs_f64());
    log::entry(severity, text)
        .rendered(|text| {
            text.extend_from_slice(kept.head.as_bytes());
            revision.write(text);
            text.extend_from_slice(b"}}");
        })
        .nested("labels", |labels| labels.field("instanceId", served.instance.as_deref()))
        .rendered(|text| {
            text.extend_from_slice(kept.trace.as_bytes());
            log::hexadecimal(asked.trace.id, 32, text);
            text.extend_from_slice(b"\",\"spanId\":\"");
            log::hexadecimal(asked.trace.span.into(), 16, text);
            text.push(b'"');
        })
        .field("traceSampled", asked.trace.sampled)
        .nested("httpRequest", |entry| {
            entry
                .field("requestMethod", asked.method.as_str())
                .field("requestUrl", Url(asked))
                .field("requestSize", Quoted(ended.request_bytes))
                .field("status", ended.status)
                .field("responseSize", Quoted(ended.response_bytes))
                .field("userAgent", text_of(asked.user_agent.as_ref()))
                .field("remoteIp", asked.remote.as_deref())
                .field("serverIp", asked.server)
                .field("referer", text_of(asked.referer.as_ref()))
                .field("latency", Seconds(latency))
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
        .field("url", Url(asked))
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

/// A number that Google's JSON has in quotes.
struct Quoted(u64);

impl Value for Quoted {
    fn write(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        log::decimal(self.0, text);
        text.push(b'"');
    }
}

/// `0.004321s`.
struct Seconds(Duration);

impl Value for Seconds {
    fn write(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        log::decimal(self.0.as_secs(), text);
        text.push(b'.');
        log::micros(self.0.subsec_micros(), text);
        text.extend_from_slice(b"s\"");
    }
}

struct Url<'a>(&'a Asked);

impl Value for Url<'_> {
    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"\"https://");
        log::escape(text_of(self.0.host.as_ref()).unwrap_or_default(), text);
        log::escape(self.0.target.as_str(), text);
        text.push(b'"');
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
