//! Loopback isolation: each declared address is one of 127.64.0.0/10, without any privilege.

use names::NetworkId;
use slice::{METADATA_ADDRESS, Placement, Topology};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

/// 127.64.0.0/10 is cut into this many blocks, one for each topology that is up.
const BLOCKS: u32 = 64;
/// How many addresses a block has.
const BLOCK: u32 = 1 << 16;
/// Whoever has this port of a block's first address has the block.
const CLAIM_PORT: u16 = 61_999;
/// So many addresses of a NAT subnetwork have a place. They are given out lowest first, so that
/// an attachment would need as many endpoints before one has none.
const NAT_ADDRESSES: usize = 1_024;
/// Ports that may not be bound without privilege are moved up by this much.
const PORT_SHIFT: u16 = 20_000;

/// The table of addresses.
#[derive(Debug)]
pub struct Loopback {
    hosts: BTreeMap<NetworkId, HashMap<Ipv4Addr, Ipv4Addr>>,
    sockets: HashMap<NetworkId, Vec<Placement>>,
    known: HashSet<(NetworkId, SocketAddrV4)>,
    /// Placements that the topology itself declares win.
    placements: Vec<Placement>,
    /// Addresses that have their place by declaration.
    declared: HashSet<(NetworkId, Ipv4Addr)>,
    first: u32,
    next: u32,
    /// Places that became free, the oldest first. They are used when all others are, because some
    /// program may still know who was there.
    free: VecDeque<Ipv4Addr>,
    privileged_below: u16,
    _claim: TcpListener,
}

impl Loopback {
    /// An empty table with a block of addresses that no other topology of this machine uses.
    ///
    /// # Errors
    /// When 64 topologies are up.
    pub fn claim() -> io::Result<Self> {
        let limit = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1024);
        let blocks = (0..BLOCKS).map(|block| u32::from_be_bytes([127, 64, 0, 1]) + block * BLOCK);
        let claimed = blocks.into_iter().find_map(|first| {
            let claim = TcpListener::bind((Ipv4Addr::from(first), CLAIM_PORT)).ok()?;
            Some((first, claim))
        });
        let (first, claim) = claimed.ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrInUse, "all blocks of 127.64.0.0/10 are in use")
        })?;
        Ok(Loopback {
            hosts: BTreeMap::new(),
            sockets: HashMap::new(),
            known: HashSet::new(),
            placements: Vec::new(),
            declared: HashSet::new(),
            first,
            // The first address is the claim's.
            next: 1,
            free: VecDeque::new(),
            privileged_below: limit,
            _claim: claim,
        })
    }

    /// Gives every declared address of a topology its place.
    ///
    /// # Errors
    /// With more than 65,000 addresses.
    pub fn place(&mut self, topology: &Topology) -> Result<(), String> {
        self.placements.clone_from(&topology.placements);
        for (network, address) in declared(topology) {
            self.host(&network, address).map_err(|error| error.to_string())?;
            self.declared.insert((network, address));
        }
        Ok(())
    }

    /// Gives back the places of addresses that were declared and are no more, but for those that a
    /// workload has by now.
    pub fn retain(&mut self, topology: &Topology, taken: impl Fn(&NetworkId, Ipv4Addr) -> bool) {
        let wanted = declared(topology);
        let (stay, gone) = std::mem::take(&mut self.declared)
            .into_iter()
            .partition::<HashSet<_>, _>(|one| wanted.contains(one));
        self.declared = stay;
        for (network, address) in gone {
            if !taken(&network, address) {
                self.forget(&network, address);
            }
        }
    }

    /// The place of an address; a new one if it has none.
    ///
    /// # Errors
    /// When all are given out.
    pub fn host(&mut self, network: &NetworkId, address: Ipv4Addr) -> io::Result<Ipv4Addr> {
        if let Some(actual) = self.hosts.get(network).and_then(|hosts| hosts.get(&address)) {
            return Ok(*actual);
        }
        let actual = if self.next < BLOCK - 2 {
            self.next += 1;
            Ipv4Addr::from(self.first + self.next - 1)
        } else {
            let none = "no loopback address is left: a topology has 65,000";
            let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, none);
            self.free.pop_front().ok_or_else(none)?
        };
        self.hosts.entry(network.clone()).or_default().insert(address, actual);
        Ok(actual)
    }

    /// The place of a declared socket; remembered for the tables.
    ///
    /// # Errors
    /// When all addresses are given out.
    pub fn socket(
        &mut self,
        network: &NetworkId,
        declared: SocketAddrV4,
    ) -> io::Result<SocketAddr> {
        let given =
            self.placements.iter().find(|p| p.network == *network && p.declared == declared);
        let actual = match given {
            Some(placement) => placement.actual,
            None => {
                let host = self.host(network, *declared.ip())?;
                SocketAddr::from((host, self.port(declared.port())))
            }
        };
        let placement = Placement { network: network.clone(), declared, actual };
        match self.known.insert((network.clone(), declared)) {
            true => self.sockets.entry(network.clone()).or_default().push(placement),
            // The topology may have placed it elsewhere since then.
            false => {
                let of_network = self.sockets.get_mut(network).into_iter().flatten();
                of_network.filter(|known| known.declared == declared).for_each(|known| {
                    known.actual = actual;
                });
            }
        }
        Ok(actual)
    }

    /// The networks that have any address.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.hosts.keys()
    }

    /// The tables for one network.
    pub fn table(&self, network: &NetworkId) -> (Vec<Placement>, Vec<(Ipv4Addr, Ipv4Addr)>) {
        let theirs = |placement: &&Placement| placement.network == *network;
        let sockets = self.sockets.get(network).into_iter().flatten();
        let sockets = sockets.chain(self.placements.iter().filter(theirs)).cloned().collect();
        let hosts = self.hosts.get(network).into_iter().flatten();
        (sockets, hosts.map(|(declared, actual)| (*declared, *actual)).collect())
    }

    /// An address that a workload no longer has. A declared one keeps its place.
    pub fn release(&mut self, network: &NetworkId, address: Ipv4Addr) {
        if !self.declared.contains(&(network.clone(), address)) {
            self.forget(network, address);
        }
    }

    fn forget(&mut self, network: &NetworkId, address: Ipv4Addr) {
        let freed = self.hosts.get_mut(network).and_then(|hosts| hosts.remove(&address));
        self.free.extend(freed);
        if let Some(sockets) = self.sockets.get_mut(network) {
            sockets.retain(|placement| *placement.declared.ip() != address);
        }
        self.known.retain(|(of, declared)| of != network || *declared.ip() != address);
    }

    fn port(&self, declared: u16) -> u16 {
        if declared < self.privileged_below && !nix::unistd::geteuid().is_root() {
            declared + PORT_SHIFT
        } else {
            declared
        }
    }
}

/// Every address of a topology that has a place before anybody asks for it.
fn declared(topology: &Topology) -> HashSet<(NetworkId, Ipv4Addr)> {
    let mut wanted: HashSet<(NetworkId, Ipv4Addr)> = HashSet::new();
    let internet = NetworkId::internet();
    for network in topology.networks.iter().map(|network| &network.id).chain([&internet]) {
        let fronts = slice::front_ends(network.is_internet()).map(|(_, address)| address);
        for fixed in fronts.chain([METADATA_ADDRESS]) {
            wanted.insert((network.clone(), fixed));
        }
    }
    for rule in &topology.load_balancing.forwarding_rules {
        wanted.insert((rule.network.clone(), rule.address));
        wanted.extend(rule.proxy_address.map(|source| (rule.network.clone(), source)));
    }
    for rule in &topology.load_balancing.network_rules {
        wanted.insert((rule.network.clone(), rule.address));
        wanted.extend(rule.proxy_address.map(|source| (rule.network.clone(), source)));
    }
    for endpoint in &topology.google_apis_endpoints {
        wanted.insert((endpoint.network.clone(), endpoint.address));
    }
    for endpoint in &topology.endpoints {
        wanted.insert((endpoint.network.clone(), endpoint.address));
    }
    for network in &topology.networks {
        let vms = network.instances.iter().map(|instance| instance.address);
        wanted.extend(vms.map(|address| (network.id.clone(), address)));
    }
    for attachment in &topology.service_attachments {
        for subnet in &attachment.nat_subnets {
            let sources = psc::usable_addresses(subnet.range).take(NAT_ADDRESSES);
            wanted.extend(sources.map(|address| (attachment.network.clone(), address)));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_networks_get_places_of_their_own() {
        let mut loopback = Loopback::claim().expect("a free block");
        let (a, b) = (NetworkId::new("p", "a"), NetworkId::new("p", "b"));
        let address = Ipv4Addr::new(10, 0, 0, 5);
        let first = loopback.host(&a, address).expect("placed");
        assert_ne!(first, loopback.host(&b, address).expect("placed"));
        assert_eq!(first, loopback.host(&a, address).expect("placed"));
        let declared = SocketAddrV4::new(address, 8443);
        let actual = loopback.socket(&a, declared).expect("placed");
        assert_eq!(actual, SocketAddr::from((first, 8443)));
        let (sockets, hosts) = loopback.table(&a);
        assert_eq!((sockets.len(), hosts.len()), (1, 1));
    }

    #[test]
    fn places_of_workloads_that_have_ended_are_given_out_again() {
        let mut loopback = Loopback::claim().expect("a free block");
        let network = NetworkId::new("p", "a");
        for n in 0..BLOCK * 2 {
            let address = Ipv4Addr::from(n);
            loopback.host(&network, address).expect("a place");
            loopback.forget(&network, address);
        }
    }

    #[test]
    fn places_of_addresses_that_are_no_longer_declared_are_given_back() {
        let mut loopback = Loopback::claim().expect("a free block");
        let network = NetworkId::new("p", "a");
        let [old, session] = [5, 6].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let of = |address| Topology {
            google_apis_endpoints: vec![slice::psc::GoogleApisEndpoint {
                self_link: names::SelfLink::new("one"),
                network: network.clone(),
                address,
                bundle: slice::psc::ApiBundle::AllApis,
                automatic_dns: false,
            }],
            ..Topology::default()
        };
        loopback.place(&of(old)).expect("placed");
        loopback.socket(&network, SocketAddrV4::new(old, 443)).expect("placed");
        loopback.host(&network, session).expect("placed");
        loopback.retain(&Topology::default(), |_, address| address == session);
        let (sockets, hosts) = loopback.table(&network);
        assert_eq!(sockets, []);
        assert_eq!(hosts.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [session]);
        assert_eq!(loopback.free.len(), 1);
    }
}
