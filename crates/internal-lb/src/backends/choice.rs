//! An endpoint chosen for one try of one request.

use super::endpoint::{Endpoint, GroupLoad};
use super::service::{Counted, Service};
use balancing::{Bound, Outcome, mix};
use http::HeaderValue;
use http_proxy::Version;
use slice::load_balancer::Protocol;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// More tries than this are not told apart.
const TRIES_MAX: usize = 8;

/// What a request says that the choice of its endpoint depends on, and what was tried already.
#[derive(Clone, Debug)]
pub struct Asking {
    pub(super) service: usize,
    pub(super) bound: Bound,
    roll: u64,
    tries: usize,
    tried: [u64; TRIES_MAX],
}

impl Asking {
    pub(super) fn new(service: usize, bound: Bound, roll: u64) -> Asking {
        Asking { service, bound, roll, tries: 0, tried: [0; TRIES_MAX] }
    }

    /// Another random number for every try.
    pub(super) fn roll(&self) -> u64 {
        mix(self.roll ^ self.tries as u64)
    }

    pub(super) fn is_retry(&self) -> bool {
        self.tries > 0
    }

    pub(super) fn has_tried(&self, endpoint: u64) -> bool {
        self.tried[..self.tries.min(TRIES_MAX)].contains(&endpoint)
    }

    pub(super) fn tries(&mut self, endpoint: u64) {
        self.tried[self.tries % TRIES_MAX] = endpoint;
        self.tries += 1;
    }
}

/// A chosen endpoint. The request counts as under way until this is dropped: keep it to the end of
/// the answer.
pub struct Choice {
    pub(super) service: Arc<Service>,
    pub(super) endpoint: Arc<Endpoint>,
    /// Of its group, where that has a capacity.
    load: Option<Arc<GroupLoad>>,
    _counted: [Option<Counted>; 2],
    bound: Bound,
}

impl Choice {
    pub(super) fn new(
        service: Arc<Service>,
        endpoint: Arc<Endpoint>,
        load: Option<Arc<GroupLoad>>,
        _counted: [Option<Counted>; 2],
        bound: Bound,
    ) -> Choice {
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Choice { service, endpoint, load, _counted, bound }
    }

    /// What its connections are pooled by.
    pub fn key(&self) -> u64 {
        self.endpoint.number
    }

    /// The HTTP version towards it.
    pub fn version(&self) -> Version {
        version(self.endpoint.manner.protocol)
    }

    /// Its address; none behind a service attachment.
    pub fn address(&self) -> Option<SocketAddrV4> {
        self.endpoint.target.address()
    }

    /// The `Set-Cookie` that the answer gets for the sake of session affinity.
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        self.service.affinity.set_cookie(&self.bound, self.endpoint.identity)
    }

    /// What came of the try, for outlier detection. Call it once.
    pub fn report(&self, outcome: Outcome) {
        self.service.judge(&self.endpoint, outcome);
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.endpoint.target.fmt(f)
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        self.endpoint.requests.fetch_sub(1, Ordering::Relaxed);
        if let Some(load) = &self.load {
            load.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn version(protocol: Protocol) -> Version {
    match protocol {
        // TCP is not pooled; nobody asks.
        Protocol::Http | Protocol::Https | Protocol::Tcp => Version::H1,
        Protocol::Http2 => Version::H2Tls,
        Protocol::H2c => Version::H2,
    }
}
