//! What programs and the supervisor tell each other beside the slices themselves.

use crate::Workload;
use crate::psc::ConnectionStatus;
use crate::run::VpcAccess;
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
    /// `cloud-run`: an instance's process has ended.
    #[serde(rename_all = "camelCase")]
    InstanceExited {
        /// Number given by `SpawnedInstance`.
        instance: u64,
        /// Exit status, or 128 + signal.
        status: i32,
    },
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
    /// False: every start of its revision failed so far, and no earlier revision serves.
    pub starts: bool,
    /// A few words: the revision that serves, or starts, or does not.
    pub text: String,
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

/// `cloud-run` asks the supervisor to start an instance in a leaf namespace of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpawnInstance {
    /// `orders-00001-abc/2`: workload name and log label.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: PathBuf,
    /// The whole environment except PORT, which the supervisor sets (another port than
    /// `container_port` where leaves are not isolated).
    pub env: BTreeMap<String, String>,
    /// The port of the contract, default 8080.
    pub container_port: u16,
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

/// The started instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpawnedInstance {
    /// Number for `stop` and `InstanceExited`.
    pub instance: u64,
    /// Where `cloud-run` reaches it.
    pub address: SocketAddr,
    /// Process id as the host sees it.
    pub pid: u32,
}
