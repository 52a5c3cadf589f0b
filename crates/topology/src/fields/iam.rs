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
    /// A custom role (`projects/P/roles/R` or `organizations/O/roles/R`).
    Role {
        req name: Text = "name";
        def included_permissions: Vec<Text> = "includedPermissions";
        opt stage: Text = "stage";
        opt deleted: bool = "deleted";
    }
    descriptive ["title", "description"]
    output_only ["etag"]
}

record! {
    /// A group of Cloud Identity. Its memberships stand in it; the API has them below it.
    Group {
        req group_key: EntityKey = "groupKey";
        def memberships: Vec<Membership> = "memberships";
    }
    descriptive ["displayName", "description", "labels"]
    output_only ["name", "parent", "createTime", "updateTime", "additionalGroupKeys", "dynamicGroupMetadata"]
}

record! {
    /// Who is in a group.
    Membership {
        req preferred_member_key: EntityKey = "preferredMemberKey" | "memberKey";
    }
    descriptive ["roles"]
    output_only ["name", "type", "createTime", "updateTime", "deliverySetting"]
}

record! {
    /// The email of a user, service account or group.
    EntityKey {
        req id: Text = "id";
    }
    refused ["namespace": "a group of an external identity source; nobody knows its members here"]
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
