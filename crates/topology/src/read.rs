//! Documents → model: which document is what, which project and region it is about, and its
//! resources with their canonical names.

use crate::decode::{At, Decode};
use crate::derive;
use crate::diagnostic::{Code, Findings, Mark};
use crate::export::{self, RECORD_SET, Raw};
use crate::fields::apigee::Organization;
use crate::fields::document::{Document, Items, OrganizationName, broken_name};
use crate::fields::firewalls::XpnProjectStatus;
use crate::knative;
use crate::model::{ImageItem, Model, OrganizationItem, Resource, Scope, Scoped, Store};
use crate::node::{Kind, Node, Parsed};
use crate::reference::parts;
use crate::similar;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Something read, and where.
struct Pending {
    raw: Raw,
    at: Mark,
    /// Project and region of the last whole document above it in the same file.
    above: Scope,
}

/// Reads the documents of all files into one model.
pub(crate) fn read(parsed: Vec<Parsed<'_>>, mut model: Model, findings: &mut Findings) -> Model {
    let mut pending = Vec::new();
    for file in &parsed {
        let mut above = Scope::default();
        for document in &file.documents {
            sort_out(document, &mut above, &mut pending, findings);
        }
    }
    drop(parsed);
    let defaults = projects(&pending, &mut model, findings);
    let mut record_sets = Vec::new();
    for Pending { raw, at, above } in pending {
        let mut scope = above;
        if scope.project.is_none() {
            let folder = model.directory(at);
            scope.project =
                defaults.by_folder.get(&folder).cloned().flatten().or_else(|| defaults.all.clone());
        }
        if scope.region.is_none() && !matches!(raw, Raw::Document(_)) {
            // What is exported alone is in the region that the project's documents name.
            let project = scope.project.as_ref().and_then(|id| model.projects.get(id));
            scope.region = project.and_then(|project| project.region.clone());
        }
        match raw {
            Raw::Document(document) => add_document(*document, at, &mut model, findings),
            Raw::Knative(service) => {
                let scope = knative::scope(&service.metadata, &scope, &mut model, findings);
                if let Some(service) = knative::service(*service, findings) {
                    model.add(|model| &mut model.services, service, &scope, true, findings);
                }
            }
            Raw::KnativeRevision(revision) => {
                let scope = knative::scope(&revision.metadata, &scope, &mut model, findings);
                if let Some(revision) = knative::revision(*revision, findings) {
                    model.add_revision(revision, &scope, findings);
                }
            }
            Raw::RecordSet(record_set) => record_sets.push((*record_set, scope, at)),
            other => export::add(other, &scope, &mut model, findings),
        }
    }
    crate::zones::place_record_sets(record_sets, &mut model, findings);
    model
}

/// Finds out what a document is.
fn sort_out(
    node: &Node<'_>,
    above: &mut Scope,
    pending: &mut Vec<Pending>,
    findings: &mut Findings,
) {
    match &node.kind {
        _ if node.is_null() => return,
        Kind::List(items) => {
            // `gcloud … list --format=json`.
            for item in items {
                sort_out(item, above, pending, findings);
            }
            return;
        }
        Kind::Scalar { .. } => {
            findings.error(
                Code::WrongType,
                node.at,
                format!("expected a document of resources, found {}", node.type_name()),
                "write collections such as `networks:`, or remove the document",
            );
            return;
        }
        Kind::Map(_) => {}
    }
    let kind = node.text_of("kind");
    let raw = match (kind, node.get("items")) {
        (Some(kind), Some(Node { kind: Kind::List(items), .. }))
            if kind == "List" || kind.ends_with("List") =>
        {
            let single = kind.strip_suffix("List").unwrap_or_default();
            for item in items {
                if item.get("kind").is_none() && single.contains('#') {
                    push_export(single, item, above, pending, findings);
                } else {
                    sort_out(item, above, pending, findings);
                }
            }
            return;
        }
        (Some("dns#resourceRecordSetsListResponse"), _) => {
            if let Some(Kind::List(items)) = node.get("rrsets").map(|node| &node.kind) {
                for item in items {
                    push_export(RECORD_SET, item, above, pending, findings);
                }
            }
            return;
        }
        (Some("Service"), _) if node.get("apiVersion").is_some() => {
            match Decode::decode(node, findings) {
                Some(read) => Raw::Knative(Box::new(read)),
                None => Raw::Broken(None),
            }
        }
        (Some("Revision"), _) if node.get("apiVersion").is_some() => {
            match Decode::decode(node, findings) {
                Some(read) => Raw::KnativeRevision(Box::new(read)),
                None => Raw::Broken(None),
            }
        }
        (Some(kind), _) => return push_export(kind, node, above, pending, findings),
        (None, _) if node.get("template").is_some() && node.text_of("name").is_some() => {
            // A service as the Admin API v2 prints it; it has no kind.
            match Decode::decode(node, findings) {
                Some(read) => Raw::Service(Box::new(read)),
                None => Raw::Broken(broken_name(node).map(|name| ("run#service", name))),
            }
        }
        (None, _) if node.get("containers").is_some() && node.text_of("name").is_some() => {
            match Decode::decode(node, findings) {
                Some(read) => Raw::Revision(Box::new(read)),
                None => Raw::Broken(None),
            }
        }
        (None, _) => match Decode::decode(node, findings) {
            Some(read) => {
                let read: Box<Document> = Box::new(read);
                above.project = read.project.as_ref().map(|project| project.as_str().into());
                above.region = read.region.as_ref().map(|region| region.as_str().into());
                Raw::Document(read)
            }
            None => Raw::Broken(None),
        },
    };
    pending.push(Pending { raw, at: node.at, above: above.clone() });
}

fn push_export(
    kind: &str,
    node: &Node<'_>,
    above: &Scope,
    pending: &mut Vec<Pending>,
    findings: &mut Findings,
) {
    match export::read(kind, node, findings) {
        Some(raw) => pending.push(Pending { raw, at: node.at, above: above.clone() }),
        None => {
            let at = node.get("kind").map_or(node.at, |kind| kind.at);
            let known = export::kinds().map(|(kind, _)| kind);
            let fix = match similar::closest(kind, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "remove the document, or write the resource under its collection".to_owned()
                }
            };
            findings.error(
                Code::UnknownKind,
                at,
                format!("documents of kind `{kind}` are not read; they would be ignored silently"),
                fix,
            );
        }
    }
}

/// The projects that exports without a project belong to.
struct Defaults {
    by_folder: HashMap<std::path::PathBuf, Option<Arc<str>>>,
    all: Option<Arc<str>>,
}

/// Notes every project with its number and default region.
fn projects(pending: &[Pending], model: &mut Model, findings: &mut Findings) -> Defaults {
    let mut folders: HashMap<std::path::PathBuf, BTreeSet<Arc<str>>> = HashMap::new();
    for Pending { raw, at, .. } in pending {
        let id: Arc<str> = match raw {
            Raw::Document(document) => match &document.project {
                Some(project) => project.as_str().into(),
                None => continue,
            },
            raw => match export::self_link(raw).and_then(parts).and_then(|parts| parts.project) {
                Some(id) if id.parse::<u64>().is_err() => id.into(),
                _ => continue,
            },
        };
        let project = model.projects.entry(id.clone()).or_default();
        if let Raw::Document(document) = raw {
            if let Some(region) = &document.region {
                project.region.get_or_insert_with(|| region.as_str().into());
            }
            if let Some(parent) = &document.parent {
                project.parent = Some(parent.clone());
            }
            if let Some(At { at, value }) = &document.project_number {
                let number = value.0.unsigned_abs();
                match project.number {
                    Some((other, first)) if other != number => findings.error(
                        Code::ProjectNumber,
                        *at,
                        format!(
                            "project `{id}` has the number {number} here and {other} at {}",
                            findings.position(first)
                        ),
                        "write one number, in one document",
                    ),
                    _ => project.number = Some((number, *at)),
                }
            }
        }
        folders.entry(model.directory(*at)).or_default().insert(id);
    }
    for (id, project) in &model.projects {
        let number =
            project.number.map_or_else(|| derive::project_number(id), |(number, _)| number);
        if let Some(other) = model.numbers.insert(number, id.clone()) {
            let at = project.number.map(|(_, at)| at).unwrap_or_default();
            findings.error(
                Code::ProjectNumber,
                at,
                format!("projects `{id}` and `{other}` have the same number {number}"),
                "write another `projectNumber` in one of them",
            );
        }
    }
    let only = |set: &BTreeSet<Arc<str>>| match set.len() {
        1 => set.first().cloned(),
        _ => None,
    };
    let all = only(&model.projects.keys().cloned().collect());
    Defaults { by_folder: folders.iter().map(|(k, set)| (k.clone(), only(set))).collect(), all }
}

fn add_all<T: Resource>(
    items: Items<T>,
    store: fn(&mut Model) -> &mut Store<T>,
    scope: &Scope,
    model: &mut Model,
    findings: &mut Findings,
) {
    for item in items.read {
        model.add(store, item, scope, false, findings);
    }
    for name in items.broken {
        model.broken(store, name);
    }
}

fn add_document(document: Document, at: Mark, model: &mut Model, findings: &mut Findings) {
    let Document {
        at: _,
        faulty: _,
        project,
        region,
        project_number: _,
        networks,
        subnetworks,
        addresses,
        global_addresses,
        instances,
        firewalls,
        routes,
        xpn_project_status,
        xpn_resources,
        forwarding_rules,
        global_forwarding_rules,
        service_attachments,
        url_maps,
        target_http_proxies,
        target_https_proxies,
        target_tcp_proxies,
        target_instances,
        instance_groups,
        ssl_certificates,
        backend_services,
        network_endpoint_groups,
        health_checks,
        ssl_policies,
        server_tls_policies,
        trust_configs,
        security_policies,
        address_groups,
        managed_zones,
        policies,
        response_policies,
        services,
        revisions,
        secrets,
        iam_policies,
        service_accounts,
        roles,
        groups,
        parent: _,
        folders,
        org_policies,
        hubs,
        spokes,
        organizations,
        organization,
        environments,
        envgroups,
        endpoint_attachments,
        deployments,
        apiproducts,
        developers,
        apps,
        dns_zones,
        peered_dns_domains,
        postern,
        images,
        placements,
        hosts,
        expectations,
        limits,
    } = document;
    if let Some(project) = &project {
        crate::names_rules::check_project(project, project.at, findings);
    }
    if let Some(region) = &region {
        crate::names_rules::check_region(
            crate::reference::last_segment(region),
            region.at,
            findings,
        );
    }
    let scope = Scope {
        project: project.as_ref().map(|project| project.as_str().into()),
        region: region.as_ref().map(|region| crate::reference::last_segment(region).into()),
    };
    let m = model;
    add_all(networks, |m| &mut m.networks, &scope, m, findings);
    add_all(subnetworks, |m| &mut m.subnetworks, &scope, m, findings);
    add_all(addresses, |m| &mut m.addresses, &scope, m, findings);
    add_all(instances, |m| &mut m.instances, &scope, m, findings);
    add_all(forwarding_rules, |m| &mut m.forwarding_rules, &scope, m, findings);
    add_all(service_attachments, |m| &mut m.service_attachments, &scope, m, findings);
    add_all(url_maps, |m| &mut m.url_maps, &scope, m, findings);
    add_all(target_http_proxies, |m| &mut m.target_http_proxies, &scope, m, findings);
    add_all(target_https_proxies, |m| &mut m.target_https_proxies, &scope, m, findings);
    add_all(target_tcp_proxies, |m| &mut m.target_tcp_proxies, &scope, m, findings);
    add_all(target_instances, |m| &mut m.target_instances, &scope, m, findings);
    add_all(instance_groups, |m| &mut m.instance_groups, &scope, m, findings);
    add_all(ssl_certificates, |m| &mut m.ssl_certificates, &scope, m, findings);
    add_all(backend_services, |m| &mut m.backend_services, &scope, m, findings);
    add_all(network_endpoint_groups, |m| &mut m.network_endpoint_groups, &scope, m, findings);
    add_all(health_checks, |m| &mut m.health_checks, &scope, m, findings);
    add_all(ssl_policies, |m| &mut m.ssl_policies, &scope, m, findings);
    add_all(server_tls_policies, |m| &mut m.server_tls_policies, &scope, m, findings);
    add_all(trust_configs, |m| &mut m.trust_configs, &scope, m, findings);
    add_all(security_policies, |m| &mut m.security_policies, &scope, m, findings);
    add_all(address_groups, |m| &mut m.address_groups, &scope, m, findings);
    let global = Scope { region: None, ..scope.clone() };
    add_all(global_addresses, |m| &mut m.addresses, &global, m, findings);
    add_all(global_forwarding_rules, |m| &mut m.forwarding_rules, &global, m, findings);
    add_all(managed_zones, |m| &mut m.managed_zones, &scope, m, findings);
    add_all(policies, |m| &mut m.dns_policies, &scope, m, findings);
    add_all(response_policies, |m| &mut m.response_policies, &scope, m, findings);
    add_all(services, |m| &mut m.services, &scope, m, findings);
    for revision in revisions {
        m.add_revision(revision, &scope, findings);
    }
    add_all(secrets, |m| &mut m.secrets, &scope, m, findings);
    m.limits_lifted |= limits == Some(crate::fields::ours::Limits::None);
    add_all(firewalls, |m| &mut m.firewalls, &scope, m, findings);
    add_all(routes, |m| &mut m.routes, &scope, m, findings);
    let host = xpn_project_status.is_some_and(|status| status.value == XpnProjectStatus::Host);
    if host || !xpn_resources.0.is_empty() {
        m.xpn_hosts.push(Scoped { scope: scope.clone(), raw: (at, xpn_resources.0) });
    }
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.iam_policies.extend(iam_policies.into_iter().map(scoped));
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.service_accounts.extend(service_accounts.into_iter().map(scoped));
    m.roles.extend(roles);
    m.groups.extend(groups);
    for folder in folders {
        m.folders.insert(folder.name.value, folder.parent);
    }
    m.org_policies.extend(org_policies);
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.hubs.extend(hubs.into_iter().map(scoped));
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.spokes.extend(spokes.into_iter().map(scoped));
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.placements.extend(placements.0.into_iter().map(scoped));
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.hosts.extend(hosts.into_iter().map(scoped));
    let scoped = |raw| Scoped { scope: scope.clone(), raw };
    m.expectations.extend(expectations.into_iter().map(scoped));
    for (name, raw) in images.0 {
        let item = ImageItem { at: name.at, raw };
        if let Some(first) = m.images.get(&name.value) {
            findings.error(
                Code::ImageConflict,
                name.at,
                format!(
                    "the image `{}` is described at {} too",
                    *name,
                    findings.position(first.at)
                ),
                "describe each image once; it holds for the whole topology",
            );
        } else {
            m.images.insert(name.value, item);
        }
    }
    for raw in organizations {
        add_organization(m, raw, &scope, findings);
    }

    // A document with `organization:` holds that organisation's collections at its top.
    let collections = !environments.is_empty()
        || !envgroups.is_empty()
        || !endpoint_attachments.is_empty()
        || !deployments.is_empty()
        || !apiproducts.is_empty()
        || !developers.is_empty()
        || !apps.is_empty()
        || !dns_zones.is_empty()
        || !peered_dns_domains.is_empty()
        || postern.is_some();
    let mut whole = match organization {
        Some(OrganizationName::Whole(whole)) => *whole,
        Some(OrganizationName::Name(name)) => Organization::named(name),
        None => {
            if collections {
                findings.error(
                    Code::MissingField,
                    at,
                    "`organization` is missing; envgroups, endpointAttachments, deployments and the like belong to an organisation",
                    "write `organization: NAME` at the top of the document",
                );
            }
            return;
        }
    };
    whole.environments.extend(environments);
    whole.envgroups.extend(envgroups);
    whole.endpoint_attachments.extend(endpoint_attachments);
    whole.deployments.extend(deployments);
    whole.apiproducts.extend(apiproducts);
    whole.developers.extend(developers);
    whole.apps.extend(apps);
    whole.dns_zones.extend(dns_zones);
    whole.peered_dns_domains.extend(peered_dns_domains);
    if let Some(postern) = postern {
        whole.merge_postern(postern);
    }
    add_organization(m, whole, &scope, findings);
}

/// Adds an organisation; what several documents say of one comes together.
fn add_organization(model: &mut Model, raw: Organization, scope: &Scope, findings: &mut Findings) {
    let mut all = model.organizations.iter_mut();
    match all.find(|item| item.raw.name.value == raw.name.value) {
        Some(first) => {
            if let Err((field, at)) = first.raw.merge(raw) {
                findings.error(
                    Code::ConflictingFields,
                    at,
                    format!("another document says something else of the organisation's `{field}`"),
                    "write it once",
                );
            }
        }
        None => model.organizations.push(OrganizationItem { scope: scope.clone(), raw }),
    }
}
