//! The analytics record of one call: a log line with Apigee's dimension and metric names (10.5), and
//! the counters. Written once, on every way out.

use crate::ApiProxy;
use crate::compile::Snapshot;
use http::header::{HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Version};
use http_proxy::HeadError;
use http_proxy::headers::X_FORWARDED_FOR;
use metrics::{Counter, Histogram};
use names::Reason;
use policy_bundle::{Call, Fault, FaultSource, LogRecord, TargetRequest};
use runtime::Worker;
use runtime::log::{self, Entry, Severity, Shown, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of a request's target, as many bytes are logged.
const URI_LOGGED_MAX: usize = 2048;

/// What is noted while a request is served.
pub struct Record {
    began: Instant,
    client: SocketAddrV4,
    method: Method,
    version: Version,
    host: String,
    uri: String,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    pub environment_group: Option<Arc<str>>,
    /// Bytes of the request's payload; it may still come while the flow waits.
    pub request_bytes: Rc<Cell<u64>>,
    pub response_bytes: Cell<u64>,
    target: Option<Target>,
    /// Status and moment of the answer.
    answer: Option<(u16, Instant)>,
    fault: Option<Failed>,
    detail: Option<String>,
}

struct Target {
    url: String,
    host: String,
    name: Arc<str>,
    address: Option<Ipv4Addr>,
    sent: Instant,
    answered: Option<(u16, Instant)>,
    failed: bool,
}

struct Failed {
    code: String,
    text: String,
    source: FaultSource,
    policy: Option<Arc<str>>,
    reason: Reason,
}

impl Failed {
    fn of(fault: &Fault) -> Failed {
        Failed {
            code: fault.code.to_string(),
            text: fault.text.clone(),
            source: fault.source,
            policy: fault.policy.clone(),
            reason: fault.reason(),
        }
    }
}

impl Record {
    /// Begins with the head of a request.
    pub fn new(client: SocketAddrV4, parts: &Parts) -> Record {
        let text = |name| {
            let value: Option<&HeaderValue> = parts.headers.get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        Record {
            began: Instant::now(),
            client,
            method: parts.method.clone(),
            version: parts.version,
            host: text(http::header::HOST),
            uri: shortened(target).to_owned(),
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            forwarded_for: parts.headers.get(X_FORWARDED_FOR).cloned(),
            environment_group: None,
            request_bytes: Rc::new(Cell::new(0)),
            response_bytes: Cell::new(0),
            target: None,
            answer: None,
            fault: None,
            detail: None,
        }
    }

    /// No proxy took the request.
    pub fn refused(&mut self, fault: &Fault) {
        self.fault = Some(Failed::of(fault));
        self.answer = Some((fault.status, Instant::now()));
    }

    /// The flow has an answer.
    pub fn answered(&mut self, call: &Call, status: u16) {
        self.answer = Some((status, Instant::now()));
        let at_end = call.context().is_faulted();
        self.fault = call.context().fault().filter(|_| at_end).map(Failed::of);
    }

    /// Is there an answer?
    pub fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// A request for the target goes out.
    pub fn target_sent(&mut self, request: &TargetRequest) {
        self.target = Some(Target {
            url: request.url.clone(),
            host: request.host.clone(),
            name: request.endpoint.name.clone(),
            address: None,
            sent: Instant::now(),
            answered: None,
            failed: false,
        });
    }

    /// The address that was connected to.
    pub fn target_address(&mut self, address: Ipv4Addr) {
        if let Some(target) = &mut self.target {
            target.address = Some(address);
        }
    }

    /// The head of the target's answer has come.
    pub fn target_answered(&mut self, status: u16) {
        if let Some(target) = &mut self.target {
            target.answered = Some((status, Instant::now()));
        }
    }

    /// The target did not answer, or not to its end.
    pub fn target_failed(&mut self, detail: String) {
        if let Some(target) = &mut self.target {
            target.failed = true;
        }
        self.detail = Some(detail);
    }

    /// Bytes of the request's payload.
    pub fn received(&self, bytes: u64) {
        self.request_bytes.set(self.request_bytes.get() + bytes);
    }

    /// Bytes of the answer.
    pub fn sent(&self, bytes: usize) {
        self.response_bytes.set(self.response_bytes.get() + bytes as u64);
    }

    /// The answer broke off after its head.
    pub fn broke(&mut self, detail: &str) {
        self.detail = Some(detail.to_owned());
    }

    /// Writes the line and counts.
    pub fn write(&self, worker: &Worker<ApiProxy>, snapshot: &Snapshot, call: Option<&Call>) {
        let meters = &worker.local.meters;
        let status = self.answer.map_or(0, |(status, _)| status);
        let proxy = call.map_or("", |call| &*call.deployed().facts.api_proxy);
        let total = self.began.elapsed();
        meters.request(proxy, status, self.fault.as_ref(), total);
        if let Some(target) = &self.target {
            meters.target(proxy, target);
        }
        let reason = self.fault.as_ref().map(|fault| fault.reason);
        if let Some(reason) = reason {
            meters.refusal(reason);
        }
        let severity = match (status, reason) {
            (500.., _) => Severity::Error,
            (400.., _) | (_, Some(_)) => Severity::Warning,
            _ => Severity::Info,
        };
        let text = match (&self.fault, self.answer) {
            (Some(fault), _) => fault.text.as_str(),
            (None, None) => "the client left before the answer",
            _ => "",
        };
        let mut entry = log::entry(severity, text)
            .field(
                "logName",
                Joined(&[
                    "projects/",
                    &snapshot.project,
                    "/logs/apigee.googleapis.com%2Fanalytics",
                ]),
            )
            .field("organization", &*snapshot.organization)
            .field("environment_group", self.environment_group.as_deref());
        if let Some(call) = call {
            entry = of_call(entry, call);
        }
        entry = self.of_request(entry, status);
        entry = self.of_target(entry);
        entry = self.of_fault(entry, call);
        entry
            .field("total_response_time", millis(total))
            .field("reason", reason)
            .field("detail", self.detail.as_deref())
            .emit();
    }

    fn of_request(&self, entry: Entry, status: u16) -> Entry {
        let path = self.uri.split('?').next().unwrap_or_default();
        let text = |value: &Option<HeaderValue>| -> Option<String> {
            value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        entry
            .field("virtual_host", self.host.as_str())
            .field("request_verb", self.method.as_str())
            .field("request_uri", self.uri.as_str())
            .field("request_path", path)
            .field("client_ip", Shown(self.client.ip()))
            .field("proxy_client_ip", Shown(self.client.ip()))
            .field("useragent", text(&self.user_agent))
            .field("x_forwarded_for_ip", text(&self.forwarded_for))
            .field("protocol", protocol(self.version))
            .field("request_size", self.request_bytes.get())
            .field("response_size", self.response_bytes.get())
            .field("response_status_code", Some(status).filter(|status| *status > 0))
    }

    fn of_target(&self, entry: Entry) -> Entry {
        let Some(target) = &self.target else { return entry };
        let answered = target.answered.map(|(_, at)| at);
        let processed = self.answer.zip(answered).map(|((_, at), answered)| at - answered);
        entry
            .field("target", &*target.name)
            .field("target_url", target.url.as_str())
            .field("target_host", target.host.as_str())
            .field("target_ip", target.address.map(Shown))
            .field("target_response_code", target.answered.map(|(status, _)| status))
            .field("request_processing_latency", millis(target.sent - self.began))
            .field("target_response_time", answered.map(|at| millis(at - target.sent)))
            .field("response_processing_latency", processed.map(millis))
    }

    fn of_fault(&self, entry: Entry, call: Option<&Call>) -> Entry {
        let is = |wanted: &[FaultSource]| {
            let source = self.fault.as_ref().map(|fault| fault.source);
            u64::from(source.is_some_and(|source| wanted.contains(&source)))
        };
        let entry = entry
            .field("is_error", u64::from(self.fault.is_some()))
            .field("policy_error", is(&[FaultSource::Policy]))
            .field("target_error", is(&[FaultSource::Target, FaultSource::TargetAnswer]));
        let Some(fault) = &self.fault else { return entry };
        let flow = call.and_then(Call::fault_flow);
        entry
            .field("fault_code", fault.code.as_str())
            .field("ax_execution_fault_policy_name", fault.policy.as_deref())
            .field("ax_execution_fault_flow_name", flow.map(|(flow, _)| flow))
            .field("ax_execution_fault_flow_state", flow.map(|(_, state)| state))
    }
}

fn of_call(entry: Entry, call: &Call) -> Entry {
    let facts = &call.deployed().facts;
    let context = call.context();
    let read = |name: &str| context.read_name(name).map(|value| value.as_text().into_owned());
    let key = read("apigee.client_id");
    let entry = entry
        .field("environment", &*facts.environment)
        .field("apiproxy", &*facts.api_proxy)
        .field("apiproxy_revision", &*facts.revision)
        .field("proxy", &*call.endpoint().name)
        .field("proxy_basepath", context.base_path())
        .field("proxy_pathsuffix", context.path_suffix())
        .field("flow_resource", call.flow().map(|flow| &*flow.name))
        .field("gateway_flow_id", context.message_id());
    match key {
        None => entry,
        Some(key) => entry.field("client_id", key).field("api_product", read("apiproduct.name")),
    }
}

/// No more of a target than a log line should carry.
fn shortened(target: &str) -> &str {
    target.get(..URI_LOGGED_MAX).unwrap_or(target)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Several texts in a row, none of which JSON has to escape beyond the usual.
struct Joined<'a>(&'a [&'a str]);

impl Value for Joined<'_> {
    fn write(&self, text: &mut Vec<u8>) {
        self.0.concat().write(text);
    }
}

/// JSON as it is.
struct Json<'a>(&'a serde_json::Value);

impl Value for Json<'_> {
    fn write(&self, text: &mut Vec<u8>) {
        let _ = write!(text, "{}", self.0);
    }
}

/// An entry of a MessageLogging policy (7.19).
pub fn message(record: &LogRecord) {
    let severity = match record.severity {
        "WARNING" => Severity::Warning,
        "ERROR" | "ALERT" => Severity::Error,
        _ => Severity::Info,
    };
    let labels: serde_json::Map<String, serde_json::Value> = record
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), serde_json::Value::String(value.clone())))
        .collect();
    let labels = serde_json::Value::Object(labels);
    log::entry(severity, "")
        .field("logName", record.log_name.as_str())
        .field("policy", &*record.policy)
        .nested("resource", |resource| resource.field("type", record.resource_type.as_str()))
        .field("labels", Json(&labels))
        .field("jsonPayload", record.json.as_ref().map(Json))
        .field("textPayload", Some(record.text.as_str()).filter(|_| record.json.is_none()))
        .emit();
}

/// A head that never became a request.
pub fn malformed(client: SocketAddrV4, error: &HeadError) {
    log::entry(Severity::Warning, "a request head was refused")
        .field("client_ip", Shown(client.ip()))
        .field("response_status_code", error.status().map(|status| status.as_u16()))
        .field("reason", Reason::HttpMalformed)
        .field("detail", error.to_string())
        .emit();
}

/// Proxy, status, what went wrong.
type AnswerKey = (Box<str>, u16, Option<Reason>);
/// Requests, answers, latencies.
type AnswerMeters = (Counter, Counter, Histogram);
/// Proxy, the target's status.
type TargetKey = (Box<str>, u16);
/// Answers, latencies.
type TargetMeters = (Counter, Histogram);

/// Handles of one thread's metrics: made at their first use.
#[derive(Default)]
pub struct Meters {
    responses: RefCell<HashMap<AnswerKey, AnswerMeters>>,
    targets: RefCell<HashMap<TargetKey, TargetMeters>>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

/// More statuses than there are: AssignMessage may answer with any number.
const METERS_MAX: usize = 4096;

impl Meters {
    fn request(&self, proxy: &str, status: u16, fault: Option<&Failed>, total: Duration) {
        let mut responses = self.responses.borrow_mut();
        if responses.len() > METERS_MAX {
            responses.clear();
        }
        let reason = fault.map(|fault| fault.reason);
        let (requests, answers, latencies) =
            responses.entry((proxy.into(), status, reason)).or_insert_with(|| {
                let proxy = proxy.to_owned();
                let labels = [("proxy_name", proxy.clone())];
                let answer = [
                    ("proxy_name", proxy),
                    ("response_code", status.to_string()),
                    ("apigee_fault", u8::from(reason.is_some()).to_string()),
                ];
                (
                    metrics::counter!("apigee_googleapis_com_proxy_request_count", &labels),
                    metrics::counter!("apigee_googleapis_com_proxy_response_count", &answer),
                    metrics::histogram!("apigee_googleapis_com_proxy_latencies", &labels),
                )
            });
        requests.increment(1);
        if status > 0 {
            answers.increment(1);
        }
        latencies.record(total.as_secs_f64() * 1000.0);
    }

    fn target(&self, proxy: &str, target: &Target) {
        let status = target.answered.filter(|_| !target.failed).map_or(0, |(status, _)| status);
        let mut targets = self.targets.borrow_mut();
        if targets.len() > METERS_MAX {
            targets.clear();
        }
        let (answers, latencies) = targets.entry((proxy.into(), status)).or_insert_with(|| {
            let proxy = proxy.to_owned();
            let labels = [("proxy_name", proxy.clone())];
            let answer = [("proxy_name", proxy), ("response_code", status.to_string())];
            (
                metrics::counter!("apigee_googleapis_com_target_response_count", &answer),
                metrics::histogram!("apigee_googleapis_com_target_latencies", &labels),
            )
        });
        answers.increment(1);
        if let Some((_, at)) = target.answered {
            latencies.record((at - target.sent).as_secs_f64() * 1000.0);
        }
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
