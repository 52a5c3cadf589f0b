//! Networks, subnetworks and peerings: ranges, overlaps, purposes (private-connectivity 5.1, 5.2).

use super::addresses::Book;
use super::shared_vpc::{self, Shared};
use crate::decode::Text;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::network::{SubnetPurpose, SubnetRole};
use crate::model::{Model, Scope};
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use slice::Purpose;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A subnetwork whose range could be read.
#[derive(Debug)]
pub(crate) struct Subnet {
    pub(crate) link: SelfLink,
    pub(crate) region: Arc<str>,
    pub(crate) range: Ipv4Net,
    pub(crate) purpose: Purpose,
    /// A backup proxy-only subnetwork: its range is taken, but nothing uses it here.
    pub(crate) backup: bool,
    pub(crate) at: Mark,
}

/// A peering as one side declares it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) network: NetworkId,
    pub(crate) active: bool,
    pub(crate) export_custom_routes: bool,
    pub(crate) import_custom_routes: bool,
    /// Subnet routes of ranges that are not private: offered unless said otherwise, taken only if
    /// said so (5.2).
    pub(crate) export_public: bool,
    pub(crate) import_public: bool,
    at: Mark,
}

/// A network while the topology is lowered.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) subnets: Vec<Subnet>,
    /// Start of each range → subnetwork.
    starts: BTreeMap<u32, usize>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) book: Book,
    /// A subnetwork could not be read: that an address fits none means nothing.
    pub(crate) incomplete: bool,
}

impl Net {
    /// The subnetwork that contains an address.
    pub(crate) fn containing(&self, address: Ipv4Addr) -> Option<usize> {
        let (_, index) = self.starts.range(..=u32::from(address)).next_back()?;
        self.subnets[*index].range.contains(&address).then_some(*index)
    }

    /// Subnetworks of a purpose in a region.
    pub(crate) fn of<'n>(
        &'n self,
        purpose: Purpose,
        region: &'n str,
    ) -> impl Iterator<Item = usize> + 'n {
        let fits = move |subnet: &Subnet| {
            subnet.purpose == purpose && *subnet.region == *region && !subnet.backup
        };
        (0..self.subnets.len()).filter(move |index| fits(&self.subnets[*index]))
    }
}

/// All networks.
#[derive(Debug, Default)]
pub(crate) struct Fabric {
    pub(crate) nets: HashMap<NetworkId, Net>,
    /// Networks in the order of the files.
    pub(crate) order: Vec<NetworkId>,
    /// Where each subnetwork is.
    pub(crate) subnets: HashMap<SelfLink, (NetworkId, usize)>,
    /// Which project may use whose networks.
    pub(crate) shared: Shared,
}

pub(crate) fn network_id(link: &SelfLink) -> NetworkId {
    NetworkId::new(link.project(), link.name())
}

/// Reads networks, subnetworks and peerings.
pub(crate) fn build(model: &Model, findings: &mut Findings) -> Fabric {
    let mut fabric = Fabric { shared: shared_vpc::read(model, findings), ..Fabric::default() };
    for network in &model.networks.items {
        let id = network_id(&network.link);
        fabric.order.push(id.clone());
        fabric.nets.insert(id, Net::default());
    }
    let unread = model.unread.iter().any(|text| text.contains("ipCidrRange"));
    if unread || model.subnetworks.has_broken() {
        fabric.nets.values_mut().for_each(|net| net.incomplete = true);
    }
    subnetworks(model, &mut fabric, findings);
    for (_, net) in fabric.nets.iter() {
        overlaps_inside(net, findings);
    }
    peerings(model, &mut fabric, findings);
    overlaps_with_peers(&fabric, findings);
    fabric
}

fn subnetworks(model: &Model, fabric: &mut Fabric, findings: &mut Findings) {
    let mut active: HashMap<(NetworkId, Arc<str>), Mark> = HashMap::new();
    for item in &model.subnetworks.items {
        let raw = &item.raw;
        let network = model.find(&model.networks, &raw.network, &item.scope(), findings);
        let range = range(&raw.ip_cidr_range, findings);
        let purpose = match raw.purpose.as_ref().map(|purpose| purpose.value) {
            // It may be the purpose that could not be read.
            None if raw.faulty => None,
            None | Some(SubnetPurpose::Private) => Some(Purpose::Private),
            Some(SubnetPurpose::RegionalManagedProxy) => Some(Purpose::RegionalManagedProxy),
            Some(SubnetPurpose::PrivateServiceConnect) => Some(Purpose::PrivateServiceConnect),
            Some(
                SubnetPurpose::GlobalManagedProxy
                | SubnetPurpose::PrivateNat
                | SubnetPurpose::PeerMigration,
            ) => {
                findings.error(
                    Code::NotYetSupported,
                    raw.purpose.as_ref().map_or(raw.at, |p| p.at),
                    "subnetworks of this purpose are not supported yet; as ordinary ones they would behave otherwise",
                    "remove the subnetwork, or use PRIVATE, REGIONAL_MANAGED_PROXY or PRIVATE_SERVICE_CONNECT",
                );
                None
            }
        };
        let Some(id) = network.map(|network| network_id(&network.link)) else { continue };
        let Some(net) = fabric.nets.get_mut(&id) else { continue };
        let (Some(range), Some(purpose)) = (range, purpose) else {
            net.incomplete = true;
            continue;
        };
        let backup = raw.role.as_ref().is_some_and(|role| role.value == SubnetRole::Backup);
        if let Some(role) = &raw.role
            && purpose != Purpose::RegionalManagedProxy
        {
            findings.error(
                Code::ProxySubnet,
                role.at,
                "`role` is for proxy-only subnetworks",
                "remove `role`, or set purpose: REGIONAL_MANAGED_PROXY",
            );
        }
        if purpose == Purpose::RegionalManagedProxy {
            if range.prefix_len() > 26 {
                findings.error(
                    Code::ProxySubnet,
                    raw.ip_cidr_range.at,
                    format!("{range} is too small; a proxy-only subnetwork has at least 64 addresses (/26)"),
                    "widen the range to /26 or more; /23 is recommended",
                );
            }
            let key = (id.clone(), Arc::from(item.region()));
            if backup {
            } else if let Some(first) = active.get(&key) {
                let first = findings.position(*first);
                findings.error(
                    Code::ProxySubnet,
                    raw.at,
                    format!("{id} has an active proxy-only subnetwork in {} already, at {first}; there is one per region", item.region()),
                    "set role: BACKUP, or remove one of the two",
                );
            } else {
                active.insert(key, raw.at);
            }
        }
        let index = net.subnets.len();
        net.subnets.push(Subnet {
            link: item.link.clone(),
            region: item.region().into(),
            range,
            purpose,
            backup,
            at: raw.ip_cidr_range.at,
        });
        net.starts.entry(u32::from(range.network())).or_insert(index);
        fabric.subnets.insert(item.link.clone(), (id, index));
    }
}

/// A primary IPv4 range: canonical, /4 to /29, and not one that no network may use (the bounds are
/// (unconfirmed)).
fn range(text: &Text, findings: &mut Findings) -> Option<Ipv4Net> {
    let mut refuse = |what: String, fix: String| {
        findings.error(Code::InvalidRange, text.at, what, fix);
        None
    };
    let Ok(range) = text.parse::<Ipv4Net>() else {
        return refuse(
            format!("`{}` is no IPv4 range in CIDR notation", text.value),
            "write a range such as 10.0.0.0/24".into(),
        );
    };
    if range.trunc() != range {
        return refuse(
            format!("{range} has bits set behind its prefix; a range begins at its first address"),
            format!("write {}", range.trunc()),
        );
    }
    if !(4..=29).contains(&range.prefix_len()) {
        return refuse(
            format!("{range} has the wrong size; primary ranges are /4 to /29"),
            "choose a prefix length from 4 to 29".into(),
        );
    }
    for taken in [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "199.36.153.4/30",
        "199.36.153.8/30",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ] {
        let taken: Ipv4Net = taken.parse().expect("the literals above are ranges");
        if taken.contains(&range) || range.contains(&taken) {
            return refuse(
                format!("{range} overlaps {taken}, which no subnetwork may use"),
                "choose a private range, such as 10.0.0.0/24".into(),
            );
        }
    }
    Some(range)
}

/// Subnetworks in the order of their addresses; each pair of overlapping neighbours is reported at
/// the one that stands later in the files.
fn sweep<'s>(
    mut all: Vec<(&'s NetworkId, &'s Subnet)>,
    mut overlap: impl FnMut((&'s NetworkId, &'s Subnet), (&'s NetworkId, &'s Subnet)),
) {
    all.sort_by_key(|(_, subnet)| (subnet.range.network(), subnet.range.prefix_len(), subnet.at));
    let mut widest: Option<(&NetworkId, &Subnet)> = None;
    for one in all {
        if let Some(before) = widest
            && before.1.range.broadcast() >= one.1.range.network()
        {
            if before.1.at <= one.1.at { overlap(before, one) } else { overlap(one, before) }
        }
        if widest.is_none_or(|w| w.1.range.broadcast() < one.1.range.broadcast()) {
            widest = Some(one);
        }
    }
}

fn overlaps_inside(net: &Net, findings: &mut Findings) {
    let nobody = NetworkId::new("", "");
    sweep(
        net.subnets.iter().map(|subnet| (&nobody, subnet)).collect(),
        |(_, first), (_, second)| {
            findings.error(
                Code::SubnetOverlap,
                second.at,
                format!(
                    "{} overlaps {} of `{}` ({}); ranges are unique in a network",
                    second.range,
                    first.range,
                    first.link.name(),
                    findings.position(first.at)
                ),
                "choose a range that is free in this network",
            );
        },
    );
}

/// Peerings of one network (5.2; an older figure).
const PEERINGS_MAX: usize = 25;

fn peerings(model: &Model, fabric: &mut Fabric, findings: &mut Findings) {
    for item in &model.networks.items {
        let id = network_id(&item.link);
        if let Some(one_more) = item.raw.peerings.get(PEERINGS_MAX)
            && !model.limits_lifted
        {
            findings.error(
                Code::PeeringInvalid,
                one_more.at,
                format!("{id} has more than {PEERINGS_MAX} peerings"),
                "remove some, or write limits: NONE at the top of a document",
            );
        }
        let mut names = HashSet::new();
        let mut others = HashSet::new();
        for peering in &item.raw.peerings {
            if !names.insert(peering.name.as_str()) {
                findings.error(
                    Code::DuplicateEntry,
                    peering.name.at,
                    format!("{id} has two peerings named `{}`", *peering.name),
                    "rename one of the two",
                );
            }
            let Some(other) =
                model.find(&model.networks, &peering.network, &item.scope(), findings)
            else {
                continue;
            };
            let other = network_id(&other.link);
            if other == id {
                findings.error(
                    Code::PeeringInvalid,
                    peering.network.at,
                    format!("{id} is peered with itself"),
                    "name the other network",
                );
            } else if !others.insert(other.clone()) {
                findings.error(
                    Code::PeeringInvalid,
                    peering.network.at,
                    format!("{id} is peered with {other} twice"),
                    "remove one of the two peerings",
                );
            } else if let Some(net) = fabric.nets.get_mut(&id) {
                net.peers.push(Peer {
                    name: peering.name.value.clone(),
                    network: other,
                    active: false,
                    export_custom_routes: peering.export_custom_routes == Some(true),
                    import_custom_routes: peering.import_custom_routes == Some(true),
                    export_public: peering.export_subnet_routes_with_public_ip != Some(false),
                    import_public: peering.import_subnet_routes_with_public_ip == Some(true),
                    at: peering.network.at,
                });
            }
        }
    }
    let declared: HashSet<(NetworkId, NetworkId)> = fabric
        .nets
        .iter()
        .flat_map(|(id, net)| net.peers.iter().map(move |peer| (id.clone(), peer.network.clone())))
        .collect();
    for (id, net) in &mut fabric.nets {
        for peer in &mut net.peers {
            peer.active = declared.contains(&(peer.network.clone(), id.clone()));
            if !peer.active {
                findings.warning(
                    Code::PeeringOneSided,
                    peer.at,
                    format!("the peering `{}` is INACTIVE; {} does not declare a peering with {id}", peer.name, peer.network),
                    format!("add to {}: peerings: [{{name: to-{}, network: projects/{}/global/networks/{}}}]", peer.network, id.name, id.project, id.name),
                );
            }
        }
    }
}

/// Each network's ranges against its peers' and its peers' other peers': seen from the network in
/// the middle, all its neighbours and itself must be free of overlaps.
fn overlaps_with_peers(fabric: &Fabric, findings: &mut Findings) {
    let mut neighbours: HashMap<&NetworkId, HashSet<&NetworkId>> = HashMap::new();
    for (id, net) in &fabric.nets {
        for peer in &net.peers {
            neighbours.entry(id).or_default().insert(&peer.network);
            neighbours.entry(&peer.network).or_default().insert(id);
        }
    }
    let mut reported = HashSet::new();
    for id in &fabric.order {
        let Some(around) = neighbours.get(id) else { continue };
        let group = around.iter().copied().chain([id]);
        let all = group
            .filter_map(|id| fabric.nets.get(id).map(|net| (id, net)))
            .flat_map(|(id, net)| net.subnets.iter().map(move |subnet| (id, subnet)))
            .collect();
        sweep(all, |(first_net, first), (second_net, second)| {
            if first_net == second_net || !reported.insert((first.at, second.at)) {
                return;
            }
            let how = if first_net == id || second_net == id {
                format!("{first_net} and {second_net} are peered")
            } else {
                format!("both {first_net} and {second_net} are peers of {id}")
            };
            findings.error(
                Code::SubnetOverlap,
                second.at,
                format!(
                    "{} overlaps {} of `{}` in {first_net} ({}); {how}, and peers may not overlap",
                    second.range,
                    first.range,
                    first.link.name(),
                    findings.position(first.at)
                ),
                "choose another range, or remove the peering",
            );
        });
    }
}

/// Where something with an address is to be placed.
pub(crate) struct Location<'t> {
    pub(crate) network: Option<&'t Text>,
    pub(crate) subnetwork: Option<&'t Text>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) scope: Scope,
    pub(crate) at: Mark,
    /// For messages: `the forwarding rule`.
    pub(crate) called: &'static str,
}

/// Finds network and subnetwork of something with an address: named, by the address, or the only
/// ordinary one of the region; and whether its project may use them.
pub(crate) fn locate(
    model: &Model,
    fabric: &Fabric,
    location: &Location<'_>,
    findings: &mut Findings,
) -> Option<(NetworkId, usize)> {
    let (id, index) = find(model, fabric, location, findings)?;
    let Location { scope, at, called, .. } = location;
    let project = scope.project.as_deref().unwrap_or(&id.project);
    let at = location.subnetwork.or(location.network).map_or(*at, |text| text.at);
    fabric.shared.check(project, &id.project, at, called, findings).then_some((id, index))
}

fn find(
    model: &Model,
    fabric: &Fabric,
    location: &Location<'_>,
    findings: &mut Findings,
) -> Option<(NetworkId, usize)> {
    let Location { network, subnetwork, address, scope, at, called } = location;
    let region = scope.region.clone().unwrap_or_else(|| "".into());
    if let Some(subnetwork) = subnetwork {
        let subnet = model.find(&model.subnetworks, subnetwork, scope, findings);
        let named = match network {
            Some(network) => {
                Some(network_id(&model.find(&model.networks, network, scope, findings)?.link))
            }
            None => None,
        };
        let (id, index) = fabric.subnets.get(&subnet?.link)?.clone();
        if let Some(named) = named
            && named != id
        {
            findings.error(
                Code::NetworkMismatch,
                subnetwork.at,
                format!("the subnetwork `{}` is in {id}, not in {named}", subnetwork.value),
                "name a subnetwork of the network, or remove `network`",
            );
            return None;
        }
        let subnet = &fabric.nets[&id].subnets[index];
        if subnet.region != region {
            findings.error(
                Code::RegionMismatch,
                subnetwork.at,
                format!(
                    "{called} is in {region}, the subnetwork `{}` in {}",
                    subnet.link.name(),
                    subnet.region
                ),
                "name a subnetwork of the same region",
            );
            return None;
        }
        return Some((id, index));
    }
    let id = match network {
        Some(network) => network_id(&model.find(&model.networks, network, scope, findings)?.link),
        None => {
            // Google's default for the field is the network of this name.
            let project = scope.project.clone().unwrap_or_else(|| "".into());
            let id = NetworkId::new(&project, "default");
            if !fabric.nets.contains_key(&id) {
                findings.error(
                    Code::MissingField,
                    *at,
                    format!("{called} names neither `network` nor `subnetwork`, and project {project} has no network `default`"),
                    "add `network` or `subnetwork`",
                );
                return None;
            }
            id
        }
    };
    let net = fabric.nets.get(&id)?;
    if let Some(address) = address
        && let Some(index) = net.containing(*address)
        && net.subnets[index].region == region
    {
        return Some((id, index));
    }
    let mut ordinary = net.of(Purpose::Private, &region);
    match (ordinary.next(), ordinary.next()) {
        (Some(index), None) => Some((id.clone(), index)),
        (None, _) => {
            if !net.incomplete {
                findings.error(
                    Code::SubnetNotFound,
                    *at,
                    format!("{id} has no ordinary subnetwork in {region}; {called} needs an address of one"),
                    format!("add a subnetwork with purpose PRIVATE in {region}"),
                );
            }
            None
        }
        (Some(_), Some(_)) => {
            findings.error(
                Code::SubnetAmbiguous,
                *at,
                format!("{id} has more than one ordinary subnetwork in {region}; {called} does not say which"),
                "add `subnetwork`",
            );
            None
        }
    }
}
