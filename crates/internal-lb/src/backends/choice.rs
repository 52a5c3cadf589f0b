//! An endpoint chosen for one try of one request.

use super::endpoint::{Endpoint, Target};
use super::service::Service;
use balancing::{Bound, mix};
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

    pub(super) fn has_tried(&self, endpoint: u64) -> bool {
        self.tried[..self.tries.min(TRIES_MAX)].contains(&endpoint)
    }

    pub(super) fn tries(&mut self, endpoint: u64) {
        self.tried[self.tries % TRIES_MAX] = endpoint;
        self.tries += 1;
    }
}

/// What an endpoint did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Status(u16),
    /// The client broke its request off, which says nothing of the endpoint.
    Withdrawn,
    /// The connection did not come about, or was reset before an answer, or there was none in time.
    Unanswered,
}

/// A chosen endpoint. The request counts as under way until this is dropped: keep it to the end of
/// the answer.
pub struct Choice {
    service: Arc<Service>,
    pub(super) endpoint: Arc<Endpoint>,
    bound: Bound,
}

impl Choice {
    pub(super) fn new(service: Arc<Service>, endpoint: Arc<Endpoint>, bound: Bound) -> Choice {
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Choice { service, endpoint, bound }
    }

    /// What its connections are pooled by.
    pub fn key(&self) -> u64 {
        self.endpoint.number
    }

    /// The HTTP version towards it.
    pub fn version(&self) -> Version {
        match self.endpoint.protocol {
            Protocol::Http | Protocol::Https => Version::H1,
            Protocol::Http2 | Protocol::H2c => Version::H2,
        }
    }

    /// Its address; none behind a service attachment.
    pub fn address(&self) -> Option<SocketAddrV4> {
        match &self.endpoint.target {
            Target::Address(address) => Some(*address),
            Target::Attachment(_) => None,
        }
    }

    /// The `Set-Cookie` that the answer gets for the sake of session affinity.
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        self.service.affinity.set_cookie(&self.bound, self.endpoint.identity)
    }

    /// What came of the try, for outlier detection. Call it once.
    pub fn report(&self, _outcome: Outcome) {}
}

impl Drop for Choice {
    fn drop(&mut self) {
        self.endpoint.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
