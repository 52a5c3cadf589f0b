//! VPC networks as kernel network namespaces: one router namespace per network, one leaf namespace
//! per workload, veth pairs between them (DESIGN.md 3 "Networks on one machine").
//!
//! * A router has its network's addresses on `lo` (any-IP routes of type `local`), 169.254.169.254
//!   among them, and a default route that is a black hole: what is not there stays silent.
//! * A leaf has one address and a default route through 169.254.169.254, which the router's kernel
//!   answers ARP for because it is its own.
//! * A peering is a veth pair between two routers with routes for the peer's subnetworks.
//!
//! Everything goes over netlink from a thread that enters the namespace once and for life; nothing
//! has a name on the host, so nothing is left when the last process is gone.

use crate::forward::{Forwarding, Links, Passed};
use crate::nft;
use ipnet::Ipv4Net;
use names::NetworkId;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use slice::METADATA_ADDRESS;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use vpc::{Member, Plan, Route, Target};

/// The index of `lo` in every namespace.
const LOOPBACK: u32 = 1;
/// The index of `eth0` in every leaf; `eth1` is the next one.
const LEAF_INTERFACE: u32 = 2;
/// The kernel's table of local addresses, and the one for everything else.
const TABLE_LOCAL: u32 = 255;
const TABLE_MAIN: u32 = 254;
/// The router outside of VPC networks: the peer that containers see (cloud-run 1.4).
pub const INTERNET_ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The first address of the other routers. Each needs one of its own: it is the sender of its ARP
/// requests, and a peer takes no request from an address that is its own.
const FIRST_ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 2, 1);

/// All namespaces of one `up`.
#[derive(Debug, Default)]
pub struct Namespaces {
    routers: BTreeMap<NetworkId, Router>,
    links: u32,
    made: u32,
}

#[derive(Debug)]
struct Router {
    namespace: OwnedFd,
    /// The source of its own connections where no proxy-only subnetwork gives one.
    address: Ipv4Addr,
    plan: Plan,
    peers: HashMap<NetworkId, u32>,
    leaves: BTreeMap<Ipv4Addr, Leaf>,
    forwarding: Forwarding,
}

/// A workload behind a router.
#[derive(Debug)]
struct Leaf {
    /// The index of the router's end of its link.
    index: u32,
    /// The workload as the filter knows it.
    member: Member,
    /// Its namespace, which gets the addresses of load balancers.
    namespace: OwnedFd,
}

/// One interface of a leaf.
#[derive(Debug)]
pub struct Interface<'a> {
    /// Behind the router of this network.
    pub network: &'a NetworkId,
    /// With this address.
    pub member: Member,
    /// What leaves by it.
    pub towards: Vec<Ipv4Net>,
}

impl Namespaces {
    /// The namespace of a network's router.
    pub fn router(&self, network: &NetworkId) -> Option<BorrowedFd<'_>> {
        Some(self.routers.get(network)?.namespace.as_fd())
    }

    /// The plans in force.
    pub fn in_force(&self) -> impl Iterator<Item = (&NetworkId, &Plan)> {
        self.routers.iter().map(|(network, router)| (network, &router.plan))
    }

    /// Brings the kernel from the plans in force to these: namespaces and routes that are new
    /// first, so that what is already there goes on; what is gone last.
    ///
    /// # Errors
    /// Those of netlink, with the network's name.
    pub fn apply(&mut self, plans: &BTreeMap<NetworkId, Plan>) -> io::Result<()> {
        for (network, plan) in plans {
            if !self.routers.contains_key(network) {
                let address = match network.is_internet() {
                    true => INTERNET_ROUTER,
                    false => {
                        self.made += 1;
                        Ipv4Addr::from(u32::from(FIRST_ROUTER) + self.made - 1)
                    }
                };
                let router = named(network, new_router(plan.forwards, address))?;
                self.routers.insert(network.clone(), router);
            }
        }
        self.join_peers(plans)?;
        // All filters are made at once; each is put into force as a whole.
        let mut filters = Vec::new();
        for (network, plan) in plans {
            let Some(router) = self.routers.get(network) else { continue };
            if let Some(run) = named(network, router.filter(plan))? {
                filters.push((network, run));
            }
        }
        for (network, run) in filters {
            named(network, run.finish())?;
        }
        for (network, plan) in plans {
            let Some(router) = self.routers.get_mut(network) else { continue };
            named(network, router.follow(plan))?;
        }
        self.routers.retain(|network, _| plans.contains_key(network));
        Ok(())
    }

    /// Veth pairs for new peerings, and the end of those that are no more.
    fn join_peers(&mut self, plans: &BTreeMap<NetworkId, Plan>) -> io::Result<()> {
        let wanted: BTreeSet<(NetworkId, NetworkId)> = plans
            .iter()
            .flat_map(|(network, plan)| plan.peers.iter().map(move |peer| ordered(network, peer)))
            .collect();
        let present: BTreeSet<(NetworkId, NetworkId)> = self
            .routers
            .iter()
            .flat_map(|(network, router)| {
                router.peers.keys().map(move |peer| ordered(network, peer))
            })
            .collect();
        for (left, right) in present.difference(&wanted) {
            let index = self.routers.get_mut(left).and_then(|router| router.peers.remove(right));
            if let Some(router) = self.routers.get_mut(right) {
                router.peers.remove(left);
            }
            // Deleting one end deletes the pair and its routes.
            if let (Some(index), Some(router)) = (index, self.routers.get(left)) {
                let delete = async |handle: Handle| handle.link().del(index).execute().await;
                named(left, netlink(router.namespace.as_fd(), delete))?;
            }
        }
        for (left, right) in wanted.difference(&present) {
            self.links += 1;
            let number = self.links;
            let (Some(near), Some(far)) = (self.routers.get(left), self.routers.get(right)) else {
                continue;
            };
            let index = 1000 + number;
            named(left, join(near.namespace.as_fd(), far.namespace.as_fd(), number, index))?;
            for (network, peer) in [(left, right), (right, left)] {
                if let Some(router) = self.routers.get_mut(network) {
                    router.peers.insert(peer.clone(), index);
                }
            }
        }
        Ok(())
    }

    /// Makes a leaf namespace with these interfaces.
    ///
    /// # Errors
    /// Those of netlink; `NotFound` without such a network.
    pub fn add_leaf(&mut self, interfaces: &[Interface<'_>]) -> io::Result<OwnedFd> {
        let leaf = new_leaf()?;
        for (number, interface) in (0..).zip(interfaces) {
            if let Err(error) = self.connect(&leaf, number, interface) {
                for Interface { network, member, .. } in interfaces {
                    self.remove_leaf(network, member.address);
                }
                return Err(error);
            }
        }
        Ok(leaf)
    }

    /// Gives a leaf its interface of this number.
    fn connect(
        &mut self,
        leaf: &OwnedFd,
        number: u32,
        interface: &Interface<'_>,
    ) -> io::Result<()> {
        let Interface { network, member, towards } = interface;
        let address = member.address;
        self.links += 1;
        let link = self.links;
        let member = Member { link: format!("leaf{link}"), ..member.clone() };
        let router = self.routers.get_mut(*network).ok_or(io::ErrorKind::NotFound)?;
        let source = router.plan.proxy_address.unwrap_or(router.address);
        let ends = (router.namespace.as_fd(), leaf.as_fd());
        named(network, attach(ends, (link, number), (address, source), towards))?;
        router.tell(|filter| filter.joins(&member))?;
        let (index, namespace) = (1000 + link, leaf.try_clone()?);
        router.leaves.insert(address, Leaf { index, member, namespace });
        match router.forwarding.concerns(&address) {
            true => named(network, router.forward(None)),
            false => Ok(()),
        }
    }

    /// Takes a leaf's link away; its namespace ends with its last process.
    pub fn remove_leaf(&mut self, network: &NetworkId, address: Ipv4Addr) {
        let Some(router) = self.routers.get_mut(network) else { return };
        if let Some(Leaf { index, member, .. }) = router.leaves.remove(&address) {
            if let Err(error) = router.tell(|filter| filter.leaves(&member)) {
                eprintln!("postern: {network}: {error}");
            }
            let delete = async |handle: Handle| handle.link().del(index).execute().await;
            // The kernel may have taken it away already, with the leaf's namespace.
            let _ = netlink(router.namespace.as_fd(), delete);
            if router.forwarding.concerns(&address)
                && let Err(error) = router.forward(None)
            {
                eprintln!("postern: {network}: {error}");
            }
        }
    }

    /// Puts the passthrough rules of a network into force.
    ///
    /// # Errors
    /// Those of netlink and of `nft`, with the network's name.
    pub fn forward(&mut self, network: &NetworkId, all: Vec<Passed>) -> io::Result<()> {
        let Some(router) = self.routers.get_mut(network) else { return Ok(()) };
        named(network, router.forward(Some(all)))
    }
}

fn ordered(left: &NetworkId, right: &NetworkId) -> (NetworkId, NetworkId) {
    if left <= right { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) }
}

fn named<T>(network: &NetworkId, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{network}: {error}")))
}

/// Runs netlink requests inside a namespace.
pub(crate) fn netlink<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error> + Send,
) -> io::Result<T> {
    sys::in_network_namespace(namespace, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            work(handle).await.map_err(io::Error::other)
        })
    })
}

/// Settings of a router. Sysctl files of `net` are those of the thread's own namespace.
fn new_router(forwards: bool, address: Ipv4Addr) -> io::Result<Router> {
    let namespace = sys::new_network_namespace()?;
    netlink(namespace.as_fd(), async |handle| {
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(LOOPBACK).up().build();
        handle.link().set(up).execute().await?;
        let default = route(Ipv4Net::default()).kind(RouteType::BlackHole).build();
        handle.route().add(default).execute().await?;
        handle.address().add(LOOPBACK, address.into(), 32).execute().await
    })?;
    sys::in_network_namespace(namespace.as_fd(), || {
        let set = |name: &str, value: &str| std::fs::write(format!("/proc/sys/net/{name}"), value);
        set("ipv4/ip_forward", if forwards { "1" } else { "0" })?;
        set("ipv4/conf/all/rp_filter", "0")?;
        set("ipv4/conf/default/rp_filter", "0")?;
        set("ipv4/conf/all/send_redirects", "0")?;
        set("ipv4/conf/default/send_redirects", "0")?;
        // Everything simulated is IPv4; without an address of the other kind nothing leaks.
        let _ = set("ipv6/conf/all/disable_ipv6", "1");
        let _ = set("ipv6/conf/default/disable_ipv6", "1");
        // A filter that takes a segment for a stray one would cut a connection that rules admit.
        let _ = set("netfilter/nf_conntrack_tcp_be_liberal", "1");
        // Real ports for unprivileged programs: 53, 80 and 443 are theirs by the topology.
        set("ipv4/ip_unprivileged_port_start", "0")?;
        // A service attachment's NAT address needs all the 64,512 ports that Google's has (1.4).
        set("ipv4/ip_local_port_range", "1024 65535")
    })?;
    let (peers, leaves) = (HashMap::new(), BTreeMap::new());
    Ok(Router {
        namespace,
        address,
        plan: Plan::default(),
        peers,
        leaves,
        forwarding: Forwarding::default(),
    })
}

pub(crate) fn route(to: Ipv4Net) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(to.network(), to.prefix_len())
        .table_id(TABLE_MAIN)
}

pub(crate) fn local(to: Ipv4Net) -> RouteMessage {
    route(to)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .table_id(TABLE_LOCAL)
        .output_interface(LOOPBACK)
        .build()
}

impl Router {
    /// Starts to put a plan's filter into force, if it is another one.
    fn filter(&self, plan: &Plan) -> io::Result<Option<nft::Run>> {
        let new = plan.filter.as_ref().filter(|_| self.plan.filter != plan.filter);
        let Some(filter) = new.filter(|_| nft::program().is_some()) else { return Ok(None) };
        let members: Vec<Member> = self.leaves.values().map(|leaf| leaf.member.clone()).collect();
        nft::start(self.namespace.as_fd(), &filter.render(&members)).map(Some)
    }

    /// Tells the filter in force of a workload that comes or goes.
    fn tell(&self, commands: impl FnOnce(&vpc::Filter) -> String) -> io::Result<()> {
        let filter = self.plan.filter.as_ref().filter(|_| nft::program().is_some());
        let commands = filter.map(commands).unwrap_or_default();
        if commands.is_empty() {
            return Ok(());
        }
        nft::start(self.namespace.as_fd(), &commands)?.finish()
    }

    /// Puts these passthrough rules, or else those in force, into force for the VMs that run.
    fn forward(&mut self, all: Option<Vec<Passed>>) -> io::Result<()> {
        let links: Links<'_> = self
            .leaves
            .iter()
            .map(|(at, leaf)| (*at, (leaf.index, leaf.namespace.as_fd())))
            .collect();
        self.forwarding.follow(self.namespace.as_fd(), all, &links)
    }

    /// Adds and deletes the routes in which the plans differ.
    fn follow(&mut self, plan: &Plan) -> io::Result<()> {
        if self.plan == *plan {
            return Ok(());
        }
        let message = |route_: &Route| match &route_.target {
            Target::Local => Some(local(route_.to)),
            Target::Blackhole => Some(route(route_.to).kind(RouteType::BlackHole).build()),
            Target::Peer(peer) => {
                let index = *self.peers.get(peer)?;
                Some(route(route_.to).scope(RouteScope::Link).output_interface(index).build())
            }
        };
        let gone: Vec<_> = self.plan.routes.difference(&plan.routes).filter_map(message).collect();
        let new: Vec<_> = plan.routes.difference(&self.plan.routes).filter_map(message).collect();
        netlink(self.namespace.as_fd(), async |handle| {
            // A destination that changes hands (endpoint accepted or not) has its old route taken
            // away first; in between there is silence, as the default route says.
            for message in gone {
                // Routes of a veth pair went away with it.
                let _ = handle.route().del(message).execute().await;
            }
            for message in new {
                handle.route().add(message).replace().execute().await?;
            }
            Ok(())
        })?;
        self.plan = plan.clone();
        Ok(())
    }
}

/// A veth pair between two routers.
fn join(near: BorrowedFd<'_>, far: BorrowedFd<'_>, number: u32, index: u32) -> io::Result<()> {
    let far_raw = far.as_raw_fd();
    netlink(near, async |handle| {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(format!("peer{number}"))
            .index(index)
            .setns_by_fd(far_raw)
            .build();
        let name = format!("peer{number}");
        let pair = LinkVeth::new(&name, "")
            .index(index)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        handle.link().add(pair).execute().await
    })?;
    // The other router answers ARP for its own addresses, and for those that it routes further.
    let settings =
        move || std::fs::write(format!("/proc/sys/net/ipv4/conf/peer{number}/proxy_arp"), "1");
    netlink(far, async |handle| {
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        handle.link().set(up).execute().await
    })?;
    sys::in_network_namespace(near, settings)?;
    sys::in_network_namespace(far, settings)
}

/// A veth pair between a router and a leaf: the numbers of the link and of the leaf's interface, the
/// leaf's address and the router's source towards it, and what leaves the leaf by it.
fn attach(
    (router, leaf): (BorrowedFd<'_>, BorrowedFd<'_>),
    (number, interface): (u32, u32),
    (address, source): (Ipv4Addr, Ipv4Addr),
    towards: &[Ipv4Net],
) -> io::Result<()> {
    let leaf_raw = leaf.as_raw_fd();
    let (index, own) = (1000 + number, LEAF_INTERFACE + interface);
    netlink(router, async |handle| {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(format!("eth{interface}"))
            .index(own)
            .setns_by_fd(leaf_raw)
            .build();
        let name = format!("leaf{number}");
        let pair = LinkVeth::new(&name, "")
            .index(index)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        handle.link().add(pair).execute().await?;
        let towards = route(Ipv4Net::from(address))
            .scope(RouteScope::Link)
            .output_interface(index)
            .pref_source(source)
            .build();
        handle.route().add(towards).execute().await
    })?;
    // Callers are known by their address: a leaf sends from its own only (strict reverse path).
    sys::in_network_namespace(router, || {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/leaf{number}/rp_filter"), "1")
    })?;
    netlink(leaf, async |handle| {
        for index in [LOOPBACK, own] {
            let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
            handle.link().set(up).execute().await?;
        }
        handle.address().add(own, address.into(), 32).execute().await?;
        for to in towards {
            let way = route(*to).gateway(METADATA_ADDRESS).output_interface(own).onlink();
            handle.route().add(way.build()).execute().await?;
        }
        Ok(())
    })
}

/// A namespace for a workload, without interfaces yet.
fn new_leaf() -> io::Result<OwnedFd> {
    let leaf = sys::new_network_namespace()?;
    sys::in_network_namespace(leaf.as_fd(), || {
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
        // One with two interfaces is no way from one network into the other.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        // `ping` without a capability, for every group that this user namespace knows.
        let own = nix::unistd::getgid();
        let ranges = ["0 2147483647".to_owned(), format!("{own} {own}")];
        let file = "/proc/sys/net/ipv4/ping_group_range";
        ranges.iter().map(|range| std::fs::write(file, range)).find(Result::is_ok).unwrap_or(Ok(()))
    })?;
    Ok(leaf)
}

/// Makes a router and a leaf, for `doctor`.
///
/// # Errors
/// What the kernel says.
pub fn trial() -> io::Result<()> {
    let mut namespaces = Namespaces::default();
    let network = NetworkId::new("doctor", "trial");
    let plans = BTreeMap::from([(network.clone(), Plan::default())]);
    namespaces.apply(&plans)?;
    let address = Ipv4Addr::new(10, 0, 0, 2);
    let member = Member {
        address,
        tags: Vec::new(),
        service_account: None,
        sealed: false,
        link: String::new(),
    };
    let towards = vec![Ipv4Net::default()];
    namespaces.add_leaf(&[Interface { network: &network, member, towards }]).map(|_| ())
}
