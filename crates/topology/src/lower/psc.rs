//! Service attachments and the endpoints that target them (private-connectivity 1).

use super::Lowering;
use super::fabric::network_id;
use super::rules::Rule;
use crate::decode::{Int, Text};
use crate::derive;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::psc::{ConnectionPreference, ConsumerAccept, ServiceAttachment};
use crate::model::{Item, Scope};
use crate::reference::parts;
use crate::similar;
use names::{NetworkId, SelfLink};
use slice::{IpProtocol, Purpose, psc};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// Most entries of the accept and of the reject list (1.1).
const ACCEPT_MAX: usize = 5000;
const REJECT_MAX: usize = 64;
/// Most NAT subnetworks of an attachment (1.1, (unconfirmed)).
const NAT_SUBNETS_MAX: usize = 10;

impl Lowering<'_> {
    /// All service attachments.
    pub(crate) fn service_attachments(&mut self, findings: &mut Findings) {
        // Each NAT subnetwork belongs to one attachment.
        let mut owners: HashMap<SelfLink, (SelfLink, Mark)> = HashMap::new();
        for item in &self.model.service_attachments.items {
            if let Some(attachment) = self.service_attachment(item, &mut owners, findings) {
                let index = self.topology.service_attachments.len();
                self.attachment_index.insert(attachment.self_link.clone(), index);
                self.topology.service_attachments.push(attachment);
            }
        }
    }

    fn service_attachment(
        &self,
        item: &Item<ServiceAttachment>,
        owners: &mut HashMap<SelfLink, (SelfLink, Mark)>,
        findings: &mut Findings,
    ) -> Option<psc::ServiceAttachment> {
        let raw = &item.raw;
        let target = self.published(item, findings);
        let mut nat_subnets = Vec::with_capacity(raw.nat_subnets.len());
        if raw.nat_subnets.is_empty() {
            findings.error(
                Code::MissingField,
                raw.nat_subnets.at,
                format!(
                    "`natSubnets` is empty; `{}` would have no address to call its target from",
                    item.name()
                ),
                "add a subnetwork with purpose PRIVATE_SERVICE_CONNECT",
            );
        }
        if raw.nat_subnets.len() > NAT_SUBNETS_MAX && !self.model.limits_lifted {
            findings.error(
                Code::ListTooLong,
                raw.nat_subnets.at,
                format!(
                    "`natSubnets` has {} entries; at most {NAT_SUBNETS_MAX} are taken",
                    raw.nat_subnets.len()
                ),
                "use fewer and larger subnetworks",
            );
        }
        let domain_names = domain_names(raw, findings);
        for reference in raw.nat_subnets.iter() {
            let network = target.as_ref().map(|(network, _)| network);
            nat_subnets.extend(self.nat_subnet(item, reference, network, owners, findings));
        }
        let (accept, reject) = self.lists(item, findings);
        let to_application = target
            .as_ref()
            .is_some_and(|(_, target)| self.rule_index.contains_key(&target.forwarding_rule));
        if let Some(enabled) =
            raw.enable_proxy_protocol.as_ref().filter(|enabled| enabled.value && to_application)
        {
            // (unconfirmed) whether the API refuses it; the proxies do not read the header.
            findings.warning(
                Code::ProxyProtocolToApplicationLb,
                enabled.at,
                "the target is an Application Load Balancer, whose proxies do not read a PROXY header; they would answer 400",
                "write enableProxyProtocol: false",
            );
        }
        let (network, target) = target?;
        if let Some(enabled) = raw.enable_proxy_protocol.as_ref().filter(|enabled| enabled.value)
            && target.protocol == IpProtocol::Udp
        {
            findings.warning(
                Code::NoEffect,
                enabled.at,
                "the target is UDP; a PROXY header stands before TCP connections only",
                "write enableProxyProtocol: false",
            );
        }
        let default = psc::ServiceAttachment::new(
            item.link.clone(),
            item.region(),
            network.clone(),
            target.clone(),
        );
        Some(psc::ServiceAttachment {
            self_link: item.link.clone(),
            region: item.region().to_owned(),
            network,
            target,
            connection_preference: match raw.connection_preference.value {
                ConnectionPreference::AcceptAutomatic => psc::ConnectionPreference::AcceptAutomatic,
                ConnectionPreference::AcceptManual => psc::ConnectionPreference::AcceptManual,
            },
            consumer_accept_lists: accept,
            consumer_reject_lists: reject,
            nat_subnets,
            enable_proxy_protocol: raw.enable_proxy_protocol.as_ref().is_some_and(|e| e.value),
            reconcile_connections: raw.reconcile_connections.unwrap_or(false),
            nat_ips_per_endpoint: number(
                raw.nat_ips_per_endpoint.as_ref(),
                default.nat_ips_per_endpoint,
            ),
            propagated_connection_limit: number(
                raw.propagated_connection_limit.as_ref(),
                default.propagated_connection_limit,
            ),
            domain_names,
            description: raw.description.as_ref().map(|text| text.value.clone()),
            metadata: raw
                .metadata
                .0
                .iter()
                .map(|(key, value)| (key.value.clone(), value.value.clone()))
                .collect(),
            idle_timeouts: idle_timeouts(raw),
            consumer_policy: self.consumer_policy(&item.project),
        })
    }

    /// The forwarding rule that an attachment publishes, with its network.
    fn published(
        &self,
        item: &Item<ServiceAttachment>,
        findings: &mut Findings,
    ) -> Option<(NetworkId, psc::Target)> {
        let raw = &item.raw;
        let model = self.model;
        let reference = match (&raw.target_service, &raw.producer_forwarding_rule) {
            (Some(target), _) => target,
            (None, Some(older)) => older,
            (None, None) => {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        format!(
                            "`targetService` is missing; `{}` would publish nothing",
                            item.name()
                        ),
                        "add `targetService`: the forwarding rule to publish",
                    );
                }
                return None;
            }
        };
        let rule = model.find(&model.forwarding_rules, reference, &item.scope(), findings)?;
        super::rules::same_region(item, rule, reference, findings);
        if self.idle_rules.contains(&rule.link) {
            findings.error(
                Code::PscTargetNotSupported,
                reference.at,
                format!("the forwarding rule `{}` has no effect in this release, so nothing could be published", rule.name()),
                "publish a forwarding rule of an internal Application Load Balancer",
            );
            return None;
        }
        if self.endpoint_rules.contains(&rule.link) {
            findings.error(
                Code::PscTargetNotSupported,
                reference.at,
                format!("the forwarding rule `{}` is an endpoint itself; Private Service Connect is not chained", rule.name()),
                "publish a forwarding rule of an internal Application Load Balancer",
            );
            return None;
        }
        if let Some(index) = self.network_rule_index.get(&rule.link) {
            let lowered = &self.topology.load_balancing.network_rules[*index];
            let target = super::network_rules::published(lowered, reference, findings)?;
            return Some((lowered.network.clone(), target));
        }
        let index = self.rule_index.get(&rule.link)?;
        let lowered = &self.topology.load_balancing.forwarding_rules[*index];
        let target = psc::Target {
            forwarding_rule: lowered.self_link.clone(),
            address: lowered.address,
            ports: vec![lowered.port],
            all_ports: false,
            protocol: slice::IpProtocol::Tcp,
            allow_global_access: lowered.allow_global_access,
        };
        Some((lowered.network.clone(), target))
    }

    fn nat_subnet(
        &self,
        item: &Item<ServiceAttachment>,
        reference: &Text,
        network: Option<&NetworkId>,
        owners: &mut HashMap<SelfLink, (SelfLink, Mark)>,
        findings: &mut Findings,
    ) -> Option<psc::NatSubnet> {
        let model = self.model;
        let subnet = model.find(&model.subnetworks, reference, &item.scope(), findings)?;
        super::rules::same_region(item, subnet, reference, findings);
        let (id, index) = self.fabric.subnets.get(&subnet.link)?;
        let net_subnet = &self.fabric.nets[id].subnets[*index];
        if net_subnet.purpose != Purpose::PrivateServiceConnect {
            findings.error(
                Code::SubnetPurpose,
                reference.at,
                format!("`{}` is no NAT subnetwork", reference.value),
                "name a subnetwork with purpose: PRIVATE_SERVICE_CONNECT",
            );
        }
        if network.is_some_and(|network| network != id) {
            findings.error(
                Code::NetworkMismatch,
                reference.at,
                format!("`{}` is in {id}, the published forwarding rule is not", reference.value),
                "name a NAT subnetwork of the forwarding rule's network",
            );
        }
        match owners.get(&subnet.link) {
            Some((owner, _)) if *owner == item.link => findings.error(
                Code::DuplicateEntry,
                reference.at,
                format!("`{}` stands in natSubnets twice", reference.value),
                "remove one of the two",
            ),
            Some((owner, first)) => {
                let first = findings.position(*first);
                findings.error(
                    Code::NatSubnetShared,
                    reference.at,
                    format!("`{}` belongs to `{}` already ({first}); a NAT subnetwork belongs to one service attachment", reference.value, owner.name()),
                    "give each service attachment its own NAT subnetwork",
                );
            }
            None => {
                owners.insert(subnet.link.clone(), (item.link.clone(), reference.at));
            }
        }
        Some(psc::NatSubnet { self_link: subnet.link.clone(), range: net_subnet.range })
    }

    fn lists(
        &self,
        item: &Item<ServiceAttachment>,
        findings: &mut Findings,
    ) -> (Vec<psc::Accept>, Vec<psc::Consumer>) {
        let raw = &item.raw;
        let mut kinds: Option<&'static str> = None;
        let mut one_kind = |consumer: &psc::Consumer, at: Mark, findings: &mut Findings| {
            let kind = match consumer {
                psc::Consumer::ProjectIdOrNum(_) => "projects",
                psc::Consumer::NetworkUrl(_) => "networks",
                psc::Consumer::EndpointUrl(_) => "endpoints",
            };
            let first = *kinds.get_or_insert(kind);
            if first != kind {
                findings.error(
                    Code::MixedListKinds,
                    at,
                    format!("the lists name {first}, this entry is one of {kind}; both lists hold one kind of value"),
                    format!("name {first} only, in both lists"),
                );
            }
        };
        let mut seen = HashSet::new();
        let mut accept = Vec::with_capacity(raw.consumer_accept_lists.len());
        for entry in &raw.consumer_accept_lists {
            let Some(consumer) = self.accepted(entry, &item.scope(), findings) else { continue };
            one_kind(&consumer, entry.at, findings);
            if !seen.insert(consumer.clone()) {
                duplicate(entry.at, "consumerAcceptLists", findings);
                continue;
            }
            let limit = match (&entry.connection_limit, &consumer) {
                (Some(limit), _) => u32::try_from(limit.value.0).unwrap_or(u32::MAX),
                (None, psc::Consumer::EndpointUrl(_)) => 1,
                (None, _) => {
                    if !entry.faulty {
                        findings.error(
                            Code::MissingField,
                            entry.at,
                            "`connectionLimit` is missing; it says how many endpoints of the consumer are accepted",
                            "add connectionLimit: 10",
                        );
                    }
                    continue;
                }
            };
            accept.push(psc::Accept { consumer, connection_limit: limit });
        }
        let mut seen = HashSet::new();
        let mut reject = Vec::with_capacity(raw.consumer_reject_lists.len());
        for entry in &raw.consumer_reject_lists {
            let consumer = self.rejected(&entry.value.0, &item.scope());
            one_kind(&consumer, entry.at, findings);
            if !seen.insert(consumer.clone()) {
                duplicate(entry.at, "consumerRejectLists", findings);
                continue;
            }
            reject.push(consumer);
        }
        for (count, most, what) in [
            (accept.len(), ACCEPT_MAX, "consumerAcceptLists"),
            (reject.len(), REJECT_MAX, "consumerRejectLists"),
        ] {
            if count > most {
                findings.error(
                    Code::ListTooLong,
                    raw.at,
                    format!("`{what}` has {count} entries; at most {most} are taken"),
                    "list networks instead of endpoints, or projects instead of networks",
                );
            }
        }
        let preference = &raw.connection_preference;
        if preference.value == ConnectionPreference::AcceptAutomatic && !accept.is_empty() {
            findings.warning(
                Code::NoEffect,
                preference.at,
                "with ACCEPT_AUTOMATIC every consumer is accepted; `consumerAcceptLists` has no effect",
                "write connectionPreference: ACCEPT_MANUAL, or remove the list",
            );
        }
        (accept, reject)
    }

    fn accepted(
        &self,
        entry: &ConsumerAccept,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<psc::Consumer> {
        let all = (&entry.project_id_or_num, &entry.network_url, &entry.endpoint_url);
        match all {
            (Some(project), None, None) => {
                self.hint_project(&project.value.0, project.at, findings);
                Some(psc::Consumer::ProjectIdOrNum(project.value.0.clone()))
            }
            (None, Some(network), None) => match self.network_url(network, scope) {
                Some(id) => Some(psc::Consumer::NetworkUrl(id)),
                None => {
                    findings.error(
                        Code::InvalidValue,
                        network.at,
                        format!("`{}` is no network's URL", network.value),
                        "write projects/PROJECT/global/networks/NETWORK",
                    );
                    None
                }
            },
            (None, None, Some(endpoint)) => {
                Some(psc::Consumer::EndpointUrl(self.endpoint_url(endpoint, scope)))
            }
            (None, None, None) if entry.faulty => None,
            _ => {
                findings.error(
                    Code::ConflictingFields,
                    entry.at,
                    "an entry names exactly one of projectIdOrNum, networkUrl and endpointUrl",
                    "write one of the three",
                );
                None
            }
        }
    }

    fn rejected(&self, text: &str, scope: &Scope) -> psc::Consumer {
        if text.contains("forwardingRules/") || text.contains("endpointAttachments/") {
            return psc::Consumer::EndpointUrl(self.endpoint_url(text, scope));
        }
        match self.network_url(text, scope) {
            Some(id) if text.contains("networks/") => psc::Consumer::NetworkUrl(id),
            _ => psc::Consumer::ProjectIdOrNum(text.to_owned()),
        }
    }

    /// Lists match networks by name; the network need not exist (1.1).
    fn network_url(&self, text: &str, scope: &Scope) -> Option<NetworkId> {
        let parts = parts(text)?;
        if parts.collection.is_some_and(|collection| collection != "networks") {
            return None;
        }
        let project = parts.project.map(|project| self.model.project_id(project));
        let project = project.or_else(|| scope.project.clone())?;
        Some(NetworkId::new(&project, parts.name))
    }

    fn endpoint_url(&self, text: &str, scope: &Scope) -> SelfLink {
        let rules = &self.model.forwarding_rules;
        if let Ok(item) = self.model.seek(rules, text, scope) {
            return item.link.clone();
        }
        // The product's own form names the endpoint by its id (1.1).
        let parts = parts(text).unwrap_or_default();
        let project = parts.project.map(|project| self.model.project_id(project));
        let by_id = rules.items.iter().find(|item| {
            item.raw.id.as_ref().is_some_and(|id| id.0 == parts.name)
                && project.as_ref().is_none_or(|project| item.project == *project)
                && parts.region.is_none_or(|region| item.region() == region)
        });
        if let Some(item) = by_id {
            return item.link.clone();
        }
        let path = text.find("projects/").or_else(|| text.find("organizations/"));
        SelfLink::new(path.map_or(text, |start| &text[start..]))
    }

    /// A project that no document names may be right; one that is nearly named is a typo.
    fn hint_project(&self, id: &str, at: Mark, findings: &mut Findings) {
        let projects = &self.model.projects;
        let number = id.parse::<u64>().ok();
        if projects.contains_key(id) || number.is_some() {
            return;
        }
        let mut searched = self.near_projects.borrow_mut();
        let near = searched.entry(id.to_owned()).or_insert_with(|| {
            similar::closest(id, projects.keys().map(|id| &**id)).map(str::to_owned)
        });
        if let Some(near) = near {
            findings.warning(
                Code::NoEffect,
                at,
                format!("no document names a project `{id}`; no endpoint here can be of it"),
                format!("did you mean `{near}`?"),
            );
        }
    }

    /// Endpoints that are forwarding rules.
    pub(crate) fn endpoint_rules(&mut self, rules: &[Rule<'_>], findings: &mut Findings) {
        for rule in rules {
            let Rule::Endpoint { item, target } = rule else { continue };
            let Some(placed) = self.addresses.placed.get(&item.link).cloned() else { continue };
            for registration in &item.raw.service_directory_registrations {
                let own = |text: &Option<Text>| {
                    text.as_ref().is_some_and(|text| text.as_str() != "goog-psc-default")
                };
                if own(&registration.namespace) || own(&registration.service) {
                    findings.warning(
                        Code::NotYetHonoured,
                        registration.at,
                        "Service Directory is not simulated; nobody can look the endpoint up there",
                        "remove it to silence this warning",
                    );
                }
            }
            let endpoint = NewEndpoint {
                self_link: item.link.clone(),
                kind: psc::EndpointKind::ForwardingRule,
                project: item.project.to_string(),
                network: placed.network,
                region: item.region().to_owned(),
                address: placed.address,
                target,
                scope: item.scope(),
                allow_psc_global_access: item.raw.allow_psc_global_access.unwrap_or(false),
                automate_dns: item.raw.no_automate_dns_zone != Some(true),
                at: item.raw.at,
            };
            self.endpoint(endpoint, findings);
        }
    }

    /// Adds an endpoint of either kind.
    pub(crate) fn endpoint(&mut self, new: NewEndpoint<'_>, findings: &mut Findings) {
        let model = self.model;
        let found = model.seek(&model.service_attachments, new.target, &new.scope);
        let (target, attachment) = match found {
            Ok(item) => (item.link.clone(), Some(item)),
            Err(miss) => {
                if !miss.silent {
                    // No error: an attachment may be deleted while endpoints are connected (1.3).
                    findings.warning(
                        if miss.code == Code::ReferenceNotFound {
                            Code::PscServiceAttachmentNotFound
                        } else {
                            miss.code
                        },
                        new.target.at,
                        format!("{}; connections of this endpoint time out", miss.message),
                        miss.fix,
                    );
                }
                (absent(new.target, &new.scope), None)
            }
        };
        let index = attachment.and_then(|item| self.attachment_index.get(&item.link));
        let published = index.map(|index| &self.topology.service_attachments[*index]);
        if let Some(published) = published {
            if published.network == new.network {
                findings.error(
                    Code::PscSameNetwork,
                    new.target.at,
                    format!("the endpoint is in {}, like the service that it targets; an endpoint is in another VPC network than the service", new.network),
                    "create the endpoint in the consumer's network, or call the forwarding rule itself",
                );
            }
            // A load balancer connects by itself, to the port that its group says.
            let listens = new.kind != psc::EndpointKind::NetworkEndpointGroup;
            if listens && published.target.all_ports {
                findings.error(
                    Code::NotYetSupported,
                    new.target.at,
                    format!("`{}` publishes all ports, or a range of them that is too long; an endpoint here listens on ports that are listed", published.target.forwarding_rule.name()),
                    "publish a forwarding rule with `ports`",
                );
            }
            if published.region != new.region {
                findings.warning(
                    Code::PscRegionMismatch,
                    new.target.at,
                    format!("the endpoint is in {}, its service attachment in {}; Google refuses to create it, and connections time out here", new.region, published.region),
                    format!("create the endpoint in {}", published.region),
                );
            }
        }
        let id = derive::psc_connection_id(&new.network, new.address);
        // (unconfirmed): the form of the name (1.6).
        let domain = published.and_then(|published| published.domain_names.first());
        let automatic_dns_name = domain
            .filter(|_| new.automate_dns)
            .map(|domain| format!("{}.{domain}", new.self_link.name()));
        let endpoint = psc::Endpoint {
            self_link: new.self_link,
            kind: new.kind,
            ancestry: self.ancestry(&new.project),
            project_number: model.project_number(&new.project),
            project: new.project,
            network: new.network,
            region: new.region,
            address: new.address,
            ports: published.map(|p| p.target.ports.clone()).unwrap_or_default(),
            all_ports: published.is_some_and(|p| p.target.all_ports),
            protocol: published.map(|p| p.target.protocol).unwrap_or_default(),
            target,
            producer_network: published.map(|published| published.network.clone()),
            psc_connection_id: id,
            allow_psc_global_access: new.allow_psc_global_access,
            producer_allows_global_access: published
                .is_none_or(|published| published.target.allow_global_access),
            automatic_dns_name,
            propagated_from: None,
        };
        self.endpoints.push((new.at, endpoint));
    }
}

/// An endpoint of either kind before its target is looked up.
pub(crate) struct NewEndpoint<'t> {
    pub(crate) self_link: SelfLink,
    pub(crate) kind: psc::EndpointKind,
    pub(crate) project: String,
    pub(crate) network: NetworkId,
    pub(crate) region: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) target: &'t Text,
    pub(crate) scope: Scope,
    pub(crate) allow_psc_global_access: bool,
    /// Does it get a name in the DNS by itself, if the service has a domain?
    pub(crate) automate_dns: bool,
    pub(crate) at: Mark,
}

/// At most one domain, with its trailing dot (1.1).
fn domain_names(raw: &ServiceAttachment, findings: &mut Findings) -> Vec<String> {
    let Some(names) = &raw.domain_names else { return Vec::new() };
    if names.len() > 1 {
        findings.error(
            Code::ListTooLong,
            names.at,
            format!("`domainNames` has {} entries; at most one is taken", names.len()),
            "keep one",
        );
    }
    let mut all = Vec::new();
    for name in &names.value {
        match name.strip_suffix('.') {
            Some(bare) if crate::names_rules::is_hostname(bare) => {
                all.push(name.to_ascii_lowercase());
            }
            _ => findings.error(
                Code::DnsName,
                name.at,
                format!("`{}` is no domain name with a trailing dot", name.value),
                "write a name such as europe-west1.p.example.com.",
            ),
        }
    }
    all
}

fn number<const LOW: i64, const HIGH: i64>(value: Option<&Int<LOW, HIGH>>, default: u32) -> u32 {
    value.map_or(default, |value| u32::try_from(value.0).unwrap_or(u32::MAX))
}

fn idle_timeouts(raw: &ServiceAttachment) -> psc::IdleTimeouts {
    let default = psc::IdleTimeouts::default();
    let Some(ours) = &raw.postern else { return default };
    psc::IdleTimeouts {
        tcp_established: number(ours.tcp_established.as_ref(), default.tcp_established),
        tcp_transitory: number(ours.tcp_transitory.as_ref(), default.tcp_transitory),
        udp: number(ours.udp.as_ref(), default.udp),
    }
}

fn duplicate(at: Mark, list: &str, findings: &mut Findings) {
    findings.error(
        Code::DuplicateEntry,
        at,
        format!("the entry stands in `{list}` twice"),
        "remove one of the two",
    );
}

/// The canonical name that an absent service attachment would have.
fn absent(reference: &Text, scope: &Scope) -> SelfLink {
    let parts = parts(reference).unwrap_or_default();
    let project = parts.project.or(scope.project.as_deref()).unwrap_or_default();
    let region = parts.region.or(scope.region.as_deref()).unwrap_or_default();
    let name = if parts.name.is_empty() { reference.as_str() } else { parts.name };
    SelfLink::regional(project, region, "serviceAttachments", name)
}

/// The network of a reference in our own fields, which may also be `PROJECT/NETWORK` as on the
/// command line.
pub(crate) fn network_in_ours(
    lowering: &Lowering<'_>,
    reference: &Text,
    scope: &Scope,
    findings: &mut Findings,
) -> Option<NetworkId> {
    let written: Option<NetworkId> = reference.parse().ok();
    let known = written.filter(|id| lowering.fabric.nets.contains_key(id));
    known.or_else(|| network_of(lowering, reference, scope, findings))
}

/// The network of a reference, or a report.
pub(crate) fn network_of(
    lowering: &Lowering<'_>,
    reference: &Text,
    scope: &Scope,
    findings: &mut Findings,
) -> Option<NetworkId> {
    let model = lowering.model;
    model.find(&model.networks, reference, scope, findings).map(|item| network_id(&item.link))
}
