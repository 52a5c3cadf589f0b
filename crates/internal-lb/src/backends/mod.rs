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
#[cfg(test)]
pub use dial::refuse;
pub use dial::{Lanes, refused};
pub use endpoint::Kept;

use ::names::{Reason, SelfLink};
use balancing::Affinity;
use http::HeaderMap;
use service::{Around, Service};
use slice::BackendState;
use slice::load_balancer::LoadBalancing;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The backend services of one generation, in the order of the slice.
pub struct Backends {
    /// None: serverless, or without any group.
    services: Vec<Option<Arc<Service>>>,
}

impl Backends {
    /// Compiles the backend services; endpoints that were there before keep their state.
    ///
    /// # Errors
    /// A sentence that names the backend service.
    pub fn compile(load_balancing: &LoadBalancing, kept: &Arc<Kept>) -> Result<Backends, String> {
        let around = Around::new(load_balancing);
        let compile = |service| {
            let compiled = Service::compile(service, &around, kept);
            compiled
                .map(|service| service.map(Arc::new))
                .map_err(|error| format!("{}: {error}", service.self_link))
        };
        let services = load_balancing.backend_services.iter().map(compile);
        let mut services = services.collect::<Result<Vec<_>, _>>()?;
        // Those of passthrough load balancers are only probed here; they come last.
        for service in &load_balancing.passthrough_services {
            let probed = Service::probed(service, &around, kept)
                .map_err(|error| format!("{}: {error}", service.self_link))?;
            services.push(probed.map(Arc::new));
        }
        Ok(Backends { services })
    }

    /// What a request says that the choice of its endpoint depends on. `roll` is the request's
    /// random number.
    pub fn ask(&self, service: usize, client: Ipv4Addr, headers: &HeaderMap, roll: u64) -> Asking {
        let affinity = self.at(service).map(|service| &service.affinity);
        let bound = affinity.map(|affinity: &Affinity| affinity.bound(client, headers, roll));
        Asking::new(service, bound.unwrap_or_default(), roll)
    }

    /// The endpoint for the next try of a request; not one that was tried before, if there is
    /// another.
    ///
    /// # Errors
    /// There is none, or a circuit breaker is open.
    pub fn pick(&self, asking: &mut Asking) -> Result<Choice, Reason> {
        self.at(asking.service).ok_or(Reason::BackendServiceEmpty)?.pick(asking)
    }

    /// What is known of the endpoints of services with a health check or outlier detection.
    pub fn states(&self) -> Vec<BackendState> {
        let watched = self.services().filter(|one| one.check.is_some() || one.outlier.is_some());
        watched
            .flat_map(|service| {
                let checked = service.check.is_some();
                let endpoints = service.endpoints().into_iter();
                endpoints.map(move |one| background::state(&service.link, &one, checked))
            })
            .collect()
    }

    /// Puts the present addresses and availabilities in force.
    fn refresh(&self, kept: &Kept) {
        self.services().for_each(|service| service.refresh());
        kept.changed.notify_one();
    }

    /// These have come into force: endpoints that they do not have are no more.
    pub fn committed(&self, kept: &Kept) {
        self.refresh(kept);
        if kept.retain(&self.numbers(), |_| true) {
            self.refresh(kept); // with those that drain from now on
        }
    }

    /// A name has other addresses: endpoints that were in force and have gone are no more. (Those
    /// of a generation that is just being prepared are not in force yet.)
    fn moved(&self, kept: &Kept) {
        let before = self.numbers();
        self.refresh(kept);
        if kept.retain(&self.numbers(), |endpoint| before.contains(&endpoint)) {
            self.refresh(kept);
        }
    }

    fn numbers(&self) -> HashSet<u64> {
        let endpoints = self.services().flat_map(|service| service.endpoints());
        endpoints.map(|endpoint| endpoint.number).collect()
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().flatten()
    }

    fn at(&self, place: usize) -> Option<&Arc<Service>> {
        self.services.get(place)?.as_ref()
    }

    fn service(&self, link: &SelfLink) -> Option<&Arc<Service>> {
        self.services().find(|service| service.link == *link)
    }
}
