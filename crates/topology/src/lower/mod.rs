//! Model → the normalised topology: Google's rules as validation, references resolved, defaults
//! filled in, numbers and addresses given out.

pub(crate) mod addresses;
mod api_products;
mod apigee;
mod backends;
mod balancing;
mod certificates;
mod consumer_policy;
mod dns;
mod external;
pub(crate) mod fabric;
mod firewalls;
mod google_apis;
mod groups;
mod health_checks;
mod hosts;
mod hubs;
mod iam;
mod network_rules;
mod ours;
mod passthrough;
mod policies;
mod psc;
mod route_rules;
mod routes;
mod rules;
mod secrets;
mod security;
mod services;
mod shared_vpc;
mod static_routes;
mod tls_policies;
mod url_maps;
mod vpc_access;

use crate::diagnostic::{Findings, Mark};
use crate::model::Model;
use crate::reference::Place;
use addresses::Addresses;
use fabric::Fabric;
use names::{NetworkId, SelfLink};
use rules::Rule;
use slice::{Network, Peering, Project, Subnetwork, Topology};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// The state of one lowering.
pub(crate) struct Lowering<'m> {
    model: &'m Model,
    fabric: Fabric,
    addresses: Addresses,
    topology: Topology,
    topology_certificates: HashMap<SelfLink, slice::load_balancer::SslCertificate>,
    ssl_policies: HashMap<SelfLink, slice::load_balancer::SslPolicy>,
    server_tls_policies: HashMap<SelfLink, slice::load_balancer::ServerTlsPolicy>,
    /// Forwarding rules without effect in this release.
    idle_rules: HashSet<SelfLink>,
    /// Forwarding rules that are PSC endpoints.
    endpoint_rules: HashSet<SelfLink>,
    endpoints: Vec<(Mark, slice::psc::Endpoint)>,
    /// Where a forwarding rule and a service attachment stand in the topology.
    rule_index: HashMap<SelfLink, usize>,
    network_rule_index: HashMap<SelfLink, usize>,
    attachment_index: HashMap<SelfLink, usize>,
    /// Project ids that no document names, with the one that was meant: lists repeat them.
    near_projects: RefCell<HashMap<String, Option<String>>>,
    /// Service accounts by email, in the order in which they were met.
    accounts: BTreeMap<String, slice::run::ServiceAccount>,
    consumer_policies: consumer_policy::Policies<'m>,
    /// Which revision's service account reads which secret's version.
    secret_uses: Vec<secrets::Use>,
}

/// What is looked for on this machine.
pub(crate) struct Disk<'d> {
    pub(crate) bundle_exists: &'d dyn Fn(&Path) -> bool,
    /// A file's content; none where files are not looked for.
    pub(crate) read: &'d dyn Fn(&Path) -> Option<Content>,
}

/// A file's bytes, or why it cannot be read.
pub(crate) type Content = Result<Vec<u8>, String>;

/// Validates everything and builds the topology; it is to be used only if no error was found.
pub(crate) fn lower(model: &Model, disk: &Disk<'_>, findings: &mut Findings) -> Topology {
    let mut fabric = fabric::build(model, findings);
    let firewalls = firewalls::lower(model, findings);
    let (rules, idle_rules) = rules::sort(model, findings);
    let with_address: Vec<_> = rules
        .iter()
        .filter_map(|rule| match rule {
            Rule::LoadBalancer { item, .. } if external::is_external(item) => None,
            Rule::LoadBalancer { item, port, .. } => {
                Some((*item, Some(vec![(slice::IpProtocol::Tcp, *port)])))
            }
            Rule::Network(rule) => Some((rule.item, rule.claims())),
            Rule::Endpoint { item, .. } => Some((*item, None)),
            Rule::GoogleApis { .. } => None,
        })
        .collect();
    let endpoint_rules = rules
        .iter()
        .filter_map(|rule| match rule {
            Rule::Endpoint { item, .. } => Some(item.link.clone()),
            Rule::LoadBalancer { .. } | Rule::Network(_) | Rule::GoogleApis { .. } => None,
        })
        .collect();
    let mut addresses = addresses::place(model, &mut fabric, &with_address, findings);
    external::place(model, &rules, &mut addresses, findings);
    let routes = static_routes::lower(model, &fabric, &addresses, findings);
    let mut lowering = Lowering {
        model,
        fabric,
        addresses,
        topology: Topology::default(),
        topology_certificates: HashMap::new(),
        ssl_policies: HashMap::new(),
        server_tls_policies: HashMap::new(),
        idle_rules,
        endpoint_rules,
        endpoints: Vec::new(),
        rule_index: HashMap::new(),
        network_rule_index: HashMap::new(),
        attachment_index: HashMap::new(),
        near_projects: RefCell::default(),
        accounts: BTreeMap::new(),
        consumer_policies: consumer_policy::policies(model, findings),
        secret_uses: Vec::new(),
    };
    lowering.projects();
    lowering.service_accounts(findings);
    lowering.read_certificates(findings);
    lowering.tls_policies(findings);
    lowering.url_maps(findings);
    lowering.health_checks(findings);
    lowering.security_policies(findings);
    lowering.backend_services(findings);
    lowering.network_endpoint_groups(findings);
    lowering.instance_groups(findings);
    lowering.forwarding_rules(&rules, findings);
    lowering.network_rules(&rules, findings);
    lowering.service_attachments(findings);
    lowering.endpoint_rules(&rules, findings);
    lowering.psc_groups(findings);
    let mut bound = dns::Bound::new();
    lowering.zones(&mut bound, findings);
    lowering.secrets(disk, findings);
    lowering.services(disk, findings);
    lowering.iam_policies(findings);
    lowering.secret_access(findings);
    lowering.organizations(&mut bound, disk.bundle_exists, findings);
    lowering.google_apis_endpoints(&rules, findings);
    lowering.propagate(findings);
    lowering.response_policies(findings);
    lowering.server_policies(findings);
    lowering.automatic_zones(&mut bound, findings);
    lowering.networks(firewalls, routes);
    lowering.placements(findings);
    lowering.hosts(findings);
    lowering.expectations(findings);
    if findings.errors() == 0 {
        lowering.complete();
    }
    lowering.finish()
}

impl Lowering<'_> {
    fn projects(&mut self) {
        for id in self.model.projects.keys() {
            let id = id.to_string();
            let number = self.model.project_number(&id);
            self.topology.projects.insert(id.clone(), Project { id, number });
        }
    }

    fn networks(
        &mut self,
        mut firewalls: HashMap<NetworkId, Vec<slice::vpc::Firewall>>,
        mut routes: HashMap<NetworkId, Vec<slice::vpc::StaticRoute>>,
    ) {
        let mut instances: HashMap<_, Vec<slice::Instance>> = HashMap::new();
        for item in &self.model.instances.items {
            let Some(placed) = self.addresses.placed.get(&item.link).cloned() else { continue };
            let Some(index) = self.addresses.subnets.get(&item.link).copied() else { continue };
            let subnet = &self.fabric.nets[&placed.network].subnets[index];
            let subnet_link = subnet.link.clone();
            let region = subnet.region.to_string();
            let raw = &item.raw;
            let account = raw.service_accounts.first().map(|account| account.email.value.clone());
            let account = account.map(|email| self.account(&email, &item.project));
            let metadata = raw.metadata.iter().flat_map(|metadata| &metadata.items);
            let value = |item: &crate::fields::network::MetadataItem| {
                item.value.as_ref().map(|value| value.value.clone()).unwrap_or_default()
            };
            instances.entry(placed.network).or_default().push(slice::Instance {
                name: item.name().to_owned(),
                project: item.project.to_string(),
                zone: match &item.place {
                    Place::Zone(zone) => zone.to_string(),
                    // Nearly every region has a zone b.
                    _ => format!("{}-b", item.region()),
                },
                region,
                subnetwork: subnet_link,
                address: placed.address,
                tags: raw
                    .tags
                    .iter()
                    .flat_map(|tags| &tags.items)
                    .map(|tag| tag.value.clone())
                    .collect(),
                service_account: account,
                metadata: metadata.map(|item| (item.key.value.clone(), value(item))).collect(),
                directory: self.model.directory(raw.at),
            });
        }
        for id in &self.fabric.order {
            let net = &self.fabric.nets[id];
            let subnetworks = net.subnets.iter().filter(|subnet| !subnet.backup);
            self.topology.networks.push(Network {
                id: id.clone(),
                project_number: self.model.project_number(&id.project),
                subnetworks: subnetworks
                    .map(|subnet| Subnetwork {
                        self_link: subnet.link.clone(),
                        region: subnet.region.to_string(),
                        range: subnet.range,
                        purpose: subnet.purpose,
                    })
                    .collect(),
                peerings: net
                    .peers
                    .iter()
                    .map(|peer| Peering {
                        name: peer.name.clone(),
                        peer: peer.network.clone(),
                        active: peer.active,
                        export_custom_routes: peer.export_custom_routes,
                        import_custom_routes: peer.import_custom_routes,
                        export_subnet_routes_with_public_ip: peer.export_public,
                        import_subnet_routes_with_public_ip: peer.import_public,
                    })
                    .collect(),
                instances: instances.remove(id).unwrap_or_default(),
                firewalls: firewalls.remove(id).unwrap_or_default(),
                routes: routes.remove(id).unwrap_or_default(),
            });
        }
    }

    /// Nothing was left out silently: without an error everything that was read is in the topology.
    fn complete(&self) {
        let (model, topology) = (self.model, &self.topology);
        debug_assert_eq!(url_map::Snapshot::compile(&topology.load_balancing).err(), None);
        let rules = model.forwarding_rules.items.len() - self.idle_rules.len();
        let load_balancing = &topology.load_balancing;
        let attachments = model.organizations.iter().map(|o| o.raw.endpoint_attachments.len());
        let psc_groups = load_balancing.network_endpoint_groups.iter();
        let psc_groups = psc_groups
            .filter(|group| {
                matches!(group.endpoints, slice::load_balancer::Endpoints::ServiceAttachment(_))
            })
            .count();
        let endpoints = self.endpoints.iter().map(|(_, endpoint)| endpoint);
        let declared = endpoints.filter(|endpoint| endpoint.propagated_from.is_none());
        for (what, read, kept) in [
            ("networks", model.networks.items.len(), topology.networks.len()),
            ("subnetworks", model.subnetworks.items.len(), self.fabric.subnets.len()),
            (
                "instances",
                model.instances.items.len(),
                topology.networks.iter().map(|n| n.instances.len()).sum(),
            ),
            (
                "forwarding rules and endpoint attachments",
                rules + attachments.sum::<usize>() + psc_groups,
                load_balancing.forwarding_rules.len()
                    + load_balancing.network_rules.len()
                    + topology.google_apis_endpoints.len()
                    + declared.count(),
            ),
            ("URL maps", model.url_maps.items.len(), load_balancing.url_maps.len()),
            (
                "backend services",
                model.backend_services.items.len(),
                load_balancing.backend_services.len() + load_balancing.passthrough_services.len(),
            ),
            (
                "network endpoint groups and instance groups",
                model.network_endpoint_groups.items.len() + model.instance_groups.items.len(),
                load_balancing.network_endpoint_groups.len(),
            ),
            (
                "security policies",
                model.security_policies.items.len(),
                load_balancing.security_policies.len(),
            ),
            (
                "service attachments",
                model.service_attachments.items.len(),
                topology.service_attachments.len(),
            ),
            ("secrets", model.secrets.items.len(), topology.secrets.len()),
            ("services", model.services.items.len(), topology.services.len()),
            ("organisations", model.organizations.len(), topology.organizations.len()),
            ("placements", model.placements.len(), topology.placements.len()),
            ("hosts", model.hosts.len(), topology.hosts.len()),
            ("expectations", model.expectations.len(), topology.expectations.len()),
        ] {
            debug_assert_eq!(read, kept, "{what} were left out without an error");
        }
    }

    fn finish(mut self) -> Topology {
        // The order of the files is the order in which endpoints were created.
        self.endpoints.sort_by_key(|(at, _)| *at);
        self.topology.endpoints =
            self.endpoints.into_iter().map(|(_, endpoint)| endpoint).collect();
        let groups = &mut self.topology.load_balancing.network_endpoint_groups;
        crate::cut::fill_services(&self.topology.services, groups);
        self.topology.service_accounts = self.accounts.into_values().collect();
        self.topology
    }
}
