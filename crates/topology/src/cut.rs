//! Which programs a topology needs, and each program's slice of it.

use names::{NetworkId, SelfLink};
use slice::apigee::ApiProxySlice;
use slice::dns::{DnsInstance, DnsView, PrivateDnsSlice, ZoneKind};
use slice::hosts::{
    Host, HostNetwork, RemoteConsumer, RemoteConsumers, RemoteProducer, RemoteProducers,
};
use slice::load_balancer::{
    Endpoints, InternalLbSlice, KnownService, LoadBalancing, NetworkEndpointGroup, NetworkTarget,
    Route, Rules, UrlMap,
};
use slice::psc::{Endpoint, EndpointAttachmentSlice, ServiceAttachmentSlice};
use slice::run::{CloudRunSlice, GoogleFrontEndSlice, IssuerSlice, MetadataSlice, Service};
use slice::{Placement, Purpose, Role, Topology};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The programs that `up` starts, each with the network in which it runs.
pub fn programs(topology: &Topology) -> Vec<(Role, Option<NetworkId>)> {
    let mut all = Vec::new();
    let listening = topology.endpoints.iter().filter(|endpoint| endpoint.listens());
    let endpoints: HashSet<_> = listening.map(|endpoint| &endpoint.network).collect();
    let mut attachments: HashSet<_> =
        topology.service_attachments.iter().map(|attachment| &attachment.network).collect();
    // Without its last attachment the program still has to say that the connections are CLOSED.
    let has_nat = |network: &&slice::Network| {
        let mut subnetworks = network.subnetworks.iter();
        subnetworks.any(|subnetwork| subnetwork.purpose == Purpose::PrivateServiceConnect)
    };
    attachments.extend(topology.networks.iter().filter(has_nat).map(|network| &network.id));
    let balancing = &topology.load_balancing;
    let rules: HashSet<_> = balancing
        .forwarding_rules
        .iter()
        .map(|rule| &rule.network)
        .chain(balancing.network_rules.iter().map(|rule| &rule.network))
        .collect();
    let organizations: HashSet<_> =
        topology.organizations.iter().map(|organization| &organization.network).collect();
    if !topology.services.is_empty() {
        all.push((Role::CloudRun, None));
    }
    let internet = NetworkId::internet();
    for id in topology.networks.iter().map(|network| &network.id).chain([&internet]) {
        for role in [Role::PrivateDns, Role::Metadata, Role::GoogleFrontEnd] {
            all.push((role, Some(id.clone())));
        }
        for (role, wanted) in [
            (Role::InternalLb, rules.contains(id)),
            (Role::ServiceAttachment, attachments.contains(id)),
            (Role::EndpointAttachment, endpoints.contains(id)),
            (Role::ApiProxy, organizations.contains(id)),
        ] {
            if wanted {
                all.push((role, Some(id.clone())));
            }
        }
    }
    all
}

/// The endpoints of a consumer network.
pub fn endpoint_attachment(topology: &Topology, network: &NetworkId) -> EndpointAttachmentSlice {
    let own = topology.endpoints.iter().filter(|endpoint| endpoint.network == *network);
    let own = own.filter(|endpoint| endpoint.listens());
    let endpoints: Vec<_> = own.cloned().collect();
    let remote = remote_producers(topology, network, &endpoints);
    EndpointAttachmentSlice { network: network.clone(), endpoints, remote }
}

/// The host of a network with what stands there about it; none where no hosts are declared.
fn host<'t>(topology: &'t Topology, network: &NetworkId) -> Option<(&'t Host, &'t HostNetwork)> {
    topology.hosts.iter().find_map(|host| {
        let here = host.networks.iter().find(|here| here.network == *network);
        here.map(|here| (host, here))
    })
}

/// The producers on other hosts that endpoints of a network lead to.
fn remote_producers(
    topology: &Topology,
    network: &NetworkId,
    endpoints: &[Endpoint],
) -> RemoteProducers {
    let Some((host_here, here)) = host(topology, network) else { return Default::default() };
    let wanted: BTreeSet<_> =
        endpoints.iter().filter_map(|endpoint| endpoint.producer_network.as_ref()).collect();
    let remote = wanted.into_iter().filter_map(|producer| {
        let (host_there, there) = host(topology, producer)?;
        let remote = RemoteProducer { network: producer.clone(), address: there.address };
        (host_there != host_here).then_some(remote)
    });
    let producers: Vec<_> = remote.collect();
    let dialled = producers.iter().any(|producer| producer.address.is_none());
    RemoteProducers { rendezvous: here.rendezvous.filter(|_| dialled), producers }
}

/// The consumers on other hosts whose endpoints lead to a network.
fn remote_consumers(
    topology: &Topology,
    network: &NetworkId,
    endpoints: &[Endpoint],
) -> RemoteConsumers {
    let Some((host_here, here)) = host(topology, network) else { return Default::default() };
    if here.address.is_some() {
        return RemoteConsumers { address: here.address, dials: Vec::new() };
    }
    let consumers = endpoints.iter().filter(|endpoint| endpoint.producer_network.is_some());
    let consumers: BTreeSet<_> = consumers.map(|endpoint| &endpoint.network).collect();
    let dials = consumers.into_iter().filter_map(|consumer| {
        let (host_there, there) = host(topology, consumer)?;
        let address = there.rendezvous.filter(|_| host_there != host_here)?;
        Some(RemoteConsumer { network: consumer.clone(), address })
    });
    RemoteConsumers { address: None, dials: dials.collect() }
}

/// The service attachments of a producer network, and every endpoint that targets one, or one that
/// does not exist: it may have been of this network, and its connection is CLOSED then.
pub fn service_attachment(topology: &Topology, network: &NetworkId) -> ServiceAttachmentSlice {
    let own =
        topology.service_attachments.iter().filter(|attachment| attachment.network == *network);
    let attachments: Vec<_> = own.cloned().collect();
    let links: HashSet<&SelfLink> =
        attachments.iter().map(|attachment| &attachment.self_link).collect();
    let endpoints = topology
        .endpoints
        .iter()
        .filter(|endpoint| links.contains(&endpoint.target) || endpoint.producer_network.is_none());
    let endpoints: Vec<_> = endpoints.cloned().collect();
    let remote = remote_consumers(topology, network, &endpoints);
    let subnetworks = topology.networks.iter().filter(|own| own.id == *network);
    let nat_subnetworks = subnetworks
        .flat_map(|own| &own.subnetworks)
        .filter(|subnetwork| subnetwork.purpose == Purpose::PrivateServiceConnect)
        .map(|subnetwork| subnetwork.range)
        .collect();
    let network = network.clone();
    ServiceAttachmentSlice { network, attachments, endpoints, nat_subnetworks, remote }
}

/// The forwarding rules of a network and all that they lead to.
pub fn internal_lb(topology: &Topology, network: &NetworkId) -> InternalLbSlice {
    let all = &topology.load_balancing;
    let rules: Vec<_> =
        all.forwarding_rules.iter().filter(|rule| rule.network == *network).cloned().collect();
    let maps: HashSet<&SelfLink> = rules.iter().map(|rule| &rule.target.url_map).collect();
    let url_maps: Vec<UrlMap> =
        all.url_maps.iter().filter(|map| maps.contains(&map.self_link)).cloned().collect();
    let network_rules: Vec<_> =
        all.network_rules.iter().filter(|rule| rule.network == *network).cloned().collect();
    let mut services: HashSet<&SelfLink> = url_maps.iter().flat_map(targets).collect();
    services.extend(network_rules.iter().filter_map(|rule| match &rule.target {
        NetworkTarget::TcpProxy(proxy) => Some(&proxy.service),
        NetworkTarget::PassthroughService(service) => Some(service),
        NetworkTarget::Instance(_) => None,
    }));
    let backend_services: Vec<_> = all
        .backend_services
        .iter()
        .filter(|service| services.contains(&service.self_link))
        .cloned()
        .collect();
    let passthrough_services: Vec<_> = all
        .passthrough_services
        .iter()
        .filter(|service| services.contains(&service.self_link))
        .cloned()
        .collect();
    let of_proxies = backend_services.iter().flat_map(|s| &s.backends).map(|one| &one.group);
    let passed = passthrough_services.iter().flat_map(|s| &s.backends).map(|one| &one.group);
    let groups: HashSet<&SelfLink> = of_proxies.chain(passed).collect();
    let mut network_endpoint_groups: Vec<_> = all
        .network_endpoint_groups
        .iter()
        .filter(|group| groups.contains(&group.self_link))
        .cloned()
        .collect();
    fill_services(&topology.services, &mut network_endpoint_groups);
    let of_proxies = backend_services.iter().map(|service| &service.health_check);
    let passed = passthrough_services.iter().map(|service| &service.health_check);
    let checks: HashSet<&SelfLink> = of_proxies.chain(passed).flatten().collect();
    let health_checks = all
        .health_checks
        .iter()
        .filter(|check| checks.contains(&check.self_link))
        .cloned()
        .collect();
    let policies: HashSet<&SelfLink> =
        backend_services.iter().filter_map(|service| service.security_policy.as_ref()).collect();
    let security_policies = all
        .security_policies
        .iter()
        .filter(|policy| policies.contains(&policy.self_link))
        .cloned()
        .collect();
    InternalLbSlice {
        network: network.clone(),
        load_balancing: LoadBalancing {
            forwarding_rules: rules,
            url_maps,
            backend_services,
            network_endpoint_groups,
            health_checks,
            network_rules,
            passthrough_services,
            security_policies,
        },
        // A program that is started by hand has nobody else who would do it.
        carries_packets: true,
    }
}

/// Backend services to which a URL map leads, those of its tests included.
pub(crate) fn targets(map: &UrlMap) -> impl Iterator<Item = &SelfLink> {
    let in_matchers = map.path_matchers.iter().flat_map(|matcher| {
        let (of_paths, of_routes): (&[_], &[_]) = match &matcher.rules {
            Rules::PathRules(rules) => (rules, &[]),
            Rules::RouteRules(rules) => (&[], rules),
        };
        let of_paths = of_paths.iter().map(|rule| &rule.route);
        std::iter::once(&matcher.default)
            .chain(of_paths)
            .chain(of_routes.iter().map(|rule| &rule.route))
    });
    let routes = std::iter::once(&map.default).chain(in_matchers);
    routes
        .flat_map(Route::services)
        .chain(map.tests.iter().filter_map(|test| test.service.as_ref()))
}

/// Tells each serverless group the services that its mask may yield: those of its own project and
/// region.
pub(crate) fn fill_services(services: &[Service], groups: &mut [NetworkEndpointGroup]) {
    let mut all: HashMap<(&str, &str), Vec<KnownService>> = HashMap::new();
    for service in services {
        let known = KnownService {
            name: service.name.clone(),
            tags: service.tags().map(str::to_owned).collect(),
        };
        all.entry((&service.project, &service.region)).or_default().push(known);
    }
    let all: HashMap<_, _> =
        all.into_iter().map(|(place, known)| (place, Arc::new(known))).collect();
    for group in groups {
        if let Endpoints::CloudRun(cloud_run) = &mut group.endpoints {
            let place = (cloud_run.project.as_str(), cloud_run.region.as_str());
            cloud_run.services = all.get(&place).cloned().unwrap_or_default();
        }
    }
}

/// The zones that a network sees, and those of every network that its peering zones lead to.
pub fn private_dns(topology: &Topology, network: &NetworkId) -> PrivateDnsSlice {
    private_dns_of(topology, network, std::iter::empty())
}

/// What all networks see: one slice to resolve as any of them.
pub fn every_private_dns(topology: &Topology) -> PrivateDnsSlice {
    let networks = topology.networks.iter().map(|network| &network.id);
    private_dns_of(topology, &NetworkId::internet(), networks)
}

fn private_dns_of<'t>(
    topology: &'t Topology,
    network: &'t NetworkId,
    others: impl Iterator<Item = &'t NetworkId>,
) -> PrivateDnsSlice {
    // A placement without a port tells where a client of a network really is: where several
    // networks share one resolver, it tells them apart by that.
    let placements = topology.placements.iter();
    let clients: Vec<_> = placements.filter(|placed| placed.declared.port() == 0).collect();
    let mut seen: HashSet<&NetworkId> = clients.iter().map(|placed| &placed.network).collect();
    seen.insert(network);
    seen.extend(others);
    // Peering seldom leads further than once, so a few rounds are cheaper than an index.
    let mut known = 0;
    while known < seen.len() {
        known = seen.len();
        for zone in &topology.zones {
            if let ZoneKind::Peering(target) = &zone.kind
                && zone.networks.iter().any(|id| seen.contains(id))
            {
                seen.insert(target);
            }
        }
    }
    let zones = topology.zones.iter();
    let zones = zones.filter(|zone| zone.networks.iter().any(|id| seen.contains(id)));
    let networks = topology.networks.iter().filter(|network| seen.contains(&network.id));
    let instances = networks.flat_map(|network| {
        network.instances.iter().map(|instance| DnsInstance {
            network: network.id.clone(),
            name: instance.name.clone(),
            zone: instance.zone.clone(),
            project: instance.project.clone(),
            address: instance.address,
        })
    });
    let view = |placed: &Placement| match placed.actual.ip() {
        IpAddr::V4(clients) => {
            Some(DnsView { clients: clients.into(), network: placed.network.clone() })
        }
        IpAddr::V6(_) => None,
    };
    PrivateDnsSlice {
        network: network.clone(),
        zones: zones.cloned().collect(),
        instances: instances.collect(),
        views: clients.into_iter().filter_map(view).collect(),
        policies: of_networks(&topology.dns_policies, |policy| &policy.networks, &seen),
        response_policies: of_networks(
            &topology.response_policies,
            |policy| &policy.networks,
            &seen,
        ),
    }
}

/// What applies to one of these networks.
fn of_networks<T: Clone>(
    all: &[T],
    networks: impl Fn(&T) -> &Vec<NetworkId>,
    seen: &HashSet<&NetworkId>,
) -> Vec<T> {
    all.iter().filter(|one| networks(one).iter().any(|id| seen.contains(id))).cloned().collect()
}

/// The metadata server of a network; the supervisor adds the signing keys.
pub fn metadata(topology: &Topology, network: &NetworkId) -> MetadataSlice {
    let own = topology.networks.iter().find(|own| own.id == *network);
    MetadataSlice {
        network: network.clone(),
        // The internet is nobody's project.
        network_project_number: own.map_or(0, |own| own.project_number),
        subnetworks: own.map(|own| own.subnetworks.clone()).unwrap_or_default(),
        service_accounts: topology.service_accounts.clone(),
        signing_keys: Vec::new(),
        // One makes them for all.
        issuer: network
            .is_internet()
            .then(|| IssuerSlice { iam: topology.iam.clone(), ..IssuerSlice::default() }),
    }
}

/// Google's front ends in a network.
pub fn google_front_end(topology: &Topology, network: &NetworkId) -> GoogleFrontEndSlice {
    let own = topology.google_apis_endpoints.iter().filter(|own| own.network == *network);
    GoogleFrontEndSlice { network: network.clone(), endpoints: own.cloned().collect() }
}

/// All Cloud Run services; the supervisor adds certificate, key and JWKS.
pub fn cloud_run(topology: &Topology) -> CloudRunSlice {
    CloudRunSlice {
        services: topology.services.clone(),
        service_accounts: topology.service_accounts.clone(),
        iam: topology.iam.clone(),
        secrets: topology.secrets.clone(),
        front_end_certificate: String::new(),
        front_end_private_key: String::new(),
        jwks: String::new(),
    }
}

/// The organisation of a tenant network, if there is one; the supervisor adds certificate, key and
/// trust.
pub fn api_proxy(topology: &Topology, network: &NetworkId) -> Option<ApiProxySlice> {
    let organization = topology.organizations.iter().find(|o| o.network == *network)?;
    Some(ApiProxySlice {
        network: network.clone(),
        northbound: topology.northbound.get(&organization.name).copied(),
        organization: organization.clone(),
        certificate: String::new(),
        private_key: String::new(),
        trust: String::new(),
    })
}
