//! What `postern` commands and the running supervisor say to each other over the control socket
//! of the state directory: one question, one answer, then (for `exec`) the connection stands for
//! the session.

use crate::connected::{EndpointAttachmentStatus, ServiceAttachmentStatus};
use names::NetworkId;
use serde::{Deserialize, Serialize};
use slice::{BackendState, ConnectionState, ServiceState, Topology, Workload};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A command's question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// What runs where.
    Status,
    /// Stop everything.
    Down,
    /// Read the files again and put them into force.
    Reload,
    /// A leaf for a session.
    Exec(ExecRequest),
    /// The metrics of every program.
    Metrics,
    /// What `explain` needs of the running world.
    Live,
}

/// Who a session wants to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecRequest {
    /// `PROJECT/NETWORK`.
    pub network: Option<NetworkId>,
    /// Service account.
    pub service_account: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Network tags.
    pub tags: Vec<String>,
    /// A declared VM instead of all that.
    pub instance: Option<String>,
}

/// The supervisor's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To `Status`.
    Status(Box<Status>),
    /// It is done (`Reload`: which generation is in force, and warnings).
    #[serde(rename_all = "camelCase")]
    Done {
        /// Generation in force.
        generation: u64,
        /// Warnings, one a line.
        text: String,
    },
    /// It is not done; nothing has changed.
    Failed(String),
    /// To `Exec`; with namespaces, the descriptors of the user, PID and network namespace follow.
    Session(Box<Session>),
    /// To `Metrics`: Prometheus text per program.
    Metrics(BTreeMap<String, String>),
    /// To `Live`.
    Live(Box<Live>),
}

/// A session's surroundings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The workload.
    pub workload: Workload,
    /// Environment beside the caller's own.
    pub environment: BTreeMap<String, String>,
    /// CA bundle.
    pub ca: String,
    /// Are there namespaces to enter?
    pub separate: bool,
}

/// What `explain` takes from a running world.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// The topology in force.
    pub topology: Box<Topology>,
    /// Workloads: sessions and instances by name.
    pub workloads: Vec<Workload>,
    /// Connection states with their history.
    pub connections: Vec<ConnectionState>,
    /// States of Cloud Run services.
    pub services: Vec<ServiceState>,
    /// The endpoints of backend services.
    pub backends: Vec<BackendState>,
    /// The issuer's public keys.
    pub jwks: String,
}

/// What `status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The topology's path.
    pub topology: PathBuf,
    /// `netns` or `loopback`.
    pub isolation: String,
    /// Generation in force.
    pub generation: u64,
    /// Why the last reload was refused, if it was.
    pub last_refusal: Option<String>,
    /// The supervisor's process id, as the host sees it.
    pub pid: u32,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The CA bundle's path.
    pub ca: PathBuf,
    /// Programs.
    pub programs: Vec<ProgramStatus>,
    /// Workloads: declared VMs, sessions, instances, the API proxy's runtime.
    pub workloads: Vec<WorkloadStatus>,
    /// PSC connections, with what became of each.
    pub connections: Vec<ConnectionState>,
    /// Service attachments with their `connectedEndpoints`, in Google's shape.
    pub service_attachments: Vec<ServiceAttachmentStatus>,
    /// Apigee endpoint attachments, in Google's shape.
    pub endpoint_attachments: Vec<EndpointAttachmentStatus>,
    /// Cloud Run services.
    pub services: Vec<ServiceState>,
    /// The endpoints of backend services.
    pub backends: Vec<BackendState>,
    /// One line that works when pasted.
    pub try_it: Option<String>,
}

/// A program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramStatus {
    /// Its name.
    pub program: String,
    /// Its network.
    pub network: Option<NetworkId>,
    /// `running`, `starting`, `backing off`.
    pub state: String,
    /// Process id as the host sees it.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Generation in force in it.
    pub generation: u64,
    /// The last generation that was new to it: later ones changed nothing that concerns it.
    pub built_generation: u64,
    /// What it listens on.
    pub listeners: Vec<ListenerStatus>,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The program's name for it: the self link of a forwarding rule, say.
    pub key: String,
    /// `tcp`, `udp`, `unix`.
    pub protocol: String,
    /// As declared.
    pub declared: String,
    /// As really bound.
    pub actual: String,
}

/// A workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The workload.
    pub workload: Workload,
    /// Its process id as the host sees it, if a process of ours runs in it.
    pub pid: Option<u32>,
    /// Where it is really reached.
    pub actual: Option<SocketAddr>,
}
