//! A backend service of one generation.

use super::choice::{Asking, Choice};
use super::endpoint::{Endpoint, Kept, Target};
use arc_swap::ArcSwap;
use balancing::{Affinity, Capacity, Draw, Load, Member, Table};
use names::Reason;
use slice::load_balancer::{BackendService, Endpoints, LoadBalancing, LocalityLbPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A backend service at work.
pub struct Service {
    pub affinity: Affinity,
    groups: Vec<Group>,
    /// What requests choose from.
    live: ArcSwap<Live>,
    turn: AtomicU64,
}

/// A network endpoint group, as this backend service uses it.
struct Group {
    capacity: Capacity,
    endpoints: Vec<Arc<Endpoint>>,
}

/// A table, with those whom it places.
struct Live {
    table: Table,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Service {
    pub fn compile(
        service: &BackendService,
        all: &LoadBalancing,
        kept: &Kept,
    ) -> Result<Service, String> {
        let policy = service.locality_lb_policy;
        // Every forwarding rule of a region has the same one (2.1).
        let source = all
            .forwarding_rules
            .iter()
            .filter(|rule| rule.region == service.self_link.region())
            .find_map(|rule| rule.proxy_address);
        let mut groups = Vec::new();
        for backend in &service.backends {
            let group = all.network_endpoint_groups.iter().find(|g| g.self_link == backend.group);
            let targets = match group.map(|group| &group.endpoints) {
                Some(Endpoints::Addresses { endpoints, .. }) => {
                    endpoints.iter().map(|address| Target::Address(*address)).collect()
                }
                Some(Endpoints::ServiceAttachment(to)) => {
                    vec![Target::Attachment(Box::new(to.clone()))]
                }
                Some(Endpoints::CloudRun(_) | Endpoints::Fqdn(_)) | None => Vec::new(),
            };
            let endpoint =
                |target| kept.endpoint(&service.self_link, target, service.protocol, source);
            groups.push(Group {
                capacity: Capacity::of(backend),
                endpoints: targets.into_iter().map(endpoint).collect(),
            });
        }
        Ok(Service {
            affinity: Affinity::new(&service.session_affinity, policy)?,
            live: ArcSwap::from_pointee(Live::new(policy, &groups)),
            groups,
            turn: AtomicU64::new(0),
        })
    }

    pub fn pick(self: &Arc<Self>, asking: &mut Asking) -> Result<Choice, Reason> {
        let live = self.live.load();
        let draw = Draw {
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            roll: asking.roll(),
            hash: asking.bound.hash,
            endpoint: asking.bound.endpoint,
        };
        let tried = |place: u32| asking.has_tried(live.endpoints[place as usize].number);
        let place = live.table.pick(draw, &**live, tried).ok_or(Reason::NoHealthyBackend)?;
        let endpoint = Arc::clone(&live.endpoints[place as usize]);
        asking.tries(endpoint.number);
        Ok(Choice::new(Arc::clone(self), endpoint, asking.bound))
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.groups.iter().flat_map(|group| &group.endpoints)
    }
}

impl Live {
    fn new(policy: LocalityLbPolicy, groups: &[Group]) -> Live {
        let member = |endpoint: &Arc<Endpoint>| Member {
            identity: endpoint.identity,
            availability: endpoint.availability(),
        };
        let members: Vec<_> = groups
            .iter()
            .map(|group| (group.capacity, group.endpoints.iter().map(member).collect()))
            .collect();
        let endpoints = groups.iter().flat_map(|group| group.endpoints.iter().cloned()).collect();
        Live { table: Table::new(policy, &members), endpoints }
    }
}

impl Load for Live {
    fn requests(&self, place: u32) -> u32 {
        self.endpoints[place as usize].requests.load(Ordering::Relaxed)
    }

    fn group(&self, _group: usize) -> f64 {
        0.0
    }
}
