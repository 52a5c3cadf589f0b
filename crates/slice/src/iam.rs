//! Identity and access management as a topology declares it (cloud-run 5.1): policies of any level
//! of the resource hierarchy, roles and groups. What follows from them decides the crate `iam`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that says who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iam {
    /// Policies, in the order of the files; a resource may have several.
    pub policies: Vec<Policy>,
    /// Project id → what is above it, nearest first: `folders/2`, `organizations/1`.
    pub ancestors: BTreeMap<String, Vec<String>>,
    /// Custom roles.
    pub roles: Vec<Role>,
    /// Groups whose members are declared.
    pub groups: Vec<Group>,
}

/// The policy of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `organizations/1`, `folders/2`, `projects/ID`, or the canonical name of a resource below a
    /// project: a Cloud Run service, `projects/ID/serviceAccounts/EMAIL`, `projects/ID/secrets/S`.
    pub resource: String,
    /// Who has which role.
    pub bindings: Vec<Binding>,
}

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// `roles/run.invoker`, `projects/P/roles/R`, `organizations/O/roles/R`.
    pub role: String,
    /// Members as IAM writes them, valid.
    pub members: Vec<String>,
}

/// A custom role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// `projects/P/roles/R` or `organizations/O/roles/R`.
    pub name: String,
    /// `includedPermissions`; none where the role is switched off (`stage: DISABLED`, `deleted`).
    pub permissions: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its email.
    pub email: String,
    /// Emails of its members; a member may be a group.
    pub members: Vec<String>,
}

impl Iam {
    /// Does it say nothing?
    pub fn is_empty(&self) -> bool {
        *self == Iam::default()
    }

    /// One role for these members on one resource, and nothing else.
    pub fn granting(role: &str, resource: &str, members: &[&str]) -> Self {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        let binding = Binding { role: role.to_owned(), members };
        let policy = Policy { resource: resource.to_owned(), bindings: vec![binding] };
        Iam { policies: vec![policy], ..Iam::default() }
    }
}
