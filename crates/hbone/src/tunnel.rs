//! One CONNECT stream, and why there is none.

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::StatusCode;
use names::Reason;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An open tunnel: bytes both ways, as on a TCP connection. Dropping it resets it.
#[derive(Debug)]
pub struct Tunnel {
    pub(crate) send: SendStream<Bytes>,
    pub(crate) recv: RecvStream,
    /// Received behind the PROXY header, not delivered yet.
    pub(crate) held: Bytes,
    pub(crate) _slot: Slot,
}

/// A place on a TLS connection, given back on drop.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slot {
    pub(crate) fn take(streams: &Arc<AtomicUsize>) -> Slot {
        streams.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(streams))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a tunnel did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The own certificate, key or trust anchors are not there, or not good.
    Credentials(String),
    /// Nobody answers there, or not in time, or the connection broke.
    Unreachable(String),
    /// The peer's certificate is not that of the expected program and network, or ours is not for
    /// the peer.
    Identity(String),
    /// The producer dials out, and has not.
    NoRendezvous,
    /// So many connections to this peer are open already, and all are full.
    Full,
    /// The peer said no.
    Refused(StatusCode, Option<Reason>),
}

impl Failure {
    /// The reason for logs and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Failure::Identity(_) => Reason::PeerIdentityMismatch,
            Failure::Refused(_, Some(reason)) => *reason,
            Failure::Refused(_, None) => Reason::DroppedInsidePscServiceProducer,
            _ => Reason::PeerUnreachable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Credentials(what) => write!(f, "no credentials: {what}"),
            Failure::Unreachable(what) => f.write_str(what),
            Failure::Identity(what) => write!(f, "not the expected peer: {what}"),
            Failure::NoRendezvous => f.write_str("the producer has not dialled"),
            Failure::Full => f.write_str("all connections to the peer are full"),
            Failure::Refused(status, _) => write!(f, "the peer answered {status}"),
        }
    }
}

impl std::error::Error for Failure {}
