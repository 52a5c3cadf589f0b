//! What is remembered of a request: one log entry (private-connectivity 2.9) and the metrics,
//! written once, on whichever way the request ends.

use crate::InternalLb;
use crate::compile::{Front, Snapshot};
use crate::decide::{Plan, Target};
use crate::respond::Failure;
use foldhash::fast::RandomState;
use http::header::{HeaderMap, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use http_proxy::headers::X_CLOUD_TRACE_CONTEXT;
use metrics::{Counter, Histogram};
use names::Reason;
use runtime::Worker;
use runtime::log::{self, Severity, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::sync::Arc;
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
    method: Method,
    version: Version,
    host: Option<HeaderValue>,
    target: PathAndQuery,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    client: SocketAddrV4,
    /// Head and, as far as it was sent on, body.
    request_bytes: Rc<Cell<u64>>,
    service: Option<usize>,
    path_rule: Option<Box<str>>,
    server: Option<SocketAddrV4>,
}

impl Record {
    /// Begins the record of a request.
    pub fn new(
        worker: Rc<Worker<InternalLb>>,
        snapshot: Arc<Snapshot>,
        front: usize,
        client: SocketAddrV4,
        parts: &Parts,
        host: Option<&HeaderValue>,
    ) -> Self {
        let root = || PathAndQuery::from_static("/");
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(root);
        let head = target.as_str().len() + parts.method.as_str().len() + "  HTTP/1.1\r\n\r\n".len();
        let kept = Kept {
            worker,
            snapshot,
            front,
            at: Instant::now(),
            method: parts.method.clone(),
            version: parts.version,
            host: host.cloned(),
            target,
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            referer: parts.headers.get(REFERER).cloned(),
            trace: None,
            client,
            request_bytes: Rc::new(Cell::new(head as u64 + size(&parts.headers))),
            service: None,
            path_rule: None,
            server: None,
        };
        Record { kept: Some(Box::new(kept)) }
    }

    /// What was decided, and the trace that was begun.
    pub fn planned(&mut self, plan: &mut Plan) {
        if let Some(kept) = &mut self.kept {
            kept.service = plan.service;
            kept.path_rule = plan.path_rule.take();
        }
    }

    /// The request's fields as they go out.
    pub fn traced(&mut self, headers: &HeaderMap) {
        if let Some(kept) = &mut self.kept {
            kept.trace = headers.get(X_CLOUD_TRACE_CONTEXT).cloned();
        }
    }

    /// Where the request goes, at this attempt.
    pub fn sent_to(&mut self, target: &Target, attempt: usize) {
        if let (Some(kept), Target::Address(addresses, _)) = (&mut self.kept, target) {
            kept.server = addresses.get(attempt).copied();
        }
    }

    /// When the request's head had arrived.
    pub fn at(&self) -> Instant {
        self.kept.as_ref().map_or_else(Instant::now, |kept| kept.at)
    }

    /// Grows while the body is sent on.
    pub fn request_bytes(&self) -> Rc<Cell<u64>> {
        self.kept.as_ref().map(|kept| kept.request_bytes.clone()).unwrap_or_default()
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
                kept.count(status, 0);
                kept.worker.local.meters.refusal(reason);
            }
            None => kept.write(Ended { status, ..Ended::default() }),
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
    fn count(&self, status: u16, bytes: u64) {
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        let service = self.service.and_then(|service| self.snapshot.services.get(service));
        let key = (front.number, service.map_or(0, |service| service.number), status);
        self.worker.local.meters.request(
            key,
            |meter| {
                meter.requests.increment(1);
                meter.request_bytes.increment(self.request_bytes.get());
                meter.response_bytes.increment(bytes);
                let milliseconds = self.at.elapsed().as_secs_f64() * 1000.0;
                meter.latencies.record(milliseconds);
            },
            || {
                let mut labels = front.labels.clone();
                let name =
                    service.map_or_else(String::new, |service| service.link.name().to_owned());
                labels.push(("backend_target_name", name));
                labels.push(("response_code", status.to_string()));
                labels.push(("response_code_class", format!("{}xx", status / 100)));
                labels
            },
        );
    }

    fn write(self: Box<Self>, ended: Ended<'_>) {
        self.count(ended.status, ended.bytes);
        if let Some(reason) = ended.reason {
            self.worker.local.meters.refusal(reason);
        }
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        let service = self.service.and_then(|service| self.snapshot.services.get(service));
        let severity = match (ended.status, ended.reason) {
            (500.., _) => Severity::Error,
            (400.., _) | (_, Some(_)) => Severity::Warning,
            _ => Severity::Info,
        };
        log::entry(severity, ended.text)
            .field("logName", &front.log_name)
            .field(
                "resource",
                Json(|text: &mut Vec<u8>| {
                    text.extend_from_slice(front.resource.as_bytes());
                    text.extend_from_slice(b",\"matched_url_path_rule\":");
                    self.path_rule.as_deref().unwrap_or("UNMATCHED").write(text);
                    text.extend_from_slice(service.map_or("", |s| s.resource.as_str()).as_bytes());
                    text.extend_from_slice(b"}}");
                }),
            )
            .field("trace", self.trace(front).as_deref())
            .nested("httpRequest", |entry| {
                entry
                    .field("requestMethod", self.method.as_str())
                    .field("requestUrl", self.url(front).as_str())
                    .field(
                        "requestSize",
                        Json(|text: &mut Vec<u8>| quoted(text, self.request_bytes.get())),
                    )
                    .field("status", ended.status)
                    .field("responseSize", Json(|text: &mut Vec<u8>| quoted(text, ended.bytes)))
                    .field("userAgent", text_of(self.user_agent.as_ref()))
                    .field("referer", text_of(self.referer.as_ref()))
                    .field("remoteIp", Json(|text: &mut Vec<u8>| quoted(text, self.client)))
                    .field(
                        "serverIp",
                        self.server
                            .map(|server| Json(move |text: &mut Vec<u8>| quoted(text, server))),
                    )
                    .field(
                        "latency",
                        Json(|text: &mut Vec<u8>| {
                            let took = self.at.elapsed();
                            let (whole, micros) = (took.as_secs(), took.subsec_micros());
                            let _ = write!(text, "\"{whole}.{micros:06}s\"");
                        }),
                    )
                    .field("protocol", protocol(self.version))
            })
            .nested("jsonPayload", |payload| {
                payload.field("@type", TYPE).field(
                    "proxyStatus",
                    ended.proxy_status.map(|(error, details)| {
                        Json(move |text: &mut Vec<u8>| {
                            let _ = write!(
                                text,
                                "\"error=\\\"{error}\\\"; details=\\\"{details}\\\"\""
                            );
                        })
                    }),
                )
            })
            .field("reason", ended.reason)
            .field("detail", ended.detail)
            .emit();
    }

    fn url(&self, front: &Front) -> String {
        let scheme = if front.tls.is_some() { "https://" } else { "http://" };
        let host = text_of(self.host.as_ref()).unwrap_or_default();
        let mut url = String::with_capacity(scheme.len() + host.len() + self.target.as_str().len());
        url.push_str(scheme);
        url.push_str(host);
        url.push_str(self.target.as_str());
        url
    }

    /// `projects/P/traces/ID`.
    fn trace(&self, front: &Front) -> Option<String> {
        let id = self.trace.as_ref()?.to_str().ok()?.split(['/', ';']).next()?;
        let project = front.labels.first().map_or("", |(_, project)| project);
        let mut text = String::with_capacity(project.len() + id.len() + 18);
        for part in ["projects/", project, "/traces/", id] {
            text.push_str(part);
        }
        Some(text)
    }
}

const TYPE: &str = "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry";

/// A connection or a head that never became a request.
pub fn unserved(
    meters: &Meters,
    front: &Front,
    client: SocketAddrV4,
    reason: Reason,
    status: Option<u16>,
    detail: &str,
) {
    meters.refusal(reason);
    log::entry(Severity::Warning, reason.summary())
        .field("logName", &front.log_name)
        .field(
            "resource",
            Json(|text: &mut Vec<u8>| {
                text.extend_from_slice(front.resource.as_bytes());
                text.extend_from_slice(b"}}");
            }),
        )
        .nested("httpRequest", |entry| {
            entry
                .field("status", status.filter(|status| *status > 0))
                .field("remoteIp", Json(|text: &mut Vec<u8>| quoted(text, client)))
                .field("serverIp", Json(|text: &mut Vec<u8>| quoted(text, front.address)))
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

/// JSON that is written as it is.
struct Json<F>(F);

impl<F: Fn(&mut Vec<u8>)> Value for Json<F> {
    fn write(&self, text: &mut Vec<u8>) {
        (self.0)(text);
    }
}

/// For what holds no character that JSON escapes.
fn quoted(text: &mut Vec<u8>, value: impl std::fmt::Display) {
    let _ = write!(text, "\"{value}\"");
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

fn size(headers: &HeaderMap) -> u64 {
    let lengths = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    lengths.sum::<usize>() as u64
}
