//! A backend service of one generation.

use super::choice::{Asking, Choice};
use super::dial::refuse;
use super::endpoint::{Endpoint, GroupLoad, Kept, Manner, Target, UnderWay};
use super::names::Name;
use arc_swap::ArcSwap;
use balancing::{
    Affinity, Availability, Capacity, Draw, Load, Member, Outcome, Table, may_eject, mix, sweep,
};
use http_proxy::PoolOptions;
use names::{Reason, SelfLink};
use runtime::log::{self, Severity};
use slice::load_balancer::{
    Backend, BackendService, CircuitBreakers, Endpoints, HealthCheck, InstanceEndpoints,
    LoadBalancing, LocalityLbPolicy, OutlierDetection, PassthroughService, Protocol,
};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A backend service at work.
pub struct Service {
    pub link: SelfLink,
    pub affinity: Affinity,
    pub check: Option<Arc<HealthCheck>>,
    pub outlier: Option<Arc<OutlierDetection>>,
    breakers: CircuitBreakers,
    /// At once, by the two circuit breakers that bound them.
    requests_max: Option<u32>,
    policy: LocalityLbPolicy,
    manner: Manner,
    groups: Vec<Group>,
    /// What requests choose from.
    live: ArcSwap<Live>,
    /// Held while a table is made: the last one put in force saw the last change.
    making: Mutex<()>,
    under_way: Arc<UnderWay>,
    kept: Arc<Kept>,
}

/// A network endpoint group, as this backend service uses it.
struct Group {
    capacity: Capacity,
    load: Arc<GroupLoad>,
    members: Vec<Source>,
}

/// Where endpoints come from.
enum Source {
    Endpoint(Arc<Endpoint>),
    /// One for each address that the name has just now.
    Name(Arc<Name>, u16),
}

/// A table, with those whom it places.
struct Live {
    table: Table,
    endpoints: Vec<Placed>,
    groups: Vec<(Capacity, Arc<GroupLoad>)>,
    now: Arc<Kept>,
}

struct Placed {
    endpoint: Arc<Endpoint>,
    /// None: it is in none any more, and drains.
    group: Option<usize>,
}

/// What backend services name, by name.
pub struct Around<'s> {
    groups: HashMap<&'s SelfLink, &'s Endpoints>,
    checks: HashMap<&'s SelfLink, Arc<HealthCheck>>,
    /// By region: every forwarding rule of a region has the same proxy-only subnet (2.1).
    sources: HashMap<&'s str, Ipv4Addr>,
}

impl<'s> Around<'s> {
    pub fn new(all: &'s LoadBalancing) -> Around<'s> {
        let groups = all.network_endpoint_groups.iter();
        let checks = all.health_checks.iter();
        let rules = all.forwarding_rules.iter();
        let rules = rules.map(|rule| (rule.region.as_str(), rule.proxy_address));
        let network = all.network_rules.iter();
        let sources = rules.chain(network.map(|rule| (rule.region.as_str(), rule.proxy_address)));
        Around {
            groups: groups.map(|group| (&group.self_link, &group.endpoints)).collect(),
            checks: checks.map(|one| (&one.self_link, Arc::new(one.clone()))).collect(),
            sources: sources.filter_map(|(region, address)| Some((region, address?))).collect(),
        }
    }
}

impl Service {
    /// None for one that has no endpoints of its own.
    pub fn compile(
        service: &BackendService,
        around: &Around<'_>,
        kept: &Arc<Kept>,
    ) -> Result<Option<Service>, String> {
        Service::build(service, around, kept, |group| group.sockets(&service.port_name))
    }

    /// The VMs of a passthrough load balancer, each at the port of its health check: nobody is
    /// chosen here, they are only probed. None without a health check.
    pub fn probed(
        service: &PassthroughService,
        around: &Around<'_>,
        kept: &Arc<Kept>,
    ) -> Result<Option<Service>, String> {
        let check = service.health_check.as_ref().and_then(|check| around.checks.get(check));
        let Some(port) = check.and_then(|check| check.port) else { return Ok(None) };
        let plain = BackendService {
            protocol: Protocol::Tcp,
            health_check: service.health_check.clone(),
            backends: service.backends.iter().map(|one| Backend::new(one.group.clone())).collect(),
            ..BackendService::new(service.self_link.clone(), service.self_link.clone())
        };
        let at = |address: &Ipv4Addr| SocketAddrV4::new(*address, port);
        Service::build(&plain, around, kept, |group| group.addresses.iter().map(at).collect())
    }

    fn build(
        service: &BackendService,
        around: &Around<'_>,
        kept: &Arc<Kept>,
        sockets: impl Fn(&InstanceEndpoints) -> Vec<SocketAddrV4>,
    ) -> Result<Option<Service>, String> {
        let link = &service.self_link;
        let group_of = |backend: &Backend| around.groups.get(&backend.group).copied();
        let own = service.backends.iter().filter_map(group_of);
        if own.filter(|group| !matches!(group, Endpoints::CloudRun(_))).count() == 0 {
            return Ok(None);
        }
        let policy = service.locality_lb_policy;
        let breakers = service.circuit_breakers.clone().unwrap_or_default();
        let manner = Manner {
            protocol: service.protocol,
            source: around.sources.get(link.region()).copied(),
            draining: Duration::from_secs(service.draining_timeout_sec.into()),
            requests_per_connection: breakers.max_requests_per_connection,
        };
        let endpoint = |target| Source::Endpoint(kept.endpoint(link, target, &manner));
        let groups = service.backends.iter().map(|backend| Group {
            capacity: Capacity::of(backend),
            load: kept.group(link, &backend.group),
            members: match group_of(backend) {
                Some(Endpoints::Addresses { endpoints, .. }) => {
                    endpoints.iter().map(|address| endpoint(Target::Address(*address))).collect()
                }
                Some(Endpoints::Instances(all)) => sockets(all)
                    .into_iter()
                    .map(|address| endpoint(Target::Address(address)))
                    .collect(),
                Some(Endpoints::Fqdn(endpoints)) => endpoints
                    .iter()
                    .map(|endpoint| Source::Name(kept.name(&endpoint.fqdn), endpoint.port))
                    .collect(),
                Some(Endpoints::ServiceAttachment(to)) => {
                    vec![endpoint(Target::Attachment(Box::new(to.clone())))]
                }
                Some(Endpoints::CloudRun(_)) | None => Vec::new(),
            },
        });
        let groups: Vec<_> = groups.collect();
        let check = service.health_check.as_ref().map(|check| {
            around.checks.get(check).cloned().ok_or_else(|| format!("{check} is unknown"))
        });
        let service = Service {
            affinity: Affinity::new(&service.session_affinity, policy)?,
            check: check.transpose()?,
            outlier: service.outlier_detection.clone().map(Arc::new),
            live: ArcSwap::from_pointee(Live {
                table: Table::new(policy, &[]),
                endpoints: Vec::new(),
                groups: Vec::new(),
                now: Arc::clone(kept),
            }),
            under_way: kept.under_way(link),
            kept: Arc::clone(kept),
            link: link.clone(),
            making: Mutex::default(),
            requests_max: requests_max(&breakers, service.protocol),
            breakers,
            policy,
            manner,
            groups,
        };
        service.refresh();
        Ok(Some(service))
    }

    /// Puts the present addresses and availabilities in force.
    pub fn refresh(&self) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut endpoints = Vec::new();
        let mut members = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            let first = endpoints.len();
            for source in &group.members {
                let placed = |endpoint| Placed { endpoint, group: Some(number) };
                match source {
                    Source::Endpoint(endpoint) => endpoints.push(placed(Arc::clone(endpoint))),
                    Source::Name(name, port) => {
                        let at = |address| Target::Named(name.fqdn.clone(), address);
                        endpoints.extend(name.addresses(*port).map(|address| {
                            placed(self.kept.endpoint(&self.link, at(address), &self.manner))
                        }));
                    }
                }
            }
            let member = |placed: &Placed| Member {
                identity: placed.endpoint.identity,
                availability: placed.endpoint.availability(self.check.is_some()),
            };
            members.push((group.capacity, endpoints[first..].iter().map(member).collect()));
        }
        if self.affinity.names_endpoints() {
            let first = endpoints.len();
            let leaving = self.kept.leaving(&self.link).into_iter();
            endpoints.extend(leaving.map(|endpoint| Placed { endpoint, group: None }));
            let member = |placed: &Placed| Member {
                identity: placed.endpoint.identity,
                availability: match placed.endpoint.availability(self.check.is_some()) {
                    Availability::Available => Availability::Leaving,
                    _ => Availability::Unavailable,
                },
            };
            members.push((Capacity::NONE, endpoints[first..].iter().map(member).collect()));
        }
        let table = Table::new(self.policy, &members);
        let groups = self.groups.iter().map(|group| (group.capacity, Arc::clone(&group.load)));
        let now = Arc::clone(&self.kept);
        self.live.store(Arc::new(Live { table, endpoints, groups: groups.collect(), now }));
    }

    pub fn pick(self: &Arc<Self>, asking: &mut Asking) -> Result<Choice, Reason> {
        let open = Reason::BackendCircuitBreakerOpen;
        let under_way = &self.under_way;
        let retry = match asking.is_retry() {
            true => Counted::within(under_way, Which::Retries, self.breakers.max_retries),
            false => Ok(None),
        };
        let request = Counted::within(under_way, Which::Requests, self.requests_max);
        let counted = [request.map_err(|Full| open)?, retry.map_err(|Full| open)?];
        let live = self.live.load();
        let draw = Draw {
            turn: under_way.turn.fetch_add(1, Ordering::Relaxed),
            roll: asking.roll(),
            hash: asking.bound.hash,
            endpoint: asking.bound.endpoint,
        };
        let tried = |place: u32| asking.has_tried(live.endpoints[place as usize].endpoint.number);
        let place = live.table.pick(draw, &**live, tried).ok_or(Reason::NoHealthyBackend)?;
        let Placed { endpoint, group } = &live.endpoints[place as usize];
        let group = group.and_then(|group| live.groups.get(group));
        let load = group.filter(|(capacity, _)| capacity.is_bounded()).map(|(_, load)| {
            load.rate.count(self.kept.now());
            load.requests.fetch_add(1, Ordering::Relaxed);
            Arc::clone(load)
        });
        asking.tries(endpoint.number);
        let endpoint = Arc::clone(endpoint);
        Ok(Choice::new(Arc::clone(self), endpoint, load, counted, asking.bound))
    }

    /// A place for one more request that waits for a connection.
    pub fn waits(&self) -> io::Result<Option<Counted>> {
        let limit = self.breakers.max_pending_requests;
        Counted::within(&self.under_way, Which::Pending, limit)
            .map_err(|Full| refuse(Reason::BackendCircuitBreakerOpen, String::new()))
    }

    /// An endpoint has done this; it may be ejected for it.
    pub fn judge(&self, endpoint: &Endpoint, outcome: Outcome) {
        let Some(policy) = &self.outlier else { return };
        let roll = mix(self.kept.now().as_nanos() as u64);
        if !endpoint.conduct.record(outcome, policy, roll) || endpoint.conduct.is_ejected() {
            return;
        }
        let live = self.live.load();
        let all = live.endpoints.iter().map(|placed| &placed.endpoint.conduct);
        if may_eject(policy, all) {
            endpoint.conduct.eject(self.kept.now());
            self.refresh();
            log::entry(Severity::Warning, "an endpoint was ejected: too many failures in a row")
                .field("backendService", self.link.as_str())
                .field("endpoint", endpoint.target.to_string().as_str())
                .emit();
            metrics::counter!(
                "postern_backend_ejections_total",
                "backend_service" => self.link.to_string()
            )
            .increment(1);
            self.kept.changed.notify_one();
        }
    }

    /// The look at all endpoints, once an interval. True: something changed.
    pub fn sweep(&self, policy: &OutlierDetection) -> bool {
        let live = self.live.load();
        let all: Vec<_> = live.endpoints.iter().map(|placed| &placed.endpoint.conduct).collect();
        let now = self.kept.now();
        let changed = sweep(policy, &all, now, mix(now.as_nanos() as u64));
        if changed {
            self.refresh();
        }
        changed
    }

    /// Its endpoints just now, without those that drain.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let live = self.live.load();
        let own = live.endpoints.iter().filter(|placed| placed.group.is_some());
        own.map(|placed| Arc::clone(&placed.endpoint)).collect()
    }

    /// The names that lead to its endpoints.
    pub fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        members.filter_map(|source| match source {
            Source::Name(name, _) => Some(name),
            Source::Endpoint(_) => None,
        })
    }
}

/// `maxConnections` counts connections that are in use, over all threads. In HTTP/1.1 these are as
/// many as requests; in HTTP/2 each carries as many as the pool lets it. (A kept connection that
/// waits in one thread does not bar another thread from making one, as in Envoy.)
fn requests_max(breakers: &CircuitBreakers, protocol: Protocol) -> Option<u32> {
    let each = match protocol {
        Protocol::Http | Protocol::Https | Protocol::Tcp => 1,
        Protocol::Http2 | Protocol::H2c => PoolOptions::default().h2_streams_max as u32,
    };
    let by_connections = breakers.max_connections.map(|most| most.saturating_mul(each));
    [breakers.max_requests, by_connections].into_iter().flatten().min()
}

impl Load for Live {
    fn requests(&self, place: u32) -> u32 {
        self.endpoints[place as usize].endpoint.requests.load(Ordering::Relaxed)
    }

    fn group(&self, group: usize) -> f64 {
        let (capacity, load) = &self.groups[group];
        match capacity.connections {
            // A request takes a connection for as long as it is under way.
            true => load.requests.load(Ordering::Relaxed).into(),
            false => load.rate.rate(self.now.now()),
        }
    }
}

/// What a circuit breaker counts.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Requests,
    Retries,
    Pending,
}

/// One that counts, until it is dropped.
pub struct Counted(Arc<UnderWay>, Which);

/// The circuit breaker is open.
pub struct Full;

impl Counted {
    /// One more, where there is a limit.
    fn within(
        under_way: &Arc<UnderWay>,
        which: Which,
        limit: Option<u32>,
    ) -> Result<Option<Counted>, Full> {
        let Some(limit) = limit else { return Ok(None) };
        let before = which.of(under_way).fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(under_way), which);
        if before >= limit { Err(Full) } else { Ok(Some(counted)) }
    }
}

impl Which {
    fn of(self, under_way: &UnderWay) -> &AtomicU32 {
        match self {
            Which::Requests => &under_way.requests,
            Which::Retries => &under_way.retries,
            Which::Pending => &under_way.pending,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.of(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
