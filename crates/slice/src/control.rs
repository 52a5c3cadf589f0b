//! What programs and the supervisor tell each other beside the slices themselves.

use crate::Workload;
use crate::psc::ConnectionStatus;
use crate::run::{Mount, Resources, Run, TrafficTarget, VpcAccess};
use names::{NetworkId, Reason, SelfLink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// From a program to the supervisor, without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// `service-attachment`: the state of every connection, after each change.
    Connections(Vec<ConnectionState>),
    /// `cloud-run`: the state of every service, after each change.
    Services(Vec<ServiceState>),
    /// `internal-lb`: the state of every endpoint of the backend services with a health check or
    /// outlier detection, after each change.
    Backends(Vec<BackendState>),
}

/// From the supervisor to a program, without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Notice {
    /// The workloads of the program's network, all of them, after each change.
    Workloads(Vec<Workload>),
    /// `endpoint-attachment`, `internal-lb`: the connection states of the network's endpoints.
    Connections(Vec<ConnectionState>),
    /// `private-dns`: the forwarding rules whose load balancers are ill, all of them, after each
    /// change; routing policies answer others.
    Unhealthy(Vec<SelfLink>),
    /// `cloud-run`: a container of an instance has ended.
    ContainerExited(ContainerExit),
}

/// The state of one PSC connection, as `status`, `explain` and both ends show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionState {
    /// The service attachment.
    pub service_attachment: SelfLink,
    /// The endpoint.
    pub endpoint: SelfLink,
    /// `pscConnectionId`.
    pub psc_connection_id: u64,
    /// `pscConnectionStatus`.
    pub status: ConnectionStatus,
    /// Why it is not ACCEPTED.
    pub reason: Option<Reason>,
    /// One sentence: the list entry that admits it, or the list that misses it and the line to add.
    pub detail: String,
    /// The NAT addresses given to the endpoint.
    #[serde(default)]
    pub nat_ips: Vec<Ipv4Addr>,
    /// The endpoint's project.
    #[serde(default)]
    pub consumer_project: String,
    /// The network of the endpoint; of a propagated connection, that of the spoke.
    #[serde(default)]
    pub consumer_network: Option<NetworkId>,
    /// The connection is one of this endpoint, propagated to another network.
    #[serde(default)]
    pub propagated_from: Option<SelfLink>,
    /// What became of it and when, oldest first; the oldest are forgotten when there are many.
    #[serde(default)]
    pub history: Vec<ConnectionChange>,
}

impl ConnectionState {
    /// Do new connections get through? Not before the endpoint has a NAT address, however far the
    /// lists admit it (private-connectivity 1.4 "further PSC connections fail").
    pub fn opens(&self) -> bool {
        self.status.carries_traffic() && !self.nat_ips.is_empty()
    }
}

/// The most changes that are remembered of one connection.
pub const CONNECTION_HISTORY_MAX: usize = 32;

/// One change of a connection's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionChange {
    /// Seconds since 1970.
    pub time: u64,
    /// The state before; none: the endpoint was new.
    pub from: Option<ConnectionStatus>,
    /// The state since.
    pub to: ConnectionStatus,
    /// What decided, in one sentence.
    pub why: String,
}

/// The state of one Cloud Run service, as `status` and `explain` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    /// The service.
    pub service: SelfLink,
    /// Ready instances.
    pub instances: u32,
    /// False: every start of the revision that most requests get failed so far.
    pub starts: bool,
    /// A few words: the revisions that serve, and what became of the newest one.
    pub text: String,
    /// A revision is being tried, and what serves may change by that.
    #[serde(default)]
    pub reconciling: bool,
    /// The traffic in force: that of the files, unless a revision that it names is not ready.
    #[serde(default)]
    pub traffic: Vec<TrafficTarget>,
    /// Revisions, oldest first: those with traffic, tag or instances, the latest created one, and
    /// some of those that have retired.
    #[serde(default)]
    pub revisions: Vec<RevisionState>,
}

/// The state of one revision (cloud-run 2.5, 3.2, 3.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionState {
    /// Short name.
    pub name: String,
    /// The condition `Ready`.
    pub ready: ConditionState,
    /// Why it is as it is, in the API's words: `HEALTH_CHECK_CONTAINER_ERROR`, `RETIRED`, …
    pub reason: Option<String>,
    /// The condition's text.
    pub message: String,
    /// Its share of the requests without a tag, in percent.
    pub percent: u32,
    /// Tags that lead to it.
    pub tags: Vec<String>,
    /// Ready instances.
    pub instances: u32,
    /// Instances that start.
    pub starting: u32,
}

/// The state of a condition (cloud-run 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConditionState {
    /// Nobody knows yet.
    ConditionPending,
    /// It is being found out.
    ConditionReconciling,
    /// It is not so.
    ConditionFailed,
    /// It is so.
    ConditionSucceeded,
}

/// The state of one endpoint of a backend service, as `status` and `explain` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendState {
    /// The backend service.
    pub backend_service: SelfLink,
    /// Address, or service attachment, with the port.
    pub endpoint: String,
    /// `HEALTHY`, `UNHEALTHY`, or `UNKNOWN` before the first probe has ended; `HEALTHY` without
    /// health check.
    pub health_state: String,
    /// It is left alone for having answered badly.
    pub ejected: bool,
}

/// `cloud-run` asks the supervisor for an instance: a leaf namespace of its own, its volumes and its
/// limits. Its containers are started in it one by one, with [`StartContainer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpawnInstance {
    /// `orders-00001-abc/2`: workload name and log label.
    pub name: String,
    /// The port of the contract, default 8080.
    pub container_port: u16,
    /// Names of all its containers: hosts of their own at 127.0.0.1 (1.1).
    pub containers: Vec<String>,
    /// What its containers may mount.
    pub volumes: Vec<InstanceVolume>,
    /// Identity for the metadata server.
    pub service_account: Option<String>,
    /// Project of the service.
    pub project: String,
    /// Its number.
    pub project_number: u64,
    /// Region of the service.
    pub region: String,
    /// The way into a VPC network.
    #[serde(default)]
    pub vpc_access: Option<VpcAccess>,
    /// `instance/id`.
    pub instance_id: String,
}

/// A volume of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceVolume {
    /// Name, unique in the instance.
    pub name: String,
    /// What is in it.
    pub content: VolumeContent,
}

/// What a volume of an instance holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeContent {
    /// Files that containers can only read: those of a secret.
    Files(Vec<VolumeFile>),
    /// A directory that is empty at first and ends with the instance.
    #[serde(rename_all = "camelCase")]
    EmptyDir {
        /// Bytes.
        size_limit: Option<u64>,
        /// In memory, or on disk.
        in_memory: bool,
    },
}

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Relative path.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub data: Vec<u8>,
}

/// The instance, without a container as yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpawnedInstance {
    /// Number for everything that is asked of it later, and of its notices.
    pub instance: u64,
    /// Where `cloud-run` reaches the ingress container. Other ports are at the same address.
    pub address: SocketAddr,
}

/// `cloud-run` asks the supervisor to start a container of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartContainer {
    /// Number given by [`SpawnedInstance`].
    pub instance: u64,
    /// Its name.
    pub container: String,
    /// How it runs; not `Run::Url`, for which there is nothing to start.
    pub run: Run,
    /// The whole environment except PORT.
    pub env: BTreeMap<String, String>,
    /// Is this the ingress container? The supervisor sets PORT (another one than the instance's
    /// `container_port` where leaves are not isolated).
    pub ingress: bool,
    /// Working directory, absolute; none: that of `run`.
    pub working_directory: Option<PathBuf>,
    /// What it may use.
    pub resources: Resources,
    /// Where volumes of the instance appear.
    pub mounts: Vec<Mount>,
}

/// A container's process runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartedContainer {
    /// Process id as the supervisor sees it.
    pub pid: u32,
}

/// A container's process, and all that it has started, has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerExit {
    /// Number given by [`SpawnedInstance`].
    pub instance: u64,
    /// Its name.
    pub container: String,
    /// Exit status, or 128 + signal.
    pub status: i32,
    /// It was ended for using more memory than it may, where the machine tells (1.2).
    #[serde(default)]
    pub out_of_memory: Option<MemoryUse>,
}

/// How much memory a container used when it was ended for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    /// Bytes that it may use.
    pub limit: u64,
    /// The most bytes that it has used.
    pub used: u64,
}
