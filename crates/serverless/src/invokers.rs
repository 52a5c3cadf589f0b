//! Who has run.routes.invoke on a service (cloud-run 5.1).

use std::collections::HashSet;

/// The members with run.routes.invoke, compiled. Emails compare without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invokers {
    all_users: bool,
    all_authenticated_users: bool,
    service_accounts: HashSet<Box<str>>,
    users: HashSet<Box<str>>,
    domains: HashSet<Box<str>>,
    /// Members whose meaning only Google knows: groups, principals of other pools.
    unresolved: Vec<String>,
    written: Vec<String>,
}

/// The member that admits a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedMember {
    /// `allAuthenticatedUsers`.
    AllAuthenticatedUsers,
    /// `serviceAccount:EMAIL`.
    ServiceAccount,
    /// `user:EMAIL`.
    User,
    /// `domain:DOMAIN`.
    Domain,
}

impl Invokers {
    /// From members as IAM writes them.
    pub fn compile(members: &[String]) -> Self {
        let mut invokers = Invokers { written: members.to_vec(), ..Invokers::default() };
        for member in members {
            let name = |name: &str| name.to_ascii_lowercase().into_boxed_str();
            match member.split_once(':') {
                None if member == "allUsers" => invokers.all_users = true,
                None if member == "allAuthenticatedUsers" => {
                    invokers.all_authenticated_users = true;
                }
                Some(("serviceAccount", email)) => {
                    invokers.service_accounts.insert(name(email));
                }
                Some(("user", email)) => {
                    invokers.users.insert(name(email));
                }
                Some(("domain", domain)) => {
                    invokers.domains.insert(name(domain));
                }
                _ => invokers.unresolved.push(member.clone()),
            }
        }
        invokers
    }

    /// Is the service public?
    pub fn all_users(&self) -> bool {
        self.all_users
    }

    /// The members as written.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// Members that match nobody here, because only Google knows whom they mean.
    pub fn unresolved(&self) -> &[String] {
        &self.unresolved
    }

    /// The member that admits a caller with this email; none: an identity without a known email.
    pub fn matching(&self, email: Option<&str>, service_account: bool) -> Option<MatchedMember> {
        if self.all_authenticated_users {
            return Some(MatchedMember::AllAuthenticatedUsers);
        }
        let email = email?;
        let lower = email.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower = lower.then(|| email.to_ascii_lowercase());
        let email = lower.as_deref().unwrap_or(email);
        if service_account {
            return self.service_accounts.contains(email).then_some(MatchedMember::ServiceAccount);
        }
        if self.users.contains(email) {
            return Some(MatchedMember::User);
        }
        let (_, domain) = email.rsplit_once('@')?;
        self.domains.contains(domain).then_some(MatchedMember::Domain)
    }
}
