//! Who may do what on which resource (cloud-run 5.1): policies with inheritance, roles, groups.
//!
//! Words owned here: *permission*, *principal*, *access* (who has one permission on one resource),
//! *grant* (one reason why somebody has it). [`Policies::access`] gathers the grants of a resource
//! and of everything above it once; [`Access::check`] answers for one principal without walking
//! them. Everything that asks for a permission calls these two: invokers of Cloud Run services,
//! impersonation of service accounts, access to secrets.
//!
//! No clock, no socket, no file. Conditional bindings do not get here: `topology` refuses them.

mod access;
mod role;
#[cfg(test)]
mod tests;

pub use access::{Access, Denied, Grant, Principal};
pub use role::{KNOWN_ROLES, Permission};

use slice::iam::Iam;
use std::collections::{HashMap, HashSet, VecDeque};

/// No group has more members here, those of the groups in it included.
const GROUPS_MAX: usize = 10_000;

/// The policies of a topology, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    iam: Iam,
    /// Resource → indices of its policies.
    of_resource: HashMap<String, Vec<usize>>,
    /// Custom role → index.
    roles: HashMap<String, usize>,
    /// Group, in lower case → emails of everybody in it, in lower case.
    groups: HashMap<String, HashSet<String>>,
}

impl Policies {
    /// Indexes them.
    pub fn new(iam: &Iam) -> Self {
        let mut of_resource: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, policy) in iam.policies.iter().enumerate() {
            of_resource.entry(policy.resource.clone()).or_default().push(index);
        }
        let roles = iam.roles.iter().enumerate().map(|(index, role)| (role.name.clone(), index));
        Policies {
            of_resource,
            roles: roles.collect(),
            groups: everybody_in_groups(iam),
            iam: iam.clone(),
        }
    }

    /// Who has a permission on a resource: by a binding on it, or on what is above it. Nearest
    /// first.
    pub fn access(&self, permission: Permission, resource: &str) -> Access {
        let mut access = Access::new(permission, resource);
        for level in self.levels(resource) {
            let policies = self.of_resource.get(level).map(Vec::as_slice).unwrap_or_default();
            for binding in policies.iter().flat_map(|index| &self.iam.policies[*index].bindings) {
                if self.holds(&binding.role, permission) {
                    for member in &binding.members {
                        access.grant(member, &binding.role, level, &self.groups);
                    }
                }
            }
        }
        access
    }

    /// A resource and what is above it.
    fn levels<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a str> {
        // `projects/P/…`: the project is above; of a project itself, nothing but its ancestors.
        let project = resource.strip_prefix("projects/").map(|rest| {
            let id = rest.split('/').next().unwrap_or_default();
            (&resource[.."projects/".len() + id.len()], id)
        });
        let above = project.and_then(|(_, id)| self.iam.ancestors.get(id)).into_iter().flatten();
        let project = project.map(|(name, _)| name).filter(|name| *name != resource);
        std::iter::once(resource).chain(project).chain(above.map(String::as_str))
    }

    fn holds(&self, role: &str, permission: Permission) -> bool {
        match self.roles.get(role) {
            Some(index) => {
                self.iam.roles[*index].permissions.iter().any(|held| held == permission.name())
            }
            None => permission.roles().contains(&role),
        }
    }
}

/// Groups within groups taken apart; a circle ends where it closes.
fn everybody_in_groups(iam: &Iam) -> HashMap<String, HashSet<String>> {
    let direct: HashMap<String, Vec<String>> = iam
        .groups
        .iter()
        .map(|group| {
            let members = group.members.iter().map(|member| member.to_ascii_lowercase());
            (group.email.to_ascii_lowercase(), members.collect())
        })
        .collect();
    let everybody = |group: &String| {
        let mut seen = HashSet::new();
        let mut queue = VecDeque::from([group]);
        while let Some(next) = queue.pop_front() {
            for member in direct.get(next).into_iter().flatten() {
                if seen.len() < GROUPS_MAX && seen.insert(member.clone()) {
                    queue.push_back(member);
                }
            }
        }
        seen
    };
    direct.keys().map(|group| (group.clone(), everybody(group))).collect()
}
