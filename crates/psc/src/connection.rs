//! The state of one connection, with its evidence, and how people read it.

use crate::explain::Yaml;
use crate::policy::Blocked;
use names::{NetworkId, Reason, SelfLink};
use slice::psc::{Accept, ConnectionStatus, Consumer};
use slice::{ConnectionChange, ConnectionState};
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
    /// The id that the PROXY header carries: another one where the connection is propagated.
    pub proxy_connection_id: u64,
    /// The endpoint whose connection this is, propagated to another network.
    pub propagated_from: Option<SelfLink>,
    /// `pscConnectionStatus`.
    pub status: ConnectionStatus,
    /// Why the lists give it this status.
    pub evidence: Evidence,
    /// Its source addresses at the producer.
    pub nat: Nat,
    /// What became of it, oldest first; at most [`slice::CONNECTION_HISTORY_MAX`] changes.
    pub history: Vec<ConnectionChange>,
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
        /// What is against it now.
        now: Against,
    },
    /// A policy of the producer's organization blocks the consumer.
    OrganizationPolicy {
        /// Which policy, and the denied value that names the consumer.
        blocked: Blocked,
        /// The consumer's project, as an allowed value names it.
        project: String,
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
        /// It is a PSC backend, and the lists hold endpoints, which never cover backends
        /// (private-connectivity 1.1).
        backend: bool,
    },
    /// A connection of an accepted endpoint, propagated to another network.
    Propagated,
    /// The endpoint whose connection would be propagated is not accepted.
    EndpointNotAccepted {
        /// Its status.
        status: ConnectionStatus,
    },
    /// The consumer has as many propagated connections as it may have.
    PropagationLimit {
        /// `propagatedConnectionLimit`.
        limit: u32,
        /// Whom they are counted for: a project or a network.
        consumer: Consumer,
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

/// What the producer says now against a connection that was accepted earlier.
#[derive(Clone, Debug, PartialEq)]
pub enum Against {
    /// A policy of its organization.
    Policy(Blocked),
    /// An entry of `consumerRejectLists`, with its index.
    RejectList(usize, Consumer),
    /// No entry of `consumerAcceptLists` names it.
    NotListed,
}

/// The source addresses of a connection at the producer: `natIpsPerEndpoint` of them for each
/// endpoint, for as long as it is accepted (private-connectivity 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Not accepted, so it needs none.
    Unneeded,
    /// The endpoint's addresses.
    Addresses(Vec<Ipv4Addr>),
    /// All usable addresses of the NAT subnets are given out. What the connection has serves on.
    Exhausted {
        /// Those that it has.
        has: Vec<Ipv4Addr>,
        /// How many it should have.
        wanted: usize,
        /// Short names of the subnets.
        subnets: Vec<String>,
        /// How many usable addresses they have.
        usable: u64,
    },
    /// The service attachment has no NAT subnet.
    NoSubnet,
}

impl Connection {
    /// The NAT addresses that it has.
    pub fn nat_addresses(&self) -> &[Ipv4Addr] {
        match &self.nat {
            Nat::Addresses(addresses) | Nat::Exhausted { has: addresses, .. } => addresses,
            Nat::Unneeded | Nat::NoSubnet => &[],
        }
    }

    /// Why the connection is not ACCEPTED.
    pub fn reason(&self) -> Option<Reason> {
        match (self.status, &self.evidence, &self.nat) {
            (ConnectionStatus::Accepted, ..) => None,
            (_, Evidence::RegionMismatch { .. }, _) => Some(Reason::PscRegionMismatch),
            (_, Evidence::PropagationLimit { .. }, _) => {
                Some(Reason::PscPropagatedConnectionLimitExceeded)
            }
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
            nat_ips: self.nat_addresses().to_vec(),
            consumer_project: self.consumer_project.clone(),
            consumer_network: Some(self.consumer_network.clone()),
            propagated_from: self.propagated_from.clone(),
            history: self.history.clone(),
        }
    }

    /// The entry that admits it, or what is in its way.
    pub fn why(&self) -> String {
        let evidence = &self.evidence;
        match &self.nat {
            Nat::Unneeded | Nat::Addresses(_) => evidence.to_string(),
            Nat::Exhausted { has, wanted, subnets, usable } => format!(
                "{evidence}; but all {usable} usable addresses of natSubnets [{}] are in use, and \
                 it has {} of {wanted}",
                subnets.join(", "),
                has.len()
            ),
            Nat::NoSubnet => {
                format!("{evidence}; but the service attachment has no NAT subnet")
            }
        }
    }

    /// Where [`Connection::fix`] is made: in the service attachment, or in what the evidence names.
    pub fn fixed_in(&self) -> &str {
        if matches!(self.nat, Nat::Exhausted { .. } | Nat::NoSubnet) {
            return self.service_attachment.as_str();
        }
        match &self.evidence {
            Evidence::OrganizationPolicy { blocked, .. } => &blocked.policy,
            Evidence::RegionMismatch { .. } | Evidence::Closed => self.endpoint.as_str(),
            Evidence::EndpointNotAccepted { .. } => {
                self.propagated_from.as_ref().unwrap_or(&self.endpoint).as_str()
            }
            _ => self.service_attachment.as_str(),
        }
    }

    /// What to change so that it is accepted, to the line that is missing.
    pub fn fix(&self) -> Option<String> {
        match &self.nat {
            Nat::Exhausted { .. } => {
                return Some(
                    "add another subnet of purpose PRIVATE_SERVICE_CONNECT to natSubnets"
                        .to_owned(),
                );
            }
            Nat::NoSubnet => {
                return Some(
                    "add a subnet of purpose PRIVATE_SERVICE_CONNECT to natSubnets".to_owned(),
                );
            }
            Nat::Unneeded | Nat::Addresses(_) => {}
        }
        Some(match &self.evidence {
            Evidence::NotListed { backend: true, .. } => {
                "list projects or networks in both lists".to_owned()
            }
            Evidence::NotListed { missing, .. } => format!("add `- {}`", Yaml(missing)),
            Evidence::LimitUsedUp { entry, accepted, .. } => {
                let connection_limit = accepted.saturating_add(1);
                let raised = Accept { consumer: entry.consumer.clone(), connection_limit };
                format!("change the entry to `- {}`", Yaml(&raised))
            }
            Evidence::OnRejectList { index, .. } => {
                format!("remove consumerRejectLists[{index}]")
            }
            Evidence::OrganizationPolicy {
                blocked: Blocked { denied: Some(value), .. }, ..
            } => {
                format!("remove `{value}` from deniedValues of that policy")
            }
            Evidence::OrganizationPolicy { project, .. } => {
                format!("add `- under:{project}` to allowedValues of that policy")
            }
            Evidence::RejectedBefore => {
                "set reconcileConnections: true, or recreate the endpoint".to_owned()
            }
            Evidence::RegionMismatch { service_attachment, .. } => {
                format!("create the endpoint in {service_attachment}")
            }
            Evidence::PropagationLimit { limit, .. } => {
                format!("write propagatedConnectionLimit: {}", limit.saturating_add(1))
            }
            Evidence::EndpointNotAccepted { .. } => "have the endpoint accepted".to_owned(),
            Evidence::Closed => "delete the endpoint and create a new one".to_owned(),
            Evidence::Automatic
            | Evidence::Listed { .. }
            | Evidence::AcceptedBefore { .. }
            | Evidence::Propagated => return None,
        })
    }
}
