//! IAM policies and service accounts.

use crate::decode::{Text, record};

record! {
    /// The IAM policy of one resource. `resource` is ours; the rest is the exported policy.
    IamPolicy {
        req resource: Text = "resource";
        def bindings: Vec<Binding> = "bindings";
    }
    not_yet ["auditConfigs"]
    output_only ["etag", "version", "kind", "resourceId"]
}

record! {
    /// Who has a role.
    Binding {
        req role: Text = "role";
        def members: Vec<Text> = "members";
    }
    refused ["condition": "without it the role would be held always"]
    output_only ["bindingId"]
}

record! {
    /// A service account. One of `email`, `accountId` and `name` names it.
    ServiceAccount {
        opt name: Text = "name";
        opt email: Text = "email";
        opt account_id: Text = "accountId";
        opt project_id: Text = "projectId";
        opt unique_id: Text = "uniqueId";
    }
    descriptive ["displayName", "description"]
    refused ["disabled" ("false"): "a disabled account would still be given tokens"]
    output_only ["etag", "oauth2ClientId"]
}
