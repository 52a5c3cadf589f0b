//! Calls from consumers on other hosts (HTTP/2 CONNECT over mutual TLS, crate `hbone`): over
//! connections that they have opened, or that this program has, where it cannot be dialled.

use crate::call::call;
use crate::program::ServiceAttachment;
use crate::serve::no_room;
use hbone::{Credentials, Failure, Incoming, Kept, Server};
use names::NetworkId;
use net::Caller;
use runtime::log::{self, Severity, Shown};
use runtime::{Context, Drain, Worker};
use slice::Role;
use slice::hosts::{RemoteConsumer, RemoteConsumers};
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a program needs for calls from other hosts.
pub(crate) struct Remote {
    credentials: Arc<Credentials>,
    server: Arc<Server>,
    dials: watch::Sender<Vec<RemoteConsumer>>,
}

impl Remote {
    pub(crate) fn new(context: &Context, network: &NetworkId) -> Self {
        let role = Role::ServiceAttachment;
        let directory = Credentials::directory(context.state_dir(), network, role);
        let credentials = Arc::new(Credentials::new(directory, network.clone(), role));
        Remote { credentials, server: Arc::default(), dials: watch::Sender::default() }
    }

    /// Puts a generation into force.
    pub(crate) fn committed(&self, remote: &RemoteConsumers) {
        if *remote != RemoteConsumers::default() {
            // The look alone; nothing is to be done with what is good.
            let _ = self.credentials.current();
            self.tell_fault();
        }
        self.dials.send_if_modified(|dials| {
            let changed = *dials != remote.dials;
            dials.clone_from(&remote.dials);
            changed
        });
    }

    /// Says once why the files of the credentials are not in force.
    fn tell_fault(&self) {
        if let Some(fault) = self.credentials.new_fault() {
            log::entry(Severity::Error, "the credentials for other hosts are not good")
                .field("error", fault.as_str())
                .emit();
        }
    }
}

/// Serves a connection of a consumer to its end.
pub(crate) async fn serve(
    worker: Rc<Worker<ServiceAttachment>>,
    stream: TcpStream,
    peer: Option<SocketAddrV4>,
    drain: Drain,
) {
    let remote = &worker.program.remote;
    let accepted = remote.server.accept(stream, &remote.credentials).await;
    remote.tell_fault();
    match accepted {
        Ok(connection) => {
            let handler = Rc::clone(&worker);
            let handle = move |incoming| tunnel(Rc::clone(&handler), incoming);
            remote.server.answer(connection, &remote.credentials, drain.wait(), handle).await;
        }
        Err(failure) => refused("a connection of another host was refused", &failure, |entry| {
            entry.field("src", peer)
        }),
    }
}

/// Dials out to the consumers of the generation in force, for the life of the process.
pub(crate) async fn dial_out(worker: Rc<Worker<ServiceAttachment>>) {
    let remote = &worker.program.remote;
    let mut wanted = remote.dials.subscribe();
    let mut keepers: HashMap<RemoteConsumer, Keeper> = HashMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        keepers.retain(|consumer, _| now.contains(consumer));
        for consumer in now {
            let keeper = || Keeper(tokio::task::spawn_local(keep(&worker, consumer.clone())));
            keepers.entry(consumer.clone()).or_insert_with(keeper);
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Ends with the entry of the consumer.
struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn keep(
    worker: &Rc<Worker<ServiceAttachment>>,
    consumer: RemoteConsumer,
) -> impl Future<Output = ()> + use<> {
    let (server, credentials) =
        (Arc::clone(&worker.program.remote.server), Arc::clone(&worker.program.remote.credentials));
    let handler = Rc::clone(worker);
    let handle = move |incoming| tunnel(Rc::clone(&handler), incoming);
    let RemoteConsumer { network, address } = consumer;
    let named = network.clone();
    let tell = move |kept: Kept<'_>| match kept {
        Kept::Open => log::entry(Severity::Info, "dialled out to a consumer")
            .field("network", Shown(&named))
            .field("dst", Shown(address))
            .emit(),
        Kept::Failed(failure) => refused("a consumer cannot be dialled", failure, |entry| {
            entry.field("network", Shown(&named)).field("dst", Shown(address))
        }),
    };
    hbone::keep(server, credentials, network, address, handle, tell)
}

fn refused(message: &str, failure: &Failure, fields: impl FnOnce(log::Entry) -> log::Entry) {
    let reason = failure.reason();
    metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
    fields(log::entry(Severity::Warning, message).field("reason", reason))
        .field("error", Shown(failure))
        .emit();
}

/// One call.
async fn tunnel(worker: Rc<Worker<ServiceAttachment>>, incoming: Incoming) {
    let (_place, before) = worker.program.handed_over.take();
    if before >= worker.program.handed_over_max {
        return incoming.refuse(no_room(&format_args!("there are {before} of them already")));
    }
    let (head, peer) = (incoming.head().to_vec(), Arc::clone(&incoming.peer));
    call(&worker, &head, Some(peer.network()), incoming).await;
}
