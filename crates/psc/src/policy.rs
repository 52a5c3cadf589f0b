//! The Org Policy constraint `compute.restrictPrivateServiceConnectConsumer` (private-connectivity
//! 1.2, step 1): a producer's organization says who may connect to its service attachments at all.
//!
//! That list constraints match resources as `under:` and `is:` values do elsewhere, and that a
//! denied value wins over an allowed one, is documented for Org Policy as a whole.

use slice::psc::{Allowed, ConsumerPolicy};

/// Why a policy blocks a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The policy.
    pub policy: String,
    /// The denied value that names the consumer; none: no allowed value does.
    pub denied: Option<String>,
}

/// Does the policy block a consumer of this ancestry ([`slice::psc::Endpoint::ancestry`])?
pub(crate) fn blocks(policy: &ConsumerPolicy, ancestry: &[String]) -> Option<Blocked> {
    let blocked = |denied| Some(Blocked { policy: policy.name.clone(), denied });
    if let Some(value) = policy.denied.iter().find(|value| ancestry.contains(value)) {
        return blocked(Some(value.clone()));
    }
    match &policy.allowed {
        Allowed::All => None,
        Allowed::Values(values) if values.iter().any(|value| ancestry.contains(value)) => None,
        Allowed::Values(_) => blocked(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: Allowed, denied: &[&str]) -> ConsumerPolicy {
        let denied = denied.iter().map(|value| (*value).to_owned()).collect();
        ConsumerPolicy { name: "policy".to_owned(), allowed, denied }
    }

    fn values(all: &[&str]) -> Allowed {
        Allowed::Values(all.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn a_policy_names_consumers_by_what_they_are_below() {
        let of = ["projects/p", "projects/12", "folders/3", "organizations/1"].map(str::to_owned);
        for (allowed, denied, passes) in [
            (Allowed::All, &[][..], true),
            (Allowed::All, &["folders/3"], false),
            (Allowed::All, &["folders/4"], true),
            (values(&[]), &[], false),
            (values(&["organizations/1"]), &[], true),
            (values(&["organizations/2", "projects/12"]), &[], true),
            (values(&["organizations/2"]), &[], false),
            (values(&["organizations/1"]), &["projects/p"], false),
        ] {
            let policy = policy(allowed, denied);
            assert_eq!(blocks(&policy, &of).is_none(), passes, "{policy:?}");
        }
        let denied = blocks(&policy(Allowed::All, &["projects/p"]), &of).expect("blocked");
        assert_eq!(denied.denied.as_deref(), Some("projects/p"));
    }
}
