//! The API platform's organisations (apigee 10, private-connectivity 1.8).

use super::Lowering;
use super::addresses::{Claim, give, take};
use super::api_products::{api_products, developers_and_apps};
use super::dns::Bound;
use super::fabric::network_id;
use super::psc::NewEndpoint;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::apigee::{DeploymentType, EndpointAttachment, Organization};
use crate::model::{OrganizationItem, Scope};
use crate::reference::last_segment;
use crate::similar;
use names::{NetworkId, SelfLink};
use slice::{Purpose, apigee, psc};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

impl Lowering<'_> {
    /// All organisations with what belongs to them.
    pub(crate) fn organizations(
        &mut self,
        bound: &mut Bound,
        bundle_exists: &dyn Fn(&Path) -> bool,
        findings: &mut Findings,
    ) {
        let mut networks: HashMap<NetworkId, Mark> = HashMap::new();
        let model = self.model;
        for item in &model.organizations {
            let raw = &item.raw;
            let home = self.home(item, findings);
            if let Some(home) = &home
                && let Some(first) = networks.insert(home.network.clone(), raw.name.at)
            {
                let first = findings.position(first);
                findings.error(
                    Code::ApigeeNetwork,
                    raw.name.at,
                    format!("the organisation at {first} sits in {} already; each has a tenant network of its own", home.network),
                    "declare a tenant network for each organisation",
                );
            }
            if let Some(home) = &home {
                self.endpoint_attachments(raw, home, findings);
                self.dns_peering(item, home, bound, findings);
            }
            self.northbound(item, findings);
            let organization = self.organization(item, home, bundle_exists, findings);
            self.topology.organizations.extend(organization);
        }
    }

    /// Where the northbound host is published: 127.0.0.1:8443, or what `postern` says. It never
    /// leaves the host's loopback. Two organisations need two ports.
    fn northbound(&mut self, item: &OrganizationItem, findings: &mut Findings) {
        let written = item.raw.postern.as_ref().and_then(|ours| ours.northbound.as_ref());
        let address = match written {
            None => SocketAddr::from(([127, 0, 0, 1], 8443)),
            Some(text) => match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => address,
                _ => {
                    findings.error(
                        Code::InvalidValue,
                        text.at,
                        format!("`{}` is no loopback address with a port; the northbound host is published on this machine only", text.value),
                        "write 127.0.0.1:PORT",
                    );
                    return;
                }
            },
        };
        if let Some((other, _)) =
            self.topology.northbound.iter().find(|(_, taken)| **taken == address)
        {
            findings.error(
                Code::PlacementConflict,
                written.map_or(item.raw.name.at, |text| text.at),
                format!("the organisation `{other}` publishes its northbound host at {address} too"),
                "write another one at the top of the document: postern: {northbound: \"127.0.0.1:8444\"}",
            );
        }
        self.topology.northbound.insert(item.raw.name.value.clone(), address);
    }

    /// Where the runtime sits: the tenant project's network and the region.
    fn home(&self, item: &OrganizationItem, findings: &mut Findings) -> Option<Home> {
        let OrganizationItem { scope, raw } = item;
        let model = self.model;
        let tenant = raw.apigee_project_id.as_ref().map(|id| model.project_id(id));
        let tenant = tenant.or_else(|| scope.project.clone());
        let customer = raw.project_id.as_ref().map(|id| model.project_id(id));
        let own = Some(raw.name.as_str()).filter(|name| model.projects.contains_key(*name));
        let customer = customer.or_else(|| own.map(Into::into)).or_else(|| scope.project.clone());
        let (Some(tenant), Some(customer)) = (tenant, customer) else {
            findings.error(
                Code::NoProject,
                raw.name.at,
                format!("the organisation `{}` has no tenant project", raw.name.value),
                "add apigeeProjectId, or write `project: TENANT_PROJECT` at the top of the document",
            );
            return None;
        };
        let ours = raw.postern.as_ref();
        let within = Scope { project: Some(tenant.clone()), region: scope.region.clone() };
        let network = match ours.and_then(|ours| ours.network.as_ref()) {
            Some(network) => super::psc::network_in_ours(self, network, &within, findings)?,
            None => {
                let mut all = self.fabric.order.iter().filter(|id| *id.project == *tenant);
                match (all.next(), all.next()) {
                    (Some(id), None) => id.clone(),
                    (first, _) => {
                        let what =
                            if first.is_some() { "more than one network" } else { "no network" };
                        findings.error(
                            Code::ApigeeNetwork,
                            raw.name.at,
                            format!("the tenant project {tenant} of `{}` has {what}; the runtime and the endpoint attachments sit in one", raw.name.value),
                            "declare the tenant network in the tenant project, or name it: postern: {network: NAME}",
                        );
                        return None;
                    }
                }
            }
        };
        let instance = raw.instances.first().map(|instance| &instance.location);
        let region = ours.and_then(|ours| ours.region.as_ref()).or(instance);
        let region = region.map(|region| last_segment(region).to_owned());
        let region = region.or_else(|| scope.region.as_ref().map(|region| region.to_string()));
        let Some(region) = region else {
            findings.error(
                Code::NoRegion,
                raw.name.at,
                format!("the organisation `{}` has no region", raw.name.value),
                "add instances: [{name: NAME, location: REGION}], or `region: REGION` at the top of the document",
            );
            return None;
        };
        if let Some(second) = raw.instances.get(1) {
            findings.warning(
                Code::NotYetHonoured,
                second.at,
                "only the first runtime instance is honoured in this release",
                "remove the others to silence this warning",
            );
        }
        let within = Scope { project: Some(tenant.clone()), region: Some(region.as_str().into()) };
        Some(Home {
            tenant: tenant.to_string(),
            customer: customer.to_string(),
            network,
            region,
            scope: within,
        })
    }

    fn endpoint_attachments(&mut self, raw: &Organization, home: &Home, findings: &mut Findings) {
        let mut seen = HashSet::new();
        let mut waiting = Vec::new();
        for attachment in &raw.endpoint_attachments {
            let Some((id, at)) = attachment_id(attachment, findings) else { continue };
            if !seen.insert(id.to_owned()) {
                findings.error(
                    Code::DuplicateResource,
                    at,
                    format!("the endpoint attachment `{id}` is declared twice"),
                    "rename one of the two",
                );
                continue;
            }
            let region = match &attachment.location {
                Some(location) => last_segment(location).to_owned(),
                None => home.region.clone(),
            };
            let Some(net) = self.fabric.nets.get_mut(&home.network) else { continue };
            let Some(host) = &attachment.host else {
                waiting.push((attachment, id.to_owned(), region));
                continue;
            };
            let claim = Claim { at: host.at, called: "the endpoint attachment", ports: None };
            match net.containing(host.value) {
                Some(index) => take(net, index, host.value, &claim, findings),
                None if net.incomplete => {}
                None => findings.error(
                    Code::AddressOutsideSubnet,
                    host.at,
                    format!(
                        "{} is in no subnetwork of {}; the runtime could not reach it",
                        host.value, home.network
                    ),
                    "choose an address of the tenant network, or remove `host` to get one",
                ),
            }
            self.attach(attachment, id, region, host.value, raw, home, findings);
        }
        for (attachment, id, region) in waiting {
            let Some(net) = self.fabric.nets.get_mut(&home.network) else { continue };
            let mut all = net.of(Purpose::Private, &region);
            let index = all.next().or_else(|| {
                (0..net.subnets.len()).find(|index| net.subnets[*index].purpose == Purpose::Private)
            });
            drop(all);
            let Some(index) = index else {
                if !net.incomplete {
                    findings.error(
                        Code::SubnetNotFound,
                        attachment.at,
                        format!("{} has no ordinary subnetwork; the endpoint attachment `{id}` gets no address", home.network),
                        "add a subnetwork to the tenant network",
                    );
                }
                continue;
            };
            let claim = Claim { at: attachment.at, called: "the endpoint attachment", ports: None };
            if let Some(address) = give(net, index, &claim, findings) {
                self.attach(attachment, &id, region, address, raw, home, findings);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn attach(
        &mut self,
        attachment: &EndpointAttachment,
        id: &str,
        region: String,
        address: std::net::Ipv4Addr,
        raw: &Organization,
        home: &Home,
        findings: &mut Findings,
    ) {
        let link = format!("organizations/{}/endpointAttachments/{id}", raw.name.value);
        let new = NewEndpoint {
            self_link: SelfLink::new(&link),
            kind: psc::EndpointKind::EndpointAttachment,
            project: home.tenant.clone(),
            network: home.network.clone(),
            scope: Scope {
                project: home.scope.project.clone(),
                region: Some(region.as_str().into()),
            },
            region,
            address,
            target: &attachment.service_attachment,
            allow_psc_global_access: false,
            automate_dns: false,
            at: attachment.at,
        };
        self.endpoint(new, findings);
    }

    /// DNS zones of an organisation without VPC peering, peered domains of one with it (1.8).
    fn dns_peering(
        &mut self,
        item: &OrganizationItem,
        home: &Home,
        bound: &mut Bound,
        findings: &mut Findings,
    ) {
        let raw = &item.raw;
        let model = self.model;
        let peered = raw.authorized_network.is_some() && raw.disable_vpc_peering != Some(true);
        let authorized = match &raw.authorized_network {
            Some(network) => {
                let scope = Scope { project: Some(home.customer.as_str().into()), region: None };
                model
                    .find(&model.networks, network, &scope, findings)
                    .map(|item| network_id(&item.link))
            }
            None => None,
        };
        if let (Some(authorized), Some(at), true) =
            (&authorized, raw.authorized_network.as_ref().map(|network| network.at), peered)
        {
            let net = self.fabric.nets.get(&home.network);
            let active = net.is_some_and(|net| {
                net.peers.iter().any(|peer| peer.network == *authorized && peer.active)
            });
            if !active {
                findings.warning(
                    Code::PeeringOneSided,
                    at,
                    format!("`authorizedNetwork` is {authorized}, but it and the tenant network {} are not peered", home.network),
                    "declare the peering on both networks, or write disableVpcPeering: true",
                );
            }
        }
        let organization = &raw.name.value;
        for zone in &raw.dns_zones {
            if peered {
                findings.error(
                    Code::ApigeeDnsModel,
                    zone.at,
                    "organization with VPC Peering enabled is not supported; such an organisation uses peered DNS domains",
                    "write peeredDnsDomains: [{name: NAME, dnsSuffix: DOMAIN.}], or disableVpcPeering: true",
                );
                continue;
            }
            let config = &zone.peering_config;
            let project = model.project_id(&config.target_project_id);
            let scope = Scope { project: Some(project), region: None };
            let target = &config.target_network_id;
            let Some(network) = model.find(&model.networks, target, &scope, findings) else {
                continue;
            };
            let to = network_id(&network.link);
            let link =
                format!("organizations/{organization}/dnsZones/{}", last_segment(&zone.name));
            self.peering_zone(
                SelfLink::new(&link),
                &zone.domain,
                &home.network,
                to,
                bound,
                findings,
            );
        }
        for domain in &raw.peered_dns_domains {
            let to = match (&authorized, raw.disable_vpc_peering) {
                (Some(to), None | Some(false)) => to.clone(),
                (None, _) if raw.authorized_network.is_some() => continue,
                _ => {
                    findings.error(
                        Code::ApigeeDnsModel,
                        domain.at,
                        "peered DNS domains need an organisation with VPC peering; this one names no `authorizedNetwork`, or disables peering",
                        "add authorizedNetwork: NETWORK, or use dnsZones",
                    );
                    continue;
                }
            };
            let link = format!(
                "organizations/{organization}/peeredDnsDomains/{}",
                last_segment(&domain.name)
            );
            self.peering_zone(
                SelfLink::new(&link),
                &domain.dns_suffix,
                &home.network,
                to,
                bound,
                findings,
            );
        }
    }

    fn organization(
        &mut self,
        item: &OrganizationItem,
        home: Option<Home>,
        bundle_exists: &dyn Fn(&Path) -> bool,
        findings: &mut Findings,
    ) -> Option<apigee::Organization> {
        let raw = &item.raw;
        let mut environments: Vec<&str> = Vec::new();
        for environment in &raw.environments {
            if environments.contains(&environment.name.as_str()) {
                duplicate("environment", &environment.name, findings);
            }
            if let Some(At { at, value: DeploymentType::Archive }) = environment.deployment_type {
                findings.error(
                    Code::NotYetSupported,
                    at,
                    "archive deployments are not supported; proxies are deployed one by one",
                    "write deploymentType: PROXY",
                );
            }
            environments.push(&environment.name);
        }
        // Without a list of environments those of the groups count as declared.
        let listed = !environments.is_empty();
        let mut hostnames: HashMap<String, Mark> = HashMap::new();
        let mut groups: Vec<apigee::EnvironmentGroup> = Vec::new();
        for group in &raw.envgroups {
            if groups.iter().any(|other| other.name == group.name.value) {
                duplicate("environment group", &group.name, findings);
            }
            for host in group.hostnames.iter() {
                let bare = host.strip_prefix("*.").unwrap_or(host);
                if !crate::names_rules::is_hostname(bare) {
                    findings.error(
                        Code::DnsName,
                        host.at,
                        format!("`{}` is no host name", host.value),
                        "write a name such as api.example.com",
                    );
                } else if let Some(first) = hostnames.insert(host.to_ascii_lowercase(), host.at) {
                    let first = findings.position(first);
                    findings.error(
                        Code::HostnameConflict,
                        host.at,
                        format!(
                            "`{}` belongs to an environment group already, at {first}",
                            host.value
                        ),
                        "remove it from one of the two groups",
                    );
                }
            }
            let attached = group.attachments.iter().map(|attachment| &attachment.environment);
            let mut inside: Vec<String> = Vec::new();
            for environment in attached.chain(&group.environments) {
                let name = last_segment(environment);
                if listed && !environments.contains(&name) {
                    unknown("environment", environment, name, &environments, findings);
                } else if inside.iter().any(|other| other == name) {
                    duplicate("environment", environment, findings);
                } else {
                    inside.push(name.to_owned());
                }
            }
            groups.push(apigee::EnvironmentGroup {
                name: last_segment(&group.name).to_owned(),
                hostnames: group.hostnames.iter().map(|host| host.to_ascii_lowercase()).collect(),
                environments: inside,
            });
        }
        let known: Vec<&str> = match listed {
            true => environments,
            false => {
                groups.iter().flat_map(|group| &group.environments).map(String::as_str).collect()
            }
        };
        let deployments = self.deployments(item, &known, home.as_ref(), bundle_exists, findings);
        let proxies: HashSet<&str> = deployments.iter().map(|d| d.api_proxy.as_str()).collect();
        let (api_products, product_names) = api_products(raw, &known, &proxies, findings);
        let (developers, apps) = developers_and_apps(raw, &product_names, findings);
        let home = home?;
        Some(apigee::Organization {
            name: raw.name.value.clone(),
            project: home.customer,
            apigee_project_id: home.tenant,
            network: home.network,
            region: home.region,
            environment_groups: groups,
            deployments,
            api_products,
            developers,
            apps,
        })
    }

    fn deployments(
        &mut self,
        item: &OrganizationItem,
        environments: &[&str],
        home: Option<&Home>,
        bundle_exists: &dyn Fn(&Path) -> bool,
        findings: &mut Findings,
    ) -> Vec<apigee::Deployment> {
        let mut seen: HashMap<(String, String), Mark> = HashMap::new();
        let mut all = Vec::new();
        for raw in &item.raw.deployments {
            let environment = last_segment(&raw.environment);
            let api_proxy = last_segment(&raw.api_proxy);
            if !environments.contains(&environment) {
                unknown("environment", &raw.environment, environment, environments, findings);
            }
            let key = (environment.to_owned(), api_proxy.to_owned());
            if let Some(first) = seen.insert(key, raw.at) {
                let first = findings.position(first);
                findings.error(
                    Code::DeploymentConflict,
                    raw.at,
                    format!("`{api_proxy}` is deployed to `{environment}` already, at {first}; an environment has one revision of a proxy"),
                    "remove one of the two",
                );
            }
            let bundle = raw.postern.as_ref().and_then(|ours| ours.bundle.as_ref());
            let relative = bundle
                .map_or_else(|| format!("proxies/{api_proxy}"), |bundle| bundle.value.clone());
            let path = self.model.directory(raw.at).join(&relative);
            if !bundle_exists(&path) {
                findings.error(
                    Code::BundleNotFound,
                    bundle.map_or(raw.at, |bundle| bundle.at),
                    format!("there is no bundle at `{}`: neither a folder that holds `apiproxy/` nor a zip file", path.display()),
                    "write postern: {bundle: PATH}, relative to this file",
                );
            }
            let account = raw.service_account.as_ref().and_then(|account| {
                let email = last_segment(account).to_ascii_lowercase();
                if super::iam::is_email(&email) {
                    let customer = home.map_or("", |home| home.customer.as_str());
                    return Some(self.account(&email, customer));
                }
                findings.error(
                    Code::InvalidName,
                    account.at,
                    format!("`{}` is no email of a service account", account.value),
                    "write NAME@PROJECT.iam.gserviceaccount.com",
                );
                None
            });
            all.push(apigee::Deployment {
                at: findings.position(raw.at).to_string(),
                api_proxy: api_proxy.to_owned(),
                environment: environment.to_owned(),
                revision: raw
                    .revision
                    .as_ref()
                    .map_or_else(|| "1".to_owned(), |revision| revision.0.clone()),
                service_account: account,
                bundle: path,
            });
        }
        all
    }
}

/// Where an organisation's runtime sits.
struct Home {
    tenant: String,
    customer: String,
    network: NetworkId,
    region: String,
    scope: Scope,
}

pub(super) fn duplicate(what: &str, name: &Text, findings: &mut Findings) {
    findings.error(
        Code::DuplicateResource,
        name.at,
        format!("the {what} `{}` stands there twice", name.value),
        "remove or rename one of the two",
    );
}

pub(super) fn unknown(what: &str, at: &Text, name: &str, known: &[&str], findings: &mut Findings) {
    let fix = match similar::closest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it, or correct the name; known are: {}", known.join(", ")),
    };
    findings.error(
        Code::ReferenceNotFound,
        at.at,
        format!("the organisation has no {what} `{name}`"),
        fix,
    );
}

/// An id: a lower-case letter, then up to 31 of `[a-z0-9-]`, at least two, no hyphen last (1.8).
fn attachment_id<'a>(
    raw: &'a EndpointAttachment,
    findings: &mut Findings,
) -> Option<(&'a str, Mark)> {
    let Some(named) = raw.endpoint_attachment_id.as_ref().or(raw.name.as_ref()) else {
        if !raw.faulty {
            findings.error(
                Code::MissingField,
                raw.at,
                "an endpoint attachment without `name`",
                "add `name`",
            );
        }
        return None;
    };
    let id = last_segment(named);
    if id.len() < 2 || !crate::names_rules::is_rfc1035(id, 32) {
        findings.error(
            Code::InvalidName,
            named.at,
            format!("`{id}` is no id of an endpoint attachment; 2 to 32 lower-case letters, digits and hyphens, a letter first, no hyphen last"),
            "rename it",
        );
    }
    Some((id, named.at))
}
