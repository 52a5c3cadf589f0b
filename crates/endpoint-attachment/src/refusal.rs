//! What is written down of a connection or datagram that goes no further than the endpoint.

use crate::program::Served;
use names::Reason;
use runtime::log::{self, Severity, Shown};
use slice::ConnectionState;
use std::net::SocketAddrV4;

/// One refused client.
pub(crate) struct Refusal<'a> {
    pub(crate) served: &'a Served,
    pub(crate) client: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) reason: Reason,
    pub(crate) state: Option<&'a ConnectionState>,
    pub(crate) error: Option<&'a str>,
}

impl Refusal<'_> {
    pub(crate) fn count(&self) {
        metrics::counter!("postern_refusals_total", "reason" => self.reason.code()).increment(1);
    }

    pub(crate) fn log(&self) {
        let endpoint = &self.served.endpoint;
        let detail = match self.reason {
            Reason::ForwardingRuleRegionMismatch | Reason::PscProducerEndpointNoGlobalAccess => {
                Some(self.reason.summary())
            }
            _ => self.state.map(|state| state.detail.as_str()),
        };
        log::entry(Severity::Warning, "connection refused at the PSC endpoint")
            .field("reason", self.reason)
            .field("src", Shown(self.client))
            .field("dst", Shown(self.destination))
            .field("endpoint", endpoint.self_link.as_str())
            .field("serviceAttachment", endpoint.target.as_str())
            .field("pscConnectionId", Shown(endpoint.psc_connection_id))
            .field("detail", detail)
            .field("error", self.error)
            .emit();
    }
}
