//! The program: what it compiles, and what each worker thread keeps.

use crate::answering::Local;
use crate::{datagrams, streams};
use arc_swap::ArcSwap;
use managed_zone::{Answered, ResponseCode, Snapshot};
use metrics::Counter;
use names::{Reason, SelfLink};
use runtime::{Accepted, Context, Program, UdpListener, Worker};
use slice::dns::{HealthCheckedTarget, PrivateDnsSlice};
use slice::{Notice, Role};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The program `private-dns`.
pub struct PrivateDns {
    /// Connections over TCP that are open, of all workers.
    pub(crate) streams: AtomicUsize,
    /// Forwarding rules whose load balancers have no healthy backend.
    unhealthy: ArcSwap<HashSet<SelfLink>>,
}

impl PrivateDns {
    /// Is a load balancer healthy that a routing policy points to? One that nothing was said about
    /// is.
    pub(crate) fn is_healthy(&self, target: &HealthCheckedTarget) -> bool {
        !self.unhealthy.load().contains(&target.forwarding_rule)
    }
}

impl Program for PrivateDns {
    const ROLE: Role = Role::PrivateDns;
    type Slice = PrivateDnsSlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(_context: Context) -> Result<Self, String> {
        Ok(PrivateDns { streams: AtomicUsize::new(0), unhealthy: ArcSwap::default() })
    }

    fn compile(&self, slice: PrivateDnsSlice) -> Result<Snapshot, String> {
        Snapshot::compile(&slice)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn local(&self) -> Local {
        Local::new()
    }

    fn notice(&self, notice: Notice) {
        if let Notice::Unhealthy(rules) = notice {
            self.unhealthy.store(Arc::new(rules.into_iter().collect()));
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        streams::serve(worker, accepted).await;
    }

    async fn datagrams(worker: Rc<Worker<Self>>, socket: UdpListener) {
        datagrams::serve(worker, socket).await;
    }
}

/// Counts answers; the process's counters are touched once per batch.
pub(crate) struct Meter {
    answers: [(u64, Counter); ResponseCode::ALL.len()],
    refusals: Vec<(Reason, u64, Counter)>,
    /// Datagrams that got no answer, or whose answer the kernel did not take.
    dropped: (u64, Counter),
}

impl Meter {
    pub(crate) fn new() -> Self {
        // Cloud Monitoring's `dns.googleapis.com/query/response_count`.
        let answers = ResponseCode::ALL.map(|code| {
            let name = "dns_googleapis_com_query_response_count";
            (0, metrics::counter!(name, "response_code" => code.name()))
        });
        Meter {
            answers,
            refusals: Vec::new(),
            dropped: (0, metrics::counter!("postern_dns_dropped_total")),
        }
    }

    /// Counts one answer, or its absence.
    pub(crate) fn count(&mut self, answered: Option<&Answered<'_>>) {
        let Some(answered) = answered else {
            self.dropped.0 += 1;
            return;
        };
        self.answers[answered.response_code.index()].0 += 1;
        let Some(reason) = answered.reason else { return };
        // Eight reasons at most: a search is faster than a table.
        match self.refusals.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, _)) => *count += 1,
            None => {
                let name = "postern_refusals_total";
                let counter = metrics::counter!(name, "reason" => reason.code());
                self.refusals.push((reason, 1, counter));
            }
        }
    }

    /// Counts an answer that could not be sent.
    pub(crate) fn unsent(&mut self, datagrams: usize) {
        self.dropped.0 += datagrams as u64;
    }

    /// Brings what was counted to the process's counters.
    pub(crate) fn publish(&mut self) {
        let add = |count: &mut u64, counter: &Counter| {
            if *count > 0 {
                counter.increment(std::mem::take(count));
            }
        };
        self.answers.iter_mut().for_each(|(count, counter)| add(count, counter));
        self.refusals.iter_mut().for_each(|(_, count, counter)| add(count, counter));
        add(&mut self.dropped.0, &self.dropped.1);
    }
}
