//! Cloud Run services and the identities that call them (cloud-run sections 1 to 5).

use crate::Subnetwork;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the program `cloud-run` needs: every service of the topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudRunSlice {
    /// Services.
    pub services: Vec<Service>,
    /// Every service account: an ID token without an email names its caller by `sub` only.
    pub service_accounts: Vec<ServiceAccount>,
    /// PEM chain and key for `*.run.app`, filled in by the supervisor.
    pub front_end_certificate: String,
    /// See `front_end_certificate`.
    pub front_end_private_key: String,
    /// The issuer's JWKS document, filled in by the supervisor (or read from the state directory).
    pub jwks: String,
}

/// What the program `metadata` of one network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetadataSlice {
    /// The network.
    pub network: NetworkId,
    /// Its project's number (`instance/network-interfaces/0/network`).
    pub network_project_number: u64,
    /// Its subnetworks: gateway and mask of a workload's interface.
    pub subnetworks: Vec<Subnetwork>,
    /// The service accounts that may appear here, with their numeric ids.
    pub service_accounts: Vec<ServiceAccount>,
    /// PKCS#8 PEM signing keys, newest first; filled in by the supervisor. Only `metadata` has them.
    pub signing_keys: Vec<String>,
    /// Does this one also serve [`crate::TOKEN_CHANNEL`]?
    pub issues_tokens: bool,
}

/// What the program `google-front-end` of one network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoogleFrontEndSlice {
    /// The network.
    pub network: NetworkId,
    /// The network's PSC endpoints for Google APIs.
    #[serde(default)]
    pub endpoints: Vec<crate::psc::GoogleApisEndpoint>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Email.
    pub email: String,
    /// Project.
    pub project: String,
    /// Unique id, digits: `sub` and `azp` of its tokens.
    pub unique_id: String,
}

/// A Cloud Run service with one revision (the newest); traffic splits are a later issue's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// `projects/P/locations/R/services/S`.
    pub self_link: SelfLink,
    /// Short name.
    pub name: String,
    /// Project id.
    pub project: String,
    /// Project number.
    pub project_number: u64,
    /// Region.
    pub region: String,
    /// Host names: deterministic first, then the hash form (3.1).
    pub hosts: Vec<String>,
    /// Tags of traffic targets; each gives `TAG---HOST` hosts.
    pub tags: Vec<String>,
    /// Accepted audiences beyond `https://HOST` (`customAudiences`).
    pub custom_audiences: Vec<String>,
    /// Ingress setting.
    pub ingress: Ingress,
    /// `invokerIamDisabled`.
    pub invoker_iam_disabled: bool,
    /// Members with run.routes.invoke, from every level: `allUsers`, `serviceAccount:…`, `user:…`.
    pub invokers: Vec<String>,
    /// The default URL is switched off.
    pub default_uri_disabled: bool,
    /// Networks that count as internal sources: those of the same project, and the Shared VPC
    /// network into which the revision egresses (section 4).
    pub internal_networks: Vec<NetworkId>,
    /// The revision.
    pub revision: Revision,
}

/// `ingress` (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Ingress {
    /// Everybody.
    All,
    /// Internal sources only.
    InternalOnly,
    /// Internal sources, and external load balancers.
    InternalLoadBalancer,
    /// Nobody.
    None,
}

/// A revision: how instances are run (section 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// `SERVICE-00001-abc`.
    pub name: String,
    /// Service account of the instances.
    pub service_account: Option<String>,
    /// The container image as the file names it.
    pub image: String,
    /// How that image runs on this machine.
    pub run: Run,
    /// Environment of the container.
    pub env: BTreeMap<String, String>,
    /// Ingress port, default 8080.
    pub container_port: u16,
    /// End-to-end HTTP/2 without TLS (port named `h2c`).
    pub h2c: bool,
    /// Requests at once per instance, 1 to 1000.
    pub container_concurrency: u32,
    /// Request timeout, seconds, at most 3600.
    pub timeout_seconds: u32,
    /// Fewest instances.
    pub min_instances: u32,
    /// Most instances.
    pub max_instances: u32,
}

/// How a container image runs on this machine (top-level `images`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// A process.
    #[serde(rename_all = "camelCase")]
    Command {
        /// Program and arguments; the container's own `command` and `args` already applied.
        command: Vec<String>,
        /// Working directory, absolute.
        directory: PathBuf,
    },
    /// Something that already runs: `http://HOST:PORT`, reached from the host itself.
    Url(String),
}
