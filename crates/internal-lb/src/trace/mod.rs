//! Spans (OpenTelemetry): one for each request and one for each try at a backend, sent to a
//! collector over OTLP/HTTP where the environment names one. Nothing here is done for a request
//! that is not sampled, and no request waits for a span: what does not fit into the queue is
//! dropped and counted.

mod export;
mod otlp;
mod settings;

pub use otlp::{Kind, Span, Value};

use crate::headers::{self, Ids};
use http::HeaderMap;
use http_proxy::headers::{TRACEPARENT, X_CLOUD_TRACE_CONTEXT};
use http_proxy::trace::{Trace, parse_cloud_trace, parse_traceparent};
use metrics::Counter;
use runtime::Context;
use settings::{Sampler, Settings};
use std::net::SocketAddrV4;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Spans on their way to the exporter.
const QUEUE_MAX: usize = 4096;
/// More tries than this are not told one by one.
const TRIES_MAX: usize = 16;

/// Tracing, switched on.
pub struct Tracing {
    sampler: Sampler,
    spans: mpsc::Sender<Span>,
    dropped: Counter,
    /// Until the exporter has begun.
    exporter: Mutex<Option<(Settings, mpsc::Receiver<Span>)>>,
}

impl Tracing {
    /// As the process's environment says; none: no spans are wanted.
    ///
    /// # Errors
    /// A sentence that names the variable.
    pub fn from_environment() -> Result<Option<Tracing>, String> {
        let settings = Settings::read(|name| std::env::var(name).ok())?;
        Ok(settings.map(|settings| {
            let (spans, receiver) = mpsc::channel(QUEUE_MAX);
            Tracing {
                sampler: settings.sampler,
                spans,
                dropped: metrics::counter!("postern_spans_dropped_total", "reason" => "queue_full"),
                exporter: Mutex::new(Some((settings, receiver))),
            }
        }))
    }

    /// Exports for the life of the process. Only the first call does anything.
    pub async fn export(&self, context: Context) {
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((settings, receiver)) = exporter {
            export::run(context, settings, receiver).await;
        }
    }

    /// A finished span; never waits.
    pub fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }

    /// Begins the span of a request that came at `at`, if it is sampled. W3C's notation counts
    /// before Google's.
    pub fn begin(&self, request: Option<&HeaderMap>, ids: &Ids, at: Instant) -> Option<Traced> {
        let said = request.and_then(|headers| {
            let parent = headers.get(TRACEPARENT).and_then(parse_traceparent);
            parent.or_else(|| headers.get(X_CLOUD_TRACE_CONTEXT).and_then(parse_cloud_trace))
        });
        let fresh = ids.trace();
        let trace = said.map_or(fresh.id, |said| said.id);
        self.sampler.samples(said.map(|said| said.sampled), trace).then(|| Traced {
            trace,
            span: fresh.span,
            parent: said.map_or(0, |said| said.span),
            at,
            wall: SystemTime::now() - at.elapsed(),
            tries: Vec::new(),
        })
    }
}

/// A sampled request.
pub struct Traced {
    /// Its trace.
    pub trace: u128,
    /// Its own span.
    pub span: u64,
    parent: u64,
    at: Instant,
    /// The same as wall time.
    wall: SystemTime,
    tries: Vec<Try>,
}

struct Try {
    span: u64,
    began: Instant,
    /// None: at the end of the request.
    ended: Option<Instant>,
    address: Option<SocketAddrV4>,
    status: Option<u16>,
    error: Option<&'static str>,
}

impl Traced {
    /// Writes the trace into a request's headers, below this span.
    pub fn write(&self, span: u64, headers: &mut HeaderMap) {
        write(self.trace, span, headers);
    }

    /// A try begins: the backend's spans stand below its own.
    pub fn begin_try(&mut self, ids: &Ids, address: Option<SocketAddrV4>, headers: &mut HeaderMap) {
        let span = ids.trace().span;
        self.write(span, headers);
        if self.tries.len() < TRIES_MAX {
            let began = Instant::now();
            self.tries.push(Try { span, began, ended: None, address, status: None, error: None });
        }
    }

    /// The latest try has an answer, or none and why. The last one lasts until the request's end.
    pub fn end_try(&mut self, status: Option<u16>, error: Option<&'static str>, last: bool) {
        if let Some(one) = self.tries.last_mut() {
            (one.status, one.error) = (status, error);
            one.ended = (!last).then(Instant::now);
        }
    }

    /// The spans of the request: `server` says what is common to both kinds.
    pub fn finish(self, tracing: &Tracing, server: Server<'_>) {
        let now = Instant::now();
        let method = known(server.method);
        for (place, one) in self.tries.iter().enumerate() {
            let mut attributes = vec![("http.request.method", Value::from(method))];
            if let Some(address) = one.address {
                attributes.push(("server.address", address.ip().to_string().as_str().into()));
                attributes.push(("server.port", u64::from(address.port()).into()));
            }
            if place > 0 {
                attributes.push(("http.request.resend_count", (place as u64).into()));
            }
            if let Some(status) = one.status {
                attributes.push(("http.response.status_code", u64::from(status).into()));
            }
            if let Some(error) = one.error {
                attributes.push(("error.type", error.into()));
            }
            if let Some(service) = server.service {
                attributes.push(("postern.backend_service", service.into()));
            }
            tracing.send(Span {
                trace: self.trace,
                id: one.span,
                parent: self.span,
                kind: Kind::Client,
                name: method.to_owned(),
                began: self.nanos(one.began),
                ended: self.nanos(one.ended.unwrap_or(now)),
                attributes,
                failed: one.error.is_some() || one.status.is_some_and(|status| status >= 400),
            });
        }
        let mut attributes = server.attributes;
        attributes.push(("http.request.method", method.into()));
        if let Some(service) = server.service {
            attributes.push(("postern.backend_service", service.into()));
        }
        let name = match server.route {
            Some(route) => {
                attributes.push(("http.route", route.into()));
                format!("{method} {route}")
            }
            None => method.to_owned(),
        };
        tracing.send(Span {
            trace: self.trace,
            id: self.span,
            parent: self.parent,
            kind: Kind::Server,
            name,
            began: self.nanos(self.at),
            ended: self.nanos(now),
            attributes,
            failed: server.failed,
        });
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(self.wall + at.saturating_duration_since(self.at))
    }
}

/// What is told of a request as a whole.
pub struct Server<'a> {
    /// As sent.
    pub method: &'a str,
    /// The URL map's rule.
    pub route: Option<&'a str>,
    /// The backend service.
    pub service: Option<&'a str>,
    /// Of the server span alone.
    pub attributes: Vec<(&'static str, Value)>,
    /// Was it the load balancer's or the backend's fault?
    pub failed: bool,
}

/// The span of a mirrored request, which nobody waits for.
pub struct Mirrored {
    trace: u128,
    parent: u64,
    span: u64,
    began: SystemTime,
}

impl Mirrored {
    /// Below a request's span; writes the trace into the copy's headers.
    pub fn begin((trace, parent): (u128, u64), ids: &Ids, headers: &mut HeaderMap) -> Mirrored {
        let span = ids.trace().span;
        write(trace, span, headers);
        Mirrored { trace, parent, span, began: SystemTime::now() }
    }

    /// The copy was answered, or was not.
    pub fn finish(self, tracing: &Tracing, service: &str, answered: bool) {
        tracing.send(Span {
            trace: self.trace,
            id: self.span,
            parent: self.parent,
            kind: Kind::Client,
            name: "mirror".to_owned(),
            began: nanos(self.began),
            ended: nanos(SystemTime::now()),
            attributes: vec![("postern.backend_service", service.into())],
            failed: !answered,
        });
    }
}

fn write(trace: u128, span: u64, headers: &mut HeaderMap) {
    let (cloud, parent) = headers::written(&Trace { id: trace, span, sampled: true });
    if let (Some(cloud), Some(parent)) = (cloud, parent) {
        headers.insert(X_CLOUD_TRACE_CONTEXT, cloud);
        headers.insert(TRACEPARENT, parent);
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A method of few values (OpenTelemetry's "HTTP" for the others).
fn known(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            method
        }
        _ => "HTTP",
    }
}
