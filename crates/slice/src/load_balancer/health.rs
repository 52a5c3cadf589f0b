//! Health checks.

use super::Protocol;
use names::SelfLink;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A health check, defaults filled in: a regional one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What is asked.
    pub probe: Probe,
    /// The port; none: that of the endpoint (`USE_SERVING_PORT`).
    pub port: Option<u16>,
    /// A PROXY v1 header first (`proxyHeader: PROXY_V1`).
    pub proxy_header: bool,
    /// Between the beginnings of two probes, default 5 s.
    pub check_interval: Duration,
    /// Default 5 s, never above the interval.
    pub timeout: Duration,
    /// Successes in a row that make it healthy, default 2.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy, default 2.
    pub unhealthy_threshold: u32,
    /// Changes of state are logged.
    pub log: bool,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Probe {
    /// Status 200 within the timeout, and a text in the first 1024 bytes of the body.
    Http {
        /// HTTP, HTTPS, HTTP2; H2C is for gRPC-less h2c backends.
        protocol: Protocol,
        /// `Host`; empty: the endpoint's address.
        host: String,
        /// Default `/`.
        request_path: String,
        /// Must stand in the body; empty: anything.
        response: String,
    },
    /// gRPC's health protocol.
    Grpc {
        /// Empty: the whole server.
        service_name: String,
        /// Over TLS (`GRPC_WITH_TLS`).
        tls: bool,
    },
    /// A connection, and optionally an exchange of texts.
    Tcp {
        /// Over TLS (`SSL`).
        tls: bool,
        /// Sent; may be empty.
        request: String,
        /// The answer must begin with this; may be empty.
        response: String,
    },
}
