//! What is remembered of a request: one log entry (private-connectivity 2.9) and the metrics,
//! written once, on whichever way the request ends.

mod entry;

pub use entry::unserved;

use crate::InternalLb;
use crate::compile::{Service, Snapshot};
use crate::decide::Plan;
use crate::headers::is_ours;
use crate::meters;
use crate::respond::{self, Failure};
use crate::retry::Outcome;
use crate::trace::{self, Traced, Value};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use http_proxy::ConnectionInfo;
use names::Reason;
use runtime::Worker;
use runtime::log::{self, Severity};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
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
    /// Has it spans?
    traced: Option<Box<Traced>>,
    /// The connection.
    info: Rc<ConnectionInfo>,
    /// The client's address, as text.
    client: Rc<str>,
    head_bytes: u64,
    /// Did the request bring fields of a proxy's?
    proxied: bool,
    /// Grows while the body is sent on.
    body_bytes: Option<Rc<Cell<u64>>>,
    service: Option<usize>,
    path_rule: Option<Box<str>>,
    /// Was it sent to a backend?
    tried: bool,
    server: Option<Ipv4Addr>,
    /// Those that `logConfig` names.
    request_headers: Vec<(HeaderName, HeaderValue)>,
    /// See `request_headers`.
    response_headers: Vec<(HeaderName, HeaderValue)>,
    /// What the security policy has said, as JSON.
    guarded: Option<Box<str>>,
}

impl Record {
    /// Begins the record of a request.
    pub fn new(
        worker: &Rc<Worker<InternalLb>>,
        snapshot: &Arc<Snapshot>,
        front: usize,
        (client, info): (&Rc<str>, &Rc<ConnectionInfo>),
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
            traced: None,
            info: info.clone(),
            client: client.clone(),
            head_bytes: head as u64,
            proxied,
            body_bytes: None,
            service: None,
            path_rule: None,
            tried: false,
            server: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            guarded: None,
        };
        Record { kept: Some(Box::new(kept)) }
    }

    /// `Host`, as sent.
    pub fn host(&self) -> &str {
        self.kept.as_ref().and_then(|kept| text_of(kept.host.as_ref())).unwrap_or_default()
    }

    /// What was decided; a span begins where one is wanted.
    pub fn planned(&mut self, plan: &mut Plan<'_>, headers: &HeaderMap) {
        let Some(kept) = &mut self.kept else { return };
        kept.service = plan.service;
        kept.path_rule = plan.path_rule.take();
        if let Some(tracing) = &kept.worker.program.tracing {
            let client = kept.proxied.then_some(headers);
            kept.traced = tracing.begin(client, &kept.worker.local.ids, kept.at).map(Box::new);
        }
        if let Some(names) = kept.service().map(|service| &service.logging.request_headers)
            && !names.is_empty()
        {
            kept.request_headers = named(names, headers);
        }
    }

    /// The security policy was asked.
    pub fn guarded(&mut self, entry: Box<str>) {
        if let Some(kept) = &mut self.kept {
            kept.guarded = Some(entry);
        }
    }

    /// The security policy answers with a redirect.
    pub fn guarded_redirect(mut self, status: u16, reason: Reason) {
        if let Some(kept) = self.kept.take() {
            kept.write(Ended { status, reason: Some(reason), ..Ended::default() });
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

    /// Has the request spans?
    pub fn is_sampled(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.traced.is_some())
    }

    /// Its trace and its span, where it is sampled.
    pub fn span(&self) -> Option<(u128, u64)> {
        let traced = self.kept.as_ref()?.traced.as_ref()?;
        Some((traced.trace, traced.span))
    }

    /// Writes the trace of a sampled request into its headers, over what is there: the backend's
    /// spans stand below ours.
    pub fn write_trace(&self, headers: &mut HeaderMap) {
        if let Some(traced) = self.kept.as_ref().and_then(|kept| kept.traced.as_ref()) {
            traced.write(traced.span, headers);
        }
    }

    /// A try begins, at this address; none: to Cloud Run, or through a service attachment.
    pub fn begin_try(&mut self, address: Option<SocketAddrV4>, headers: &mut HeaderMap) {
        let Some(kept) = &mut self.kept else { return };
        kept.tried = true;
        kept.server = address.map(|address| *address.ip());
        if let Some(traced) = &mut kept.traced {
            traced.begin_try(&kept.worker.local.ids, address, headers);
        }
    }

    /// What became of the try; the last one?
    pub fn end_try(&mut self, outcome: &Outcome, last: bool) {
        let traced = self.kept.as_mut().and_then(|kept| kept.traced.as_mut());
        if let Some(traced) = traced {
            traced.end_try(outcome.status(), outcome.error(), last);
        }
    }

    /// The head of the answer, as it goes to the client.
    pub fn answering(&mut self, headers: &HeaderMap) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(names) = kept.service().map(|service| &service.logging.response_headers)
            && !names.is_empty()
        {
            kept.response_headers = named(names, headers);
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

    /// The load balancer's own answer, as a gRPC client gets it or another one.
    pub fn failed(mut self, failure: &Failure, grpc: bool, detail: Option<&str>) {
        if let Some(kept) = self.kept.take() {
            let text = if detail.is_some() { failure.reason.summary() } else { "" };
            let (status, bytes) = if grpc {
                (respond::GRPC_STATUS, 0)
            } else {
                (failure.status, failure.body.len() as u64)
            };
            kept.write(Ended {
                status,
                bytes,
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

    fn service(&self) -> Option<&Service> {
        self.service.and_then(|place| self.snapshot.services.get(place))
    }

    fn count(&self, status: u16, bytes: u64, took: Duration) {
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        self.worker.local.meters.request(&meters::Ended {
            front,
            service: self.service(),
            rule: self.path_rule.as_deref(),
            status,
            request_bytes: self.request_bytes(),
            response_bytes: bytes,
            total: took,
            backend: self.tried.then(|| took.saturating_sub(self.delay)),
        });
    }

    /// "Even with logging off, failed requests that could not be tied to a backend may be logged"
    /// (2.9), and they are.
    fn is_logged(&self, ended: &Ended<'_>) -> bool {
        let roll = || self.worker.local.ids.roll();
        let Some(service) = self.service() else { return true };
        (ended.reason.is_some() && !self.tried) || service.logging.samples(roll)
    }

    fn write(mut self: Box<Self>, ended: Ended<'_>) {
        let took = self.at.elapsed();
        self.count(ended.status, ended.bytes, took);
        if let Some(reason) = ended.reason {
            self.worker.local.meters.refusal(reason);
        }
        if let Some(traced) = self.traced.take() {
            self.write_spans(*traced, &ended);
        }
        let Some(front) = self.snapshot.fronts.get(self.front) else { return };
        if !self.is_logged(&ended) {
            return;
        }
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

    fn write_spans(&self, traced: Traced, ended: &Ended<'_>) {
        let Some(tracing) = &self.worker.program.tracing else { return };
        let front = self.snapshot.fronts.get(self.front);
        let https = front.is_some_and(|front| front.tls.is_some());
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("url.scheme", if https { "https".into() } else { "http".into() }),
            ("url.path", self.target.path().into()),
            ("client.address", (*self.client).into()),
            ("network.protocol.version", protocol(self.version)[5..].into()),
        ];
        if let Some(query) = self.target.query() {
            attributes.push(("url.query", query.into()));
        }
        for (name, value) in
            [("server.address", &self.host), ("user_agent.original", &self.user_agent)]
        {
            if let Some(value) = text_of(value.as_ref()) {
                attributes.push((name, value.into()));
            }
        }
        if let Some(front) = front {
            attributes.push(("postern.forwarding_rule", (*front.link).into()));
        }
        if ended.status > 0 {
            attributes.push(("http.response.status_code", u64::from(ended.status).into()));
        }
        match (ended.reason, ended.proxy_status) {
            (Some(reason), _) => attributes.push(("error.type", reason.code().into())),
            (None, Some((_, details))) => attributes.push(("error.type", details.into())),
            (None, None) => {}
        }
        traced.finish(
            tracing,
            trace::Server {
                method: self.method.as_str(),
                route: self.path_rule.as_deref(),
                service: self.service().map(|service| service.link.as_str()),
                attributes,
                failed: ended.status >= 500,
            },
        );
    }
}

/// The fields of these names.
fn named(names: &[HeaderName], headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let all = |name| {
        headers.get_all(name).iter().map(move |value| (HeaderName::clone(name), value.clone()))
    };
    names.iter().flat_map(all).collect()
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
