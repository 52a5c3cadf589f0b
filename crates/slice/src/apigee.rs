//! The API platform: organisations, environment groups, deployments, API products (apigee 10).

use names::NetworkId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the program `api-proxy` of one tenant network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiProxySlice {
    /// The API platform's tenant network.
    pub network: NetworkId,
    /// The organisation that runs there.
    pub organization: Organization,
    /// Where the northbound host is published on the host's loopback.
    pub northbound: Option<SocketAddr>,
    /// PEM chain and key for the environment groups' hostnames, filled in by the supervisor.
    pub certificate: String,
    /// See `certificate`.
    pub private_key: String,
    /// PEM of the CA that targets are verified against, filled in by the supervisor.
    pub trust: String,
}

/// An Apigee organisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    /// Name.
    pub name: String,
    /// The customer's project.
    pub project: String,
    /// The tenant project: the one that accept lists name.
    pub apigee_project_id: String,
    /// The tenant network in which the runtime and the endpoint attachments sit.
    pub network: NetworkId,
    /// The runtime's region.
    pub region: String,
    /// Environment groups.
    pub environment_groups: Vec<EnvironmentGroup>,
    /// Deployed proxies.
    pub deployments: Vec<Deployment>,
    /// API products.
    pub api_products: Vec<ApiProduct>,
    /// Developers.
    pub developers: Vec<Developer>,
    /// Apps with their keys.
    pub apps: Vec<App>,
}

/// An environment group: hostnames, and the environments attached to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentGroup {
    /// Name.
    pub name: String,
    /// Hostnames.
    pub hostnames: Vec<String>,
    /// Environments.
    pub environments: Vec<String>,
}

/// A bundle deployed to an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// `file:line:column` of the deployment, for diagnostics.
    pub at: String,
    /// API proxy name.
    pub api_proxy: String,
    /// Environment.
    pub environment: String,
    /// Revision label.
    pub revision: String,
    /// The identity for Google tokens.
    pub service_account: Option<String>,
    /// Folder (holding `apiproxy/`) or zip file, absolute.
    pub bundle: PathBuf,
}

/// An API product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiProduct {
    /// Name.
    pub name: String,
    /// Display name.
    pub display_name: String,
    /// Environments; empty: all.
    pub environments: Vec<String>,
    /// API proxies; empty: all.
    pub proxies: Vec<String>,
    /// Resource paths such as `/orders/**`; empty: all.
    pub api_resources: Vec<String>,
    /// Quota: allowed requests, interval and unit, as written.
    pub quota: Option<String>,
    /// See `quota`.
    pub quota_interval: Option<String>,
    /// See `quota`.
    pub quota_time_unit: Option<String>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A developer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Developer {
    /// Email.
    pub email: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// User name.
    pub user_name: String,
    /// `active` or `inactive`.
    pub status: String,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A developer's app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Name.
    pub name: String,
    /// The developer's email.
    pub developer: String,
    /// `approved` or `revoked`.
    pub status: String,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Keys.
    pub credentials: Vec<Credential>,
}

/// A consumer key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// The API key.
    pub consumer_key: String,
    /// The secret.
    pub consumer_secret: String,
    /// `approved` or `revoked`.
    pub status: String,
    /// Milliseconds since the epoch, or -1 for never.
    pub expires_at: i64,
    /// API products and their approval: name, `approved` / `pending` / `revoked`.
    pub api_products: Vec<(String, String)>,
}
