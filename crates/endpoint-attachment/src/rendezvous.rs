//! Producers on other hosts that cannot be dialled, and so dial here.

use crate::program::EndpointAttachment;
use hbone::{Credentials, Failure};
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Stream, Worker};
use tokio::net::TcpStream;

/// The listener's key, as `EndpointAttachmentSlice::listens` gives it.
pub(crate) const KEY: &str = "rendezvous";

/// Adds a producer's connection to those over which its service attachments are reached.
pub(crate) async fn take_in(worker: &Worker<EndpointAttachment>, accepted: Accepted) {
    let Accepted { stream: Stream::Unwatched(stream), peer, .. } = accepted else { return };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Some(credentials) = worker.program.credentials() else { return };
    let refused = |failure: &Failure| {
        let reason = failure.reason();
        metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
        log::entry(Severity::Warning, "a connection of a producer was refused")
            .field("reason", reason)
            .field("src", peer)
            .field("error", Shown(failure))
            .emit();
    };
    let accepted = worker.program.server.accept(stream, &credentials).await;
    tell_fault(&credentials);
    let connection = match accepted {
        Ok(connection) => connection,
        Err(failure) => return refused(&failure),
    };
    let producer = connection.peer.network().clone();
    if !worker.snapshot().takes_in(&producer) {
        let why = format!("{} is no producer that dials out to here", connection.peer);
        return refused(&Failure::Identity(why));
    }
    let pool = worker.program.rendezvous(&producer, &credentials);
    match pool.take_in(connection).await {
        Ok(driven) => {
            log::entry(Severity::Info, "a producer has dialled in")
                .field("network", Shown(&producer))
                .field("src", peer)
                .emit();
            // Not waited for: what it carries is waited for at the clients' ends.
            tokio::spawn(driven);
        }
        Err(failure) => refused(&failure),
    }
}

/// Says once why the files of the credentials are not in force.
pub(crate) fn tell_fault(credentials: &Credentials) {
    if let Some(fault) = credentials.new_fault() {
        log::entry(Severity::Error, "the credentials for other hosts are not good")
            .field("error", fault.as_str())
            .emit();
    }
}
