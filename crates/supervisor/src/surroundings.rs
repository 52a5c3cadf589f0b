//! Where programs and workloads live: kernel namespaces, or (loopback isolation) addresses of
//! 127.0.0.0/8. The one place that knows which.

use crate::child::{Kept, ProgramId};
use crate::forward::Passed;
use crate::gateway::{Gateway, Gateways, View};
use crate::loopback::Loopback;
use crate::namespaces::{INTERNET_ROUTER, Interface, Namespaces};
use crate::workloads::Workloads;
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use net::Network;
use runtime::{listener, wire};
use slice::run::{Container, Run, Service};
use slice::{Bind, Listen, Placement, Role, Topology, Workload};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use vpc::{Fabric, Member, Plan};

/// The mode, with its state.
#[derive(Debug)]
pub enum Surroundings {
    /// `--isolation netns`.
    Namespaces {
        /// The kernel's side.
        namespaces: Namespaces,
        /// The API proxy's runtime has a leaf of its own in each tenant network.
        runtimes: BTreeMap<NetworkId, OwnedFd>,
    },
    /// `--isolation loopback`.
    Loopback {
        /// The table of addresses.
        loopback: Loopback,
        /// The sessions' way in.
        gateways: Gateways,
    },
}

/// Where declared addresses are really bound, as a program is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// Sockets.
    pub sockets: Vec<Placement>,
    /// Whole addresses.
    pub hosts: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Does the program look addresses up at all?
    pub placed: bool,
}

/// A workload's place.
#[derive(Debug)]
pub struct Leaf {
    /// Its network namespace.
    pub namespace: Option<OwnedFd>,
    /// Its address on the host, where it has one.
    pub actual: Option<Ipv4Addr>,
}

/// A network and its active peers, whose addresses do not overlap with its own.
pub fn within_reach(network: Option<&NetworkId>, topology: &Topology) -> Vec<NetworkId> {
    let own = network.cloned().unwrap_or_else(NetworkId::internet);
    let declared = topology.networks.iter().find(|known| known.id == own);
    let peerings = declared.into_iter().flat_map(|known| &known.peerings);
    let peers = peerings.filter(|peering| peering.active).map(|peering| peering.peer.clone());
    std::iter::once(own).chain(peers).collect()
}

impl Surroundings {
    /// What the command line calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Surroundings::Namespaces { .. } => "netns",
            Surroundings::Loopback { .. } => "loopback",
        }
    }

    /// Can everything in a topology run in this mode?
    ///
    /// # Errors
    /// What cannot, with what to do instead.
    pub fn can_run(&self, topology: &Topology) -> Result<(), String> {
        without_runner(topology)?;
        let Surroundings::Namespaces { .. } = self else { return without_mounts(topology) };
        if crate::nft::program().is_none() {
            without_filter(topology)?;
        }
        let outside = topology.services.iter().find_map(|service| match &service.revision.ingress().0.run {
            Run::Url(url) => Some(format!(
                "{}: its image runs at {url} on the host, which no network namespace reaches; give the image a command, or use --isolation loopback",
                service.self_link
            )),
            Run::Command { .. } | Run::Container { .. } | Run::Mock { .. } => None,
        });
        outside.map_or(Ok(()), Err)
    }

    /// Makes room for a topology: what is new is added, nothing is taken away.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn grow(
        &mut self,
        topology: &Topology,
        plans: &BTreeMap<NetworkId, Plan>,
    ) -> Result<(), String> {
        match self {
            Surroundings::Namespaces { namespaces, .. } => {
                let grown = namespaces.in_force().map(|(network, old)| {
                    let mut plan = plans.get(network).cloned().unwrap_or_default();
                    for route in &old.routes {
                        if plan.routes.iter().all(|new| new.to != route.to) {
                            plan.routes.insert(route.clone());
                        }
                    }
                    plan.peers.extend(old.peers.iter().cloned());
                    plan.filter = match (&old.filter, &plan.filter) {
                        (Some(old), Some(new)) => Some(old.grown(new)),
                        (old, new) => old.clone().or(new.clone()),
                    };
                    plan.proxy_address = plan.proxy_address.or(old.proxy_address);
                    (network.clone(), plan)
                });
                let mut all: BTreeMap<NetworkId, Plan> = grown.collect();
                for (network, plan) in plans {
                    all.entry(network.clone()).or_insert_with(|| plan.clone());
                }
                namespaces.apply(&all).map_err(|error| error.to_string())
            }
            Surroundings::Loopback { loopback, .. } => loopback.place(topology),
        }
    }

    /// Takes away what a topology no longer has.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shrink(
        &mut self,
        topology: &Topology,
        plans: &BTreeMap<NetworkId, Plan>,
        workloads: &Workloads,
    ) -> Result<(), String> {
        match self {
            Surroundings::Namespaces { runtimes, .. } => runtimes
                .retain(|network, _| topology.organizations.iter().any(|o| o.network == *network)),
            Surroundings::Loopback { loopback, .. } => {
                loopback
                    .retain(topology, |network, address| workloads.is_running(network, address));
            }
        }
        self.follow(plans)
    }

    /// Brings routes to these plans.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn follow(&mut self, plans: &BTreeMap<NetworkId, Plan>) -> Result<(), String> {
        match self {
            Surroundings::Namespaces { namespaces, .. } => {
                namespaces.apply(plans).map_err(|error| error.to_string())
            }
            Surroundings::Loopback { .. } => Ok(()),
        }
    }

    /// Puts the passthrough rules of a network into force, where the kernel carries their packets.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forward(&mut self, network: &NetworkId, all: Vec<Passed>) -> Result<(), String> {
        match self {
            Surroundings::Namespaces { namespaces, .. } => {
                namespaces.forward(network, all).map_err(|error| error.to_string())
            }
            // `internal-lb` does.
            Surroundings::Loopback { .. } => Ok(()),
        }
    }

    /// Does the kernel carry the packets of passthrough rules?
    pub fn forwards(&self) -> bool {
        matches!(self, Surroundings::Namespaces { .. })
    }

    /// The namespace in which a program starts.
    ///
    /// # Errors
    /// `NotFound` where the network has none.
    pub fn namespace_of(&self, id: &ProgramId) -> io::Result<Option<OwnedFd>> {
        let Surroundings::Namespaces { namespaces, runtimes } = self else { return Ok(None) };
        let outside = NetworkId::internet();
        let network = id.network.as_ref().unwrap_or(&outside);
        if id.role == Role::ApiProxy {
            let leaf = runtimes.get(network).ok_or(io::ErrorKind::NotFound)?;
            return Ok(Some(leaf.try_clone()?));
        }
        let router = namespaces.router(network).ok_or(io::ErrorKind::NotFound)?;
        Ok(Some(router.try_clone_to_owned()?))
    }

    /// Prepares what a program needs before it starts: the API proxy's runtime its leaf.
    ///
    /// # Errors
    /// What the kernel says; a network without a free address.
    pub fn ready_for(
        &mut self,
        id: &ProgramId,
        topology: &Topology,
        workloads: &mut Workloads,
    ) -> Result<(), String> {
        let (Role::ApiProxy, Some(network)) = (id.role, &id.network) else { return Ok(()) };
        if workloads.has_runtime(network) {
            return Ok(());
        }
        let leaf = workloads.add_runtime(network, topology, self)?;
        if let (Surroundings::Namespaces { runtimes, .. }, Some(namespace)) = (self, leaf.namespace)
        {
            runtimes.insert(network.clone(), namespace);
        }
        Ok(())
    }

    /// Binds a listener where its network is.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn bind(&mut self, listen: &Listen, state_dir: &Path) -> io::Result<Kept> {
        let channel = match &listen.bind {
            Bind::Channel(name) => wire::channel_path(state_dir, name),
            _ => Default::default(),
        };
        let socket = match (&listen.bind, &mut *self) {
            (
                Bind::Tcp(network, _) | Bind::Udp(network, _),
                Surroundings::Namespaces { namespaces, .. },
            ) => {
                let router = namespaces.router(network).ok_or(io::ErrorKind::NotFound)?;
                let direct = Network::direct();
                sys::in_network_namespace(router, || {
                    listener::bind(&listen.bind, &direct, &channel, true)
                })?
            }
            (
                Bind::Tcp(network, declared) | Bind::Udp(network, declared),
                Surroundings::Loopback { loopback, .. },
            ) => {
                let actual = loopback.socket(network, *declared)?;
                let placement = Placement { network: network.clone(), declared: *declared, actual };
                let placed = Network::placed(&[placement], &[]);
                listener::bind(&listen.bind, &placed, &channel, false)?
            }
            _ => listener::bind(&listen.bind, &Network::direct(), &channel, false)?,
        };
        let actual = match &listen.bind {
            Bind::Channel(_) => None,
            Bind::Udp(..) => std::net::UdpSocket::from(socket.try_clone()?).local_addr().ok(),
            _ => std::net::TcpListener::from(socket.try_clone()?).local_addr().ok(),
        };
        Ok(Kept { listen: listen.clone(), socket, actual })
    }

    /// Where declared addresses are really bound, for a program: those of its network and of the
    /// networks that are peered with it.
    pub fn places(&self, id: &ProgramId, topology: &Topology) -> Places {
        let Surroundings::Loopback { loopback, .. } = self else { return Places::default() };
        let (mut sockets, mut hosts) = (Vec::new(), Vec::new());
        for network in within_reach(id.network.as_ref(), topology) {
            let (own_sockets, own_hosts) = loopback.table(&network);
            sockets.extend(own_sockets);
            hosts.extend(own_hosts);
        }
        Places { sockets, hosts, placed: true }
    }

    /// Makes a leaf for a workload. `platform`: the address at which `cloud-run` reaches an instance
    /// that is in a VPC network otherwise.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_leaf(
        &mut self,
        workload: &Workload,
        platform: Option<Ipv4Addr>,
    ) -> io::Result<Leaf> {
        let (network, address) = (&workload.network, workload.address);
        let internet = NetworkId::internet();
        match self {
            Surroundings::Namespaces { namespaces, .. } => {
                let member = Member {
                    address,
                    tags: workload.tags.clone(),
                    service_account: workload.service_account.clone(),
                    sealed: workload.serverless,
                    link: String::new(), // has none yet
                };
                let everywhere = vec![Ipv4Net::default()];
                let (inside, outside) = match workload.outside {
                    Some(_) => (vpc::PRIVATE_RANGES.to_vec(), everywhere),
                    // Only its answers to `cloud-run` leave by the other side, where it has one.
                    None => (everywhere, vec![INTERNET_ROUTER.into()]),
                };
                let mut interfaces = vec![Interface { network, member, towards: inside }];
                interfaces.extend(platform.map(|address| {
                    let member = Member {
                        address,
                        tags: Vec::new(),
                        service_account: None,
                        sealed: true,
                        link: String::new(),
                    };
                    Interface { network: &internet, member, towards: outside }
                }));
                let leaf = namespaces.add_leaf(&interfaces)?;
                Ok(Leaf { namespace: Some(leaf), actual: None })
            }
            Surroundings::Loopback { loopback, .. } => {
                if let Some(outside) = workload.outside {
                    loopback.host(&internet, outside)?;
                }
                Ok(Leaf { namespace: None, actual: Some(loopback.host(network, address)?) })
            }
        }
    }

    /// Takes an address of a leaf away.
    pub fn remove_leaf(&mut self, network: &NetworkId, address: Ipv4Addr) {
        match self {
            Surroundings::Namespaces { namespaces, .. } => namespaces.remove_leaf(network, address),
            Surroundings::Loopback { loopback, .. } => loopback.release(network, address),
        }
    }

    /// Opens a workload's gateway, where it needs one.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn open_gateway(&self, workload: &Workload) -> io::Result<Option<Gateway>> {
        match self {
            Surroundings::Namespaces { .. } => Ok(None),
            Surroundings::Loopback { gateways, .. } => gateways.open(workload.clone()).map(Some),
        }
    }

    /// Are there gateways to show the world to?
    pub fn has_gateways(&self) -> bool {
        matches!(self, Surroundings::Loopback { .. })
    }

    /// Shows the gateways the world as it is now.
    pub fn show(&self, fabric: Fabric, accepted: HashSet<SelfLink>) {
        let Surroundings::Loopback { loopback, gateways } = self else { return };
        let networks = loopback.networks().map(|network| {
            let (sockets, hosts) = loopback.table(network);
            (network.clone(), Network::placed(&sockets, &hosts))
        });
        let networks = networks.collect();
        let view = View { fabric: Arc::new(fabric), accepted, networks };
        *gateways.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Where `cloud-run` reaches an instance.
    ///
    /// # Errors
    /// Without a free port.
    pub fn instance_address(&self, address: Ipv4Addr, port: u16) -> io::Result<SocketAddr> {
        match self {
            Surroundings::Namespaces { .. } => Ok(SocketAddr::from((address, port))),
            // Instances are not apart from each other here: each gets a port of its own.
            Surroundings::Loopback { .. } => {
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
            }
        }
    }
}

/// Every container of every revision, with its service.
fn containers(topology: &Topology) -> impl Iterator<Item = (&Service, &Container)> {
    topology.services.iter().flat_map(|service| {
        let revisions = std::iter::once(&service.revision).chain(&service.older_revisions);
        revisions.flat_map(move |revision| revision.containers.iter().map(move |c| (service, c)))
    })
}

/// Images that say how they run in a way that nothing here can start are refused by name.
fn without_runner(topology: &Topology) -> Result<(), String> {
    for (service, container) in containers(topology) {
        let kind = match &container.run {
            Run::Container { .. } => "container",
            Run::Mock { .. } => "mock",
            Run::Command { .. } | Run::Url(_) => continue,
        };
        return Err(format!(
            "{}: the image {} of container {} is declared as a `{kind}`, which does not run yet; give it a command or a url",
            service.self_link, container.image, container.name
        ));
    }
    Ok(())
}

/// Without namespaces nothing can be mounted: what a container would miss is refused by name.
fn without_mounts(topology: &Topology) -> Result<(), String> {
    for (service, container) in containers(topology) {
        if let Some(mount) = container.mounts.first() {
            return Err(format!(
                "{}: container {} mounts volume {} at {}, which needs a mount namespace; use --isolation netns (`postern doctor` says what it needs)",
                service.self_link,
                container.name,
                mount.volume,
                mount.path.display()
            ));
        }
    }
    Ok(())
}

impl Surroundings {
    /// The namespace of a workload's leaf, again (for `exec --instance`).
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn share(namespace: Option<&OwnedFd>) -> io::Result<Option<OwnedFd>> {
        namespace.map(|namespace| namespace.as_fd().try_clone_to_owned()).transpose()
    }
}

/// Without `nft` no rule is enforced and no packet passed on: what a topology denies in so many words
/// is refused, and so are passthrough rules; that everything else is open is said.
fn without_filter(topology: &Topology) -> Result<(), String> {
    const WAY_OUT: &str = "install the package nftables, or use --isolation loopback";
    let mut rules = topology.networks.iter().flat_map(|network| &network.firewalls);
    if let Some(rule) = rules.find(|rule| rule.action == slice::vpc::Action::Deny) {
        return Err(format!(
            "{}: it denies traffic, and the program nft, which would enforce it, is not installed; {WAY_OUT}",
            rule.self_link
        ));
    }
    let mut rules = topology.load_balancing.network_rules.iter();
    if let Some(rule) = rules.find(|rule| rule.is_passthrough()) {
        return Err(format!(
            "{}: it passes packets on, and the program nft, which would choose the VM, is not installed; {WAY_OUT}",
            rule.self_link
        ));
    }
    let mut inside = topology.services.iter().filter(|service| {
        let revisions = service.older_revisions.iter().chain([&service.revision]);
        revisions.into_iter().any(|revision| revision.vpc_access.is_some())
    });
    if let Some(service) = inside.next() {
        return Err(format!(
            "{}: its instances have addresses in a VPC network, and the program nft, which would keep others from them, is not installed; {WAY_OUT}",
            service.self_link
        ));
    }
    if topology.networks.iter().any(|network| !network.instances.is_empty()) {
        eprintln!(
            "postern: warning: the program nft is not installed, so the implied deny of firewall rules is not enforced: workloads reach each other on every port; {WAY_OUT}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_nft_passthrough_rules_are_refused() {
        let load = |name: &str| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology");
            topology::load(&root.join(name)).topology.expect("a good topology")
        };
        let refused = without_filter(&load("psc-l4")).expect_err("packets are passed on");
        assert!(refused.contains("passes packets on"), "{refused}");
        assert_eq!(without_filter(&load("dns")), Ok(()));
    }
}
