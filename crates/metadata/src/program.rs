//! The thin shell: connections, the clock, waiting for changes, the log.

use crate::front_end::{IdentityServer, handed_over};
use crate::memory::TokenMemory;
use crate::request::{Flavor, MetadataRequest};
use crate::respond::{self, Caller};
use crate::response::{ContentType, MetadataResponse};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use http::header::{
    self, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    LOCATION, SERVER,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming, ServerOptions, serve};
use keys::AccountKeys;
use metrics::Counter;
use names::Reason;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Context, Drain, Program, Stream, Worker};
use slice::run::MetadataSlice;
use slice::{METADATA_ADDRESS, Notice, Role, Workload};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How many tokens a thread remembers.
const TOKENS_MAX: usize = 1024;

/// Nobody waits longer for a change; the real server sets no limit.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The program `metadata`.
pub struct Metadata {
    /// Told at each generation and each change of the workloads.
    changes: watch::Sender<()>,
    /// Instance id → when the workload was first seen.
    created: Mutex<HashMap<String, u64>>,
    /// Keys of service accounts, in the state directory.
    pub(crate) account_keys: AccountKeys,
    /// Sockets of front ends that are being served.
    pub(crate) handed_over: Arc<AtomicUsize>,
}

/// What a thread keeps.
pub struct Local {
    memory: RefCell<TokenMemory>,
    refusals: RefCell<HashMap<Reason, Counter>>,
}

impl Program for Metadata {
    const ROLE: Role = Role::Metadata;
    type Slice = MetadataSlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(context: Context) -> Result<Self, String> {
        Ok(Metadata {
            changes: watch::Sender::new(()),
            created: Mutex::default(),
            account_keys: AccountKeys::new(context.state_dir()),
            handed_over: Arc::default(),
        })
    }

    fn compile(&self, slice: MetadataSlice) -> Result<Snapshot, String> {
        Snapshot::compile(slice)
    }

    fn local(&self) -> Local {
        Local { memory: RefCell::new(TokenMemory::new(TOKENS_MAX)), refusals: RefCell::default() }
    }

    fn committed(&self, _snapshot: &Arc<Snapshot>, _generation: u64) {
        self.changes.send_replace(());
    }

    fn notice(&self, notice: Notice) {
        if let Notice::Workloads(workloads) = notice {
            let now = now();
            let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
            created.retain(|id, _| workloads.iter().any(|workload| workload.instance_id == *id));
            for workload in workloads {
                created.entry(workload.instance_id).or_insert(now);
            }
            drop(created);
            self.changes.send_replace(());
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        let Accepted { key, stream, peer, declared, drain } = accepted;
        let info = Rc::new(ConnectionInfo { peer, local: declared, tls: None });
        let options = ServerOptions { http2: false, ..ServerOptions::default() };
        let ending = drain.clone();
        let ending = async move { ending.wait().await };
        match stream {
            Stream::Tcp(stream) => {
                let local = stream.local_addr().ok();
                let handler = Rc::new(MetadataServer { worker, local, drain });
                serve(stream, Bytes::new(), info, handler, &options, ending).await;
            }
            Stream::Unwatched(_) => {} // this program watches its connections
            Stream::Unix(stream) if &*key == "front-end" => {
                handed_over(worker, stream, drain).await;
            }
            Stream::Unix(stream) => {
                let handler = Rc::new(IdentityServer { worker, from_platform: true });
                serve(stream, Bytes::new(), info, handler, &options, ending).await;
            }
        }
    }
}

impl Metadata {
    fn created(&self, workload: &Workload, now: u64) -> u64 {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created.get(&workload.instance_id).copied().unwrap_or(now)
    }
}

pub(crate) fn now() -> u64 {
    // A clock before 1970 makes tokens that nobody takes; there is nothing better to do.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// 169.254.169.254:80.
struct MetadataServer {
    worker: Rc<Worker<Metadata>>,
    /// The address really connected to: in loopback isolation clients name it as host.
    local: Option<SocketAddr>,
    drain: Drain,
}

impl Handler for MetadataServer {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let (head, _body) = request.into_parts();
        let workload = connection.peer.and_then(|peer| self.worker.workload(*peer.ip()));
        let response = self.respond(&head, workload.as_deref()).await;
        let remote = connection.peer.map(|peer| Shown(*peer.ip()));
        let name = workload.as_deref().map(|workload| workload.name.as_str());
        record(&self.worker.local, &head, &response, remote, name);
        let serverless = workload.is_some_and(|workload| workload.serverless);
        http_response(&head.method, response, serverless)
    }

    fn refused(&self, error: &HeadError) {
        record_refused_head(&self.worker.local, error);
    }
}

impl MetadataServer {
    async fn respond(&self, head: &Parts, workload: Option<&Workload>) -> MetadataResponse {
        let request = self.request(head);
        // Before the first look, so that no change is missed.
        let mut changes = self.worker.program.changes.subscribe();
        let mut response = self.look(&request, workload);
        let Some(wait) = respond::wait(&request) else { return response };
        let known = wait.last_etag.or_else(|| response.etag.clone());
        let longest = wait.timeout_sec.map_or(WAIT_MAX, Duration::from_secs).min(WAIT_MAX);
        let deadline = Instant::now() + longest;
        while response.etag.is_some() && response.etag == known {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = sleep_until(deadline) => break,
                () = self.drain.wait() => break,
            }
            // The caller may be another workload by now, or none.
            let workload = workload.and_then(|old| self.worker.workload(old.address));
            response = self.look(&request, workload.as_deref());
        }
        response
    }

    fn look(&self, request: &MetadataRequest<'_>, workload: Option<&Workload>) -> MetadataResponse {
        let worker = &self.worker;
        let now = now();
        let caller = workload
            .map(|workload| Caller { workload, created: worker.program.created(workload, now) });
        let mut memory = worker.local.memory.borrow_mut();
        respond::respond(&worker.snapshot(), caller, request, &mut memory, now)
    }

    fn request<'a>(&self, head: &'a Parts) -> MetadataRequest<'a> {
        let host = head.headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
        MetadataRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            host,
            host_is_ours: host.is_none_or(|host| host_is_ours(host, self.local)),
            flavor: flavor(&head.headers),
            forwarded: head.headers.contains_key("x-forwarded-for"),
        }
    }
}

fn flavor(headers: &HeaderMap) -> Flavor {
    let older = headers.get("x-google-metadata-request");
    match headers.get("metadata-flavor") {
        Some(value) if value.as_bytes() == b"Google" => Flavor::Google,
        _ if older.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) => {
            Flavor::Google
        }
        Some(_) => Flavor::Other,
        None => Flavor::Missing,
    }
}

/// The server's names, its address, and the address really connected to. Any other name may be one
/// that somebody else's DNS made point here.
fn host_is_ours(host: &str, local: Option<SocketAddr>) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let local = local.map(|local| local.ip());
    match bare.parse::<IpAddr>() {
        Ok(address) => address == IpAddr::V4(METADATA_ADDRESS) || Some(address) == local,
        Err(_) => {
            ["metadata.google.internal", "metadata"].iter().any(|n| bare.eq_ignore_ascii_case(n))
                || bare.eq_ignore_ascii_case("localhost") && local.is_some_and(|l| l.is_loopback())
        }
    }
}

pub(crate) fn http_response(
    method: &Method,
    answer: MetadataResponse,
    serverless: bool,
) -> Response<Body> {
    let head_only = method == Method::HEAD;
    let length = answer.body.len();
    let body = if head_only { Body::empty() } else { Body::full(answer.body) };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, answer.content_type.value());
    if answer.content_type != ContentType::ApiJson {
        set(HeaderName::from_static("metadata-flavor"), "Google");
        let server =
            if serverless { "Metadata Server for Serverless" } else { "Metadata Server for VM" };
        set(SERVER, server);
    }
    set(HeaderName::from_static("x-xss-protection"), "0");
    set(HeaderName::from_static("x-frame-options"), "SAMEORIGIN");
    if answer.status == 405 {
        set(header::ALLOW, "GET, HEAD");
    }
    if let Some(challenge) = answer.www_authenticate {
        set(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(cache_control) = answer.cache_control {
        set(CACHE_CONTROL, cache_control);
    }
    for (name, value) in [(ETAG, answer.etag), (LOCATION, answer.location)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    if head_only {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The target as the log has it: the query of `tokeninfo` is a token.
fn shown_target(head: &Parts) -> Option<&str> {
    if head.uri.path().ends_with("tokeninfo") {
        return Some(head.uri.path());
    }
    head.uri.path_and_query().map(|target| target.as_str())
}

/// One entry of the request log. Other tokens stand in bodies and credentials in headers, neither
/// of which is written.
pub(crate) fn record(
    local: &Local,
    head: &Parts,
    response: &MetadataResponse,
    remote: Option<Shown<std::net::Ipv4Addr>>,
    workload: Option<&str>,
) {
    let (severity, message) = match response.reason {
        Some(reason) => (Severity::Warning, reason.summary()),
        None => (Severity::Info, "request"),
    };
    log::entry(severity, message)
        .nested("httpRequest", |entry| {
            entry
                .field("requestMethod", head.method.as_str())
                .field("requestUrl", shown_target(head))
                .field("status", response.status)
                .field("remoteIp", remote)
        })
        .field("workload", workload)
        .field("reason", response.reason)
        .field("detail", response.detail.as_deref())
        .emit();
    if let Some(reason) = response.reason {
        count(local, reason);
    }
}

pub(crate) fn record_refused_head(local: &Local, error: &HeadError) {
    let reason = match error {
        HeadError::Malformed(_)
        | HeadError::Unsupported(_)
        | HeadError::Version
        | HeadError::Expectation => Some(Reason::HttpMalformed),
        HeadError::TooLarge => Some(Reason::HttpHeaderTooLarge),
        // Nothing was refused: the client went silent or away.
        HeadError::Timeout | HeadError::Closed => None,
    };
    log::entry(Severity::Warning, "a request head was not served")
        .field("reason", reason)
        .field("detail", Shown(error))
        .emit();
    if let Some(reason) = reason {
        count(local, reason);
    }
}

fn count(local: &Local, reason: Reason) {
    let mut refusals = local.refusals.borrow_mut();
    let counter = refusals
        .entry(reason)
        .or_insert_with(|| metrics::counter!("postern_refusals_total", "reason" => reason.code()));
    counter.increment(1);
}
