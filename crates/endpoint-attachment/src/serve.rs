//! One accepted connection, from the handshake to the service attachment.

use crate::program::{EndpointAttachment, Served};
use names::Reason;
use net::splice::reset;
use proxy_protocol::Header;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Stream, Worker};
use slice::ConnectionState;
use std::net::SocketAddrV4;
use tokio::net::TcpStream;

pub(crate) async fn serve(worker: &Worker<EndpointAttachment>, accepted: Accepted) {
    let Accepted { key, stream: Stream::Tcp(stream), peer, declared, .. } = accepted else {
        return; // every listener of this program is TCP
    };
    let (Some(client), Some(destination)) = (peer, declared) else { return };
    let snapshot = worker.snapshot();
    // None: the endpoint was deleted, and its listener is about to be.
    let Some(served) = snapshot.served(&key) else { return reset(&stream) };
    let call = Call { served, client, destination };

    let workload = worker.workload(*client.ip());
    let region = workload.as_deref().map(|workload| workload.region.as_str());
    let endpoint = &served.endpoint;
    let states = worker.program.states();
    let state = states.get(&endpoint.psc_connection_id);
    if let Some(reason) = psc::enter(endpoint, region, state) {
        return call.refuse(&stream, reason, state, None);
    }

    let header = Header::tcp(client, destination)
        .with_psc_connection_id(endpoint.psc_connection_id)
        .and_then(|header| match region {
            Some(region) if region != endpoint.region => header.with_region(region),
            _ => Ok(header),
        })
        .and_then(|header| header.encode());
    let failed = match (header, &endpoint.producer_network) {
        (Ok(header), Some(producer)) => {
            let way = worker.program.way(&worker.local, producer);
            match way.send(&header, &stream).await {
                Ok(()) => {
                    served.new_connections.increment(1);
                    return;
                }
                Err(error) => error.to_string(),
            }
        }
        (Err(error), _) => error.to_string(),
        (_, None) => return, // refused by psc::enter
    };
    call.refuse(&stream, Reason::DroppedInsidePscServiceProducer, None, Some(&failed));
}

/// One connection, as the log names it.
struct Call<'a> {
    served: &'a Served,
    client: SocketAddrV4,
    destination: SocketAddrV4,
}

impl Call<'_> {
    fn refuse(
        &self,
        stream: &TcpStream,
        reason: Reason,
        state: Option<&ConnectionState>,
        error: Option<&str>,
    ) {
        reset(stream);
        metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
        let endpoint = &self.served.endpoint;
        let detail = match reason {
            Reason::ForwardingRuleRegionMismatch | Reason::PscProducerEndpointNoGlobalAccess => {
                Some(reason.summary())
            }
            _ => state.map(|state| state.detail.as_str()),
        };
        log::entry(Severity::Warning, "connection refused at the PSC endpoint")
            .field("reason", reason)
            .field("src", Shown(self.client))
            .field("dst", Shown(self.destination))
            .field("endpoint", endpoint.self_link.as_str())
            .field("serviceAttachment", endpoint.target.as_str())
            .field("pscConnectionId", Shown(endpoint.psc_connection_id))
            .field("detail", detail)
            .field("error", error)
            .emit();
    }
}
