//! Who has one permission on one resource.

use crate::role::Permission;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// Somebody without a credential.
    Anonymous,
    /// Somebody whose credential is good, but whose email nobody knows.
    Unnamed,
    /// A service account.
    ServiceAccount(&'a str),
    /// A user of Google's.
    User(&'a str),
}

impl<'a> Principal<'a> {
    /// The account with this email: a service account if its domain says so.
    pub fn of_email(email: &'a str) -> Self {
        if email.to_ascii_lowercase().ends_with(".gserviceaccount.com") {
            Principal::ServiceAccount(email)
        } else {
            Principal::User(email)
        }
    }

    /// The member by which a policy would name this principal alone.
    pub fn member(&self) -> Option<String> {
        match self {
            Principal::Anonymous | Principal::Unnamed => None,
            Principal::ServiceAccount(email) => Some(format!("serviceAccount:{email}")),
            Principal::User(email) => Some(format!("user:{email}")),
        }
    }
}

/// One reason why somebody has the permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The member, as the policy writes it.
    pub member: String,
    /// The role.
    pub role: String,
    /// Whose policy it is: the resource itself, its project, a folder, the organization.
    pub resource: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} on {}", self.member, self.role, self.resource)
    }
}

/// Who has one permission on one resource, compiled. Emails compare without regard to case.
#[derive(Clone, Debug)]
pub struct Access {
    permission: Permission,
    resource: String,
    grants: Vec<Arc<Grant>>,
    all_users: Option<usize>,
    all_authenticated_users: Option<usize>,
    service_accounts: HashMap<Box<str>, usize>,
    users: HashMap<Box<str>, usize>,
    domains: HashMap<Box<str>, usize>,
    /// Groups whose members are declared.
    groups: HashMap<Box<str>, usize>,
    /// Members whose meaning only Google knows: groups without members here, other pools'
    /// principals.
    unresolved: Vec<String>,
}

/// Somebody does not have the permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The permission.
    pub permission: Permission,
    /// The resource.
    pub resource: String,
    /// The member that a binding lacks; none where nobody knows who asks.
    pub missing_member: Option<String>,
    /// Who has the permission.
    pub members: Vec<String>,
    /// Those of them whose meaning only Google knows.
    pub unresolved: Vec<String>,
}

impl Access {
    pub(crate) fn new(permission: Permission, resource: &str) -> Self {
        Access {
            permission,
            resource: resource.to_owned(),
            grants: Vec::new(),
            all_users: None,
            all_authenticated_users: None,
            service_accounts: HashMap::new(),
            users: HashMap::new(),
            domains: HashMap::new(),
            groups: HashMap::new(),
            unresolved: Vec::new(),
        }
    }

    /// Adds one member of one binding. The first grant of a principal is the one that is named.
    pub(crate) fn grant(
        &mut self,
        member: &str,
        role: &str,
        resource: &str,
        groups: &HashMap<String, HashSet<String>>,
    ) {
        let index = self.grants.len();
        let name = |name: &str| name.to_ascii_lowercase().into_boxed_str();
        match member.split_once(':') {
            None if member == "allUsers" => {
                self.all_users.get_or_insert(index);
            }
            None if member == "allAuthenticatedUsers" => {
                self.all_authenticated_users.get_or_insert(index);
            }
            Some(("serviceAccount", email)) => {
                self.service_accounts.entry(name(email)).or_insert(index);
            }
            Some(("user", email)) => {
                self.users.entry(name(email)).or_insert(index);
            }
            Some(("domain", domain)) => {
                self.domains.entry(name(domain)).or_insert(index);
            }
            Some(("group", email)) if groups.contains_key(&*name(email)) => {
                for member in groups.get(&*name(email)).into_iter().flatten() {
                    self.groups.entry(name(member)).or_insert(index);
                }
            }
            // A deleted account is nobody.
            Some(("deleted", _)) => {}
            _ => self.unresolved.push(member.to_owned()),
        }
        self.grants.push(Arc::new(Grant {
            member: member.to_owned(),
            role: role.to_owned(),
            resource: resource.to_owned(),
        }));
    }

    /// Has everybody the permission, known or not?
    pub fn all_users(&self) -> Option<&Arc<Grant>> {
        self.all_users.map(|index| &self.grants[index])
    }

    /// Has this principal the permission? The most particular grant is named.
    ///
    /// # Errors
    /// What is missing, and who has it.
    pub fn check(&self, principal: Principal<'_>) -> Result<&Arc<Grant>, Box<Denied>> {
        match self.index(principal) {
            Some(index) => Ok(&self.grants[index]),
            None => Err(Box::new(self.denied(principal))),
        }
    }

    fn index(&self, principal: Principal<'_>) -> Option<usize> {
        let by_email = |accounts: &HashMap<Box<str>, usize>, email: &str| {
            let lower = email.bytes().any(|byte| byte.is_ascii_uppercase());
            let lower = lower.then(|| email.to_ascii_lowercase());
            let email = lower.as_deref().unwrap_or(email);
            accounts.get(email).or_else(|| self.groups.get(email)).copied()
        };
        let named = match principal {
            Principal::Anonymous => return self.all_users,
            Principal::Unnamed => None,
            Principal::ServiceAccount(email) => by_email(&self.service_accounts, email),
            Principal::User(email) => by_email(&self.users, email).or_else(|| {
                let (_, domain) = email.rsplit_once('@')?;
                self.domains.get(&*domain.to_ascii_lowercase()).copied()
            }),
        };
        named.or(self.all_authenticated_users).or(self.all_users)
    }

    fn denied(&self, principal: Principal<'_>) -> Denied {
        let mut members: Vec<String> = Vec::new();
        for grant in &self.grants {
            if !members.contains(&grant.member) {
                members.push(grant.member.clone());
            }
        }
        Denied {
            permission: self.permission,
            resource: self.resource.clone(),
            missing_member: principal.member(),
            members,
            unresolved: self.unresolved.clone(),
        }
    }
}

impl Denied {
    /// The narrowest role that holds the permission.
    pub fn role(&self) -> &'static str {
        self.permission.roles().first().copied().unwrap_or_default()
    }

    /// One sentence: the binding that is missing; none where nobody knows who asks.
    pub fn fix(&self) -> Option<String> {
        let member = self.missing_member.as_ref()?;
        let Denied { resource, .. } = self;
        let role = self.role();
        Some(format!(
            "Grant {role} to {member}: iamPolicies: [{{resource: {resource}, bindings: [{{role: {role}, members: ['{member}']}}]}}]."
        ))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.missing_member.as_deref().unwrap_or("the caller");
        write!(f, "{who} lacks {} on {}", self.permission.name(), self.resource)?;
        if self.members.is_empty() {
            f.write_str("; nobody has it")?;
        } else {
            write!(f, "; held by: {}", self.members.join(", "))?;
        }
        if !self.unresolved.is_empty() {
            let who = self.unresolved.join(", ");
            write!(f, " (who belongs to {who} cannot be known here)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Denied {}
