//! Which VM of a passthrough load balancer gets a connection: the active pool by health and
//! failover policy, and the table from which a packet's hash chooses.
//!
//! Rules: "Traffic distribution for internal passthrough Network Load Balancers" (new connections
//! go to healthy VMs, as a last resort to all; with failover to the active pool). What the pages
//! leave open:
//!
//! * (unconfirmed) A VM of which no probe has decided yet counts as healthy while no VM at all is
//!   known to be: `up` serves at once, as behind other load balancers here.
//! * (unconfirmed) What a failover leaves behind may go on for as long as the VM is healthy, unless
//!   `disableConnectionDrainOnFailover` is set.

use crate::{Standing, mix, stable_hash};
use names::NetworkId;
use slice::load_balancer::{
    Endpoints, LoadBalancing, NetworkTarget, PacketAffinity, PassthroughService, Ports,
    RuleProtocol,
};
use slice::{BackendState, IpProtocol};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Places of the table; more of them spread the pool more evenly.
const SLOTS: usize = 128;

/// Who gets new connections, and why just these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// New connections go here.
    pub active: Vec<Ipv4Addr>,
    /// Existing connections may stay here.
    pub kept: Vec<Ipv4Addr>,
    /// Every VM of the groups, each once.
    pub all: Vec<Ipv4Addr>,
    /// Why these.
    pub choice: PoolChoice,
}

/// Why a pool is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolChoice {
    /// The healthy primaries (without failover: all healthy VMs).
    Primaries,
    /// The healthy backups: fewer primaries are healthy than the failover ratio asks for.
    Backups,
    /// None is healthy: all primaries, as a last resort.
    LastResort,
    /// None is healthy, and `dropTrafficIfUnhealthy` is set; or there is no VM.
    Nobody,
}

impl PoolChoice {
    /// A few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            PoolChoice::Primaries => "healthy primaries",
            PoolChoice::Backups => "healthy backups, after a failover",
            PoolChoice::LastResort => "all primaries as a last resort: none is healthy",
            PoolChoice::Nobody => "nobody",
        }
    }
}

/// The pool of a backend service under these states, for connections of a protocol. Without states
/// (nothing runs) every VM counts as healthy.
pub fn pool(
    service: &PassthroughService,
    all: &LoadBalancing,
    states: Option<&[BackendState]>,
    protocol: IpProtocol,
) -> Pool {
    let standing = |address: &Ipv4Addr| {
        if service.health_check.is_none() {
            return Standing::Healthy;
        }
        let Some(states) = states else { return Standing::Healthy };
        let text = address.to_string();
        let mine = |state: &&BackendState| {
            // VMs are probed at the health check's port.
            state.backend_service == service.self_link
                && state.endpoint.split(':').next() == Some(&text)
        };
        states
            .iter()
            .find(mine)
            .map_or(Standing::Unproven, |state| Standing::of(&state.health_state))
    };
    let (mut primaries, mut backups) = (Vec::new(), Vec::new());
    for backend in &service.backends {
        let group = all.network_endpoint_groups.iter().find(|one| one.self_link == backend.group);
        let Some(Endpoints::Instances(group)) = group.map(|group| &group.endpoints) else {
            continue;
        };
        for address in &group.addresses {
            let seen = primaries.iter().chain(&backups).any(|(known, _)| known == address);
            if !seen {
                let list = if backend.failover { &mut backups } else { &mut primaries };
                list.push((*address, standing(address)));
            }
        }
    }
    let known = primaries.iter().chain(&backups).any(|(_, one)| *one == Standing::Healthy);
    let well = |one: Standing| match one {
        Standing::Healthy => true,
        Standing::Unproven => !known,
        Standing::Unhealthy => false,
    };
    let healthy = |list: &[(Ipv4Addr, Standing)]| -> Vec<Ipv4Addr> {
        list.iter().filter(|(_, one)| well(*one)).map(|(address, _)| *address).collect()
    };
    let addresses =
        |list: &[(Ipv4Addr, Standing)]| list.iter().map(|(a, _)| *a).collect::<Vec<_>>();
    let (first, second) = (healthy(&primaries), healthy(&backups));
    let policy = &service.failover_policy;
    let enough = first.len() as f64 >= policy.failover_ratio * primaries.len() as f64;
    let last: Vec<Ipv4Addr> = match primaries.is_empty() {
        true => addresses(&backups),
        false => addresses(&primaries),
    };
    let (active, choice) = if !first.is_empty() && (enough || second.is_empty()) {
        (first.clone(), PoolChoice::Primaries)
    } else if !second.is_empty() {
        (second.clone(), PoolChoice::Backups)
    } else if last.is_empty() || policy.drop_traffic_if_unhealthy {
        (Vec::new(), PoolChoice::Nobody)
    } else {
        (last, PoolChoice::LastResort)
    };
    let all: Vec<Ipv4Addr> =
        primaries.iter().chain(&backups).map(|(address, _)| *address).collect();
    let drains = !policy.disable_connection_drain_on_failover;
    let stays = |address: &Ipv4Addr| {
        active.contains(address)
            || drains
                && (first.contains(address)
                    || second.contains(address)
                    || service.persists(protocol))
    };
    let kept = all.iter().copied().filter(stays).collect();
    Pool { active, kept, all, choice }
}

/// The VM of every place: each pool member takes those places for which it has the highest number
/// (rendezvous hashing), so that a change of the pool moves as few as possible.
pub fn slots(active: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    if active.is_empty() {
        return Vec::new();
    }
    let best = |slot: u64| {
        let weight = |address: &&Ipv4Addr| mix(mix(slot) ^ u64::from(u32::from(**address)));
        active.iter().max_by_key(weight).copied()
    };
    (0..SLOTS as u64).filter_map(best).collect()
}

/// The VM for a connection that a program in user space carries: by the same parts of it, with a
/// hash of our own where the kernel has its own.
pub fn choose(
    slots: &[Ipv4Addr],
    affinity: PacketAffinity,
    protocol: IpProtocol,
    from: SocketAddrV4,
    to: SocketAddrV4,
) -> Option<Ipv4Addr> {
    let mut bytes = from.ip().octets().to_vec();
    if affinity != PacketAffinity::ClientIpNoDestination {
        bytes.extend(to.ip().octets());
    }
    if !matches!(affinity, PacketAffinity::ClientIp | PacketAffinity::ClientIpNoDestination) {
        bytes.push(protocol as u8);
    }
    if matches!(affinity, PacketAffinity::None | PacketAffinity::ClientIpPortProto) {
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
    }
    let place = stable_hash(&bytes).checked_rem(slots.len() as u64)?;
    slots.get(place as usize).copied()
}

/// A forwarding rule whose packets get to VMs as they are: what carries them has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The rule's address, which its VMs have too.
    pub address: Ipv4Addr,
    /// What it takes.
    pub protocol: RuleProtocol,
    /// What it takes.
    pub ports: Ports,
    /// What chooses.
    pub affinity: PacketAffinity,
    /// See [`Pool::active`].
    pub active: Vec<Ipv4Addr>,
    /// See [`Pool::kept`], for TCP and for everything else.
    pub kept: [Vec<Ipv4Addr>; 2],
    /// See [`Pool::all`].
    pub all: Vec<Ipv4Addr>,
}

/// The passthrough rules of a network under these states.
pub fn forwards(
    all: &LoadBalancing,
    network: &NetworkId,
    states: Option<&[BackendState]>,
) -> Vec<Forward> {
    let own = all.network_rules.iter().filter(|rule| rule.network == *network);
    own.filter_map(|rule| {
        let (affinity, tcp, udp) = match &rule.target {
            NetworkTarget::TcpProxy(_) => return None,
            NetworkTarget::Instance(target) => {
                let one = vec![target.address];
                let choice = PoolChoice::Primaries;
                let pool = Pool { active: one.clone(), kept: one.clone(), all: one, choice };
                (PacketAffinity::None, pool.clone(), pool)
            }
            NetworkTarget::PassthroughService(link) => {
                let mut services = all.passthrough_services.iter();
                let service = services.find(|service| service.self_link == *link)?;
                let pool = |protocol| pool(service, all, states, protocol);
                (service.session_affinity, pool(IpProtocol::Tcp), pool(IpProtocol::Udp))
            }
        };
        Some(Forward {
            address: rule.address,
            protocol: rule.protocol,
            ports: rule.ports.clone(),
            affinity,
            active: tcp.active,
            kept: [tcp.kept, udp.kept],
            all: tcp.all,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::SelfLink;
    use slice::load_balancer::{
        ConnectionTracking, FailoverPolicy, InstanceEndpoints, NetworkEndpointGroup,
        PassthroughBackend, PassthroughProtocol, Persistence,
    };
    use std::collections::BTreeSet;

    fn link(name: &str) -> SelfLink {
        SelfLink::regional("p", "r", "backendServices", name)
    }

    fn vm(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, number)
    }

    /// Primaries 1 to 4, backups 11 and 12.
    fn world(policy: FailoverPolicy) -> (PassthroughService, LoadBalancing) {
        let group = |name: &str, members: &[u8]| NetworkEndpointGroup {
            self_link: link(name),
            endpoints: Endpoints::Instances(InstanceEndpoints {
                addresses: members.iter().map(|number| vm(*number)).collect(),
                named_ports: Vec::new(),
            }),
        };
        let backend = |name: &str, failover| PassthroughBackend { group: link(name), failover };
        let service = PassthroughService {
            self_link: link("service"),
            protocol: PassthroughProtocol::Tcp,
            backends: vec![backend("primary", false), backend("backup", true)],
            health_check: Some(link("check")),
            session_affinity: PacketAffinity::None,
            connection_tracking: ConnectionTracking::default(),
            failover_policy: policy,
        };
        let all = LoadBalancing {
            network_endpoint_groups: vec![
                group("primary", &[1, 2, 3, 4]),
                group("backup", &[11, 12]),
            ],
            ..LoadBalancing::default()
        };
        (service, all)
    }

    fn states(healthy: &[u8], ill: &[u8]) -> Vec<BackendState> {
        let state = |number: &u8, text: &str| BackendState {
            backend_service: link("service"),
            endpoint: vm(*number).to_string(),
            health_state: text.to_owned(),
            ejected: false,
        };
        let healthy = healthy.iter().map(|number| state(number, "HEALTHY"));
        healthy.chain(ill.iter().map(|number| state(number, "UNHEALTHY"))).collect()
    }

    #[test]
    fn the_active_pool_follows_health_and_failover_policy() {
        let ratio = |failover_ratio| FailoverPolicy { failover_ratio, ..Default::default() };
        let drop = FailoverPolicy { drop_traffic_if_unhealthy: true, ..Default::default() };
        let every = [1, 2, 3, 4, 11, 12];
        for (policy, well, ill, active, choice) in [
            (ratio(0.0), &every[..], &[][..], &[1, 2, 3, 4][..], PoolChoice::Primaries),
            // 0.0: one healthy primary is enough.
            (ratio(0.0), &[2, 11, 12], &[1, 3, 4], &[2], PoolChoice::Primaries),
            (ratio(0.0), &[11], &[1, 2, 3, 4, 12], &[11], PoolChoice::Backups),
            // Exactly the ratio is enough.
            (ratio(0.5), &[1, 2, 11], &[3, 4, 12], &[1, 2], PoolChoice::Primaries),
            (ratio(0.5), &[1, 11, 12], &[2, 3, 4], &[11, 12], PoolChoice::Backups),
            (ratio(1.0), &[1, 2, 3, 12], &[4, 11], &[12], PoolChoice::Backups),
            // No backup to fail over to.
            (ratio(1.0), &[1, 2, 3], &[4, 11, 12], &[1, 2, 3], PoolChoice::Primaries),
            (ratio(0.0), &[], &every, &[1, 2, 3, 4], PoolChoice::LastResort),
            (drop, &[], &every, &[], PoolChoice::Nobody),
            // Nothing is known yet.
            (ratio(0.0), &[], &[], &[1, 2, 3, 4], PoolChoice::Primaries),
            // As soon as one is known to be well, the unproven wait.
            (ratio(0.0), &[3], &[], &[3], PoolChoice::Primaries),
        ] {
            let (service, all) = world(policy);
            let said = states(well, ill);
            let pool = pool(&service, &all, Some(&said), IpProtocol::Tcp);
            let expected: Vec<_> = active.iter().map(|number| vm(*number)).collect();
            assert_eq!((pool.active, pool.choice), (expected, choice), "{well:?} {ill:?}");
            assert_eq!(pool.all.len(), 6);
        }
        let (service, all) = world(ratio(0.0));
        assert_eq!(pool(&service, &all, None, IpProtocol::Tcp).active.len(), 4);
    }

    #[test]
    fn existing_connections_stay_as_the_policies_say() {
        let said = states(&[1, 11], &[2, 3, 4, 12]);
        let kept = |change: fn(&mut PassthroughService), protocol| {
            let (mut service, all) = world(FailoverPolicy::default());
            change(&mut service);
            let pool = pool(&service, &all, Some(&said), protocol);
            pool.kept.iter().map(|address| address.octets()[3]).collect::<Vec<_>>()
        };
        let every = vec![1, 2, 3, 4, 11, 12];
        // DEFAULT_FOR_PROTOCOL: TCP stays with ill VMs, UDP does not.
        assert_eq!(kept(|_| {}, IpProtocol::Tcp), every);
        assert_eq!(kept(|_| {}, IpProtocol::Udp), [1, 11]);
        let never: fn(&mut PassthroughService) =
            |s| s.connection_tracking.persistence = Persistence::NeverPersist;
        assert_eq!(kept(never, IpProtocol::Tcp), [1, 11]);
        let always: fn(&mut PassthroughService) =
            |s| s.connection_tracking.persistence = Persistence::AlwaysPersist;
        assert_eq!(kept(always, IpProtocol::Udp), every);
        let session: fn(&mut PassthroughService) = |s| {
            s.connection_tracking.per_session = true;
            s.session_affinity = PacketAffinity::ClientIp;
        };
        assert_eq!(kept(session, IpProtocol::Tcp), [1, 11]);
        let cut: fn(&mut PassthroughService) =
            |s| s.failover_policy.disable_connection_drain_on_failover = true;
        assert_eq!(kept(cut, IpProtocol::Tcp), [1]);
    }

    #[test]
    fn a_vm_that_leaves_moves_only_its_own_share() {
        let before = slots(&[vm(1), vm(2), vm(3)]);
        let after = slots(&[vm(1), vm(3)]);
        assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
        for (one, other) in before.iter().zip(&after) {
            assert!(*one == vm(2) || one == other);
        }
        assert!(slots(&[]).is_empty());
    }

    #[test]
    fn each_affinity_hashes_its_own_parts() {
        let table = slots(&[vm(1), vm(2), vm(3), vm(4)]);
        let socket = |text: String| text.parse::<SocketAddrV4>().expect("a socket address");
        let spread = |affinity, ports: bool, targets: bool| {
            let chosen = (1..200u32).map(|n| {
                let from = socket(format!("10.9.0.1:{}", if ports { 1000 + n } else { 1000 }));
                let to = socket(format!("10.0.{}.5:80", if targets { n } else { 0 }));
                choose(&table, affinity, IpProtocol::Tcp, from, to).expect("a VM")
            });
            chosen.collect::<BTreeSet<_>>().len()
        };
        for (affinity, by_port, by_target) in [
            (PacketAffinity::None, 4, 4),
            (PacketAffinity::ClientIpPortProto, 4, 4),
            (PacketAffinity::ClientIpProto, 1, 4),
            (PacketAffinity::ClientIp, 1, 4),
            (PacketAffinity::ClientIpNoDestination, 1, 1),
        ] {
            assert_eq!(spread(affinity, true, false), by_port, "{affinity:?}");
            assert_eq!(spread(affinity, false, true), by_target, "{affinity:?}");
        }
        let any = socket("10.9.0.1:1".to_owned());
        assert_eq!(choose(&[], PacketAffinity::None, IpProtocol::Udp, any, any), None);
    }
}
