//! Network Load Balancers: bytes as they are.
//!
//! *Proxied* (a target TCP proxy): the connection is accepted here, an endpoint is chosen as for
//! requests (`backends`: health, capacity, locality, affinity, circuit breakers), dialled from the
//! proxy-only address, and the bytes are spliced.
//!
//! *Passed* (a passthrough load balancer, a target instance): in network namespaces the kernel does
//! it, and the VM sees the client's own source. Where there are none (loopback isolation, programs
//! started by hand) the same VMs are chosen here, and connections are carried in user space: the
//! VM then sees the load balancer as its peer.
//!
//! (unconfirmed) A proxy Network Load Balancer does not read a PROXY header that comes in (a service
//! attachment with `enableProxyProtocol`): it goes on to the backend with the other bytes, behind
//! the load balancer's own v1 header where `proxyHeader` asks for one.

mod datagrams;
mod passed;
mod record;

pub use datagrams::{Served, serve as serve_datagrams};

use crate::InternalLb;
use crate::backends::{self, Outcome};
use balancing::passthrough::{self, Forward};
use http::HeaderMap;
use names::{Reason, SelfLink};
use net::splice::{Cut, carry, reset};
use record::{Meters, Record};
use runtime::{Accepted, Stream, Worker};
use slice::load_balancer::{InternalLbSlice, LoadBalancing, NetworkForwardingRule, NetworkTarget};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an endpoint may take to accept: Envoy's default of `connect_timeout`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a passed connection may be idle: the product tracks one for that long by default.
const TRACKED: Duration = Duration::from_secs(600);
/// `timeoutSec` of a backend service, which is the idle timeout of a proxied connection: default.
const IDLE_SEC: u32 = 30;

/// The forwarding rules of Network Load Balancers of one generation.
#[derive(Default)]
pub struct Fronts {
    fronts: HashMap<Arc<str>, Arc<Front>>,
    /// For the pools of passed connections.
    balancing: LoadBalancing,
}

/// Such a rule at work.
pub struct Front {
    rule: NetworkForwardingRule,
    way: Way,
    meters: Meters,
}

enum Way {
    Proxied {
        /// Place of its backend service.
        service: usize,
        link: SelfLink,
        /// Endpoints get a PROXY v1 header first.
        proxy_header: bool,
        idle: Duration,
    },
    Passed,
}

impl Fronts {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A sentence that names the rule.
    pub fn compile(slice: &InternalLbSlice) -> Result<Fronts, String> {
        let all = &slice.load_balancing;
        let mut fronts = HashMap::new();
        for rule in &all.network_rules {
            let way = match &rule.target {
                NetworkTarget::TcpProxy(proxy) => {
                    let mut services = all.backend_services.iter();
                    let place = services.position(|service| service.self_link == proxy.service);
                    let service = place.ok_or_else(|| {
                        format!("{}: {} is unknown", rule.self_link, proxy.service)
                    })?;
                    let timeout = all.backend_services[service].timeout_sec.unwrap_or(IDLE_SEC);
                    Way::Proxied {
                        service,
                        link: proxy.service.clone(),
                        proxy_header: proxy.proxy_header,
                        idle: Duration::from_secs(timeout.into()),
                    }
                }
                NetworkTarget::PassthroughService(_) | NetworkTarget::Instance(_) => Way::Passed,
            };
            let front = Front { meters: Meters::new(rule), way, rule: rule.clone() };
            fronts.insert(rule.self_link.as_str().into(), Arc::new(front));
        }
        let network = LoadBalancing {
            network_rules: all.network_rules.clone(),
            passthrough_services: all.passthrough_services.clone(),
            network_endpoint_groups: all.network_endpoint_groups.clone(),
            ..LoadBalancing::default()
        };
        Ok(Fronts { fronts, balancing: network })
    }

    /// The rule of a listener, whose key is the rule's link, with the port behind it where the rule
    /// has several.
    pub fn front(&self, key: &str) -> Option<&Arc<Front>> {
        self.fronts.get(key).or_else(|| self.fronts.get(key.rsplit_once(':')?.0))
    }
}

/// Serves one accepted connection to its end.
pub async fn serve(worker: Rc<Worker<InternalLb>>, accepted: Accepted, front: Arc<Front>) {
    let Accepted { stream, peer, declared, drain, .. } = accepted;
    let Stream::Tcp(client) = stream else { return };
    let peer = peer.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let to = SocketAddrV4::new(front.rule.address, port(&front, declared));
    let record = Record::new(&front.rule, &front.meters, peer, to);
    let _ = client.set_nodelay(true);
    if let Err((reason, detail)) = admitted(&worker, &front.rule, peer) {
        record.refused(reason, &detail);
        return Box::pin(crate::serve::silence(client, drain)).await;
    }
    match &front.way {
        Way::Proxied { service, link, proxy_header, idle } => {
            let proxied = Proxied { service: *service, link, proxy_header: *proxy_header };
            proxied.carry(&worker, client, record, *idle).await;
        }
        Way::Passed => passed::carry_tcp(&worker, client, record, to).await,
    }
}

/// The port that a client asked for: that of the listener.
fn port(front: &Front, declared: Option<SocketAddrV4>) -> u16 {
    let listed = front.rule.ports.listed().unwrap_or_default();
    match (&listed[..], declared) {
        ([only], _) => *only,
        (_, Some(declared)) => declared.port(),
        _ => 0,
    }
}

/// Clients of other regions need global access, as with requests.
fn admitted(
    worker: &Worker<InternalLb>,
    rule: &NetworkForwardingRule,
    peer: SocketAddrV4,
) -> Result<(), (Reason, String)> {
    let Some(workload) = worker.workload(*peer.ip()) else { return Ok(()) };
    names::region_admits(&rule.region, rule.allow_global_access, &workload.region).map_err(
        |reason| {
            let of_rule = &rule.region;
            (reason, format!("{} is in {}, the rule in {of_rule}", workload.name, workload.region))
        },
    )
}

struct Proxied<'a> {
    service: usize,
    link: &'a SelfLink,
    proxy_header: bool,
}

impl Proxied<'_> {
    async fn carry(
        &self,
        worker: &Rc<Worker<InternalLb>>,
        client: TcpStream,
        mut record: Record<'_>,
        idle: Duration,
    ) {
        record.service(self.link);
        let roll = worker.local.ids.roll();
        let snapshot = worker.snapshot();
        let mut asking =
            snapshot.backends.ask(self.service, *record.client.ip(), &HeaderMap::new(), roll);
        let choice = snapshot.backends.pick(&mut asking);
        drop(snapshot); // not kept for the life of the connection
        let choice = match choice {
            Ok(choice) => choice,
            Err(reason) => {
                reset(&client);
                return record.refused(reason, reason.summary());
            }
        };
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, choice.connect(worker)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let target = match dialled {
            Ok(target) => target,
            Err(error) => {
                choice.report(Outcome::Unanswered);
                reset(&client);
                let known = backends::refused(&error).map(|refused| refused.reason);
                let reason = known.unwrap_or(Reason::BackendConnectionFailed);
                return record.refused(reason, &format!("{choice}: {error}"));
            }
        };
        choice.report(Outcome::Status(200));
        let first = match self.proxy_header {
            true => proxy_protocol::v1_line(record.client, record.to),
            false => Vec::new(),
        };
        record.opened(choice.to_string());
        let cut = Cut::default();
        let carried = {
            let carried = carry(client, target, first, idle, &cut);
            tokio::pin!(carried);
            let removed = choice.drained();
            tokio::pin!(removed);
            tokio::select! {
                carried = &mut carried => carried,
                () = &mut removed => {
                    cut.cut();
                    carried.await
                }
            }
        };
        record.carried(carried);
    }
}

/// What the kernel would do with packets to these rules, under the health that is known here.
fn forward_of(worker: &Worker<InternalLb>, rule: &NetworkForwardingRule) -> Option<Forward> {
    let snapshot = worker.snapshot();
    let states = snapshot.backends.states();
    let all = passthrough::forwards(&snapshot.network.balancing, &rule.network, Some(&states));
    // The rules of a network, in their order, without those of proxies.
    let passed = snapshot.network.balancing.network_rules.iter();
    let passed = passed.filter(|one| one.network == rule.network && one.is_passthrough());
    let place = passed.into_iter().position(|one| one.self_link == rule.self_link)?;
    all.into_iter().nth(place)
}
