//! IAM policies of every level, custom roles and groups (cloud-run 5.1).

use super::Lowering;
use super::iam::is_email;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::{cloud_run, iam as fields};
use crate::model::{Resource, Scope};
use crate::reference::parts;
use crate::similar;
use iam::{KNOWN_ROLES, Permission};
use slice::iam::{Binding, Group, Policy, Role};

impl Lowering<'_> {
    /// Policies, and what they refer to. Whom a binding admits decides the crate `iam`.
    pub(crate) fn iam_policies(&mut self, findings: &mut Findings) {
        self.roles(findings);
        self.groups(findings);
        for scoped in &self.model.iam_policies {
            let raw = &scoped.raw;
            let target = self.policy_target(&raw.resource, &scoped.scope, findings);
            let mut bindings = Vec::with_capacity(raw.bindings.len());
            for binding in &raw.bindings {
                self.role(&binding.role, findings);
                let members = binding.members.iter();
                let members = members.filter_map(|member| self.member(member, findings)).collect();
                bindings.push(Binding { role: binding.role.value.clone(), members });
            }
            if let Some(resource) = target {
                self.topology.iam.policies.push(Policy { resource, bindings });
            }
        }
        for project in self.model.projects.keys() {
            let above: Vec<String> = self.ancestry(project).into_iter().skip(1).collect();
            if !above.is_empty() {
                self.topology.iam.ancestors.insert(project.to_string(), above);
            }
        }
    }

    fn roles(&mut self, findings: &mut Findings) {
        for raw in &self.model.roles {
            let name = &raw.name;
            let mut segments = name.split('/');
            let good = matches!(
                (segments.next(), segments.next(), segments.next(), segments.next()),
                (Some("projects" | "organizations"), Some(_), Some("roles"), Some(id)) if !id.is_empty()
            ) && segments.next().is_none();
            if !good {
                findings.error(
                    Code::InvalidName,
                    name.at,
                    format!("`{}` is no name of a custom role", name.value),
                    "write projects/PROJECT/roles/ROLE or organizations/NUMBER/roles/ROLE",
                );
                continue;
            }
            if self.topology.iam.roles.iter().any(|role| role.name == name.value) {
                findings.error(
                    Code::DuplicateResource,
                    name.at,
                    format!("the role `{}` is declared twice", name.value),
                    "remove one of the two",
                );
                continue;
            }
            let off = raw.deleted == Some(true)
                || raw.stage.as_ref().is_some_and(|stage| stage.value == "DISABLED");
            let permissions = raw.included_permissions.iter().map(|one| one.value.clone());
            let permissions = if off { Vec::new() } else { permissions.collect() };
            self.topology.iam.roles.push(Role { name: name.value.clone(), permissions });
        }
    }

    fn groups(&mut self, findings: &mut Findings) {
        for raw in &self.model.groups {
            let members = raw.memberships.iter().map(|one| &one.preferred_member_key.id);
            for email in std::iter::once(&raw.group_key.id).chain(members.clone()) {
                if !is_email(email) {
                    findings.error(
                        Code::InvalidValue,
                        email.at,
                        format!("`{}` is no email", email.value),
                        "write NAME@DOMAIN",
                    );
                }
            }
            let group = Group {
                email: raw.group_key.id.value.clone(),
                members: members.map(|email| email.value.clone()).collect(),
            };
            self.topology.iam.groups.push(group);
        }
    }

    /// The canonical name of a policy's resource; none where the policy has no effect, which is
    /// said.
    fn policy_target(
        &mut self,
        resource: &Text,
        scope: &Scope,
        findings: &mut Findings,
    ) -> Option<String> {
        let model = self.model;
        let text = resource.as_str();
        let text =
            text.strip_prefix("//").and_then(|rest| rest.split_once('/')).map_or(text, |r| r.1);
        if let Some((collection @ ("folders" | "organizations"), id)) = text.split_once('/')
            && !id.contains('/')
        {
            let parents = model.projects.values().filter_map(|project| project.parent.as_ref());
            let mut parents = parents.chain(model.folders.values());
            if !parents.any(|parent| parent.value == text) {
                findings.warning(
                    Code::ReferenceNotFound,
                    resource.at,
                    format!("nothing here is in `{collection}/{id}`; its policy has no effect"),
                    format!("write `parent: {text}` at the top of a project's document"),
                );
            }
            return Some(text.to_owned());
        }
        if let Some((_, id)) = text.split_once("projects/")
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
            return Some(format!("projects/{id}"));
        }
        let below = |collection: &str| {
            let (project, name) = text.strip_prefix("projects/")?.split_once('/')?;
            Some((project, name.strip_prefix(collection)?.strip_prefix('/')?))
        };
        let account = below("serviceAccounts").map_or(text, |(_, email)| email);
        if is_email(account) {
            let email = self.account(account, scope.project.as_deref().unwrap_or_default());
            return self.accounts.get(&email).map(slice::run::ServiceAccount::resource);
        }
        if let Some((project, secret)) = below("secrets").filter(|(_, name)| !name.contains('/')) {
            return Some(format!("projects/{}/secrets/{secret}", model.project_id(project)));
        }
        let collection = parts(resource).and_then(|parts| parts.collection);
        if collection.is_some_and(|collection| collection != cloud_run::Service::COLLECTION) {
            findings.warning(
                Code::NotYetHonoured,
                resource.at,
                format!("policies on `{}` have no effect in this release", resource.value),
                "policies on organizations, folders, projects, Cloud Run services, service accounts and secrets are honoured; remove this one to silence the warning",
            );
            return None;
        }
        let service = model.find(&model.services, resource, scope, findings)?;
        Some(service.link.as_str().to_owned())
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
        let declared = |group: &fields::Group| group.group_key.id.eq_ignore_ascii_case(value);
        let nobody = match kind {
            "group" if self.model.groups.iter().any(declared) => None,
            "group" => Some("declare it in `groups` with its memberships, or name its members"),
            "principal" | "principalSet" => {
                Some("no identity pool is simulated: name service accounts and users")
            }
            "projectOwner" | "projectEditor" | "projectViewer" => {
                Some("name the service accounts and users themselves")
            }
            _ => None,
        };
        if let Some(fix) = nobody {
            findings.warning(
                Code::NotYetHonoured,
                member.at,
                format!("nobody knows here who is in `{text}`; it admits nobody"),
                fix,
            );
        }
        if kind == "serviceAccount" {
            let email = value.to_ascii_lowercase();
            self.account(&email, "");
            return Some(format!("serviceAccount:{email}"));
        }
        Some(text.to_owned())
    }

    /// Says of a role that it is none, or that nobody knows here what it holds.
    fn role(&self, role: &Text, findings: &mut Findings) {
        let text = role.as_str();
        let custom = text.starts_with("projects/") || text.starts_with("organizations/");
        if custom {
            if !self.topology.iam.roles.iter().any(|known| known.name == text) {
                findings.warning(
                    Code::NotYetHonoured,
                    role.at,
                    format!(
                        "nobody knows here what the custom role `{text}` holds; it grants nothing"
                    ),
                    "declare it in `roles` with its includedPermissions",
                );
            }
        } else if !text.starts_with("roles/") {
            findings.error(
                Code::IamRole,
                role.at,
                format!("`{text}` is no role"),
                format!("write {}", Permission::RunRoutesInvoke.roles()[0]),
            );
        } else if !KNOWN_ROLES.contains(&text)
            && ["roles/run.", "roles/iam.serviceAccount", "roles/secretmanager."]
                .iter()
                .any(|family| text.starts_with(family))
            && let Some(near) = similar::closest(text, KNOWN_ROLES.iter().copied())
        {
            findings.warning(
                Code::IamRole,
                role.at,
                format!("`{text}` is no role that is known here; it grants nothing"),
                format!("did you mean `{near}`?"),
            );
        }
    }
}
