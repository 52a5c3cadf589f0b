//! Questions that other name servers answer (private-connectivity 4.1 steps 1 and 3): who is asked,
//! when the next one, and until when.
//!
//! The best name server is asked first, and the next one beside it when the first is silent for
//! longer than it usually is; the first response counts, whatever it says. Clients that ask the
//! same at the same time wait for one exchange. Nothing is kept afterwards: Cloud DNS is not known
//! to hold answers of forwarding targets back (unconfirmed), and a record that changes at the name
//! server is seen at once.

mod exchange;
mod peer;
mod ranking;

pub(crate) use peer::Way;

use exchange::Question;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use managed_zone::{Forward, Name, RecordType};
use names::NetworkId;
use net::Network;
use ranking::Ranking;
use slice::dns::NameServer;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A client waits five seconds and asks again (glibc, musl, Go): by then it must have its SERVFAIL.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);
/// Different questions under way at once, per worker; another one fails.
const QUESTIONS_MAX: usize = 1000;
/// Clients that wait at once, per worker.
const WAITING_MAX: usize = 10_000;
/// What addresses Cloud DNS's questions come from inside of a VPC network: 35.199.192.0/19, for
/// which every VPC network has a route (Cloud DNS documentation, "Forwarding zones").
const SOURCE: Ipv4Addr = slice::DNS_FORWARDING_SOURCE;

/// One worker's questions.
#[derive(Clone, Default)]
pub(crate) struct Forwarder(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    ranking: Ranking,
    asking: HashMap<Key, Vec<oneshot::Sender<Told>>>,
    waiting: usize,
}

/// What makes two questions the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    network: NetworkId,
    servers: Arc<[NameServer]>,
    name: Name,
    record_type: RecordType,
}

/// What came of asking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The response as it came.
    pub(crate) message: Option<Rc<[u8]>>,
    /// Who gave it; none where another network's resolver asked.
    pub(crate) server: Option<Ipv4Addr>,
    /// How long it took.
    pub(crate) latency: Duration,
}

impl Forwarder {
    /// Asks until a name server answers or it is too late.
    pub(crate) async fn ask(&self, way: Way, forward: &Forward, until: Instant) -> Told {
        let key = Key {
            network: forward.network.clone(),
            servers: Arc::clone(&forward.servers),
            name: forward.name.clone(),
            record_type: forward.record_type,
        };
        let (sender, receiver) = oneshot::channel();
        {
            let state = &mut *self.0.borrow_mut();
            if state.waiting >= WAITING_MAX {
                return Told::default();
            }
            let under_way = state.asking.len();
            match state.asking.get_mut(&key) {
                Some(waiters) => waiters.push(sender),
                None if under_way >= QUESTIONS_MAX => return Told::default(),
                None => {
                    state.asking.insert(key.clone(), vec![sender]);
                    tokio::task::spawn_local(self.clone().run(way, key, until));
                }
            }
            state.waiting += 1;
        }
        let _waiting = Waiting(self);
        // `run` ends in time; one that began later for another client ends later.
        match timeout_at(until + Duration::from_millis(50), receiver).await {
            Ok(Ok(told)) => told,
            _ => Told::default(),
        }
    }

    async fn run(self, way: Way, key: Key, until: Instant) {
        let begin = Instant::now();
        let question = Question::new(&key.name, key.record_type);
        let mut told = match (question, way) {
            (None, _) => Told::default(),
            (Some(question), Way::Here(network)) => {
                self.ask_servers(&network, &key.servers, question, until).await
            }
            (Some(question), Way::Peer(channel)) => {
                let message = timeout_at(until, peer::ask(&channel, &question)).await;
                let message = message.ok().and_then(Result::ok).map(Rc::from);
                Told { message, ..Told::default() }
            }
        };
        told.latency = begin.elapsed();
        let waiters = self.0.borrow_mut().asking.remove(&key);
        for waiter in waiters.into_iter().flatten() {
            let _ = waiter.send(told.clone());
        }
    }

    /// Asks one after the other, later ones beside earlier ones.
    async fn ask_servers(
        &self,
        network: &Network,
        servers: &[NameServer],
        question: Question,
        until: Instant,
    ) -> Told {
        let reachable = servers.iter().filter(|server| server.is_in_network());
        let mut order: Vec<Ipv4Addr> = reachable.map(|server| server.address).collect();
        self.0.borrow().ranking.sort(&mut order, Instant::now().into_std());
        let mut rest = order.into_iter();
        let mut running = FuturesUnordered::new();
        let mut unanswered: Vec<Ipv4Addr> = Vec::new();
        let mut patience = Duration::ZERO;
        let mut next = true;
        let told = loop {
            if std::mem::take(&mut next)
                && let Some(server) = rest.next()
            {
                patience = self.0.borrow().ranking.patience(server);
                unanswered.push(server);
                let (network, question) = (network.clone(), question.clone());
                running.push(async move {
                    let begin = Instant::now();
                    let wait = until.saturating_duration_since(begin);
                    let source = Some(SOURCE).filter(|source| network.has_host(*source));
                    let asked = exchange::ask(network, source, server, question, wait).await;
                    (server, begin.elapsed(), asked)
                });
            }
            if running.is_empty() {
                break Told::default();
            }
            tokio::select! {
                Some((server, latency, asked)) = running.next() => match asked {
                    Ok(message) => {
                        unanswered.retain(|other| *other != server);
                        self.0.borrow_mut().ranking.answered(server, latency);
                        let message = Some(message.into());
                        break Told { message, server: Some(server), latency };
                    }
                    // Nobody listens there, or what it says is no answer.
                    Err(_) => next = true,
                },
                () = sleep(patience), if rest.len() > 0 => next = true,
                () = sleep_until(until) => break Told::default(),
            }
        };
        let ranking = &mut self.0.borrow_mut().ranking;
        let now = Instant::now().into_std();
        unanswered.into_iter().for_each(|server| ranking.silent(server, now));
        told
    }
}

/// Counts a waiting client, on every way out.
struct Waiting<'f>(&'f Forwarder);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().waiting -= 1;
    }
}
