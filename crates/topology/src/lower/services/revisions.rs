//! The revision that a template makes, and the older ones that the files declare (cloud-run 3.1).

use super::super::{Disk, Lowering, iam};
use super::{Template, images, resources, scaling};
use crate::derive;
use crate::diagnostic::{Code, Findings};
use crate::fields::cloud_run::{ExecutionEnvironment, LaunchStage, RevisionTemplate, Service};
use crate::model::{Item, RevisionItem};
use slice::run;
use std::path::PathBuf;

/// The revisions of a service.
pub(super) struct Revisions {
    /// What the service's template makes.
    pub(super) latest: Option<run::Revision>,
    /// Declared beside it, in the order of the files.
    pub(super) older: Vec<run::Revision>,
    /// One could not be read, so that the list is not whole.
    pub(super) faulty: bool,
}

/// Is it a name of a revision of this service?
pub(super) fn is_name(name: &str, service: &str) -> bool {
    crate::names_rules::is_rfc1035(name, 63)
        && name.strip_prefix(service).is_some_and(|rest| rest.starts_with('-'))
}

impl Lowering<'_> {
    /// The revisions of a service, named.
    pub(super) fn revisions(
        &mut self,
        item: &Item<Service>,
        declared: &[&RevisionItem],
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Revisions {
        let stage = item.raw.launch_stage.unwrap_or(LaunchStage::Ga);
        let latest = self.revision(item, &item.raw.template, stage, disk, findings);
        let mut older: Vec<run::Revision> = Vec::new();
        let mut faulty = false;
        for declared in declared {
            // It was admitted when it was deployed.
            let stage = LaunchStage::Alpha;
            let Some(revision) = self.revision(item, &declared.raw, stage, disk, findings) else {
                faulty = true;
                continue;
            };
            match older.iter().find(|other| other.name == revision.name) {
                None => older.push(revision),
                Some(same) if is_same(same, &revision) => {}
                Some(_) => conflict(&declared.raw, &revision.name, findings),
            }
        }
        let Some(mut latest) = latest else {
            return Revisions { latest: None, older, faulty: true };
        };
        if latest.name.is_empty() {
            // An export of a service beside those of its revisions: its template made the newest.
            if let Some(made) = older.iter().rfind(|older| is_same(older, &latest)) {
                latest.name.clone_from(&made.name);
            } else {
                let numbers = older.iter().filter_map(|older| generation(&older.name, item.name()));
                let newest =
                    numbers.max().unwrap_or(0).max(u32::try_from(older.len()).unwrap_or(0));
                latest.name = derive::revision_name(item.name(), newest + 1, &fingerprint(&latest));
            }
        } else if older.iter().any(|older| older.name == latest.name && !is_same(older, &latest)) {
            conflict(&item.raw.template, &latest.name, findings);
        }
        older.retain(|older| older.name != latest.name);
        Revisions { latest: Some(latest), older, faulty }
    }

    /// A revision; its name is empty where the template fixes none.
    fn revision(
        &mut self,
        item: &Item<Service>,
        raw: &RevisionTemplate,
        stage: LaunchStage,
        disk: &Disk<'_>,
        findings: &mut Findings,
    ) -> Option<run::Revision> {
        let account = self.revision_account(item, raw, findings);
        let service = item.name();
        let template = Template { service, scope: item.scope(), account, stage, raw };
        super::own_keys(&raw.labels, &raw.annotations, findings);
        let environment = raw.execution_environment.as_ref();
        if let Some(first) = environment.filter(|one| one.value == ExecutionEnvironment::Gen1) {
            findings.warning(
                Code::NotYetHonoured,
                first.at,
                "instances are processes of this machine's kernel, as those of the second generation are",
                "remove it to silence this warning; nothing else depends on it here",
            );
        }
        let name = raw.revision.as_ref().filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|name| !is_name(name, service)) {
            findings.error(
                Code::InvalidName,
                name.at,
                format!("`{}` is no name of a revision; it begins with `{service}-` and has at most 63 lower-case letters, digits and hyphens", name.value),
                format!("write `{service}-SUFFIX`, or remove it"),
            );
        }
        let name = name.map(|name| name.value.clone()).unwrap_or_default();
        let mut revision = run::Revision::new(&name, run::Run::Url(String::new()));
        scaling::of_revision(&template, &mut revision, findings);
        revision.timeout_seconds = scaling::timeout(raw, findings);
        revision.vpc_access = self.vpc_access(raw.vpc_access.as_ref(), &template.scope, findings);
        revision.session_affinity = raw.session_affinity.unwrap_or(false);
        revision.health_check_disabled = raw.health_check_disabled.unwrap_or(false);
        revision.volumes = self.volumes(&template, findings);
        let containers = self.containers(&template, &revision.volumes, disk, findings);
        let below_one = containers
            .as_ref()
            .is_some_and(|containers| resources::of_instance(raw, containers, findings));
        revision.container_concurrency = scaling::concurrency(raw, below_one, findings);
        revision.service_account = Some(template.account);
        revision.containers = containers?;
        Some(revision)
    }

    /// The email of the instances' service account.
    fn revision_account(
        &mut self,
        item: &Item<Service>,
        raw: &RevisionTemplate,
        findings: &mut Findings,
    ) -> String {
        let email = match raw.service_account.as_ref().filter(|written| !written.is_empty()) {
            Some(written) => {
                // `projects/-/serviceAccounts/EMAIL` is read as well.
                let email = crate::reference::last_segment(written).to_ascii_lowercase();
                if !iam::is_email(&email) {
                    findings.error(
                        Code::InvalidName,
                        written.at,
                        format!("`{}` is no email of a service account", written.value),
                        "write NAME@PROJECT.iam.gserviceaccount.com",
                    );
                }
                email
            }
            None => derive::default_service_account(self.model.project_number(&item.project)),
        };
        self.account(&email, &item.project)
    }
}

fn conflict(raw: &RevisionTemplate, name: &str, findings: &mut Findings) {
    findings.error(
        Code::ServiceRevision,
        raw.revision.as_ref().map_or(raw.at, |name| name.at),
        format!("Revision named '{name}' with different configuration already exists."),
        "rename it with the change, or remove the name",
    );
}

/// Have two revisions the same configuration? An image by its digest may be the one that the other
/// names by a tag.
fn is_same(one: &run::Revision, other: &run::Revision) -> bool {
    let same_image = |one: &str, other: &str| {
        let digest = one.contains('@') || other.contains('@');
        one == other || (digest && images::without_tag(one) == images::without_tag(other))
    };
    let images = |revision: &run::Revision| {
        revision.containers.iter().map(|container| container.image.clone()).collect::<Vec<_>>()
    };
    let mut renamed = other.clone();
    renamed.name.clone_from(&one.name);
    let (ours, theirs) = (images(one), images(other));
    if ours.len() != theirs.len() || !ours.iter().zip(&theirs).all(|(a, b)| same_image(a, b)) {
        return false;
    }
    for (container, image) in renamed.containers.iter_mut().zip(ours) {
        container.image = image;
    }
    renamed == *one
}

/// The number in `SERVICE-00012-abc`.
fn generation(name: &str, service: &str) -> Option<u32> {
    let rest = name.strip_prefix(service)?.strip_prefix('-')?;
    let (number, letters) = rest.split_once('-')?;
    (number.len() == 5 && letters.len() == 3).then(|| number.parse().ok())?
}

/// What a generated name depends on: the whole configuration, but not where the files lie on this
/// machine.
fn fingerprint(revision: &run::Revision) -> String {
    let mut revision = revision.clone();
    for container in &mut revision.containers {
        match &mut container.run {
            run::Run::Command { directory, .. } => *directory = PathBuf::new(),
            run::Run::Mock { openapi } => {
                *openapi = openapi.file_name().map(PathBuf::from).unwrap_or_default();
            }
            run::Run::Url(_) | run::Run::Container { .. } => {}
        }
    }
    serde_json::to_string(&revision).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_stands_in_the_generated_name() {
        assert_eq!(generation("orders-00012-abc", "orders"), Some(12));
        for other in ["orders-v2", "orders-00012", "orders-12-abc", "other-00012-abc"] {
            assert_eq!(generation(other, "orders"), None, "{other}");
        }
    }

    #[test]
    fn an_image_by_its_digest_is_the_one_by_its_tag() {
        let of = |image: &str| {
            let mut revision = run::Revision::new("s-1", run::Run::Url(String::new()));
            revision.containers[0].image = image.to_owned();
            revision
        };
        assert!(is_same(&of("r/i:v1"), &of("r/i@sha256:abc")));
        assert!(!is_same(&of("r/i:v1"), &of("r/i:v2")));
        assert!(!is_same(&of("r/i:v1"), &of("r/j@sha256:abc")));
        let mut changed = of("r/i:v1");
        changed.timeout_seconds = 5;
        assert!(!is_same(&of("r/i:v1"), &changed));
    }
}
