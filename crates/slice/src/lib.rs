//! The normalised topology, cut into one slice per program and network: what `topology` produces,
//! what the supervisor sends, and what the decision crates compile into snapshots.
//!
//! Everything here is validated and resolved: references are canonical self links that exist in
//! the same slice, durations and CIDRs are typed, defaults are filled in. Plain serde data without
//! behaviour; the only crate between the files and the decisions. Words are Google's.

pub mod apigee;
pub mod dns;
pub mod hosts;
pub mod iam;
pub mod load_balancer;
pub mod psc;
pub mod run;
pub mod vpc;

use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// The whole validated topology, from which every program's slice is cut by [`Topology::cut`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Every project that a document names, by id.
    pub projects: BTreeMap<String, Project>,
    /// Every VPC network.
    pub networks: Vec<Network>,
    /// PSC endpoints: consumer forwarding rules and Apigee endpoint attachments.
    pub endpoints: Vec<psc::Endpoint>,
    /// Service attachments.
    pub service_attachments: Vec<psc::ServiceAttachment>,
    /// PSC endpoints for Google APIs.
    #[serde(default)]
    pub google_apis_endpoints: Vec<psc::GoogleApisEndpoint>,
    /// Forwarding rules of internal load balancers, and what they point to.
    pub load_balancing: load_balancer::LoadBalancing,
    /// Managed zones.
    pub zones: Vec<dns::ManagedZone>,
    /// Server policies of Cloud DNS.
    #[serde(default)]
    pub dns_policies: Vec<dns::ServerPolicy>,
    /// Response policies of Cloud DNS.
    #[serde(default)]
    pub response_policies: Vec<dns::ResponsePolicy>,
    /// Cloud Run services.
    pub services: Vec<run::Service>,
    /// Service accounts known by an email, declared or used.
    pub service_accounts: Vec<run::ServiceAccount>,
    /// Who may do what.
    #[serde(default, skip_serializing_if = "iam::Iam::is_empty")]
    pub iam: iam::Iam,
    /// Secrets with their versions.
    #[serde(default)]
    pub secrets: Vec<run::Secret>,
    /// Apigee organisations.
    pub organizations: Vec<apigee::Organization>,
    /// Where each organisation's northbound host is published on the host's loopback, by name.
    #[serde(default)]
    pub northbound: BTreeMap<String, SocketAddr>,
    /// Declared address and port → the one really bound (loopback and host isolation).
    pub placements: Vec<Placement>,
    /// The hosts of a deployment; none: everything is on one machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<hosts::Host>,
    /// Expectations written beside the resources.
    pub expectations: Vec<Expectation>,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The project id.
    pub id: String,
    /// The project number; digits only, declared or derived stably from the id.
    pub number: u64,
}

/// A VPC network with what sits in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Project and name.
    pub id: NetworkId,
    /// Its project's number.
    pub project_number: u64,
    /// Its subnetworks, in the order of the files.
    pub subnetworks: Vec<Subnetwork>,
    /// Its peerings, declared on this side.
    pub peerings: Vec<Peering>,
    /// Declared VMs.
    pub instances: Vec<Instance>,
    /// Firewall rules that are in force.
    #[serde(default)]
    pub firewalls: Vec<vpc::Firewall>,
    /// Static routes.
    #[serde(default)]
    pub routes: Vec<vpc::StaticRoute>,
}

/// A subnetwork (private-connectivity 5.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subnetwork {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Its region.
    pub region: String,
    /// Primary IPv4 range.
    pub range: Ipv4Net,
    /// What it is for.
    pub purpose: Purpose,
}

/// The purpose of a subnetwork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Purpose {
    /// Workloads, forwarding rules, endpoints.
    Private,
    /// The proxies of regional load balancers.
    RegionalManagedProxy,
    /// The NAT addresses of a service attachment.
    PrivateServiceConnect,
}

/// A VPC peering as one side declares it, with what the other side says (5.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peering {
    /// The peering's own name.
    pub name: String,
    /// The other network.
    pub peer: NetworkId,
    /// Does the other side declare it too?
    pub active: bool,
    /// This side offers its static routes.
    #[serde(default)]
    pub export_custom_routes: bool,
    /// This side takes the static routes that the other one offers.
    #[serde(default)]
    pub import_custom_routes: bool,
    /// This side offers the routes of its subnetworks with public addresses.
    #[serde(default)]
    pub export_subnet_routes_with_public_ip: bool,
    /// This side takes such routes.
    #[serde(default)]
    pub import_subnet_routes_with_public_ip: bool,
}

/// A declared VM (`instances[]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Short name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Zone, such as `europe-west1-b`.
    pub zone: String,
    /// Region of its subnetwork.
    pub region: String,
    /// Its subnetwork.
    pub subnetwork: SelfLink,
    /// Its address.
    pub address: Ipv4Addr,
    /// Network tags.
    pub tags: Vec<String>,
    /// The email of its service account.
    pub service_account: Option<String>,
    /// `metadata.items` of the instance; `startup-script` is run by `bash`.
    pub metadata: BTreeMap<String, String>,
    /// The folder of the topology file that declares it: where its startup script runs.
    pub directory: PathBuf,
}

/// A declared address and port, and where it is really bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The network in which `declared` lies.
    pub network: NetworkId,
    /// Address and port as the topology declares them.
    pub declared: SocketAddrV4,
    /// Address and port really bound.
    pub actual: SocketAddr,
}

/// Something that runs in a network with an address of its own: an `exec` session, a declared VM,
/// the API proxy's runtime, a Cloud Run instance. All that the fabric knows about a caller is
/// found here by its source address, which the kernel vouches for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// What people call it: `exec-3`, `vm/legacy`, `api-proxy`, `orders-00001-abc/2`.
    pub name: String,
    /// The network it is in; `internet`: it is in none.
    pub network: NetworkId,
    /// Its address there, as declared or given out.
    pub address: Ipv4Addr,
    /// Its own project.
    pub project: String,
    /// Its project's number.
    pub project_number: u64,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Network tags.
    pub tags: Vec<String>,
    /// The email of its service account; none: the metadata server has no account for it.
    pub service_account: Option<String>,
    /// `instance/id` of the metadata server, digits for a VM.
    pub instance_id: String,
    /// Cloud Run instances have another metadata server than VMs (cloud-run 1.5), and nothing in a
    /// VPC network opens connections to them.
    pub serverless: bool,
    /// The address by which what goes to no private range leaves it, past its network: that of a
    /// Cloud Run instance with `PRIVATE_RANGES_ONLY` (cloud-run 3.4).
    #[serde(default)]
    pub outside: Option<Ipv4Addr>,
    /// Custom metadata of a declared VM.
    pub metadata: BTreeMap<String, String>,
}

/// A socket that a program wants to serve. `key` is the program's own name for it: a self link, or
/// a fixed word such as `admin`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listen {
    /// The program's name for this listener; unique in one slice.
    pub key: String,
    /// What to bind.
    pub bind: Bind,
}

/// The protocol of a packet or connection.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum IpProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for IpProtocol {
    /// The API's word.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            IpProtocol::Tcp => "TCP",
            IpProtocol::Udp => "UDP",
        })
    }
}

/// What to bind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bind {
    /// A TCP listener at a declared address of a network.
    Tcp(NetworkId, SocketAddrV4),
    /// A UDP socket at a declared address of a network.
    Udp(NetworkId, SocketAddrV4),
    /// A Unix stream listener for another program of this machine, by channel name.
    Channel(String),
    /// A TCP listener at an address of the host itself, in no network: the API proxy's northbound
    /// host, and what other hosts dial.
    Host(SocketAddr),
}

/// What a topology file expects of a request (top-level `expectations`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// `file:line:column` of the expectation.
    pub at: String,
    /// What people call it.
    pub description: String,
    /// `PROJECT/NETWORK[/WORKLOAD]`, or `internet` for a client outside of every network.
    pub from: String,
    /// Identity of the caller (`exec --as`).
    pub as_service_account: Option<String>,
    /// Region of the caller (`exec --region`).
    pub region: Option<String>,
    /// Network tags of the caller (`exec --tags`).
    #[serde(default)]
    pub tags: Vec<String>,
    /// HTTP method, default GET.
    pub method: String,
    /// The URL asked for.
    pub url: String,
    /// Request headers.
    pub headers: Vec<(String, String)>,
    /// Send an ID token of `as_service_account` with this audience.
    pub id_token_audience: Option<String>,
    /// The expected status; none: no HTTP answer at all (a connect timeout, say).
    pub status: Option<u16>,
    /// The expected reason code where it is refused.
    pub reason: Option<String>,
    /// The expected Cloud Run service that answers.
    pub service: Option<String>,
    /// For `tcp://` and `udp://`: does somebody answer?
    #[serde(default)]
    pub connected: Option<bool>,
}

/// The programs that `up` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Owns the addresses of PSC endpoints in one consumer network.
    EndpointAttachment,
    /// Admits consumers and dials targets in one producer network.
    ServiceAttachment,
    /// Every internal L7 forwarding rule of one network.
    InternalLb,
    /// The resolver at 169.254.169.254 of one network.
    PrivateDns,
    /// The metadata server at 169.254.169.254 of one network.
    Metadata,
    /// Google's front-end addresses in one network.
    GoogleFrontEnd,
    /// Cloud Run, beside the networks.
    CloudRun,
    /// The API platform's runtime, in one network.
    ApiProxy,
}

impl Role {
    /// The program's name: its binary, its process, its log label.
    pub const fn program(self) -> &'static str {
        match self {
            Role::EndpointAttachment => "endpoint-attachment",
            Role::ServiceAttachment => "service-attachment",
            Role::InternalLb => "internal-lb",
            Role::PrivateDns => "private-dns",
            Role::Metadata => "metadata",
            Role::GoogleFrontEnd => "google-front-end",
            Role::CloudRun => "cloud-run",
            Role::ApiProxy => "api-proxy",
        }
    }
}

/// The addresses of clients outside of every VPC network (TEST-NET-2 of RFC 5737).
pub const INTERNET_CLIENTS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);
/// The addresses of Cloud Run instances: link-local, as first-generation containers see them
/// (cloud-run 1.4).
pub const INSTANCE_ADDRESSES: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 32, 0), 19);

/// The resolver's and the metadata server's address in every network.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// From where Cloud DNS asks name servers inside of a VPC network: an address of 35.199.192.0/19,
/// for which every network has a route of its own (Cloud DNS documentation, "Forwarding zones").
pub const DNS_FORWARDING_SOURCE: Ipv4Addr = Ipv4Addr::new(35, 199, 192, 1);

/// The first addresses of `restricted.googleapis.com` and `private.googleapis.com`
/// (private-connectivity 4.2), each a /30, and the public address of `*.run.app` here.
pub const RESTRICTED_VIP: Ipv4Addr = Ipv4Addr::new(199, 36, 153, 4);
/// See [`RESTRICTED_VIP`].
pub const PRIVATE_VIP: Ipv4Addr = Ipv4Addr::new(199, 36, 153, 8);
/// What the public DNS says for `*.run.app` (observed: 216.239.32.53 and three neighbours).
pub const PUBLIC_VIP: Ipv4Addr = Ipv4Addr::new(216, 239, 32, 53);

/// Every address at which Google's front ends answer in a network, each behind the first one of its
/// front end: all four of a /30, which is no subnetwork. The private and the restricted ones have no
/// route on the internet (private-connectivity 4.2).
pub fn front_ends(internet: bool) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    let four = |first: Ipv4Addr| {
        (u32::from(first)..u32::from(first) + 4).map(move |address| (first, address.into()))
    };
    let private = [RESTRICTED_VIP, PRIVATE_VIP].into_iter().filter(move |_| !internet);
    private.flat_map(four).chain([(PUBLIC_VIP, PUBLIC_VIP)])
}

/// The domains in which a workload's resolver library looks for names, of Compute Engine's; without a
/// zone it is in no network.
pub fn search_domains(zone: &str, project: &str) -> Vec<String> {
    let google = "google.internal".to_owned();
    match zone.is_empty() {
        true => vec![google],
        false => {
            vec![format!("{zone}.c.{project}.internal"), format!("c.{project}.internal"), google]
        }
    }
}

/// The names that it asks for, one after the other, until one has an address (resolv.conf(5), with
/// `ndots:1`): a name without a dot in the search list first, another one as it is first, and one with
/// a dot at its end as it is only.
pub fn lookup_order(host: &str, zone: &str, project: &str) -> Vec<String> {
    let domains = search_domains(zone, project);
    let searched = domains.iter().map(|domain| format!("{host}.{domain}"));
    match (host.ends_with('.'), host.contains('.')) {
        (true, _) => vec![host.to_owned()],
        (_, true) => std::iter::once(host.to_owned()).chain(searched).collect(),
        (_, false) => searched.chain([host.to_owned()]).collect(),
    }
}

/// The channel on which `cloud-run` accepts connections: PROXY v2 with the origin TLV, then HTTP.
pub const CLOUD_RUN_CHANNEL: &str = "cloud-run";
/// The channel on which the supervisor takes connections for the collector of
/// `OTEL_EXPORTER_OTLP_ENDPOINT`, which is no part of any simulated network.
pub const OTLP_CHANNEL: &str = "otlp-collector";
/// The channel on which `cloud-run` accepts sockets handed over by `google-front-end` (TLS inside).
pub const CLOUD_RUN_FRONT_END_CHANNEL: &str = "cloud-run-front-end";

/// The channel of the service attachments of one producer network, on which endpoint attachments
/// hand accepted sockets over.
pub fn service_attachment_channel(network: &NetworkId) -> String {
    format!("service-attachment/{network}")
}

/// The channel on which `private-dns` of one network asks that network's name servers for the
/// resolvers of others, whose peering zones lead there.
pub fn private_dns_channel(network: &NetworkId) -> String {
    format!("private-dns/{network}")
}

/// The channel of the token issuer (one `metadata` program mints for all).
pub const TOKEN_CHANNEL: &str = "token-issuer";
/// The channel on which that `metadata` program accepts sockets handed over by `google-front-end`
/// for [`IDENTITY_HOSTS`] (TLS inside).
pub const IDENTITY_FRONT_END_CHANNEL: &str = "identity-front-end";

/// Google's hosts that make, publish and check tokens (cloud-run 5.4).
pub const IDENTITY_HOSTS: [&str; 4] = [
    "accounts.google.com",
    "iamcredentials.googleapis.com",
    "oauth2.googleapis.com",
    "www.googleapis.com",
];

mod control;
mod listens;

pub use control::{
    BackendState, CONNECTION_HISTORY_MAX, ConditionState, ConnectionChange, ConnectionState,
    ContainerExit, InstanceVolume, MemoryUse, Notice, Report, RevisionState, ServiceState,
    SpawnInstance, SpawnedInstance, StartContainer, StartedContainer, VolumeContent, VolumeFile,
};
pub use listens::Slice;
