//! Cloud Run services and the identities that call them (cloud-run sections 1 to 5).

use crate::Subnetwork;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where `cloud-run` keeps the revisions of services, in the state directory.
pub const REVISIONS_DIRECTORY: &str = "revisions";

/// What the program `cloud-run` needs: every service of the topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudRunSlice {
    /// Services.
    pub services: Vec<Service>,
    /// Every service account: an ID token without an email names its caller by `sub` only.
    pub service_accounts: Vec<ServiceAccount>,
    /// Who may invoke them.
    #[serde(default)]
    pub iam: crate::iam::Iam,
    /// Secrets that revisions refer to.
    #[serde(default)]
    pub secrets: Vec<Secret>,
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
    /// PKCS#8 PEM signing keys: the first one signs, all are published; filled in by the
    /// supervisor. Only `metadata` has them.
    pub signing_keys: Vec<String>,
    /// What the one that makes tokens for all needs beyond that; none: another network's does.
    #[serde(default)]
    pub issuer: Option<IssuerSlice>,
}

/// What the program needs that serves [`crate::TOKEN_CHANNEL`] and, on
/// [`crate::IDENTITY_FRONT_END_CHANNEL`], Google's hosts for identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IssuerSlice {
    /// Who may act as which service account.
    pub iam: crate::iam::Iam,
    /// PEM chain and key for [`crate::IDENTITY_HOSTS`], filled in by the supervisor.
    pub front_end_certificate: String,
    /// See `front_end_certificate`.
    pub front_end_private_key: String,
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

impl ServiceAccount {
    /// Its name as a resource, as policies have it: `projects/P/serviceAccounts/EMAIL`.
    pub fn resource(&self) -> String {
        format!("projects/{}/serviceAccounts/{}", self.project, self.email)
    }
}

/// A Cloud Run service: its newest template, the revisions that the files declare beside it, and
/// how traffic is shared between them (cloud-run 3).
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
    /// Who gets which share of the requests, and tags; never empty, and the percents add to 100
    /// (3.2).
    pub traffic: Vec<TrafficTarget>,
    /// Accepted audiences beyond `https://HOST` (`customAudiences`).
    pub custom_audiences: Vec<String>,
    /// Ingress setting.
    pub ingress: Ingress,
    /// `invokerIamDisabled`.
    pub invoker_iam_disabled: bool,
    /// The default URL is switched off.
    pub default_uri_disabled: bool,
    /// Networks that count as internal sources: those of the same project, and the Shared VPC
    /// network into which the revision egresses (section 4).
    pub internal_networks: Vec<NetworkId>,
    /// Instance counts of the whole service, divided over its revisions (2.1).
    #[serde(default)]
    pub scaling: Scaling,
    /// The revision that the service's template makes: the latest created one.
    pub revision: Revision,
    /// Older revisions that the files declare, so that traffic may be sent to them on a fresh start.
    #[serde(default)]
    pub older_revisions: Vec<Revision>,
}

impl Service {
    /// The tags of its traffic targets; each gives `TAG---HOST` hosts.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.traffic.iter().filter_map(|target| target.tag.as_deref())
    }
}

/// Longest label of a host name.
const LABEL_MAX: usize = 63;

/// `TAG---HOST` of one of a service's hosts. A deterministic host whose first label becomes too
/// long has none; the one with the hash loses the end of the service's name instead (3.1).
pub fn tagged_host(tag: &str, host: &str) -> Option<String> {
    let (label, domain) = host.split_once('.')?;
    let whole = format!("{tag}---{label}");
    if whole.len() <= LABEL_MAX {
        return Some(format!("{whole}.{domain}"));
    }
    if domain != "a.run.app" {
        return None;
    }
    let (rest, region) = label.rsplit_once('-')?;
    let (service, hash) = rest.rsplit_once('-')?;
    let most = LABEL_MAX.checked_sub(tag.len() + "---".len() + 2 + hash.len() + region.len())?;
    let service = service.get(..most.min(service.len()))?.trim_end_matches('-');
    Some(format!("{tag}---{service}-{hash}-{region}.{domain}"))
}

/// A share of the traffic, or a tag (3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Short name of the revision; none: the latest ready one.
    pub revision: Option<String>,
    /// Its share, 0 to 100.
    pub percent: u32,
    /// Requests to `TAG---HOST` go to it, whatever its share.
    pub tag: Option<String>,
}

impl TrafficTarget {
    /// Everything to the latest ready revision: what an empty list means (3.2).
    pub fn latest() -> Self {
        TrafficTarget { revision: None, percent: 100, tag: None }
    }

    /// A tag of the latest ready revision, without a share.
    pub fn tagged(tag: &str) -> Self {
        TrafficTarget { revision: None, percent: 0, tag: Some(tag.to_owned()) }
    }
}

/// Instance counts of a service (2.1). They are in force at once, without a new revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Fewest instances of all revisions together, divided by traffic.
    pub min_instances: u32,
    /// Most instances of all revisions together.
    pub max_instances: Option<u32>,
    /// `scalingMode: MANUAL`: just so many, divided by traffic; bounds count for nothing then.
    pub manual_instances: Option<u32>,
    /// Seconds for which an instance without a request is kept (`postern: {idleSeconds: …}`); none:
    /// 15 minutes, as there (1.2).
    #[serde(default)]
    pub idle_seconds: Option<u32>,
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

/// A revision: how instances are run (section 1). Two that are equal are the same revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// `SERVICE-00001-abc`.
    pub name: String,
    /// Service account of the instances.
    pub service_account: Option<String>,
    /// Its containers, in the order of the file; just one has a port.
    pub containers: Vec<Container>,
    /// What containers mount.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Requests at once per instance, 1 to 1000.
    pub container_concurrency: u32,
    /// Request timeout, seconds, at most 3600.
    pub timeout_seconds: u32,
    /// Fewest instances of this revision.
    pub min_instances: u32,
    /// Most instances of this revision.
    pub max_instances: u32,
    /// `concurrencyUtilization`: the share of the concurrency at which an instance is kept, 0.1 to
    /// 0.95; 0: the signal is off (2.1).
    pub concurrency_utilization: f64,
    /// The same of its CPU.
    pub cpu_utilization: f64,
    /// Clients stay with their instance as long as it serves (2.4).
    #[serde(default)]
    pub session_affinity: bool,
    /// The instances' way into a VPC network (4).
    #[serde(default)]
    pub vpc_access: Option<VpcAccess>,
    /// Traffic may go to it before its startup probes have passed once (`healthCheckDisabled`, 2.3).
    #[serde(default)]
    pub health_check_disabled: bool,
}

impl Revision {
    /// A revision with one container on port 8080, and the API's defaults elsewhere (1.1, 1.3, 2.1).
    pub fn new(name: &str, run: Run) -> Self {
        Revision {
            name: name.to_owned(),
            service_account: None,
            containers: vec![Container::new("app", run, Some(Port::default()))],
            volumes: Vec::new(),
            container_concurrency: 80,
            timeout_seconds: 300,
            min_instances: 0,
            max_instances: 100,
            concurrency_utilization: 0.6,
            cpu_utilization: 0.6,
            session_affinity: false,
            vpc_access: None,
            health_check_disabled: false,
        }
    }

    /// The container that serves requests: the one with a port (1.1).
    ///
    /// # Panics
    /// Never for a revision that was lowered: it has one.
    pub fn ingress(&self) -> (&Container, Port) {
        let with_port = self.containers.iter().find_map(|c| c.port.map(|port| (c, port)));
        with_port.unwrap_or_else(|| (&self.containers[0], Port::default()))
    }
}

/// A container of a revision (1.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Name, unique in the revision.
    pub name: String,
    /// The image as the file names it.
    pub image: String,
    /// How that image runs on this machine.
    pub run: Run,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// The ingress container's port; none: a sidecar.
    pub port: Option<Port>,
    /// Working directory, absolute; none: that of `run`.
    #[serde(default)]
    pub working_directory: Option<PathBuf>,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// Where volumes appear.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// When it counts as started; none: the default TCP probe of the ingress container's port, and
    /// for a sidecar none at all (2.3).
    #[serde(default)]
    pub startup_probe: Option<Probe>,
    /// When its instance is replaced.
    #[serde(default)]
    pub liveness_probe: Option<Probe>,
    /// When its instance gets new requests.
    #[serde(default)]
    pub readiness_probe: Option<Probe>,
    /// Names of containers that must have started before it.
    #[serde(default)]
    pub depends_on: Vec<String>,
}

impl Container {
    /// A container with the API's defaults, for those who write only what differs.
    pub fn new(name: &str, run: Run, port: Option<Port>) -> Self {
        Container {
            name: name.to_owned(),
            image: name.to_owned(),
            run,
            env: BTreeMap::new(),
            port,
            working_directory: None,
            resources: Resources::default(),
            mounts: Vec::new(),
            startup_probe: None,
            liveness_probe: None,
            readiness_probe: None,
            depends_on: Vec::new(),
        }
    }
}

/// The port on which the ingress container listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535; default 8080.
    pub number: u16,
    /// HTTP/2 without TLS for all requests (a port named `h2c`).
    pub h2c: bool,
}

impl Default for Port {
    fn default() -> Self {
        Port { number: 8080, h2c: false }
    }
}

/// A value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// As written.
    Text(String),
    /// A secret's version, read when an instance starts and fixed for its life (7.1).
    Secret(SecretVersion),
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// `projects/P/secrets/S`, P a project id.
    pub secret: SelfLink,
    /// A number, `latest`, or an alias.
    pub version: String,
}

/// What a container may use; enforced where the machine lets us (1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// CPU only while a request, a start or a stop is in progress (`cpuIdle`).
    pub cpu_idle: bool,
    /// More CPU while starting.
    pub startup_cpu_boost: bool,
}

impl Default for Resources {
    /// 1 vCPU, 512 MiB, throttled when idle (1.1, 3.4).
    fn default() -> Self {
        Resources {
            cpu_millis: 1000,
            memory_bytes: 512 << 20,
            cpu_idle: true,
            startup_cpu_boost: false,
        }
    }
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// Absolute path.
    pub path: PathBuf,
    /// A path in the volume, if not the whole of it.
    #[serde(default)]
    pub sub_path: Option<PathBuf>,
    /// May it not be written to?
    #[serde(default)]
    pub read_only: bool,
}

/// A volume of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, unique in the revision.
    pub name: String,
    /// What is in it.
    pub source: VolumeSource,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// Versions of a secret as files (7.1).
    Secret {
        /// `projects/P/secrets/S`.
        secret: SelfLink,
        /// The files; empty: the latest version under the secret's own name.
        items: Vec<SecretItem>,
        /// Mode of files without a mode of their own.
        default_mode: u32,
    },
    /// A directory that is the instance's own and ends with it.
    EmptyDir {
        /// Bytes; none: bounded by memory only.
        size_limit: Option<u64>,
        /// In memory (`MEMORY`), or on disk.
        in_memory: bool,
    },
}

/// One file of a secret's volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretItem {
    /// A number, `latest`, or an alias.
    pub version: String,
    /// Relative path.
    pub path: PathBuf,
    /// Mode of the file.
    pub mode: Option<u32>,
}

/// A probe (2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub action: ProbeAction,
    /// Seconds before the first one.
    pub initial_delay_seconds: u32,
    /// Seconds that one may take.
    pub timeout_seconds: u32,
    /// Seconds between two.
    pub period_seconds: u32,
    /// Failures in a row that count.
    pub failure_threshold: u32,
    /// Successes in a row that count, for readiness.
    pub success_threshold: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeAction {
    /// A connection.
    Tcp {
        /// Port.
        port: u16,
    },
    /// `GET`, over HTTP/1 also where the port is h2c.
    Http {
        /// Port.
        port: u16,
        /// Path.
        path: String,
        /// Headers, in order.
        headers: Vec<(String, String)>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Port.
        port: u16,
        /// Name of the service asked for; empty: the server itself.
        service: String,
    },
}

/// Direct VPC egress (4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcAccess {
    /// The network.
    pub network: NetworkId,
    /// The subnetwork from which instances get addresses.
    pub subnetwork: SelfLink,
    /// Network tags, for firewall rules.
    pub tags: Vec<String>,
    /// What goes that way.
    pub egress: VpcEgress,
}

/// `vpcAccess.egress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VpcEgress {
    /// Everything.
    AllTraffic,
    /// What goes to private addresses; the default.
    PrivateRangesOnly,
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
    /// A container, by podman or docker.
    #[serde(rename_all = "camelCase")]
    Container {
        /// The image, as that program knows it.
        image: String,
        /// The container's own `command`; none: the image's entry point.
        command: Option<Vec<String>>,
        /// The container's own `args`.
        args: Option<Vec<String>>,
    },
    /// A server that answers with the examples of an OpenAPI document.
    Mock {
        /// The document, absolute path.
        openapi: PathBuf,
    },
}

/// A secret with its versions (7.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// `projects/P/secrets/S`, P a project id.
    pub self_link: SelfLink,
    /// The project's number, which answers name.
    pub project_number: u64,
    /// Versions, oldest first.
    pub versions: Vec<SecretPayload>,
    /// Names of versions.
    #[serde(default)]
    pub aliases: BTreeMap<String, u64>,
    /// The service accounts that hold `secretmanager.versions.access` on it, by whatever policy, as
    /// `serviceAccount:EMAIL`.
    #[serde(default)]
    pub accessors: Vec<String>,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretPayload {
    /// 1, 2, 3, …
    pub version: u64,
    /// `ENABLED`, `DISABLED` or `DESTROYED`.
    pub state: SecretState,
    /// At most 64 KiB.
    pub data: Vec<u8>,
}

/// The state of a secret's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecretState {
    /// It can be read.
    Enabled,
    /// It cannot be read for the time being.
    Disabled,
    /// Its payload is gone.
    Destroyed,
}

#[cfg(test)]
mod tests {
    use super::tagged_host;

    #[test]
    fn the_first_label_of_a_tagged_host_has_at_most_63_characters() {
        let check = |tag: &str, host: &str, expected: Option<&str>| {
            let tagged = tagged_host(tag, host);
            assert_eq!(tagged.as_deref(), expected, "{tag} {host}");
            let label = tagged.as_ref().and_then(|host| host.split('.').next());
            assert!(label.is_none_or(|label| label.len() <= 63));
        };
        let deterministic = "orders-123456789012.europe-west1.run.app";
        check("blue", deterministic, Some("blue---orders-123456789012.europe-west1.run.app"));
        check(
            "blue",
            "orders-abcdefghij-ew.a.run.app",
            Some("blue---orders-abcdefghij-ew.a.run.app"),
        );
        let long = "a".repeat(45);
        check("blue", &format!("{long}-123456789012.europe-west1.run.app"), None);
        let cut = format!("blue---{}-abcdefghij-ew.a.run.app", "a".repeat(42));
        check("blue", &format!("{long}-abcdefghij-ew.a.run.app"), Some(&cut));
        check(&"t".repeat(60), "o-abcdefghij-ew.a.run.app", None);
    }
}
