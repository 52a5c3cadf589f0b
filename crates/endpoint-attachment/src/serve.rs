//! One accepted connection, from the handshake to the service attachment.

use crate::program::EndpointAttachment;
use crate::refusal::Refusal;
use crate::way::Failed;
use net::splice::reset;
use proxy_protocol::Header;
use runtime::{Accepted, Stream, Worker};
use slice::psc::Endpoint;
use std::net::TcpStream;

pub(crate) async fn serve(worker: &Worker<EndpointAttachment>, accepted: Accepted) {
    let Accepted { key, stream: Stream::Unwatched(stream), peer, declared, .. } = accepted else {
        return; // no listener of this program is a channel
    };
    let (Some(client), Some(destination)) = (peer, declared) else { return };
    let snapshot = worker.snapshot();
    // None: the endpoint was deleted, and its listener is about to be.
    let Some((served, _)) = snapshot.served(&key) else { return reset(&stream) };

    let workload = worker.workload(*client.ip());
    let region = workload.as_deref().map(|workload| workload.region.as_str());
    let endpoint = &served.endpoint;
    let states = worker.program.states();
    let state = states.get(&endpoint.psc_connection_id);
    let refuse = |stream: &TcpStream, reason, state, error| {
        reset(stream);
        let refusal = Refusal { served, client, destination, reason, state, error };
        refusal.count();
        refusal.log();
    };
    if let Some(reason) = psc::enter(endpoint, region, state) {
        return refuse(&stream, reason, state, None);
    }

    let header = complete(Header::tcp(client, destination), endpoint, region);
    let sent = match (header, &endpoint.producer_network) {
        (Ok(header), Some(producer)) => {
            let way = worker.program.way(&worker.local, &snapshot, producer);
            let opened = || served.new_connections.increment(1);
            way.send(&header, stream, opened).await
        }
        (Err(error), _) => Err((stream, Failed::here(error))),
        (_, None) => return, // refused by psc::enter
    };
    if let Err((stream, failed)) = sent {
        refuse(&stream, failed.reason, None, Some(&failed.error));
    }
}

/// The header for the service attachment: with the PSC connection, and the client's region where it
/// is not the endpoint's.
pub(crate) fn complete(
    header: Header,
    endpoint: &Endpoint,
    region: Option<&str>,
) -> Result<Header, proxy_protocol::Error> {
    let header = header.with_psc_connection_id(endpoint.psc_connection_id)?;
    match region {
        Some(region) if region != endpoint.region => header.with_region(region),
        _ => Ok(header),
    }
}
