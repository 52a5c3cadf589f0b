//! The program `api-proxy`: the API platform's runtime in its tenant network (apigee).
//!
//! It serves the environment groups' hostnames on the host's loopback, runs the deployed bundles and
//! calls their targets from the tenant network. Words owned here: *northbound* (the client's side),
//! *exchange* (one request with everything that ends with it), *analytics record* (its log line).
//!
//! # The life of a request
//! `serve` accepts, ends TLS, takes the snapshot once per request and asks
//! [`policy_bundle::Platform::route`] for the proxy. `exchange` drives the [`policy_bundle::Call`]:
//! it reads payloads only where a policy needs them, and hands each request for a target to `target`,
//! which resolves (`resolve`), fetches an ID token (`token`), dials and waits. `respond` turns the
//! answer into a response; when its last byte has gone, PostClientFlow runs and `record` writes log
//! and metrics, once, on every way out.
//!
//! # Never here
//! No rule about flows, conditions, faults or base paths: that is `policy-bundle`, which `explain`
//! asks, too. No connection leaves the tenant network but to an address that its resolver gave.
//! Counters of Quota and SpikeArrest outlive every reload.

mod clock;
mod compile;
mod exchange;
mod record;
mod resolve;
mod respond;
mod serve;
mod target;
mod tls;
mod token;

pub use compile::Snapshot;

use compile::ServerTls;
use policy_bundle::Counters;
use record::Meters;
use resolve::Resolver;
use runtime::log::{self, Severity};
use runtime::{Accepted, Context, Program, Worker};
use slice::Role;
use slice::apigee::ApiProxySlice;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use target::Pools;
use token::Tokens;

/// The program.
pub struct ApiProxy {
    context: Context,
    /// Of Quota and SpikeArrest, shared by all workers.
    counters: Counters,
    /// Kept over reloads, so that clients resume.
    tls: Mutex<Option<ServerTls>>,
}

/// What each worker thread keeps for itself.
pub struct Local {
    pools: Pools,
    tokens: Tokens,
    resolver: Resolver,
    meters: Meters,
}

impl Program for ApiProxy {
    const ROLE: Role = Role::ApiProxy;
    type Slice = ApiProxySlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(context: Context) -> Result<Self, String> {
        Ok(ApiProxy { context, counters: Counters::new(), tls: Mutex::default() })
    }

    fn compile(&self, slice: ApiProxySlice) -> Result<Snapshot, String> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        compile::compile(&slice, &mut tls)
    }

    fn local(&self) -> Local {
        Local {
            pools: Pools::default(),
            tokens: Tokens::new(self.context.channel(slice::TOKEN_CHANNEL)),
            resolver: Resolver::default(),
            meters: Meters::default(),
        }
    }

    fn committed(&self, snapshot: &Arc<Snapshot>, _: u64) {
        for warning in &snapshot.platform.warnings {
            log::entry(Severity::Warning, &warning.what)
                .field("file", &*warning.file)
                .field("line", warning.line)
                .field("column", warning.column)
                .field("code", warning.code)
                .field("fix", warning.fix.as_str())
                .emit();
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        serve::serve(worker, accepted).await;
    }
}
