//! Who may reach a regional forwarding rule at all (private-connectivity 2.1).

use crate::Reason;

/// Clients of the forwarding rule's own region, and of all regions where it has
/// `allowGlobalAccess` (`allowPscGlobalAccess` on an endpoint, 1.6). A client of another region gets no answer: its packets are dropped.
pub fn region_admits(
    rule_region: &str,
    allow_global_access: bool,
    client_region: &str,
) -> Result<(), Reason> {
    match allow_global_access || rule_region == client_region {
        true => Ok(()),
        false => Err(Reason::ForwardingRuleRegionMismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::region_admits;
    use crate::Reason;

    #[test]
    fn other_regions_need_global_access() {
        let refused = Err(Reason::ForwardingRuleRegionMismatch);
        for (global, client, expected) in [
            (false, "europe-west1", Ok(())),
            (false, "us-central1", refused),
            (true, "europe-west1", Ok(())),
            (true, "us-central1", Ok(())),
        ] {
            assert_eq!(region_admits("europe-west1", global, client), expected);
        }
    }
}
