//! What is remembered of a request: one log entry (private-connectivity 2.9) and the metrics,
//! written once, on whichever way the request ends.

use crate::InternalLb;
use crate::compile::{Front, Snapshot};
use crate::decide::Plan;
use crate::headers::is_ours;
use crate::respond::Failure;
use foldhash::fast::RandomState;
use http::header::{HOST, HeaderMap, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use metrics::{Counter, Histogram};
use names::Reason;
use runtime::Worker;
use runtime::log::{self, Severity};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One request of one connection. If it is dropped unwritten, the client went away.
pub struct Record {
    kept: Option<Box<Kept>>,
}

struct Kept {
    worker: Rc<Worker<InternalLb>>,
    snapshot: Arc<Snapshot>,
    /// A place in [`Snapshot::fronts`].
    front: usize,
    at: Instant,
    /// How long it was held up.
    delay: Duration,
    method: Method,
    version: Version,
    host: Option<HeaderValue>,
    target: PathAndQuery,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    /// The client's address, as text.
    client: Rc<str>,
    head_bytes: u64,
    /// Did the request bring fields of a proxy's?
    proxied: bool,
    /// Grows while the body is sent on.
    body_bytes: Option<Rc<Cell<u64>>>,
    service: Option<usize>,
    path_rule: Option<Box<str>>,
    server: Option<Ipv4Addr>,
}

impl Record {
    /// Begins the record of a request.
    pub fn new(
        worker: &Rc<Worker<InternalLb>>,
        snapshot: &Arc<Snapshot>,
        front: usize,
        client: &Rc<str>,
        parts: &Parts,
    ) -> Self {
        let root = || PathAndQuery::from_static("/");
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(root);
        let mut head =
            target.as_str().len() + parts.method.as_str().len() + "  HTTP/1.1\r\n\r\n".len();
        let (mut host, mut user_agent, mut referer) = (None, None, None);
        let mut proxied = false;
        for (name, value) in &parts.headers {
            head += name.as_str().len() + value.len() + ": \r\n".len();
            match *name {
                HOST => host = Some(value.clone()),
                USER_AGENT => user_agent = Some(value.clone()),
                REFERER => referer = Some(value.clone()),
                _ => proxied |= is_ours(name),
            }
        }
        let kept = Kept {
            worker: worker.clone(),
            snapshot: snapshot.clone(),
            front,
            at: Instant::now(),
            delay: Duration::ZERO,
            method: parts.method.clone(),
            version: parts.version,
            host,
            target,
            user_agent,
            referer,
            trace: None,
            client: client.clone(),
            head_bytes: head as u64,
            proxied,
            body_bytes: None,
            service: None,
            path_rule: None,
            server: None,
        };
        Record { kept: Some(Box::new(kept)) }
    }

    /// `Host`, as sent.
    pub fn host(&self) -> &str {
        self.kept.as_ref().and_then(|kept| text_of(kept.host.as_ref())).unwrap_or_default()
    }

    /// What was decided.
    pub fn planned(&mut self, plan: &mut Plan<'_>, _headers: &HeaderMap) {
        if let Some(kept) = &mut self.kept {
            kept.service = plan.service;
            kept.path_rule = plan.path_rule.take();
        }
    }

    /// The request was held up on purpose until now.
    pub fn held_up(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.delay = kept.at.elapsed();
        }
    }

    /// Did the request bring fields of a proxy's, such as `x-forwarded-for`?
    pub fn proxied(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.proxied)
    }

    /// The request's trace, as it goes out.
    pub fn traced(&mut self, trace: Option<HeaderValue>) {
        if let Some(kept) = &mut self.kept {
            kept.trace = trace;
        }
    }

    /// Where the request goes, at this attempt.
    pub fn sent_to(&mut self, server: Option<Ipv4Addr>) {
        if let Some(kept) = &mut self.kept {
            kept.server = server;
        }
    }

    /// When the request was sent on: when its head had arrived, unless it was held up.
    pub fn sent_at(&self) -> Instant {
        self.kept.as_ref().map_or_else(Instant::now, |kept| kept.at + kept.delay)
    }

    /// The size of the request's body, for whoever sends it on.
    pub fn body_bytes(&mut self) -> Rc<Cell<u64>> {
        let kept = self.kept.as_mut().map(|kept| &mut kept.body_bytes);
        kept.map(|bytes| bytes.get_or_insert_default().clone()).unwrap_or_default()
    }

    /// The load balancer's own answer.
    pub fn failed(mut self, failure: &Failure, detail: Option<&str>) {
        if let Some(kept) = self.kept.take() {
            let text = if detail.is_some() { failure.reason.summary() } else { "" };
            kept.write(Ended {
                status: failure.status,
                bytes: failure.body.len() as u64,
                reason: Some(failure.reason),
                proxy_status: Some((failure.error, failure.details)),
                detail,
                text,
            });
        }
    }

    /// A redirect. One that only collapses the path is counted and not logged (2.8).
    pub fn redirected(mut self, status: u16, collapsed: Option<Reason>) {
        let Some(kept) = self.kept.take() else { return };
        match collapsed {
            Some(reason) => {
                kept.count(status, 0, kept.at.elapsed());
                kept.worker.local.meters.refusal(reason);
            }
            None => kept.write(Ended { status, ..Ended::default() }),
        }
    }

    /// The load balancer answered by itself, as it should.
    pub fn answered_by_us(mut self, status: u16) {
        if let Some(kept) = self.kept.take() {
            kept.write(Ended { status, ..Ended::default() });
        }
    }

    /// The backend's answer has ended; `broken` says why, if before its end.
    pub fn answered(mut self, status: u16, bytes: u64, broken: Option<&Failure>) {
        if let Some(kept) = self.kept.take() {
            kept.write(Ended {
                status,
                bytes,
                reason: broken.map(|failure| failure.reason),
                proxy_status: broken.map(|failure| (failure.error, failure.details)),
                ..Ended::default()
            });
        }
    }

    /// The client left while the answer came.
    pub fn abandoned(mut self, status: u16, bytes: u64) {
        if let Some(kept) = self.kept.take() {
            let proxy_status =
                Some(("http_request_error", "client_disconnected_after_partial_response"));
            kept.write(Ended { status, bytes, proxy_status, ..Ended::default() });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            let proxy_status =
                Some(("http_request_error", "client_disconnected_before_any_response"));
            kept.write(Ended { proxy_status, ..Ended::default() });
        }
    }
}

/// How a request ended. Status 0: without an answer.
#[derive(Default)]
struct Ended<'a> {
    status: u16,
    bytes: u64,
    reason: Option<Reason>,
    proxy_status: Option<(&'static str, &'static str)>,
    detail: Option<&'a str>,
    text: &'a str,
}

impl Kept {
    fn request_bytes(&self) -> u64 {
        self.head_bytes + self.body_bytes.as_ref().map_or(0, |bytes| bytes.get())
    }

    fn count(&self, status: u16, bytes: u64, took: Duration) {
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        let service = self.service.and_then(|service| self.snapshot.services.get(service));
        let key = (front.number, service.map_or(0, |service| service.number), status);
        self.worker.local.meters.request(
            key,
            |meter| {
                meter.requests.increment(1);
                meter.request_bytes.increment(self.request_bytes());
                meter.response_bytes.increment(bytes);
                meter.latencies.record(took.as_secs_f64() * 1000.0);
            },
            || {
                let mut labels = front.labels.clone();
                let name = service.map_or("", |service| service.link.name()).to_owned();
                labels.push(("backend_target_name", name));
                labels.push(("response_code", status.to_string()));
                labels.push(("response_code_class", format!("{}xx", status / 100)));
                labels
            },
        );
    }

    fn write(self: Box<Self>, ended: Ended<'_>) {
        let took = self.at.elapsed();
        self.count(ended.status, ended.bytes, took);
        if let Some(reason) = ended.reason {
            self.worker.local.meters.refusal(reason);
        }
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        let severity = match (ended.status, ended.reason) {
            (500.., _) => Severity::Error,
            (400.., _) | (_, Some(_)) => Severity::Warning,
            _ => Severity::Info,
        };
        log::entry(severity, ended.text)
            .rendered(|text| self.render(front, &ended, took, text))
            .field("reason", ended.reason)
            .field("detail", ended.detail)
            .emit();
    }

    /// Everything but what a refusal adds. Written without the machinery of formatting: there is
    /// one entry for every request.
    fn render(&self, front: &Front, ended: &Ended<'_>, took: Duration, text: &mut Vec<u8>) {
        text.reserve(1024);
        text.extend_from_slice(front.log_head.as_bytes());
        put(text, ",\"matched_url_path_rule\":\"");
        log::escape(self.path_rule.as_deref().unwrap_or("UNMATCHED"), text);
        put(text, "\"");
        if let Some(service) = self.service.and_then(|place| self.snapshot.services.get(place)) {
            put(text, &service.resource);
        }
        put(text, "}}");
        if let Some(trace) = text_of(self.trace.as_ref()) {
            put(text, &front.trace_head);
            let end = trace.bytes().position(|byte| matches!(byte, b'/' | b';'));
            log::escape(&trace[..end.unwrap_or(trace.len())], text);
            put(text, "\"");
        }
        put(text, ",\"httpRequest\":{\"requestMethod\":\"");
        log::escape(self.method.as_str(), text);
        put(text, "\",\"requestUrl\":\"");
        put(text, if front.tls.is_some() { "https://" } else { "http://" });
        log::escape(text_of(self.host.as_ref()).unwrap_or_default(), text);
        log::escape(self.target.as_str(), text);
        put(text, "\",\"requestSize\":\"");
        log::decimal(self.request_bytes(), text);
        put(text, "\",\"status\":");
        log::decimal(ended.status.into(), text);
        put(text, ",\"responseSize\":\"");
        log::decimal(ended.bytes, text);
        put(text, "\",\"remoteIp\":\"");
        put(text, &self.client);
        put(text, "\",");
        if let Some(server) = self.server {
            put(text, "\"serverIp\":\"");
            put_address(text, server);
            put(text, "\",");
        }
        for (name, value) in
            [("\"userAgent\":\"", &self.user_agent), ("\"referer\":\"", &self.referer)]
        {
            if let Some(value) = text_of(value.as_ref()) {
                put(text, name);
                log::escape(value, text);
                put(text, "\",");
            }
        }
        put(text, "\"latency\":\"");
        log::decimal(took.as_secs(), text);
        put(text, ".");
        log::micros(took.subsec_micros(), text);
        put(text, "s\",\"protocol\":\"");
        put(text, protocol(self.version));
        put(text, "\"},\"jsonPayload\":{\"@type\":\"");
        put(text, TYPE);
        put(text, "\"");
        if let Some((error, details)) = ended.proxy_status {
            put(text, ",\"proxyStatus\":\"error=\\\"");
            put(text, error);
            put(text, "\\\"; details=\\\"");
            put(text, details);
            put(text, "\\\"\"");
        }
        put(text, "}");
    }
}

fn put(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(part.as_bytes());
}

fn put_address(text: &mut Vec<u8>, address: Ipv4Addr) {
    for (n, octet) in address.octets().into_iter().enumerate() {
        if n > 0 {
            text.push(b'.');
        }
        log::decimal(octet.into(), text);
    }
}

const TYPE: &str = "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry";

/// A connection or a head that never became a request.
pub fn unserved(
    meters: &Meters,
    front: &Front,
    client: Ipv4Addr,
    reason: Reason,
    status: Option<u16>,
    detail: &str,
) {
    meters.refusal(reason);
    log::entry(Severity::Warning, reason.summary())
        .rendered(|text| {
            put(text, &front.log_head);
            put(text, "}}");
        })
        .nested("httpRequest", |entry| {
            entry
                .field("status", status.filter(|status| *status > 0))
                .field("remoteIp", client.to_string())
                .field("serverIp", front.address.ip().to_string())
        })
        .field("reason", reason)
        .field("detail", detail)
        .emit();
}

/// Handles of one thread's metrics: made at their first use, found by number afterwards.
#[derive(Default)]
pub struct Meters {
    requests: RefCell<HashMap<(u32, u32, u16), Meter, RandomState>>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

struct Meter {
    requests: Counter,
    request_bytes: Counter,
    response_bytes: Counter,
    /// Milliseconds, as Google's metric.
    latencies: Histogram,
}

impl Meters {
    fn request(
        &self,
        key: (u32, u32, u16),
        count: impl FnOnce(&Meter),
        labels: impl FnOnce() -> Vec<(&'static str, String)>,
    ) {
        let mut requests = self.requests.borrow_mut();
        let meter = requests.entry(key).or_insert_with(|| {
            let labels = labels();
            Meter {
                requests: metrics::counter!(
                    "loadbalancing_googleapis_com_https_internal_request_count",
                    &labels
                ),
                request_bytes: metrics::counter!(
                    "loadbalancing_googleapis_com_https_internal_request_bytes_count",
                    &labels
                ),
                response_bytes: metrics::counter!(
                    "loadbalancing_googleapis_com_https_internal_response_bytes_count",
                    &labels
                ),
                latencies: metrics::histogram!(
                    "loadbalancing_googleapis_com_https_internal_total_latencies",
                    &labels
                ),
            }
        });
        count(meter);
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

fn text_of(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

/// As it stands in the log.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
