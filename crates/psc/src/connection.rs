//! The state of one connection, with its evidence, and how people read it.

use names::{NetworkId, Reason, SelfLink};
use slice::ConnectionState;
use slice::psc::{Accept, ConnectionStatus, Consumer};
use std::fmt;
use std::net::Ipv4Addr;

/// An endpoint's connection to its service attachment, as decided by [`crate::reconcile`].
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The service attachment.
    pub service_attachment: SelfLink,
    /// The endpoint.
    pub endpoint: SelfLink,
    /// Its project.
    pub consumer_project: String,
    /// Its network.
    pub consumer_network: NetworkId,
    /// `pscConnectionId`.
    pub psc_connection_id: u64,
    /// `pscConnectionStatus`.
    pub status: ConnectionStatus,
    /// Why the lists give it this status.
    pub evidence: Evidence,
    /// Its source address at the producer.
    pub nat: Nat,
}

/// What decided about a connection. Indices are those of the list in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// `ACCEPT_AUTOMATIC` admits everybody.
    Automatic,
    /// An entry of `consumerAcceptLists` admits it.
    Listed {
        /// Index of the entry.
        index: usize,
        /// The entry.
        entry: Accept,
    },
    /// Accepted once; the lists would not admit it now, but `reconcileConnections` is false.
    AcceptedBefore {
        /// The entry of `consumerRejectLists` that names it now, if that is the cause.
        rejecting: Option<(usize, Consumer)>,
    },
    /// An entry of `consumerRejectLists` names it.
    OnRejectList {
        /// Index of the entry.
        index: usize,
        /// The entry.
        entry: Consumer,
        /// Index of the entry of `consumerAcceptLists` that would admit it otherwise.
        accepting: Option<usize>,
    },
    /// Rejected once; no reject list names it any more, but `reconcileConnections` is false.
    RejectedBefore,
    /// An entry of `consumerAcceptLists` names it, but has no room.
    LimitUsedUp {
        /// Index of the entry.
        index: usize,
        /// The entry.
        entry: Accept,
        /// Accepted connections of that entry, at least its limit.
        accepted: u32,
    },
    /// No list names it.
    NotListed {
        /// The entry that would admit it, of the kind that the list holds.
        missing: Accept,
        /// How many entries the accept list has.
        entries: usize,
        /// It is an Apigee endpoint attachment: its project is the organization's tenant project,
        /// which people mistake for the customer's (private-connectivity 0, trap 21).
        apigee: bool,
    },
    /// Endpoint and service attachment are in different regions; no list can help.
    RegionMismatch {
        /// The endpoint's region.
        endpoint: String,
        /// The service attachment's region.
        service_attachment: String,
    },
    /// The service attachment was deleted while the endpoint was connected; for good.
    Closed,
}

/// The source address of a connection at the producer: one per endpoint, for as long as it is
/// accepted (private-connectivity 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Not accepted, so it needs none.
    Unneeded,
    /// The endpoint's address.
    Address(Ipv4Addr),
    /// All usable addresses of the NAT subnets are given out.
    Exhausted {
        /// Short names of the subnets.
        subnets: Vec<String>,
        /// How many usable addresses they have.
        usable: u64,
    },
    /// The service attachment has no NAT subnet.
    NoSubnet,
}

impl Connection {
    /// The NAT address, where it has one.
    pub fn nat_address(&self) -> Option<Ipv4Addr> {
        match self.nat {
            Nat::Address(address) => Some(address),
            _ => None,
        }
    }

    /// Why the connection is not ACCEPTED.
    pub fn reason(&self) -> Option<Reason> {
        match (self.status, &self.evidence, &self.nat) {
            (ConnectionStatus::Accepted, ..) => None,
            (_, Evidence::RegionMismatch { .. }, _) => Some(Reason::PscRegionMismatch),
            (_, _, Nat::Exhausted { .. }) => Some(Reason::PscNatSubnetExhausted),
            (_, _, Nat::NoSubnet) => Some(Reason::NoNatSubnetsForPscServiceAttachment),
            _ => Some(Reason::PscConnectionNotAccepted),
        }
    }

    /// The shape in which the state leaves the program, and comes back as history.
    pub fn state(&self) -> ConnectionState {
        ConnectionState {
            service_attachment: self.service_attachment.clone(),
            endpoint: self.endpoint.clone(),
            psc_connection_id: self.psc_connection_id,
            status: self.status,
            reason: self.reason(),
            detail: self.to_string(),
            nat_ips: self.nat_address().into_iter().collect(),
            consumer_project: self.consumer_project.clone(),
            consumer_network: Some(self.consumer_network.clone()),
            propagated_from: None,
            history: Vec::new(),
        }
    }
}

/// `WHY` or `WHY: FIX`, in one sentence.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why())?;
        match self.fix() {
            Some(fix) => write!(f, ": {fix}"),
            None => Ok(()),
        }
    }
}

impl Connection {
    /// The entry that admits it, or what is in its way.
    pub fn why(&self) -> String {
        let evidence = &self.evidence;
        match &self.nat {
            Nat::Unneeded | Nat::Address(_) => evidence.to_string(),
            Nat::Exhausted { subnets, usable } => format!(
                "{evidence}; but all {usable} usable addresses of natSubnets [{}] are in use",
                subnets.join(", ")
            ),
            Nat::NoSubnet => {
                format!("{evidence}; but the service attachment has no NAT subnet")
            }
        }
    }

    /// What to change so that it is accepted, to the line that is missing.
    pub fn fix(&self) -> Option<String> {
        match (&self.evidence, &self.nat) {
            (_, Nat::Exhausted { .. }) => Some(
                "add another subnet of purpose PRIVATE_SERVICE_CONNECT to natSubnets".to_owned(),
            ),
            (_, Nat::NoSubnet) => {
                Some("add a subnet of purpose PRIVATE_SERVICE_CONNECT to natSubnets".to_owned())
            }
            (Evidence::NotListed { missing, .. }, _) => Some(format!("add `- {}`", Yaml(missing))),
            (Evidence::LimitUsedUp { entry, accepted, .. }, _) => {
                let connection_limit = accepted.saturating_add(1);
                let raised = Accept { consumer: entry.consumer.clone(), connection_limit };
                Some(format!("change the entry to `- {}`", Yaml(&raised)))
            }
            (Evidence::OnRejectList { index, .. }, _) => {
                Some(format!("remove consumerRejectLists[{index}]"))
            }
            (Evidence::RejectedBefore, _) => {
                Some("set reconcileConnections: true, or recreate the endpoint".to_owned())
            }
            (Evidence::RegionMismatch { service_attachment, .. }, _) => {
                Some(format!("create the endpoint in {service_attachment}"))
            }
            (Evidence::Closed, _) => Some("delete the endpoint and create a new one".to_owned()),
            (
                Evidence::Automatic | Evidence::Listed { .. } | Evidence::AcceptedBefore { .. },
                Nat::Unneeded | Nat::Address(_),
            ) => None,
        }
    }
}

/// What decided, without what to change.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Automatic => {
                f.write_str("connectionPreference ACCEPT_AUTOMATIC admits every consumer")
            }
            Evidence::Listed { index, entry } => {
                write!(f, "consumerAcceptLists[{index}] `{}` admits it", Yaml(entry))
            }
            Evidence::AcceptedBefore { rejecting: Some((index, entry)) } => write!(
                f,
                "accepted earlier; consumerRejectLists[{index}] names {} now, but \
                 reconcileConnections is false, so it stays accepted",
                Named(entry)
            ),
            Evidence::AcceptedBefore { rejecting: None } => f.write_str(
                "accepted earlier; consumerAcceptLists does not name it now, but \
                 reconcileConnections is false, so it stays accepted",
            ),
            Evidence::OnRejectList { index, entry, accepting: None } => {
                write!(f, "consumerRejectLists[{index}] names {}", Named(entry))
            }
            Evidence::OnRejectList { index, entry, accepting: Some(accept) } => write!(
                f,
                "consumerRejectLists[{index}] names {} and wins over consumerAcceptLists[{accept}]",
                Named(entry)
            ),
            Evidence::RejectedBefore => f.write_str(
                "rejected earlier; consumerRejectLists does not name it now, but \
                 reconcileConnections is false, so it stays rejected",
            ),
            Evidence::LimitUsedUp { index, entry, accepted } => write!(
                f,
                "consumerAcceptLists[{index}] names it, but {accepted} of {} connections are \
                 accepted already",
                entry.connection_limit
            ),
            Evidence::NotListed { missing, entries, apigee } => {
                match entries {
                    0 => f.write_str("consumerAcceptLists is empty and misses ")?,
                    _ => write!(f, "none of the {entries} consumerAcceptLists entries names ")?,
                }
                write!(f, "{}", Named(&missing.consumer))?;
                if *apigee {
                    f.write_str(" (the organization's tenant project, apigeeProjectId)")?;
                }
                Ok(())
            }
            Evidence::RegionMismatch { endpoint, service_attachment } => write!(
                f,
                "the endpoint is in {endpoint}, the service attachment in {service_attachment}; \
                 both must be in one region"
            ),
            Evidence::Closed => f.write_str(
                "the service attachment was deleted, which closes its connections for good",
            ),
        }
    }
}

/// A consumer in a sentence.
struct Named<'a>(&'a Consumer);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Consumer::ProjectIdOrNum(project) => write!(f, "project `{project}`"),
            Consumer::NetworkUrl(network) => write!(f, "network `{network}`"),
            Consumer::EndpointUrl(link) => write!(f, "endpoint `{link}`"),
        }
    }
}

/// An entry of `consumerAcceptLists` as one would write it in a topology file.
struct Yaml<'a>(&'a Accept);

impl fmt::Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.0.connection_limit;
        match &self.0.consumer {
            // Digits alone would be read as a number, which the field is not.
            Consumer::ProjectIdOrNum(number) if number.parse::<u64>().is_ok() => {
                write!(f, "{{projectIdOrNum: \"{number}\", connectionLimit: {limit}}}")
            }
            Consumer::ProjectIdOrNum(project) => {
                write!(f, "{{projectIdOrNum: {project}, connectionLimit: {limit}}}")
            }
            Consumer::NetworkUrl(network) => write!(
                f,
                "{{networkUrl: projects/{}/global/networks/{}, connectionLimit: {limit}}}",
                network.project, network.name
            ),
            Consumer::EndpointUrl(link) => write!(f, "{{endpointUrl: {link}, connectionLimit: 1}}"),
        }
    }
}
