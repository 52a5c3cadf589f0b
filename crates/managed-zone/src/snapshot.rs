//! The immutable snapshot: every network's zones, compiled once however many networks see them.

use crate::Name;
use crate::asked::Asked;
use crate::clients::Clients;
use crate::compile::{self, Problem, ZoneError};
use crate::google;
use crate::zone::Zone;
use ipnet::Ipv4Net;
use names::{NetworkId, Reason, SelfLink};
use slice::dns::{PrivateDnsSlice, ZoneKind};
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

/// What `private-dns` answers from: all networks of a slice, compiled.
pub struct Snapshot {
    pub(crate) zones: Vec<ZoneEntry>,
    pub(crate) networks: Vec<Network>,
    /// The simulated public DNS, the root last.
    pub(crate) public: Apexes,
    index: HashMap<NetworkId, u32>,
    clients: Clients,
}

/// A zone with what people call it.
pub(crate) struct ZoneEntry {
    pub(crate) place: Place,
    pub(crate) dns_name: Name,
    pub(crate) contents: Contents,
}

/// In which step of the resolution order a zone stands (private-connectivity 4.1).
pub(crate) enum Place {
    /// A managed zone and the networks that see it.
    Managed(SelfLink, Vec<u32>),
    /// Compute Engine internal names.
    Internal,
    /// The simulated public DNS.
    Public,
}

/// What a zone holds.
pub(crate) enum Contents {
    /// Records.
    Records(Zone),
    /// Resolution starts again as this network.
    Peering(u32),
}

/// One network's own part of the resolution order.
pub(crate) struct Network {
    pub(crate) id: NetworkId,
    pub(crate) managed: Apexes,
    pub(crate) internal: Apexes,
}

/// One network's sight of a snapshot: who asks decides what is true.
#[derive(Clone, Copy)]
pub struct View<'s> {
    pub(crate) snapshot: &'s Snapshot,
    pub(crate) network: u32,
}

impl<'s> View<'s> {
    /// The network that asks.
    pub fn network(&self) -> &'s NetworkId {
        &self.snapshot.networks[self.network as usize].id
    }
}

/// Why a slice cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// A mistake in a zone.
    Zone(ZoneError),
    /// Two zones of one name are visible to one network (4.2): network, name, both zones.
    SameName(NetworkId, String, [SelfLink; 2]),
    /// An instance whose internal name is no name: the record and what is wrong with it.
    Instance(String),
    /// The same client range belongs to two networks.
    Clients(Ipv4Net, [NetworkId; 2]),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Zone(error) => fmt::Display::fmt(error, f),
            CompileError::SameName(network, dns_name, [first, second]) => write!(
                f,
                "managed zones {first} and {second}: both have the dnsName `{dns_name}` and are visible to the network {network}"
            ),
            CompileError::Instance(name) => {
                write!(f, "internal DNS of an instance: {name}")
            }
            CompileError::Clients(range, [first, second]) => {
                write!(f, "the clients {range} are given to {first} and to {second}")
            }
        }
    }
}

impl std::error::Error for CompileError {}

impl Snapshot {
    /// Compiles a slice. All mistakes are returned at once.
    pub fn compile(slice: &PrivateDnsSlice) -> Result<Snapshot, Vec<CompileError>> {
        let PrivateDnsSlice { network, zones, instances, views } = slice;
        let mut building = Building::default();
        building.network(network);
        for zone in zones {
            building.zone(zone);
        }
        let mut by_network: Vec<(u32, Vec<&slice::dns::DnsInstance>)> = Vec::new();
        for instance in instances {
            let network = building.network(&instance.network);
            match by_network.iter_mut().find(|(of, _)| *of == network) {
                Some((_, held)) => held.push(instance),
                None => by_network.push((network, vec![instance])),
            }
        }
        let clients =
            Clients::new(views.iter().map(|view| (view.clients, building.network(&view.network))));
        let clients = clients.unwrap_or_else(|(range, first, second)| {
            let id = |index: u32| building.networks[index as usize].id.clone();
            building.errors.push(CompileError::Clients(range, [id(first), id(second)]));
            Clients::default()
        });
        building.internal(&by_network);
        let public = building.synthetic(google::public_zones(), Place::Public);
        let Building { zones, mut networks, index, errors, .. } = building;
        if !errors.is_empty() {
            return Err(errors);
        }
        for network in &mut networks {
            network.managed.close();
            network.internal.close();
        }
        Ok(Snapshot { zones, networks, public, index, clients })
    }

    /// The sight of one network; none where nothing of the slice names it.
    pub fn view(&self, network: &NetworkId) -> Option<View<'_>> {
        let network = *self.index.get(network)?;
        Some(View { snapshot: self, network })
    }

    /// The sight of the slice's own network.
    pub fn own_view(&self) -> View<'_> {
        View { snapshot: self, network: 0 }
    }

    /// The sight of the client with this address: by the slice's `views`, otherwise the slice's
    /// own network.
    pub fn view_of_client(&self, client: Ipv4Addr) -> View<'_> {
        View { snapshot: self, network: self.clients.network_of(client).unwrap_or(0) }
    }

    /// Do clients of several networks ask here?
    pub fn has_client_views(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Octets of memory that the compiled records hold.
    pub fn record_memory(&self) -> usize {
        let held = |entry: &ZoneEntry| match &entry.contents {
            Contents::Records(zone) => zone.memory(),
            Contents::Peering(_) => 0,
        };
        self.zones.iter().map(held).sum()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} networks, {} zones)", self.networks.len(), self.zones.len())
    }
}

#[derive(Default)]
struct Building {
    zones: Vec<ZoneEntry>,
    networks: Vec<Network>,
    index: HashMap<NetworkId, u32>,
    /// Which managed zone a network sees under a name.
    visible: HashMap<(u32, Name), SelfLink>,
    errors: Vec<CompileError>,
}

impl Building {
    /// The network's position; a network that nothing else tells about has no zones.
    fn network(&mut self, id: &NetworkId) -> u32 {
        if let Some(index) = self.index.get(id) {
            return *index;
        }
        let index = self.networks.len() as u32;
        let (managed, internal) = (Apexes::default(), Apexes::default());
        self.networks.push(Network { id: id.clone(), managed, internal });
        self.index.insert(id.clone(), index);
        index
    }

    fn zone(&mut self, zone: &slice::dns::ManagedZone) {
        let slice::dns::ManagedZone { self_link, dns_name, networks, kind } = zone;
        let name = match Name::parse(dns_name) {
            Ok(name) => name,
            Err(why) => {
                self.errors.push(CompileError::Zone(ZoneError {
                    zone: self_link.clone(),
                    record_set: None,
                    rrdata: None,
                    record: String::new(),
                    problem: Problem::Name(why),
                }));
                return;
            }
        };
        let contents = match kind {
            ZoneKind::Private(record_sets) => match compile::zone(self_link, &name, record_sets) {
                Ok(zone) => Contents::Records(zone),
                Err(errors) => {
                    self.errors.extend(errors.into_iter().map(CompileError::Zone));
                    return;
                }
            },
            ZoneKind::Peering(target) => Contents::Peering(self.network(target)),
        };
        let mut seen_by: Vec<u32> = Vec::new();
        for id in networks {
            let network = self.network(id);
            if seen_by.contains(&network) {
                continue;
            }
            seen_by.push(network);
            let index = self.zones.len() as u32;
            match self.visible.insert((network, name.clone()), self_link.clone()) {
                None => self.networks[network as usize].managed.insert(&name, index),
                Some(other) => {
                    let both = [other, self_link.clone()];
                    self.errors.push(CompileError::SameName(id.clone(), name.to_string(), both));
                }
            }
        }
        let place = Place::Managed(self_link.clone(), seen_by);
        self.zones.push(ZoneEntry { place, dns_name: name, contents });
    }

    /// Step 4 of the order for every network: networks without instances share one zone.
    fn internal(&mut self, by_network: &[(u32, Vec<&slice::dns::DnsInstance>)]) {
        let common = self.synthetic(google::internal_zones(&[]), Place::Internal);
        for network in &mut self.networks {
            network.internal = common.clone();
        }
        for (network, instances) in by_network {
            let own = self.synthetic(google::internal_zones(instances), Place::Internal);
            self.networks[*network as usize].internal = own;
        }
    }

    fn synthetic(&mut self, zones: Vec<google::SyntheticZone>, place: Place) -> Apexes {
        let mut apexes = Apexes::default();
        for google::SyntheticZone { dns_name, record_sets } in zones {
            let Ok(name) = Name::parse(&dns_name) else {
                self.errors.push(CompileError::Instance(dns_name));
                continue;
            };
            // A link for diagnostics only; these zones are no resources.
            match compile::zone(&SelfLink::new("internal"), &name, &record_sets) {
                Ok(zone) => {
                    apexes.insert(&name, self.zones.len() as u32);
                    let place = match place {
                        Place::Public => Place::Public,
                        _ => Place::Internal,
                    };
                    let contents = Contents::Records(zone);
                    self.zones.push(ZoneEntry { place, dns_name: name, contents });
                }
                Err(errors) => self.errors.extend(errors.into_iter().map(|error| {
                    CompileError::Instance(format!("{}: {}", error.record, error.problem))
                })),
            }
        }
        apexes.close();
        apexes
    }
}

/// The zone names that one step of the order knows in one network, found by longest suffix.
#[derive(Clone, Default)]
pub(crate) struct Apexes {
    /// Bit `n` is set where a zone name has `n` labels: only suffixes of these lengths are tried.
    lengths: u128,
    /// Hash of the zone name and the zone, sorted by hash.
    zones: Vec<(u64, u32)>,
}

impl Apexes {
    fn insert(&mut self, name: &Name, zone: u32) {
        let mut asked = Asked::new();
        asked.set(name.as_wire());
        self.lengths |= 1 << asked.labels();
        self.zones.push((asked.hash(0), zone));
    }

    /// No more zones come.
    fn close(&mut self) {
        self.zones.sort_unstable();
        self.zones.shrink_to_fit();
    }

    /// The zones whose name is a suffix of the asked name, the longest first.
    pub(crate) fn matching<'a>(
        &'a self,
        snapshot_zones: &'a [ZoneEntry],
        asked: &'a Asked,
    ) -> impl Iterator<Item = u32> + 'a {
        let mut lengths = self.lengths & (u128::MAX >> (127 - asked.labels()));
        std::iter::from_fn(move || {
            while lengths != 0 {
                let labels = 127 - lengths.leading_zeros() as usize;
                lengths &= !(1 << labels);
                let skipped = asked.labels() - labels;
                let hash = asked.hash(skipped);
                let begin = self.zones.partition_point(|(held, _)| *held < hash);
                let same = self.zones[begin..].iter().take_while(|(held, _)| *held == hash);
                for (_, zone) in same {
                    let name = snapshot_zones[*zone as usize].dns_name.as_wire();
                    if name == asked.suffix(skipped) {
                        return Some(*zone);
                    }
                }
            }
            None
        })
    }
}

/// What a refusal to resolve is called in the one registry.
pub(crate) const fn reason_of_absence(place: &Place) -> Reason {
    match place {
        Place::Managed(..) => Reason::DnsNxdomain,
        Place::Internal | Place::Public => Reason::DnsNameNotFound,
    }
}
