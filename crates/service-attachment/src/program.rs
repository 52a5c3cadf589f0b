//! Generations: what the lists say, what was before, and what becomes of connections in progress.

use crate::cuts::{Cuts, Places};
use crate::history::History;
use crate::record::{self, Meters};
use crate::remote::{self, Remote};
use crate::serve::{handed_over_max, serve};
use names::{Reason, SelfLink};
use psc::Connection;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Context, Program, Worker};
use slice::hosts::RemoteConsumers;
use slice::psc::{IdleTimeouts, ServiceAttachmentSlice, Target};
use slice::{ConnectionState, Report, Role};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is tried to store what could not be stored.
const STORE_AGAIN: Duration = Duration::from_secs(10);

/// The program.
pub struct ServiceAttachment {
    context: Context,
    history: History,
    /// What was handed over and has not ended, whatever became of it.
    pub(crate) handed_over: Places,
    pub(crate) handed_over_max: usize,
    pub(crate) remote: Remote,
    kept: Mutex<Kept>,
}

/// What outlives generations.
#[derive(Default)]
struct Kept {
    /// The states of the generation in force, oldest first.
    states: Vec<ConnectionState>,
    /// They are not on disk yet: it was full.
    unstored: bool,
    /// The handles of connections that carry or may carry, by PSC connection id.
    cuts: HashMap<u64, Cuts>,
    meters: HashMap<SelfLink, Meters>,
}

/// One generation.
pub struct Snapshot {
    attachments: Vec<Arc<Published>>,
    /// By PSC connection id.
    connections: HashMap<u64, Arc<Connected>>,
    states: Vec<ConnectionState>,
    remote: RemoteConsumers,
}

/// A service attachment.
pub(crate) struct Published {
    pub(crate) self_link: SelfLink,
    pub(crate) target: Target,
    pub(crate) enable_proxy_protocol: bool,
    pub(crate) idle_timeouts: IdleTimeouts,
    pub(crate) meters: Meters,
}

/// A PSC connection, with what its TCP connections need. The attachment is none once it is deleted.
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    pub(crate) attachment: Option<Arc<Published>>,
    pub(crate) cuts: Cuts,
    /// See [`record::log_fields`].
    pub(crate) log_fields: String,
    /// Why clients of other regions than the endpoint's have no access, if they have none.
    pub(crate) far: Option<Reason>,
}

impl Connected {
    fn is_accepted(&self) -> bool {
        self.connection.status.carries_traffic()
    }
}

impl Snapshot {
    pub(crate) fn connected(&self, psc_connection_id: u64) -> Option<&Arc<Connected>> {
        self.connections.get(&psc_connection_id)
    }
}

impl ServiceAttachment {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the states on disk, if they are not there yet.
    fn store(&self, kept: &mut Kept) {
        if !kept.unstored {
            return;
        }
        match self.history.store(&kept.states) {
            Ok(()) => kept.unstored = false,
            Err(error) => log::entry(
                Severity::Error,
                "the history of PSC connections could not be stored; it is tried again",
            )
            .field("file", Shown(self.history.path().display()))
            .field("error", Shown(error))
            .emit(),
        }
    }

    /// Tries again what could not be stored, for the life of the process.
    async fn store_again(&self) {
        loop {
            tokio::time::sleep(STORE_AGAIN).await;
            self.store(&mut self.kept());
        }
    }

    /// The state of every connection, oldest first.
    pub fn states(&self) -> Vec<ConnectionState> {
        self.kept().states.clone()
    }
}

impl Program for ServiceAttachment {
    const ROLE: Role = Role::ServiceAttachment;
    type Slice = ServiceAttachmentSlice;
    type Snapshot = Snapshot;
    type Local = ();

    fn new(context: Context) -> Result<Self, String> {
        let network = context.network_id().ok_or("service-attachment needs --network")?;
        let history = History::new(context.state_dir(), network);
        let states = history.load().unwrap_or_else(|error| {
            log::entry(Severity::Error, "the history of PSC connections is lost: all are new")
                .field("file", Shown(history.path().display()))
                .field("error", Shown(error))
                .emit();
            Vec::new()
        });
        let kept = Mutex::new(Kept { states, ..Kept::default() });
        let remote = Remote::new(&context, network);
        let (handed_over, handed_over_max) = (Places::default(), handed_over_max());
        Ok(ServiceAttachment { context, history, handed_over, handed_over_max, remote, kept })
    }

    fn compile(&self, slice: ServiceAttachmentSlice) -> Result<Snapshot, String> {
        let kept = self.kept();
        let decided = psc::reconcile(&kept.states, &slice, now());
        let in_use = psc::deleted_in_use(&kept.states, &decided, &slice, |state, address| {
            let cuts = kept.cuts.get(&state.psc_connection_id);
            cuts.map_or(0, |cuts| cuts.tcp.of(address) + cuts.udp.of(address))
        });
        if !in_use.is_empty() {
            let all = in_use.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "a NAT subnetwork is in use: {all} would be in none, and have open connections; \
                 keep the subnetwork until they have ended"
            ));
        }
        let states = decided.iter().map(Connection::state).collect();
        let far: HashMap<u64, Reason> = slice
            .endpoints
            .iter()
            .filter_map(|one| Some((one.psc_connection_id, one.admits_other_regions().err()?)))
            .collect();
        let publish = |one: slice::psc::ServiceAttachment| {
            Arc::new(Published {
                meters: Meters::new(&one.self_link),
                self_link: one.self_link,
                target: one.target,
                enable_proxy_protocol: one.enable_proxy_protocol,
                idle_timeouts: one.idle_timeouts,
            })
        };
        let attachments: Vec<_> = slice.attachments.into_iter().map(publish).collect();
        let by_link: HashMap<_, _> = attachments.iter().map(|one| (&one.self_link, one)).collect();
        let connect = |connection: Connection| {
            let id = connection.psc_connection_id;
            let cuts = kept.cuts.get(&id).map(Cuts::next);
            let connected = Connected {
                log_fields: record::log_fields(&connection),
                attachment: by_link.get(&connection.service_attachment).map(|one| Arc::clone(one)),
                connection,
                cuts: cuts.unwrap_or_default(),
                far: far.get(&id).copied(),
            };
            (id, Arc::new(connected))
        };
        let connections = decided.into_iter().map(connect).collect();
        Ok(Snapshot { connections, states, attachments, remote: slice.remote })
    }

    fn local(&self) {}

    fn committed(&self, snapshot: &Arc<Snapshot>, _generation: u64) {
        let mut kept = self.kept();
        let accepted = snapshot.connections.values().filter(|one| one.is_accepted());
        let cuts = accepted.map(|one| (one.connection.psc_connection_id, one.cuts.clone()));
        for (id, before) in std::mem::replace(&mut kept.cuts, cuts.collect()) {
            match snapshot.connections.get(&id).filter(|one| one.is_accepted()) {
                None => before.cut(),
                Some(now) if now.far.is_some() => before.cut_far(),
                Some(_) => {}
            }
        }
        let before = std::mem::replace(&mut kept.states, snapshot.states.clone());
        report_changes(&before, &snapshot.states);
        kept.unstored |= before != snapshot.states;
        self.store(&mut kept);
        let meters = snapshot.attachments.iter().map(|one| {
            let of = |connected: &&Arc<Connected>| {
                connected.is_accepted() && connected.connection.service_attachment == one.self_link
            };
            let accepted: Vec<_> = snapshot.connections.values().filter(of).collect();
            let nat = accepted.iter().map(|one| one.connection.nat_addresses().len()).sum();
            one.meters.set_connections(accepted.len(), nat);
            (one.self_link.clone(), one.meters.clone())
        });
        let meters: HashMap<_, _> = meters.collect();
        for (link, gone) in std::mem::take(&mut kept.meters) {
            if !meters.contains_key(&link) {
                gone.set_connections(0, 0);
            }
        }
        kept.meters = meters;
        self.context.report(Report::Connections(snapshot.states.clone()));
        self.remote.committed(&snapshot.remote);
    }

    async fn background(worker: Rc<Worker<Self>>) {
        tokio::join!(remote::dial_out(Rc::clone(&worker)), worker.program.store_again());
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        serve(worker, accepted).await;
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// One log line for each connection whose state is another than before.
fn report_changes(before: &[ConnectionState], now: &[ConnectionState]) {
    let key = |state: &ConnectionState| (state.endpoint.clone(), state.psc_connection_id);
    let mut known: HashMap<_, _> = before.iter().map(|state| (key(state), state)).collect();
    for state in now {
        let past = known.remove(&key(state));
        if past.is_some_and(|past| past.status == state.status) {
            continue;
        }
        log::entry(Severity::Notice, "the state of a PSC connection changed")
            .field("endpoint", state.endpoint.as_str())
            .field("serviceAttachment", state.service_attachment.as_str())
            .field("pscConnectionId", Shown(state.psc_connection_id))
            .field("from", past.map(|past| Shown(past.status)))
            .field("pscConnectionStatus", Shown(state.status))
            .field("reason", state.reason)
            .field("detail", state.detail.as_str())
            .emit();
    }
    for state in known.into_values() {
        log::entry(Severity::Notice, "a PSC endpoint was deleted")
            .field("endpoint", state.endpoint.as_str())
            .field("serviceAttachment", state.service_attachment.as_str())
            .field("pscConnectionId", Shown(state.psc_connection_id))
            .emit();
    }
}
