//! What is remembered of a connection: one log entry and the metrics, on every way out.

use metrics::Counter;
use names::{Reason, SelfLink};
use net::splice::{Carried, End, Side};
use runtime::log::{self, Severity};
use slice::load_balancer::{NetworkForwardingRule, NetworkTarget};
use std::net::SocketAddrV4;
use tokio::time::Instant;

/// Google's metric types of proxy Network Load Balancers, with `/` and `.` as `_`.
pub(super) struct Meters {
    new_connections: Counter,
    closed_connections: Counter,
    ingress_bytes: Counter,
    egress_bytes: Counter,
}

impl Meters {
    pub(super) fn new(rule: &NetworkForwardingRule) -> Meters {
        let mut labels = vec![
            ("project_id", rule.self_link.project().to_owned()),
            ("region", rule.region.clone()),
            ("network_name", rule.network.name.to_string()),
            ("forwarding_rule_name", rule.self_link.name().to_owned()),
        ];
        match &rule.target {
            NetworkTarget::TcpProxy(proxy) => {
                labels.push(("target_proxy_name", proxy.self_link.name().to_owned()));
                labels.push(("backend_target_name", proxy.service.name().to_owned()));
            }
            NetworkTarget::PassthroughService(service) => {
                labels.push(("backend_target_name", service.name().to_owned()));
            }
            NetworkTarget::Instance(target) => {
                labels.push(("backend_target_name", target.self_link.name().to_owned()));
            }
        }
        macro_rules! named {
            ($name:literal) => {
                metrics::counter!(concat!("loadbalancing_googleapis_com_l4_proxy_", $name), &labels)
            };
        }
        Meters {
            new_connections: named!("tcp_new_connections_count"),
            closed_connections: named!("tcp_closed_connections_count"),
            ingress_bytes: named!("ingress_bytes_count"),
            egress_bytes: named!("egress_bytes_count"),
        }
    }
}

/// One connection.
pub(super) struct Record<'a> {
    pub(super) rule: &'a NetworkForwardingRule,
    pub(super) client: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    meters: &'a Meters,
    service: Option<&'a SelfLink>,
    open: Option<(String, Instant)>,
}

impl<'a> Record<'a> {
    pub(super) fn new(
        rule: &'a NetworkForwardingRule,
        meters: &'a Meters,
        client: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Self {
        Record { rule, client, to, meters, service: None, open: None }
    }

    pub(super) fn service(&mut self, link: &'a SelfLink) {
        self.service = Some(link);
    }

    pub(super) fn refused(self, reason: Reason, detail: &str) {
        metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
        self.entry(Severity::Warning, "connection refused by the load balancer")
            .field("reason", reason)
            .field("detail", detail)
            .emit();
    }

    /// The endpoint has the connection.
    pub(super) fn opened(&mut self, endpoint: String) {
        self.meters.new_connections.increment(1);
        self.open = Some((endpoint, Instant::now()));
    }

    pub(super) fn carried(mut self, carried: Carried) {
        self.close(Some(carried));
    }

    fn close(&mut self, carried: Option<Carried>) {
        let Some((endpoint, since)) = self.open.take() else { return };
        self.meters.closed_connections.increment(1);
        if let Some(carried) = carried {
            self.meters.ingress_bytes.increment(carried.to_target);
            self.meters.egress_bytes.increment(carried.to_client);
        }
        let end = match carried.map(|carried| carried.end) {
            Some(End::Closed) => "closed",
            Some(End::Broken(Side::Client, _)) => "reset by the client",
            Some(End::Broken(Side::Target, _)) => "reset by the backend",
            Some(End::Idle) => "idle",
            Some(End::Cut) => "cut: its endpoint was removed",
            None => "the program stopped",
        };
        let milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.entry(Severity::Info, "connection closed")
            .field("endpoint", endpoint.as_str())
            .field("bytesReceived", carried.map(|carried| carried.to_target))
            .field("bytesSent", carried.map(|carried| carried.to_client))
            .field("durationMs", milliseconds)
            .field("status", end)
            .emit();
    }

    fn entry(&self, severity: Severity, message: &str) -> log::Entry {
        log::entry(severity, message)
            .field("src", self.client)
            .field("dst", self.to)
            .field("forwardingRule", self.rule.self_link.as_str())
            .field("backendService", self.service.map(SelfLink::as_str))
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.close(None);
    }
}
