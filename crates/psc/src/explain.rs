//! How people read a connection's state: what decided, and the line to add.

use crate::connection::{Against, Connection, Evidence};
use crate::policy::Blocked;
use slice::psc::{Accept, Consumer};
use std::fmt;

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
            Evidence::AcceptedBefore { now: Against::RejectList(index, entry) } => write!(
                f,
                "accepted earlier; consumerRejectLists[{index}] names {} now, but \
                 reconcileConnections is false, so it stays accepted",
                Named(entry)
            ),
            Evidence::AcceptedBefore { now: Against::Policy(blocked) } => write!(
                f,
                "accepted earlier; the organization policy {} blocks the consumer now, but \
                 reconcileConnections is false, so it stays accepted",
                blocked.policy
            ),
            Evidence::AcceptedBefore { now: Against::NotListed } => f.write_str(
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
            Evidence::OrganizationPolicy { blocked: Blocked { policy, denied }, project } => {
                match denied {
                    Some(value) => write!(f, "the organization policy {policy} denies {value}")?,
                    None => write!(f, "no allowed value of the organization policy {policy} covers {project}")?,
                }
                f.write_str(", which overrides connectionPreference and both lists")
            }
            Evidence::NotListed { backend: true, .. } => f.write_str(
                "the lists name endpoints, which never cover the network endpoint group of a load balancer",
            ),
            Evidence::NotListed { missing, entries, apigee, backend: false } => {
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
            Evidence::Propagated => f.write_str("the endpoint is accepted, and a hub propagates its connection"),
            Evidence::EndpointNotAccepted { status } => write!(
                f,
                "the endpoint's own connection is {status}, and only accepted ones are propagated"
            ),
            Evidence::PropagationLimit { limit, consumer } => write!(
                f,
                "{} has the {limit} propagated connections that propagatedConnectionLimit allows",
                Named(consumer)
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
pub(crate) struct Yaml<'a>(pub(crate) &'a Accept);

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
