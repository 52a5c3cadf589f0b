//! Cloud Run services (cloud-run 1.1, 2.1 to 2.5, 3.1 to 3.4, 4).

mod containers;
mod images;
mod probes;
mod resources;
mod revisions;
mod scaling;
mod traffic;
mod volumes;

use super::{Disk, Lowering};
use crate::derive;
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::cloud_run::{Ingress, LaunchStage, RevisionTemplate, Service};
use crate::fields::network::Texts;
use crate::model::{Item, RevisionItem, Scope};
use revisions::Revisions;
use slice::run;
use std::collections::{HashMap, HashSet};

/// Longest description (3.4).
const DESCRIPTION_MAX: usize = 512;
/// Longest JSON of the custom audiences (3.4).
const AUDIENCES_MAX: usize = 32_768;
/// Prefixes of labels and annotations that only the v1 API takes (3.4).
const RESERVED_PREFIXES: &[&str] = &[
    "run.googleapis.com/",
    "cloud.googleapis.com/",
    "serving.knative.dev/",
    "autoscaling.knative.dev/",
];

/// The template of a revision, and what it is judged with.
struct Template<'t> {
    service: &'t str,
    scope: Scope,
    /// Email of the instances' service account.
    account: String,
    stage: LaunchStage,
    raw: &'t RevisionTemplate,
}

impl Template<'_> {
    /// A feature that is not generally available (2.5).
    fn needs_beta(&self, at: Mark, findings: &mut Findings) {
        if self.stage == LaunchStage::Ga {
            findings.error(
                Code::LaunchStage,
                at,
                "The feature is not supported in the declared launch stage",
                "write launchStage: BETA in the service (`run.googleapis.com/launch-stage: BETA`)",
            );
        }
    }
}

impl Lowering<'_> {
    /// All Cloud Run services.
    pub(crate) fn services(&mut self, disk: &Disk<'_>, findings: &mut Findings) {
        let model = self.model;
        let links: HashSet<_> = model.services.items.iter().map(|item| &item.link).collect();
        let mut declared_of: HashMap<_, Vec<&RevisionItem>> = HashMap::new();
        for declared in &model.revisions {
            declared_of.entry(&declared.service).or_default().push(declared);
            let has_service = links.contains(&declared.service);
            let name = declared.service.name();
            if !has_service && !model.services.has_broken() {
                findings.error(
                    Code::ServiceRevision,
                    declared.raw.at,
                    format!(
                        "`{}` is the service of a revision, and is not declared",
                        declared.service
                    ),
                    format!("declare the service `{name}`, or remove the revision"),
                );
            }
        }
        // A service may be named like another one's tag, `TAG---SERVICE`.
        let mut claimed: HashMap<String, &Item<Service>> = HashMap::new();
        for item in &model.services.items {
            let declared = declared_of.remove(&item.link).unwrap_or_default();
            if let Some(service) = self.service(item, &declared, disk, findings) {
                let tagged = service.tags().flat_map(|tag| {
                    service.hosts.iter().filter_map(move |host| run::tagged_host(tag, host))
                });
                for host in service.hosts.iter().cloned().chain(tagged) {
                    if let Some(other) = claimed.get(&host).filter(|other| other.link != item.link)
                    {
                        findings.error(
                            Code::DuplicateResource,
                            item.raw.name.at,
                            format!(
                                "`{}` and `{}` have the same host name {host}",
                                item.link, other.link
                            ),
                            "rename one of the two, or the tag",
                        );
                    } else {
                        claimed.insert(host, item);
                    }
                }
                self.topology.services.push(service);
            }
        }
    }

    fn service(
        &mut self,
        item: &Item<Service>,
        declared: &[&RevisionItem],
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<run::Service> {
        let raw = &item.raw;
        let project_number = self.model.project_number(&item.project);
        let Revisions { latest, older, faulty } = self.revisions(item, declared, disk, findings);
        let names = latest.iter().chain(&older).map(|revision| revision.name.as_str());
        let names: Vec<&str> = names.collect();
        let traffic = traffic::lower(item, (!faulty).then_some(&names), findings);
        judge(raw, findings);
        let region = item.region().to_owned();
        let access = latest.as_ref().and_then(|revision| revision.vpc_access.as_ref());
        Some(run::Service {
            self_link: item.link.clone(),
            name: item.name().to_owned(),
            project: item.project.to_string(),
            project_number,
            hosts: derive::run_hosts(item.name(), project_number, &region),
            region,
            traffic,
            custom_audiences: raw.custom_audiences.iter().map(|text| text.value.clone()).collect(),
            ingress: match raw.ingress {
                None | Some(Ingress::All) => run::Ingress::All,
                Some(Ingress::InternalOnly) => run::Ingress::InternalOnly,
                Some(Ingress::InternalLoadBalancer) => run::Ingress::InternalLoadBalancer,
                Some(Ingress::None) => run::Ingress::None,
            },
            invoker_iam_disabled: raw.invoker_iam_disabled.unwrap_or(false),
            default_uri_disabled: raw.default_uri_disabled.unwrap_or(false),
            internal_networks: self.internal_networks(item, access),
            scaling: scaling::of_service(raw, findings),
            revision: latest?,
            older_revisions: older,
        })
    }
}

/// What stands beside the template.
fn judge(raw: &Service, findings: &mut Findings) {
    own_keys(&raw.labels, &raw.annotations, findings);
    if let Some(text) = &raw.description
        && text.chars().count() > DESCRIPTION_MAX
    {
        findings.error(
            Code::InvalidValue,
            text.at,
            format!("the description is longer than {DESCRIPTION_MAX} characters"),
            "shorten it",
        );
    }
    for audience in raw.custom_audiences.iter().filter(|audience| audience.is_empty()) {
        findings.error(
            Code::InvalidValue,
            audience.at,
            "an empty audience would fit nothing",
            "write a text, such as a URL",
        );
    }
    let texts: Vec<&str> = raw.custom_audiences.iter().map(|text| text.as_str()).collect();
    let length = serde_json::to_string(&texts).map_or(0, |json| json.len());
    if let Some(first) = raw.custom_audiences.first().filter(|_| length > AUDIENCES_MAX) {
        findings.error(
            Code::ListTooLong,
            first.at,
            format!("the custom audiences are longer than {AUDIENCES_MAX} characters as JSON"),
            "remove some",
        );
    }
}

/// The v2 API has fields for what v1 says in annotations and labels, and refuses their keys.
fn own_keys(labels: &Texts, annotations: &Texts, findings: &mut Findings) {
    for (key, _) in labels.0.iter().chain(&annotations.0) {
        if RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            findings.error(
                Code::FieldNotSupported,
                key.at,
                format!("the key `{}` is not taken by the Admin API v2, which has fields for what such keys say", key.value),
                "write the field, or use a key of your own",
            );
        }
    }
}
