//! The Org Policy API's policies and the hierarchy of folders that they hold for. A document has
//! them as `orgPolicies`: `policies` are Cloud DNS's. The shape is the one of `gcloud org-policies
//! describe`, as Google's page "Manage security for Private Service Connect producers" shows it.

use crate::decode::{At, Text, record};

record! {
    /// A policy of an organization, folder or project.
    OrgPolicy {
        req name: Text = "name";
        opt spec: PolicySpec = "spec";
        opt etag: Text = "etag";
    }
    not_yet ["dryRunSpec", "alternate"]
}

record! {
    /// What a policy says.
    PolicySpec {
        def rules: Vec<PolicyRule> = "rules";
        opt inherit_from_parent: bool = "inheritFromParent";
        opt reset: bool = "reset";
    }
    output_only ["etag", "updateTime"]
}

record! {
    /// One rule.
    PolicyRule {
        opt values: PolicyValues = "values";
        opt allow_all: bool = "allowAll";
        opt deny_all: bool = "denyAll";
        opt enforce: bool = "enforce";
    }
    not_yet ["parameters"]
    refused ["condition": "tags are not simulated; the rule would hold for everybody"]
}

record! {
    /// The values of a rule for a list constraint.
    PolicyValues {
        def allowed_values: Vec<At<String>> = "allowedValues";
        def denied_values: Vec<At<String>> = "deniedValues";
    }
}

record! {
    /// A folder of the resource hierarchy: `name: folders/456`.
    Folder {
        req name: Text = "name";
        req parent: Text = "parent";
    }
    descriptive ["displayName"]
    output_only ["state", "createTime", "updateTime", "deleteTime", "etag"]
}
