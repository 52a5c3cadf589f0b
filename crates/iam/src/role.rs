//! Permissions that are asked for here, and the predefined roles that hold them.

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Invoke a Cloud Run service.
    RunRoutesInvoke,
    /// `generateAccessToken`.
    GetAccessToken,
    /// `generateIdToken`.
    GetOpenIdToken,
    /// Be a link of a chain of delegates.
    ImplicitDelegation,
    /// `signBlob`.
    SignBlob,
    /// `signJwt`.
    SignJwt,
    /// Read the payload of a secret's version.
    SecretVersionsAccess,
}

/// The basic roles that hold nearly everything. Owners hold run.routes.invoke, and editors do
/// ("only project owners and editors can create, update, delete, or invoke", Cloud Run
/// documentation, "Access control with IAM"); neither holds the permissions of token creators, and
/// editors may not read secrets.
const OWNER: &str = "roles/owner";
const EDITOR: &str = "roles/editor";
const TOKEN_CREATOR: &str = "roles/iam.serviceAccountTokenCreator";
const WORKLOAD_IDENTITY_USER: &str = "roles/iam.workloadIdentityUser";

/// Predefined roles about which something is known here: what a misspelled role is compared with.
/// Those that no [`Permission::roles`] lists hold nothing that is asked for here.
pub const KNOWN_ROLES: &[&str] = &[
    OWNER,
    EDITOR,
    "roles/viewer",
    "roles/browser",
    "roles/run.admin",
    "roles/run.invoker",
    "roles/run.servicesInvoker",
    "roles/run.developer",
    "roles/run.viewer",
    "roles/run.jobsExecutor",
    "roles/run.jobsExecutorWithOverrides",
    "roles/run.sourceDeveloper",
    "roles/run.sourceViewer",
    "roles/run.builder",
    "roles/run.serviceAgent",
    TOKEN_CREATOR,
    WORKLOAD_IDENTITY_USER,
    "roles/iam.serviceAccountOpenIdTokenCreator",
    "roles/iam.serviceAccountUser",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountKeyAdmin",
    "roles/iam.serviceAccountViewer",
    "roles/secretmanager.secretAccessor",
    "roles/secretmanager.admin",
    "roles/secretmanager.viewer",
    "roles/secretmanager.secretVersionAdder",
    "roles/secretmanager.secretVersionManager",
];

impl Permission {
    /// The permission's name.
    pub const fn name(self) -> &'static str {
        match self {
            Permission::RunRoutesInvoke => "run.routes.invoke",
            Permission::GetAccessToken => "iam.serviceAccounts.getAccessToken",
            Permission::GetOpenIdToken => "iam.serviceAccounts.getOpenIdToken",
            Permission::ImplicitDelegation => "iam.serviceAccounts.implicitDelegation",
            Permission::SignBlob => "iam.serviceAccounts.signBlob",
            Permission::SignJwt => "iam.serviceAccounts.signJwt",
            Permission::SecretVersionsAccess => "secretmanager.versions.access",
        }
    }

    /// The predefined roles that hold it, the narrowest first (servicesInvoker: (unconfirmed)).
    pub const fn roles(self) -> &'static [&'static str] {
        match self {
            Permission::RunRoutesInvoke => &[
                "roles/run.invoker",
                "roles/run.servicesInvoker",
                "roles/run.admin",
                EDITOR,
                OWNER,
            ],
            Permission::GetAccessToken => &[TOKEN_CREATOR, WORKLOAD_IDENTITY_USER],
            Permission::GetOpenIdToken => &[
                "roles/iam.serviceAccountOpenIdTokenCreator",
                TOKEN_CREATOR,
                WORKLOAD_IDENTITY_USER,
            ],
            Permission::ImplicitDelegation | Permission::SignBlob | Permission::SignJwt => {
                &[TOKEN_CREATOR]
            }
            Permission::SecretVersionsAccess => {
                &["roles/secretmanager.secretAccessor", "roles/secretmanager.admin", OWNER]
            }
        }
    }
}
