//! The endpoints of every backend service: which one takes a request, and how it is reached.
//!
//! What `balancing` decides is made ready here: a [`Service`] belongs to a generation, its
//! [`Endpoint`]s outlive generations (requests under way, health, ejections), keyed by backend
//! service and endpoint. When an endpoint's availability changes, a new table is put in force;
//! requests read it without a lock.

mod background;
mod choice;
mod dial;
mod endpoint;
mod names;
mod probe;
mod service;
mod tracked;

pub use background::run;
pub use balancing::Outcome;
pub use choice::{Asking, Choice};
pub use dial::{Lanes, refused};
pub use endpoint::Kept;

use ::names::{Reason, SelfLink};
use balancing::Affinity;
use http::HeaderMap;
use service::Service;
use slice::load_balancer::LoadBalancing;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The backend services of one generation, in the order of the slice.
pub struct Backends {
    services: Vec<Arc<Service>>,
}

impl Backends {
    /// Compiles the backend services; endpoints that were there before keep their state.
    ///
    /// # Errors
    /// A sentence that names the backend service.
    pub fn compile(load_balancing: &LoadBalancing, kept: &Arc<Kept>) -> Result<Backends, String> {
        let compile = |service| {
            Service::compile(service, load_balancing, kept)
                .map(Arc::new)
                .map_err(|error| format!("{}: {error}", service.self_link))
        };
        let services = load_balancing.backend_services.iter().map(compile);
        Ok(Backends { services: services.collect::<Result<_, _>>()? })
    }

    /// What a request says that the choice of its endpoint depends on. `roll` is the request's
    /// random number.
    pub fn ask(&self, service: usize, client: Ipv4Addr, headers: &HeaderMap, roll: u64) -> Asking {
        let affinity = self.services.get(service).map(|service| &service.affinity);
        let bound = affinity.map(|affinity: &Affinity| affinity.bound(client, headers, roll));
        Asking::new(service, bound.unwrap_or_default(), roll)
    }

    /// The endpoint for the next try of a request; not one that was tried before, if there is
    /// another.
    ///
    /// # Errors
    /// There is none, or a circuit breaker is open.
    pub fn pick(&self, asking: &mut Asking) -> Result<Choice, Reason> {
        let service = self.services.get(asking.service).ok_or(Reason::BackendServiceEmpty)?;
        service.pick(asking)
    }

    /// These are in force: their present addresses and availabilities are, and endpoints that they
    /// do not have are no more.
    pub fn refresh(&self, kept: &Kept) {
        let mut used = HashSet::new();
        for service in &self.services {
            service.refresh();
            used.extend(service.endpoints().iter().map(|endpoint| endpoint.number));
        }
        kept.retain(&used);
        kept.changed.notify_one();
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    fn service(&self, link: &SelfLink) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.link == *link)
    }
}
