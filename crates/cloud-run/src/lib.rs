//! The program `cloud-run`: starts the user's programs as Cloud Run would, and lets in whom Cloud
//! Run would (fact sheet cloud-run 1, 2, 4, 5).
//!
//! Words owned here: *deployment* (a service at work), *revision* (a template with its instances),
//! *instance*, *rollout*. The crate `autoscaling` owns *fleet* and *slot*.
//!
//! # The life of a request
//! `serve` accepts a connection and reads where its requests come from. `decide` takes
//! the snapshot once and asks `serverless::admit`. `forward` waits for a slot, exchanges the
//! request with the instance and watches the deadline. `respond` has the answers of what goes
//! wrong there, `record` the log entry and the metrics.
//!
//! The crate `autoscaling` decides, in plain functions of the time; `revision` and
//! `deployment` put them behind locks for all worker threads; `background` carries out what they
//! plan and `start` is the life of one process.
//!
//! # Never here
//! No decision about who may call: that is `serverless`, which `explain` calls too. Nothing in
//! HTTP tells where a request comes from: only the PROXY header of a channel that the supervisor
//! made. No process is started by this program itself: the supervisor does, in a leaf namespace.

mod background;
mod body;
mod containers;
mod decide;
mod deployment;
mod forward;
mod headers;
mod history;
mod host;
mod ids;
mod probe;
mod record;
mod respond;
mod revision;
mod secrets;
mod serve;
mod start;
#[cfg(test)]
mod tests;
mod usage;

use deployment::{Deployment, Shared};
use history::{History, Store};
use host::{Exits, Host};
use http_proxy::tls::CertifiedPem;
use http_proxy::{Pool, PoolOptions};
use id_token::VerifiedCache;
use ids::Ids;
use names::SelfLink;
use record::Meters;
use revision::Clock;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Context, Program, Worker};
use serverless::Front;
use slice::run::{CloudRunSlice, Secret, Service};
use slice::{Notice, Role};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};

/// Verified tokens that a worker thread remembers.
const TOKENS_MAX: usize = 4096;

/// The program.
pub struct CloudRun {
    context: Context,
    host: OnceLock<Arc<dyn Host>>,
    exits: Arc<Mutex<Exits>>,
    /// The secrets of the generation in force; instances watch them.
    secrets: watch::Sender<Arc<Vec<Secret>>>,
    shared: Shared,
    deployments: Mutex<Deployments>,
    store: Store,
    /// Held while histories are written.
    storing: Mutex<()>,
    /// Sockets of front ends that are being served.
    handed_over: Arc<AtomicUsize>,
}

/// One generation, compiled.
pub struct Snapshot {
    front: Front,
    /// Beside the front's services, by their index.
    entries: Vec<Arc<Entry>>,
    secrets: Arc<Vec<Secret>>,
    /// The certificate of `*.run.app`.
    tls: Option<Arc<http_proxy::tls::ServerConfig>>,
}

/// A service of one generation, with what is at work for it.
pub struct Entry {
    service: Arc<Service>,
    deployment: Arc<Deployment>,
    /// A number that no other service of this process has.
    number: u64,
}

/// What each worker thread keeps for itself.
pub struct Local {
    pool: Pool<(u64, http_proxy::Version)>,
    tokens: RefCell<VerifiedCache>,
    meters: Rc<Meters>,
    ids: Ids,
}

/// Everything at work; outlives generations.
#[derive(Default)]
struct Deployments {
    services: HashMap<SelfLink, (Arc<Deployment>, u64)>,
    /// Services that are gone from the topology and drain.
    removed: Vec<(SelfLink, Arc<Deployment>)>,
    /// What an earlier run left of services that are not at work yet.
    remembered: HashMap<SelfLink, History>,
    /// No generation is in force yet.
    committed: bool,
}

impl Program for CloudRun {
    const ROLE: Role = Role::CloudRun;
    type Slice = CloudRunSlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(context: Context) -> Result<Self, String> {
        let shared = Shared {
            clock: Clock::start(),
            wake: Arc::new(Notify::new()),
            pool_keys: Arc::new(AtomicU64::new(1)),
        };
        let store = Store::new(context.state_dir());
        let (remembered, problems) = store.load();
        for problem in problems {
            log::entry(Severity::Error, "a history of revisions is lost: the service is new")
                .field("error", problem.as_str())
                .emit();
        }
        Ok(CloudRun {
            context,
            store,
            storing: Mutex::default(),
            host: OnceLock::new(),
            exits: Arc::default(),
            secrets: watch::Sender::default(),
            shared,
            deployments: Mutex::new(Deployments { remembered, ..Deployments::default() }),
            handed_over: Arc::default(),
        })
    }

    /// Services that exist already keep what is at work for them; nothing is started or stopped
    /// before the commit.
    fn compile(&self, slice: CloudRunSlice) -> Result<Snapshot, String> {
        let front = Front::from_slice(&slice).map_err(|error| error.to_string())?;
        let tls = match slice.front_end_certificate.as_str() {
            "" => None,
            chain => {
                let pem = CertifiedPem { chain, key: &slice.front_end_private_key };
                let config = http_proxy::tls::server_config(&[pem], &["h2", "http/1.1"]);
                Some(config.map_err(|error| format!("the certificate of *.run.app: {error}"))?)
            }
        };
        let entries = front.services().iter().map(|service| {
            let service = Arc::clone(&service.service);
            let known = self.with_deployments(|all| all.services.get(&service.self_link).cloned());
            let (deployment, number) = match known {
                Some(known) => {
                    known.0.check(&service)?;
                    known
                }
                None => {
                    let link = &service.self_link;
                    let history = self.with_deployments(|all| all.remembered.get(link).cloned());
                    let deployment = Deployment::new(
                        Arc::clone(&service),
                        history.unwrap_or_default(),
                        self.shared.clone(),
                    )?;
                    (Arc::new(deployment), self.shared.pool_key())
                }
            };
            Ok(Arc::new(Entry { service, deployment, number }))
        });
        let entries = entries.collect::<Result<_, String>>()?;
        Ok(Snapshot { front, entries, secrets: Arc::new(slice.secrets), tls })
    }

    fn local(&self) -> Local {
        Local {
            pool: Pool::new(PoolOptions::default()),
            tokens: RefCell::new(VerifiedCache::new(TOKENS_MAX)),
            meters: Rc::default(),
            ids: Ids::new(),
        }
    }

    fn committed(&self, snapshot: &Arc<Snapshot>, _generation: u64) {
        self.secrets.send_if_modified(|known| {
            let changed = *known != snapshot.secrets;
            *known = Arc::clone(&snapshot.secrets);
            changed
        });
        let fewer = self.with_deployments(|all| all.commit(&snapshot.entries));
        if fewer {
            self.store.retain(snapshot.entries.iter().map(|entry| &entry.service.self_link));
        }
        self.store_histories();
        // Before it is said that the generation is in force: which revisions are still tried.
        let states = snapshot.entries.iter().map(|entry| entry.deployment.view().state);
        self.context.report(background::report(states));
        self.shared.wake.notify_one();
    }

    fn notice(&self, notice: Notice) {
        if let Notice::ContainerExited(exit) = notice {
            self.exits.lock().unwrap_or_else(PoisonError::into_inner).exited(exit);
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        serve::serve(worker, accepted).await;
    }

    async fn background(worker: Rc<Worker<Self>>) {
        background::run(worker).await;
    }
}

impl CloudRun {
    fn host(&self) -> Arc<dyn Host> {
        Arc::clone(self.host.get_or_init(|| Arc::new(self.context.clone())))
    }

    /// Writes down what has changed of services' revisions.
    fn store_histories(&self) {
        // One at a time, and in the order in which they were taken: commits and the background both
        // come here.
        let _one = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        for (link, deployment) in self.with_deployments(|all| all.serving()) {
            if let Some(history) = deployment.unstored()
                && let Err(error) = self.store.store(&link, &history)
            {
                log::entry(Severity::Error, "the history of revisions could not be stored")
                    .field("service", link.as_str())
                    .field("error", Shown(error))
                    .emit();
            }
        }
    }

    fn with_deployments<T>(&self, act: impl FnOnce(&mut Deployments) -> T) -> T {
        act(&mut self.deployments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Deployments {
    /// True: services are gone, or may be since the last run.
    fn commit(&mut self, entries: &[Arc<Entry>]) -> bool {
        self.remembered.clear();
        let mut before = std::mem::take(&mut self.services);
        for entry in entries {
            let link = &entry.service.self_link;
            if before.remove(link).is_some()
                && let Err(error) = entry.deployment.deploy(&entry.service)
            {
                // Compiling has looked at the same template already.
                log::entry(Severity::Error, &error).field("service", link.as_str()).emit();
            }
            self.services.insert(link.clone(), (Arc::clone(&entry.deployment), entry.number));
        }
        let fewer = !before.is_empty() || !std::mem::replace(&mut self.committed, true);
        for (link, (deployment, _)) in before {
            deployment.remove();
            self.removed.push((link, deployment));
        }
        fewer
    }

    fn serving(&self) -> Vec<(SelfLink, Arc<Deployment>)> {
        self.services.iter().map(|(link, (d, _))| (link.clone(), Arc::clone(d))).collect()
    }

    fn all(&mut self) -> Vec<(SelfLink, Arc<Deployment>)> {
        let serving = self.services.iter().map(|(link, (deployment, _))| (link, deployment));
        let removed = self.removed.iter().map(|(link, deployment)| (link, deployment));
        serving.chain(removed).map(|(l, d)| (l.clone(), Arc::clone(d))).collect()
    }

    fn forget_drained(&mut self) {
        self.removed.retain(|(_, deployment)| !deployment.is_drained());
    }
}
