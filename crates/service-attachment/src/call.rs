//! One call: who calls whom, whether he may, and his bytes carried.

use crate::program::ServiceAttachment;
use crate::record::Record;
use names::{NetworkId, Reason};
use net::Caller;
use proxy_protocol::Header;
use psc::Admission;
use runtime::Worker;
use runtime::log::{self, Severity, Shown};
use slice::IpProtocol;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// Only endpoint attachments can call: this is a fault, not a refusal.
pub(crate) fn not_understood(what: &'static str, error: &dyn std::fmt::Display) {
    log::entry(Severity::Error, "an endpoint attachment sent what cannot be understood")
        .field("what", what)
        .field("error", Shown(error))
        .emit();
}

/// Serves one call to its end: admission, NAT, the dial, the bytes, the record of it all. `head` is
/// the PROXY v2 header of the endpoint attachment, and nothing behind it; empty where that of another
/// host was none.
///
/// `speaker` is the consumer network whose program speaks, where that program is on another host.
pub(crate) async fn call(
    worker: &Worker<ServiceAttachment>,
    head: &[u8],
    speaker: Option<&NetworkId>,
    client: impl Caller,
) {
    let client = Waiting(Some(client));
    let call = match Call::read(head) {
        Some((call, length)) if length == head.len() => call,
        _ => {
            let reason = Reason::ProxyHeaderMalformed;
            client.refuse(reason);
            metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
            let wanted = "no PROXY v2 header with addresses and connection id";
            return not_understood("header", &wanted);
        }
    };
    let snapshot = worker.snapshot();
    let connected = snapshot.connected(call.psc_connection_id).map(Arc::clone);
    drop(snapshot); // not kept for the life of the connection
    let connected = connected.as_deref();
    let mut record = Record::new(call.client, call.destination, call.psc_connection_id, connected);
    let spoken = connected.zip(speaker);
    if let Some(reason) = spoken.and_then(|(one, by)| psc::speak(&one.connection, by)) {
        client.refuse(reason);
        return record.refused(reason, speaker.map(|by| format!("{by} spoke for it")).as_deref());
    }
    let Some((connected, attachment)) =
        connected.and_then(|one| Some((one, one.attachment.as_deref()?)))
    else {
        client.refuse(Reason::PscConnectionNotAccepted);
        return record.refused(Reason::PscConnectionNotAccepted, None);
    };
    let port = call.destination.port();
    // The load is held until the end of this connection; the dial is a part of it.
    let (admission, _load) = connected.cuts.tcp.admit(|open| {
        let far = connected.far.filter(|_| call.far);
        psc::admit(&connected.connection, &attachment.target, far, IpProtocol::Tcp, port, open)
    });
    let (source, to) = match admission {
        Admission::Admitted { source, target } => (source, target),
        Admission::Refused(reason) => {
            client.refuse(reason);
            return record.refused(reason, None);
        }
    };
    let cut = connected.cuts.of(call.far);
    let network = worker.context().network();
    let opening = Duration::from_secs(attachment.idle_timeouts.tcp_transitory.into());
    let opening = speaker.map_or(opening, |_| opening.min(hbone::OPENING_MAX));
    let dialled = tokio::select! {
        biased;
        dialled = tokio::time::timeout(opening, network.call(Some(source), to)) => {
            dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = cut.wait() => {
            client.refuse(Reason::PscConnectionNotAccepted);
            return record.refused(Reason::PscConnectionNotAccepted, None);
        }
    };
    let first = match attachment.enable_proxy_protocol {
        true => call.header(connected.connection.proxy_connection_id),
        false => Ok(Vec::new()),
    };
    let (target, first) = match (dialled, first) {
        (Ok(target), Ok(first)) => (target, first),
        (Err(error), _) | (_, Err(error)) => {
            let reason = Reason::DroppedInsidePscServiceProducer;
            client.refuse(reason);
            return record.refused(reason, Some(&format!("{to}: {error}")));
        }
    };
    let Some(client) = client.into_inner() else { return };
    let nat = target.local_addr().map(|actual| network.declared(actual));
    record.opened(attachment, nat.unwrap_or(SocketAddrV4::new(source, 0)), to);
    let idle = Duration::from_secs(attachment.idle_timeouts.tcp_established.into());
    record.carried(client.carry(target, first, idle, cut).await);
}

/// A caller who is not carried yet. Should the task end before, he is reset.
struct Waiting<C: Caller>(Option<C>);

impl<C: Caller> Waiting<C> {
    fn refuse(mut self, reason: Reason) {
        if let Some(client) = self.0.take() {
            client.refuse(reason);
        }
    }

    fn into_inner(mut self) -> Option<C> {
        self.0.take()
    }
}

impl<C: Caller> Drop for Waiting<C> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.refuse(Reason::DroppedInsidePscServiceProducer);
        }
    }
}

/// What the endpoint attachment says of a connection, or of one datagram.
pub(crate) struct Call {
    pub(crate) client: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) psc_connection_id: u64,
    /// The client is in another region than the endpoint.
    pub(crate) far: bool,
}

impl Call {
    /// Reads the header at the front of `bytes`, and tells how long it is.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Call, usize)> {
        let (header, length) = Header::decode(bytes).ok()??;
        let call = Call {
            client: header.source_v4()?,
            destination: header.destination_v4()?,
            psc_connection_id: header.psc_connection_id()?,
            far: header.region().ok()?.is_some(),
        };
        Some((call, length))
    }

    /// The header for the target: that of the product and nothing else (private-connectivity 1.5).
    fn header(&self, psc_connection_id: u64) -> io::Result<Vec<u8>> {
        Header::tcp(self.client, self.destination)
            .with_psc_connection_id(psc_connection_id)
            .and_then(|header| header.encode())
            .map_err(io::Error::other)
    }
}
