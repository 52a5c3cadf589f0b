//! The immutable snapshot: every network's zones, compiled once however many networks see them.

use crate::Name;
use crate::asked::Asked;
use crate::clients::Clients;
use crate::compile::{self, Problem, ZoneError};
use crate::google;
use crate::targets::Targets;
use crate::zone::Zone;
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::dns::{
    DnsInstance, HealthCheckedTarget, NameServer, PrivateDnsSlice, ResponsePolicy, RuleAction,
    ServerPolicy, ZoneKind,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What `private-dns` answers from: all networks of a slice, compiled.
pub struct Snapshot {
    pub(crate) zones: Vec<ZoneEntry>,
    pub(crate) networks: Vec<Network>,
    /// The simulated public DNS, the root last.
    pub(crate) public: Apexes,
    index: HashMap<NetworkId, u32>,
    clients: Clients,
    health_checked_targets: Vec<HealthCheckedTarget>,
}

/// Something that can answer a name, with what people call it.
pub(crate) struct ZoneEntry {
    pub(crate) place: Place,
    pub(crate) dns_name: Name,
    pub(crate) contents: Contents,
}

/// In which step of the resolution order it stands (private-connectivity 4.1).
pub(crate) enum Place {
    /// An outbound server policy.
    ServerPolicy(SelfLink),
    /// A rule of a response policy. The name is the selector, or what a wildcard stands below.
    ResponsePolicyRule { policy: SelfLink, rule: Box<str>, wildcard: bool },
    /// A managed zone and the networks that see it.
    Managed(SelfLink, Arc<[u32]>),
    /// Compute Engine internal names.
    Internal,
    /// The simulated public DNS.
    Public,
}

/// What it holds.
pub(crate) enum Contents {
    /// Records.
    Records(Zone),
    /// Resolution starts again as this network; none where the zone is deactivated.
    Peering(Option<u32>),
    /// The name servers that are asked.
    Forwarding(Arc<[NameServer]>),
    /// The one name of a response policy rule.
    LocalData(Zone),
    /// The response policy does not matter.
    Bypass,
}

/// One network's own part of the resolution order.
pub(crate) struct Network {
    pub(crate) id: NetworkId,
    /// Step 1: the outbound server policy.
    pub(crate) alternative: Option<u32>,
    /// Step 2: the response policy.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Step 3.
    pub(crate) managed: Apexes,
    /// Step 4.
    pub(crate) internal: Apexes,
    /// `enableLogging` of its server policy.
    logging: Option<bool>,
}

/// A response policy: rules for one name each, and rules for all names below one.
#[derive(Default)]
pub(crate) struct Rules {
    exact: Apexes,
    wildcards: Apexes,
}

impl Rules {
    /// The one rule that a question matches: the longest selector (4.2).
    pub(crate) fn matching(&self, zones: &[ZoneEntry], asked: &Asked) -> Option<u32> {
        let own = |index: &u32| zones[*index as usize].dns_name.as_wire() == asked.suffix(0);
        self.exact
            .matching(zones, asked)
            .next()
            .filter(own)
            .or_else(|| self.wildcards.matching(zones, asked).find(|index| !own(index)))
    }
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

    /// What the server policy of the network says of query logs; nothing where it says nothing.
    pub fn logging(&self) -> Option<bool> {
        self.snapshot.networks[self.network as usize].logging
    }
}

/// Why a slice cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// A mistake in a zone.
    Zone(ZoneError),
    /// Two zones of one name are visible to one network (4.2): network, name, both zones.
    SameName(NetworkId, String, [SelfLink; 2]),
    /// Two policies of one kind apply to one network (4.2): network and both policies.
    SamePolicy(NetworkId, [SelfLink; 2]),
    /// Two rules of a response policy have one name: the policy and the name.
    SameRule(SelfLink, String),
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
            CompileError::SamePolicy(network, [first, second]) => {
                write!(f, "policies {first} and {second}: both apply to the network {network}")
            }
            CompileError::SameRule(policy, name) => {
                write!(f, "response policy {policy}: two rules have the dnsName `{name}`")
            }
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
        let PrivateDnsSlice { network, zones, instances, views, policies, response_policies } =
            slice;
        let mut building = Building::default();
        building.network(network);
        let mut by_network: BTreeMap<u32, Vec<&DnsInstance>> = BTreeMap::new();
        for instance in instances {
            let network = building.network(&instance.network);
            by_network.entry(network).or_default().push(instance);
        }
        for zone in zones {
            building.zone(zone, &by_network);
        }
        for policy in policies {
            building.server_policy(policy);
        }
        for policy in response_policies {
            building.response_policy(policy);
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
        let Building { zones, mut networks, index, errors, targets, .. } = building;
        if !errors.is_empty() {
            return Err(errors);
        }
        for network in &mut networks {
            network.managed.close();
            network.internal.close();
        }
        let health_checked_targets = targets.into_all();
        Ok(Snapshot { zones, networks, public, index, clients, health_checked_targets })
    }

    /// The targets of routing policies whose health somebody has to know, each once;
    /// [`Circumstances`](crate::Circumstances) speaks of them by position.
    pub fn health_checked_targets(&self) -> &[HealthCheckedTarget] {
        &self.health_checked_targets
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
            Contents::Records(zone) | Contents::LocalData(zone) => zone.memory(),
            Contents::Peering(_) | Contents::Forwarding(_) | Contents::Bypass => 0,
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
    /// Which server policy and which response policy apply to a network.
    applied: [HashMap<u32, SelfLink>; 2],
    targets: Targets,
    errors: Vec<CompileError>,
}

impl Building {
    /// The network's position; a network that nothing else tells about has no zones.
    fn network(&mut self, id: &NetworkId) -> u32 {
        if let Some(index) = self.index.get(id) {
            return *index;
        }
        let index = self.networks.len() as u32;
        self.networks.push(Network {
            id: id.clone(),
            alternative: None,
            rules: None,
            managed: Apexes::default(),
            internal: Apexes::default(),
            logging: None,
        });
        self.index.insert(id.clone(), index);
        index
    }

    /// The name of something, unless it is none.
    fn named(&mut self, of: &SelfLink, text: &str) -> Option<Name> {
        match Name::parse(text) {
            Ok(name) => Some(name),
            Err(why) => {
                let problem = Problem::Name(why);
                self.errors.push(CompileError::Zone(ZoneError::of_zone(of.clone(), problem)));
                None
            }
        }
    }

    fn compiled(&mut self, zone: Result<Zone, Vec<ZoneError>>) -> Option<Zone> {
        match zone {
            Ok(zone) => Some(zone),
            Err(errors) => {
                self.errors.extend(errors.into_iter().map(CompileError::Zone));
                None
            }
        }
    }

    fn zone(
        &mut self,
        zone: &slice::dns::ManagedZone,
        instances: &BTreeMap<u32, Vec<&DnsInstance>>,
    ) {
        let slice::dns::ManagedZone { self_link, dns_name, networks, kind } = zone;
        let Some(name) = self.named(self_link, dns_name) else { return };
        let mut seen_by: Vec<u32> = Vec::new();
        for id in networks {
            let network = self.network(id);
            if !seen_by.contains(&network) {
                seen_by.push(network);
            }
        }
        let seen_by: Arc<[u32]> = seen_by.into();
        let contents = match kind {
            ZoneKind::Private(record_sets) => {
                let zone = compile::zone(self_link, &name, record_sets, &mut self.targets);
                match self.compiled(zone) {
                    Some(zone) => Contents::Records(zone),
                    None => return,
                }
            }
            ZoneKind::Peering(target) => Contents::Peering(Some(self.network(target))),
            ZoneKind::Deactivated => Contents::Peering(None),
            ZoneKind::Forwarding(servers) => Contents::Forwarding(servers.as_slice().into()),
            ZoneKind::ReverseLookup => {
                // Each network has its own instances, hence its own records.
                for network in seen_by.iter() {
                    let own = instances.get(network).map_or(&[][..], Vec::as_slice);
                    let mut record_sets = google::reverse_records(own);
                    record_sets.retain(|set| {
                        Name::parse(&set.name).is_ok_and(|owner| owner.is_within(&name))
                    });
                    let zone = compile::zone(self_link, &name, &record_sets, &mut self.targets);
                    let Some(zone) = self.compiled(zone) else { continue };
                    let place = Place::Managed(self_link.clone(), seen_by.clone());
                    self.bind(&[*network], self_link, &name);
                    let contents = Contents::Records(zone);
                    self.zones.push(ZoneEntry { place, dns_name: name.clone(), contents });
                }
                return;
            }
        };
        self.bind(&seen_by, self_link, &name);
        let place = Place::Managed(self_link.clone(), seen_by);
        self.zones.push(ZoneEntry { place, dns_name: name, contents });
    }

    /// Lets networks see the zone that comes next.
    fn bind(&mut self, networks: &[u32], self_link: &SelfLink, name: &Name) {
        let index = self.zones.len() as u32;
        for network in networks {
            let held = &mut self.networks[*network as usize];
            match self.visible.insert((*network, name.clone()), self_link.clone()) {
                None => held.managed.insert(name, index),
                Some(other) => {
                    let (id, both) = (held.id.clone(), [other, self_link.clone()]);
                    self.errors.push(CompileError::SameName(id, name.to_string(), both));
                }
            }
        }
    }

    /// Applies a policy of one kind to networks, each of which has one of the kind at most.
    fn apply(
        &mut self,
        kind: usize,
        self_link: &SelfLink,
        networks: &[NetworkId],
        set: impl Fn(&mut Network),
    ) {
        for id in networks {
            let network = self.network(id);
            match self.applied[kind].insert(network, self_link.clone()) {
                Some(other) if other != *self_link => {
                    let both = [other, self_link.clone()];
                    self.errors.push(CompileError::SamePolicy(id.clone(), both));
                }
                _ => set(&mut self.networks[network as usize]),
            }
        }
    }

    fn server_policy(&mut self, policy: &ServerPolicy) {
        let ServerPolicy { self_link, networks, alternative_name_servers, enable_logging, .. } =
            policy;
        let index = (!alternative_name_servers.is_empty()).then_some(self.zones.len() as u32);
        if index.is_some() {
            self.zones.push(ZoneEntry {
                place: Place::ServerPolicy(self_link.clone()),
                dns_name: Name::root(),
                contents: Contents::Forwarding(alternative_name_servers.as_slice().into()),
            });
        }
        self.apply(0, self_link, networks, |network| {
            network.alternative = index;
            network.logging = *enable_logging;
        });
    }

    fn response_policy(&mut self, policy: &ResponsePolicy) {
        let ResponsePolicy { self_link, networks, rules: written } = policy;
        let mut rules = Rules::default();
        let mut known = HashSet::new();
        for rule in written {
            let Some(selector) = self.named(self_link, &rule.dns_name) else { continue };
            if !known.insert(selector.clone()) {
                let name = selector.to_string();
                self.errors.push(CompileError::SameRule(self_link.clone(), name));
                continue;
            }
            let contents = match &rule.action {
                RuleAction::BypassResponsePolicy => Contents::Bypass,
                RuleAction::LocalData(record_sets) => {
                    let zone = compile::local_data(self_link, &selector, record_sets);
                    match self.compiled(zone) {
                        Some(zone) => Contents::LocalData(zone),
                        None => continue,
                    }
                }
            };
            let index = self.zones.len() as u32;
            let parent = selector.below_wildcard();
            match &parent {
                Some(parent) => rules.wildcards.insert(parent, index),
                None => rules.exact.insert(&selector, index),
            }
            let place = Place::ResponsePolicyRule {
                policy: self_link.clone(),
                rule: rule.name.as_str().into(),
                wildcard: parent.is_some(),
            };
            let dns_name = parent.unwrap_or(selector);
            self.zones.push(ZoneEntry { place, dns_name, contents });
        }
        rules.exact.close();
        rules.wildcards.close();
        let rules = Arc::new(rules);
        self.apply(1, self_link, networks, |network| network.rules = Some(rules.clone()));
    }

    /// Step 4 of the order for every network: networks without instances share one zone.
    fn internal(&mut self, by_network: &BTreeMap<u32, Vec<&DnsInstance>>) {
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
            match compile::zone(&SelfLink::new("internal"), &name, &record_sets, &mut self.targets)
            {
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
