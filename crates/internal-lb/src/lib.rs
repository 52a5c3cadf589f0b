//! The program `internal-lb`: every forwarding rule of the Application Load Balancers of one network
//! (private-connectivity sections 2 and 3), and on the internet those of the external ones (cloud-run
//! 6).
//!
//! Words owned here: *front* (a forwarding rule at work: its certificates, its labels), *plan* (what
//! is left to do once the URL map has decided), *record* (what the log entry and the metrics of one
//! request need).
//!
//! # The life of a request
//! `serve` accepts, reads a PROXY header where there is one, ends TLS and takes the snapshot once
//! per request. `decide` asks `url-map`, the same function that `explain` and `check` ask, and keeps
//! what outlives the request's head: a *plan*. `guard` asks the backend service's security policy,
//! where it has one, through `security-policy`. `serve` holds the request up where a fault policy
//! says so, and changes its headers and URL (`headers`, `variables`). `forward` sends it through
//! `upstream` to Cloud Run's channel or to an endpoint (`backends`), again where the retry policy
//! says so (`retry`, and `bodies` for a body that passes twice), with a copy for a `mirror`, and
//! watches the deadline (`clock`). `respond` is the one table of the load balancer's own answers.
//! `record` writes the log entry (`logging`), metrics (`meters`) and spans (`trace`), once, on every
//! way out.
//!
//! # Never here
//! No rule about hosts, paths or masks: that is `url-map`. Nothing in HTTP tells Cloud Run where a
//! request comes from: the PROXY header of the connection does, and pools are keyed by it. No
//! connection outlives its removed forwarding rule's drain.

mod backends;
mod bodies;
mod clock;
mod compile;
mod decide;
mod forward;
mod guard;
mod headers;
mod l4;
mod logging;
mod meters;
mod mirror;
mod proxy_header;
mod record;
mod respond;
mod retry;
mod serve;
mod trace;
mod upstream;
mod variables;

pub use compile::Snapshot;

use arc_swap::ArcSwap;
use compile::TlsConfigs;
use headers::Ids;
use http_proxy::tls::client_config_unverified;
use http_proxy::{Pool, PoolOptions};
use meters::Meters;
use mirror::Mirrors;
use runtime::log::{self, Severity};
use runtime::{Accepted, Context, Program, UdpListener, Worker};
use rustls::ClientConfig;
use slice::load_balancer::InternalLbSlice;
use slice::{ConnectionState, Notice, Role};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use trace::Tracing;
use upstream::PoolKey;

/// The program.
pub struct InternalLb {
    /// Cloud Run's channel.
    cloud_run: PathBuf,
    /// Kept over reloads, so that clients resume.
    tls: Mutex<TlsConfigs>,
    /// A number for every resource that has appeared in a metric's labels.
    numbers: Mutex<compile::Numbers>,
    /// None: nobody wants spans.
    tracing: Option<Tracing>,
    /// Endpoints, kept over reloads.
    kept: Arc<backends::Kept>,
    /// What the service attachments said last of this network's endpoints, by PSC connection id.
    connections: ArcSwap<HashMap<u64, ConnectionState>>,
    /// What rules of security policies have counted, kept over reloads.
    limits: security_policy::Limits,
    /// Their clock.
    started: std::time::Instant,
    /// Datagram sockets of passthrough rules.
    served: l4::Served,
    /// Towards backends that speak TLS, by ALPN.
    backend_http1: Arc<ClientConfig>,
    backend_http2: Arc<ClientConfig>,
}

/// What each worker thread keeps for itself.
pub struct Local {
    pool: Pool<PoolKey>,
    lanes: backends::Lanes,
    meters: Meters,
    mirrors: Mirrors,
    ids: Ids,
}

impl Program for InternalLb {
    const ROLE: Role = Role::InternalLb;
    type Slice = InternalLbSlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(context: Context) -> Result<Self, String> {
        let client = |alpn| client_config_unverified(&[alpn]).map_err(|error| error.to_string());
        Ok(InternalLb {
            cloud_run: context.channel(slice::CLOUD_RUN_CHANNEL),
            tls: Mutex::default(),
            numbers: Mutex::default(),
            kept: Arc::default(),
            connections: ArcSwap::default(),
            tracing: tracing(),
            limits: security_policy::Limits::default(),
            started: std::time::Instant::now(),
            served: l4::Served::default(),
            backend_http1: client("http/1.1")?,
            backend_http2: client("h2")?,
        })
    }

    fn compile(&self, slice: InternalLbSlice) -> Result<Snapshot, String> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        compile::compile(slice, &mut tls, &mut numbers, &self.kept)
    }

    fn committed(&self, snapshot: &Arc<Snapshot>, _generation: u64) {
        snapshot.backends.committed(&self.kept);
    }

    fn local(&self) -> Local {
        Local {
            pool: Pool::new(PoolOptions::default()),
            lanes: backends::Lanes::default(),
            meters: Meters::default(),
            mirrors: Mirrors::default(),
            ids: Ids::new(),
        }
    }

    fn notice(&self, notice: Notice) {
        if let Notice::Connections(states) = notice {
            let by_id = states.into_iter().map(|state| (state.psc_connection_id, state));
            self.connections.store(Arc::new(by_id.collect()));
        }
    }

    async fn background(worker: Rc<Worker<Self>>) {
        let export = async {
            if let Some(tracing) = &worker.program.tracing {
                tracing.export(worker.context().clone()).await;
            }
        };
        tokio::join!(backends::run(worker.clone()), export);
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        let front = worker.snapshot().network.front(&accepted.key).cloned();
        match front {
            Some(front) => l4::serve(worker, accepted, front).await,
            None => serve::serve(worker, accepted).await,
        }
    }

    async fn datagrams(worker: Rc<Worker<Self>>, socket: UdpListener) {
        l4::serve_datagrams(worker, socket).await;
    }
}

/// A setting that is wrong is told, and does not keep the load balancer from serving.
fn tracing() -> Option<Tracing> {
    Tracing::from_environment().unwrap_or_else(|error| {
        log::entry(Severity::Warning, "no spans are sent").field("error", error.as_str()).emit();
        None
    })
}
