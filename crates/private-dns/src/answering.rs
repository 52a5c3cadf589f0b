//! One message, from its arrival to its answer: decided at once, or after name servers were asked.

use crate::Meter;
use crate::forward::{DEADLINE, Forwarder, Way};
use crate::program::PrivateDns;
use crate::query_log::{Exchange, QueryLog};
use managed_zone::{
    Circumstances, Forward, Outcome, Scratch, Snapshot, TCP_SIZE_MAX, Transport, Upstream, View,
};
use names::NetworkId;
use runtime::Worker;
use slice::Workload;
use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// What a worker thread keeps.
pub struct Local {
    /// Borrowed only between two awaits.
    pub(crate) answering: RefCell<Answering>,
    pub(crate) forwarder: Forwarder,
    chance: Cell<u64>,
}

/// All that answering one message needs beside the snapshot.
pub(crate) struct Answering {
    pub(crate) scratch: Scratch,
    pub(crate) meter: Meter,
    pub(crate) log: QueryLog,
    /// For the largest answer over TCP; made when it is first needed.
    pub(crate) large: Vec<u8>,
}

impl Local {
    pub(crate) fn new() -> Self {
        let answering = Answering {
            scratch: Scratch::new(),
            meter: Meter::new(),
            log: QueryLog::default(),
            large: Vec::new(),
        };
        Local {
            answering: RefCell::new(answering),
            forwarder: Forwarder::default(),
            // Routing policies need chance, not secrets: each thread begins somewhere else.
            chance: Cell::new(RandomState::new().build_hasher().finish() | 1),
        }
    }

    /// A number from 0 up to 1 (xorshift64*).
    fn chance(&self) -> f64 {
        let mut state = self.chance.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.chance.set(state);
        let drawn = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        drawn as f64 / (1_u64 << 53) as f64
    }
}

/// Where a message came from and how.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    /// The client, as the topology declares it.
    pub(crate) client: Ipv4Addr,
    pub(crate) transport: Transport,
}

/// What a routing policy may ask: known of the worker and of the client, looked up when asked for.
pub(crate) struct Now<'w, C: Fn() -> Ipv4Addr> {
    worker: &'w Worker<PrivateDns>,
    snapshot: &'w Snapshot,
    client: C,
    workload: OnceCell<Option<Arc<Workload>>>,
}

impl<'w, C: Fn() -> Ipv4Addr> Now<'w, C> {
    pub(crate) fn new(worker: &'w Worker<PrivateDns>, snapshot: &'w Snapshot, client: C) -> Self {
        Now { worker, snapshot, client, workload: OnceCell::new() }
    }
}

impl<C: Fn() -> Ipv4Addr> Circumstances for Now<'_, C> {
    fn region(&self) -> Option<&str> {
        let workload = self.workload.get_or_init(|| self.worker.workload((self.client)()));
        workload.as_ref().map(|workload| workload.region.as_str())
    }

    fn chance(&self) -> f64 {
        self.worker.local.chance()
    }

    fn is_healthy(&self, target: usize) -> bool {
        let target = self.snapshot.health_checked_targets().get(target);
        target.is_none_or(|target| self.worker.program.is_healthy(target))
    }
}

/// How the name servers of a network are reached.
fn way(worker: &Worker<PrivateDns>, network: &NetworkId) -> Way {
    let context = worker.context();
    match context.network_id() {
        Some(own) if own != network => {
            Way::Peer(context.channel(&slice::private_dns_channel(network)))
        }
        _ => Way::Here(context.network()),
    }
}

/// Asks name servers until the question is decided, and writes the answer; nothing where there is
/// nothing to say.
pub(crate) async fn forwarded(
    worker: &Worker<PrivateDns>,
    mut forward: Box<Forward>,
    message: &[u8],
    network: &NetworkId,
    asker: Asker,
) -> Option<Vec<u8>> {
    let until = Instant::now() + DEADLINE;
    loop {
        let way = way(worker, &forward.network);
        let told = worker.local.forwarder.ask(way, &forward, until).await;
        let upstream = told.message.as_deref().map_or(Upstream::Silent, Upstream::Message);
        let snapshot = worker.snapshot();
        let now = Now::new(worker, &snapshot, || asker.client);
        let answering = &mut *worker.local.answering.borrow_mut();
        let Answering { scratch, meter, log, large } = answering;
        large.resize(TCP_SIZE_MAX, 0);
        let outcome = snapshot.resume(*forward, upstream, &now, scratch, large);
        let answered = match outcome {
            Some(Outcome::Forward(next)) => {
                forward = next;
                continue;
            }
            Some(Outcome::Finished(answered)) => Some(answered),
            None => None,
        };
        meter.count(answered.as_ref());
        meter.publish();
        let answered = answered?;
        let answer = large.get(..answered.length)?;
        log.tick(std::time::Instant::now());
        log.record(|| {
            let Asker { client, transport } = asker;
            let (answered, told) = (&answered, Some(&told));
            let exchange = Exchange { network, message, answer, answered, transport, client, told };
            (exchange, worker.workload(client))
        });
        return Some(answer.to_vec());
    }
}

/// A question of another network's resolver: what this network's name servers say to it, as they
/// say it. Nothing: they are silent, or it is not they who answer it.
pub(crate) async fn for_peer(worker: &Worker<PrivateDns>, message: &[u8]) -> Option<Vec<u8>> {
    let snapshot = worker.snapshot();
    let view: View<'_> = snapshot.own_view();
    let outcome = {
        let answering = &mut *worker.local.answering.borrow_mut();
        let now = Now::new(worker, &snapshot, || Ipv4Addr::UNSPECIFIED);
        let Answering { scratch, large, .. } = answering;
        large.resize(TCP_SIZE_MAX, 0);
        view.answer(message, Transport::Tcp, &now, scratch, large)
    };
    let Some(Outcome::Forward(forward)) = outcome else { return None };
    // Not further: the network that asks has counted its peering zones already.
    if forward.network != *view.network() {
        return None;
    }
    let way = way(worker, &forward.network);
    let until = Instant::now() + DEADLINE;
    let told = worker.local.forwarder.ask(way, &forward, until).await;
    let mut response = told.message?.to_vec();
    response.get_mut(..2)?.copy_from_slice(message.get(..2)?);
    Some(response)
}

/// A worker's reference for a task that outlives the message's arrival.
pub(crate) type Shared = Rc<Worker<PrivateDns>>;
