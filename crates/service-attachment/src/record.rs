//! What is written down of a TCP connection: one log line and the metrics, on every way out.

use crate::program::{Connected, Published};
use names::{Reason, SelfLink};
use net::splice::{Carried, End, Side};
use psc::Connection;
use runtime::log::{self, Severity, Shown, Value};
use std::net::SocketAddrV4;
use std::time::Instant;

/// The metrics of one service attachment. Names are Google's metric types
/// (`compute.googleapis.com/private_service_connect/producer/…`) with `/` as `_`.
#[derive(Clone)]
pub(crate) struct Meters {
    connected_consumer_forwarding_rules: metrics::Gauge,
    used_nat_ip_addresses: metrics::Gauge,
    open_connections: metrics::Gauge,
    new_connections: metrics::Counter,
    closed_connections: metrics::Counter,
    received_bytes: metrics::Counter,
    sent_bytes: metrics::Counter,
    received_packets: metrics::Counter,
    sent_packets: metrics::Counter,
    dropped_received_packets: metrics::Counter,
    dropped_sent_packets: metrics::Counter,
}

impl Meters {
    pub(crate) fn new(attachment: &SelfLink) -> Self {
        macro_rules! meter {
            ($kind:ident, $name:literal) => {
                metrics::$kind!(
                    concat!("private_service_connect_producer_", $name),
                    "service_attachment" => attachment.to_string()
                )
            };
        }
        Meters {
            connected_consumer_forwarding_rules: meter!(
                gauge,
                "connected_consumer_forwarding_rules"
            ),
            used_nat_ip_addresses: meter!(gauge, "used_nat_ip_addresses"),
            open_connections: meter!(gauge, "open_connections"),
            new_connections: meter!(counter, "new_connections_count"),
            closed_connections: meter!(counter, "closed_connections_count"),
            received_bytes: meter!(counter, "received_bytes_count"),
            sent_bytes: meter!(counter, "sent_bytes_count"),
            received_packets: meter!(counter, "received_packets_count"),
            sent_packets: meter!(counter, "sent_packets_count"),
            dropped_received_packets: meter!(counter, "dropped_received_packets_count"),
            dropped_sent_packets: meter!(counter, "dropped_sent_packets_count"),
        }
    }

    /// Counts a datagram of a client. (The packets of TCP are the kernel's, and not counted.)
    pub(crate) fn datagram_to_target(&self, delivered: bool) {
        match delivered {
            true => self.received_packets.increment(1),
            false => self.dropped_received_packets.increment(1),
        }
    }

    /// Counts a datagram of the target.
    pub(crate) fn datagram_to_client(&self, delivered: bool) {
        match delivered {
            true => self.sent_packets.increment(1),
            false => self.dropped_sent_packets.increment(1),
        }
    }

    pub(crate) fn set_connections(&self, accepted: usize, nat_addresses: usize) {
        self.connected_consumer_forwarding_rules.set(accepted as f64);
        self.used_nat_ip_addresses.set(nat_addresses as f64);
    }
}

/// A TCP connection on its way through, or a UDP mapping: recorded once, by [`Record::refused`], by
/// [`Record::carried`], or, should its task end before, on drop.
pub(crate) struct Record<'a> {
    pub(crate) client: SocketAddrV4,
    /// The endpoint's address and port.
    pub(crate) destination: SocketAddrV4,
    pub(crate) psc_connection_id: u64,
    connected: Option<&'a Connected>,
    open: Option<Open<'a>>,
    udp: bool,
    written: bool,
}

/// From the moment that the target has the connection.
struct Open<'a> {
    attachment: &'a Published,
    nat: SocketAddrV4,
    target: SocketAddrV4,
    since: Instant,
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        client: SocketAddrV4,
        destination: SocketAddrV4,
        psc_connection_id: u64,
        connected: Option<&'a Connected>,
    ) -> Self {
        let (open, udp, written) = (None, false, false);
        Record { client, destination, psc_connection_id, connected, open, udp, written }
    }

    /// Datagrams, not a TCP connection.
    pub(crate) fn udp(mut self) -> Self {
        self.udp = true;
        self
    }

    pub(crate) fn refused(mut self, reason: Reason, error: Option<&str>) {
        self.written = true;
        metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
        let detail = self.connected.map(|connected| Shown(&connected.connection));
        self.entry(Severity::Warning, "connection refused at the service attachment")
            .field("reason", reason)
            .field("detail", detail)
            .field("error", error)
            .emit();
    }

    pub(crate) fn opened(
        &mut self,
        attachment: &'a Published,
        nat: SocketAddrV4,
        target: SocketAddrV4,
    ) {
        attachment.meters.new_connections.increment(1);
        attachment.meters.open_connections.increment(1);
        self.open = Some(Open { attachment, nat, target, since: Instant::now() });
    }

    pub(crate) fn carried(mut self, carried: Carried) {
        self.close(Some(carried));
    }

    fn close(&mut self, carried: Option<Carried>) {
        let Some(Open { attachment, nat, target, since }) = self.open.take() else { return };
        self.written = true;
        let meters = &attachment.meters;
        meters.open_connections.decrement(1);
        meters.closed_connections.increment(1);
        if let Some(carried) = carried {
            meters.received_bytes.increment(carried.to_target);
            meters.sent_bytes.increment(carried.to_client);
        }
        let (severity, end, reason) = match carried.map(|carried| carried.end) {
            Some(End::Closed) => (Severity::Info, "closed", None),
            Some(End::Broken(Side::Client, _)) => (Severity::Info, "reset by the client", None),
            Some(End::Broken(Side::Target, _)) => (Severity::Info, "reset by the target", None),
            Some(End::Idle) => (Severity::Info, "idle for too long", None),
            Some(End::Cut) => (Severity::Warning, "cut", Some(Reason::PscConnectionNotAccepted)),
            None => (Severity::Warning, "the program stopped", None),
        };
        let milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.entry(severity, "connection closed")
            .field("nat", nat)
            .field("target", target)
            .field("bytesReceived", carried.map(|carried| carried.to_target))
            .field("bytesSent", carried.map(|carried| carried.to_client))
            .field("durationMs", milliseconds)
            .field("status", end)
            .field("reason", reason)
            .emit();
    }

    fn entry(&self, severity: Severity, message: &str) -> log::Entry {
        let entry =
            log::entry(severity, message).field("src", self.client).field("dst", self.destination);
        let entry = entry.field("protocol", self.udp.then_some("UDP"));
        match self.connected {
            Some(connected) => {
                entry.rendered(|text| text.extend_from_slice(connected.log_fields.as_bytes()))
            }
            None => entry.field("pscConnectionId", Shown(self.psc_connection_id)),
        }
    }
}

/// The fields that are the same for every TCP connection of a PSC connection, as JSON.
pub(crate) fn log_fields(connection: &Connection) -> String {
    let mut text = Vec::new();
    for (key, value) in [
        (",\"endpoint\":", connection.endpoint.as_str()),
        (",\"serviceAttachment\":", connection.service_attachment.as_str()),
        (",\"pscConnectionId\":", &connection.psc_connection_id.to_string()),
    ] {
        text.extend_from_slice(key.as_bytes());
        value.write(&mut text);
    }
    String::from_utf8(text).unwrap_or_default()
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.written {
            self.close(None);
        }
    }
}
