//! Service accounts, and who may invoke which Cloud Run service (cloud-run 5.1).

use super::Lowering;
use crate::decode::Text;
use crate::derive;
use crate::diagnostic::{Code, Findings};
use crate::model::{Resource, Scope};
use crate::reference::parts;
use crate::similar;
use names::SelfLink;
use slice::run;
use std::collections::HashMap;

/// Roles that hold run.routes.invoke (servicesInvoker and owner: (unconfirmed)).
const INVOKER_ROLES: &[&str] =
    &["roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin", "roles/owner"];

impl Lowering<'_> {
    /// Declared service accounts.
    pub(crate) fn service_accounts(&mut self, findings: &mut Findings) {
        for scoped in &self.model.service_accounts {
            let raw = &scoped.raw;
            let own = raw.project_id.as_ref().map(|project| project.as_str());
            let project = own.map(|project| self.model.project_id(project));
            let project = project.or_else(|| scoped.scope.project.clone());
            let named = raw.email.as_ref().or(raw.name.as_ref()).or(raw.account_id.as_ref());
            let Some(named) = named else {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        "a service account without `email`",
                        "add `email` or `accountId`",
                    );
                }
                continue;
            };
            // `name` is `projects/P/serviceAccounts/EMAIL`, and people write the short id too.
            let short = crate::reference::last_segment(named);
            let email = match (short.contains('@'), &project) {
                (true, _) => short.to_owned(),
                (false, Some(project)) => format!("{short}@{project}.iam.gserviceaccount.com"),
                (false, None) => {
                    findings.error(
                        Code::NoProject,
                        named.at,
                        format!(
                            "the service account `{short}` is in no project; its email needs one"
                        ),
                        "write the whole email, or `project:` at the top of the document",
                    );
                    continue;
                }
            };
            if !is_email(&email) {
                findings.error(
                    Code::InvalidName,
                    named.at,
                    format!("`{email}` is no email of a service account"),
                    "write NAME@PROJECT.iam.gserviceaccount.com",
                );
                continue;
            }
            if self.accounts.contains_key(&email) {
                findings.error(
                    Code::DuplicateResource,
                    named.at,
                    format!("the service account `{email}` is declared twice"),
                    "remove one of the two",
                );
                continue;
            }
            let project = project.unwrap_or_else(|| "".into());
            self.account(&email, &project);
            if let Some(id) = &raw.unique_id {
                if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
                    findings.error(
                        Code::InvalidValue,
                        id.at,
                        format!("`{}` is no unique id; it is made of digits", id.value),
                        "write the digits in quotes, or remove it",
                    );
                } else if let Some(account) = self.accounts.get_mut(&email) {
                    account.unique_id.clone_from(&id.value);
                }
            }
        }
    }

    /// Notes a service account that is used somewhere; returns its email.
    pub(crate) fn account(&mut self, email: &str, used_in: &str) -> String {
        if !self.accounts.contains_key(email) {
            let domain = email.split_once('@').map_or("", |(_, domain)| domain);
            let number = email.split_once("-compute@developer").and_then(|(n, _)| n.parse().ok());
            let project = match domain.strip_suffix(".iam.gserviceaccount.com") {
                Some(project) => project.to_owned(),
                None => number
                    .and_then(|number: u64| self.model.numbers.get(&number))
                    .map_or_else(|| used_in.to_owned(), |id| id.to_string()),
            };
            let account = run::ServiceAccount {
                email: email.to_owned(),
                project,
                unique_id: derive::unique_id(email),
            };
            self.accounts.insert(email.to_owned(), account);
        }
        email.to_owned()
    }

    /// Bindings on services and projects → the invokers of each service.
    pub(crate) fn iam_policies(&mut self, findings: &mut Findings) {
        let mut on_service: HashMap<SelfLink, Vec<String>> = HashMap::new();
        let mut on_project: HashMap<String, Vec<String>> = HashMap::new();
        for scoped in &self.model.iam_policies {
            let raw = &scoped.raw;
            let target = self.policy_target(&raw.resource, &scoped.scope, findings);
            for binding in &raw.bindings {
                let invokes = role(&binding.role, findings);
                for member in &binding.members {
                    let Some(member) = self.member(member, findings) else { continue };
                    match &target {
                        _ if !invokes => {}
                        Some(Target::Service(link)) => {
                            on_service.entry(link.clone()).or_default().push(member);
                        }
                        Some(Target::Project(id)) => {
                            on_project.entry(id.clone()).or_default().push(member);
                        }
                        Some(Target::Other) | None => {}
                    }
                }
            }
        }
        for service in &mut self.topology.services {
            let own = on_service.get(&service.self_link).into_iter().flatten();
            let inherited = on_project.get(&service.project).into_iter().flatten();
            for member in own.chain(inherited) {
                if !service.invokers.contains(member) {
                    service.invokers.push(member.clone());
                }
            }
        }
    }

    fn policy_target(
        &self,
        resource: &Text,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<Target> {
        let model = self.model;
        if let Some((_, id)) = resource.split_once("projects/")
            && !id.contains('/')
        {
            let id = model.project_id(id);
            if !model.projects.contains_key(&id) {
                let near = similar::closest(&id, model.projects.keys().map(|id| &**id));
                findings.error(
                    Code::ReferenceNotFound,
                    resource.at,
                    format!("no document names a project `{id}`"),
                    near.map_or("correct the project's id".into(), |near| {
                        format!("did you mean `{near}`?")
                    }),
                );
                return None;
            }
            return Some(Target::Project(id.to_string()));
        }
        let collection = parts(resource).and_then(|parts| parts.collection);
        if collection
            .is_some_and(|collection| collection != crate::fields::cloud_run::Service::COLLECTION)
        {
            findings.warning(
                Code::NotYetHonoured,
                resource.at,
                format!("policies on `{}` have no effect in this release", resource.value),
                "policies on Cloud Run services and projects are honoured; remove this one to silence the warning",
            );
            return Some(Target::Other);
        }
        let service = model.find(&model.services, resource, scope, findings)?;
        Some(Target::Service(service.link.clone()))
    }

    /// A member in canonical spelling; service accounts are noted.
    fn member(&mut self, member: &Text, findings: &mut Findings) -> Option<String> {
        let text = member.as_str();
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let good = match kind {
            "allUsers" | "allAuthenticatedUsers" => text == kind,
            "user" | "serviceAccount" | "group" => is_email(value),
            "domain" => crate::names_rules::is_hostname(value),
            "principal" | "principalSet" => value.starts_with("//"),
            "deleted" | "projectOwner" | "projectEditor" | "projectViewer" => !value.is_empty(),
            _ => false,
        };
        if !good {
            let kinds = [
                "allUsers",
                "allAuthenticatedUsers",
                "user:",
                "serviceAccount:",
                "group:",
                "domain:",
                "principal://",
                "principalSet://",
            ];
            let near =
                similar::closest(kind, kinds.iter().map(|kind| kind.trim_end_matches([':', '/'])));
            findings.error(
                Code::IamMember,
                member.at,
                format!("`{text}` is no member of a policy"),
                match near {
                    _ if is_email(text) => format!("write serviceAccount:{text} or user:{text}"),
                    Some(near) if near != kind => format!("did you mean `{near}`?"),
                    _ => "write allUsers, allAuthenticatedUsers, user:EMAIL, serviceAccount:EMAIL, group:EMAIL or domain:DOMAIN".into(),
                },
            );
            return None;
        }
        if kind == "group" || kind.starts_with("principal") {
            findings.warning(
                Code::NotYetHonoured,
                member.at,
                format!("nobody knows here who is in `{text}`; it admits nobody"),
                "name the service accounts and users themselves",
            );
        }
        if kind == "serviceAccount" {
            let email = value.to_ascii_lowercase();
            self.account(&email, "");
            return Some(format!("serviceAccount:{email}"));
        }
        Some(text.to_owned())
    }
}

enum Target {
    Service(SelfLink),
    Project(String),
    Other,
}

/// Does the role let its members invoke services? A role that is nearly one of those is a typo.
fn role(role: &Text, findings: &mut Findings) -> bool {
    let text = role.as_str();
    if INVOKER_ROLES.contains(&text) {
        return true;
    }
    let custom = text.starts_with("projects/") || text.starts_with("organizations/");
    if !text.starts_with("roles/") && !custom {
        findings.error(
            Code::IamRole,
            role.at,
            format!("`{text}` is no role"),
            "write roles/run.invoker",
        );
    } else if custom {
        findings.warning(
            Code::NotYetHonoured,
            role.at,
            format!("nobody knows here what the custom role `{text}` holds; it grants nothing"),
            "use roles/run.invoker",
        );
    } else if let Some(near) = similar::closest(text, INVOKER_ROLES.iter().copied())
        && text.starts_with("roles/run.")
        && ![
            "roles/run.viewer",
            "roles/run.developer",
            "roles/run.jobsExecutor",
            "roles/run.sourceDeveloper",
            "roles/run.sourceViewer",
            "roles/run.builder",
            "roles/run.serviceAgent",
            "roles/run.jobsExecutorWithOverrides",
        ]
        .contains(&text)
    {
        findings.warning(
            Code::IamRole,
            role.at,
            format!("`{text}` is no role that is known here; it grants nothing"),
            format!("did you mean `{near}`?"),
        );
    }
    false
}

/// `LOCAL@DOMAIN`.
pub(crate) fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !text.contains(':')
            && !text.contains(char::is_whitespace)
            && crate::names_rules::is_hostname(domain)
    })
}
