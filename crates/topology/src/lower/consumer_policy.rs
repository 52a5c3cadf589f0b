//! The Org Policy constraint `compute.restrictPrivateServiceConnectConsumer` and the hierarchy that
//! it is evaluated over (private-connectivity 1.2, step 1; the shape of policies and how they are
//! merged is that of the Org Policy API: the nearest policy holds, with `inheritFromParent` together
//! with the next one above).

use super::Lowering;
use crate::diagnostic::{Code, Findings};
use crate::fields::org_policy::OrgPolicy;
use crate::model::Model;
use slice::psc::{Allowed, ConsumerPolicy};
use std::collections::HashMap;

const CONSTRAINT: &str = "compute.restrictPrivateServiceConnectConsumer";

/// Folders nest at most ten deep; more is a circle.
const DEPTH_MAX: usize = 12;

/// The policies of the constraint by the resource that they are of: `organizations/1`.
pub(crate) type Policies<'m> = HashMap<String, &'m OrgPolicy>;

/// Reads every organization policy; those of other constraints have no effect here.
pub(crate) fn policies<'m>(model: &'m Model, findings: &mut Findings) -> Policies<'m> {
    let of_projects = model.projects.values().filter_map(|project| project.parent.as_ref());
    for parent in of_projects.chain(model.folders.values()) {
        let known = parent.split_once('/').is_some_and(|(collection, id)| {
            matches!(collection, "organizations" | "folders") && !id.is_empty()
        });
        if !known {
            findings.error(
                Code::InvalidValue,
                parent.at,
                format!("`{}` is no organization or folder", parent.value),
                "write organizations/NUMBER or folders/NUMBER",
            );
        }
    }
    let mut all = Policies::new();
    for policy in &model.org_policies {
        let name = &policy.name;
        let Some((resource, constraint)) = name.split_once("/policies/") else {
            findings.error(
                Code::InvalidName,
                name.at,
                format!("`{}` is no name of an organization policy", name.value),
                format!("write organizations/NUMBER/policies/{CONSTRAINT}"),
            );
            continue;
        };
        if constraint.trim_start_matches("constraints/") != CONSTRAINT {
            findings.warning(
                Code::NotYetHonoured,
                name.at,
                format!("the constraint `{constraint}` has no effect in this release"),
                format!("remove it to silence this warning; {CONSTRAINT} is honoured"),
            );
            continue;
        }
        if let Some(first) = all.insert(canonical(model, resource), policy) {
            let first = findings.position(first.name.at);
            findings.error(
                Code::DuplicateResource,
                name.at,
                format!("`{}` is declared at {first} too", name.value),
                "remove one of the two",
            );
        }
        for rule in policy.spec.iter().flat_map(|spec| &spec.rules) {
            let values = rule.values.iter();
            let values = values.flat_map(|v| v.allowed_values.iter().chain(&v.denied_values));
            for value in values.filter(|value| covered(model, value).is_none()) {
                findings.error(
                    Code::InvalidValue,
                    value.at,
                    format!("`{}` names no organization, folder or project", value.value),
                    "write under:organizations/NUMBER, under:folders/NUMBER or under:projects/ID",
                );
            }
        }
    }
    all
}

/// What a value of the constraint covers, in the words of an ancestry. `is:` of a folder or
/// organization covers the resource itself only, and so no project.
fn covered(model: &Model, value: &str) -> Option<String> {
    let (below, resource) = match (value.strip_prefix("under:"), value.strip_prefix("is:")) {
        (Some(resource), _) => (true, resource),
        (None, Some(resource)) => (false, resource),
        (None, None) => (false, value),
    };
    let (collection, id) = resource.split_once('/').filter(|(_, id)| !id.is_empty())?;
    match collection {
        "projects" => Some(canonical(model, resource)),
        "folders" | "organizations" if below => Some(resource.to_owned()),
        "folders" | "organizations" => Some(format!("is:{collection}/{id}")),
        _ => None,
    }
}

/// Projects are named by id, whatever is written.
fn canonical(model: &Model, resource: &str) -> String {
    match resource.strip_prefix("projects/") {
        Some(project) => format!("projects/{}", model.project_id(project)),
        None => resource.to_owned(),
    }
}

impl Lowering<'_> {
    /// What a project is below, nearest first ([`slice::psc::Endpoint::ancestry`]). The number is
    /// left out: names are by id here.
    pub(crate) fn ancestry(&self, project: &str) -> Vec<String> {
        let mut all = vec![format!("projects/{project}")];
        let own = self.model.projects.get(project);
        let mut next = own.and_then(|own| own.parent.as_ref()).map(|parent| &parent.value);
        while let Some(above) = next
            && all.len() < DEPTH_MAX
            && !all.contains(above)
        {
            all.push(above.clone());
            next = self.model.folders.get(above).map(|parent| &parent.value);
        }
        all
    }

    /// The policy that holds for a project.
    pub(crate) fn consumer_policy(&self, project: &str) -> Option<ConsumerPolicy> {
        let mut effective: Option<ConsumerPolicy> = None;
        for above in self.ancestry(project) {
            let Some(policy) = self.consumer_policies.get(&above) else { continue };
            let spec = policy.spec.as_ref();
            if spec.is_some_and(|spec| spec.reset == Some(true)) {
                break; // the constraint's default: everybody
            }
            let rules = || spec.into_iter().flat_map(|spec| &spec.rules);
            let values = |of: fn(&crate::fields::org_policy::PolicyValues) -> &Vec<_>| {
                let all = rules().filter_map(|rule| rule.values.as_ref()).flat_map(of);
                all.filter_map(|value: &crate::decode::Text| covered(self.model, value))
                    .collect::<Vec<String>>()
            };
            let allowed = values(|values| &values.allowed_values);
            let denied = values(|values| &values.denied_values);
            let denies_all = rules().any(|rule| rule.deny_all == Some(true));
            let allows_all = rules().any(|rule| rule.allow_all == Some(true))
                || (allowed.is_empty() && !denied.is_empty() && !denies_all);
            let all = effective.get_or_insert_with(|| ConsumerPolicy {
                name: policy.name.value.clone(),
                allowed: Allowed::Values(Vec::new()),
                denied: Vec::new(),
            });
            all.denied.extend(denied);
            match &mut all.allowed {
                _ if allows_all => all.allowed = Allowed::All,
                Allowed::Values(values) => values.extend(allowed),
                Allowed::All => {}
            }
            if spec.is_none_or(|spec| spec.inherit_from_parent != Some(true)) {
                break;
            }
        }
        effective
    }
}
