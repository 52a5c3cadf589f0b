//! Where a request comes from, as the fabric vouches for it; never as HTTP says (DESIGN.md 3).

use crate::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The way by which a request reached `cloud-run`. It travels in a PROXY v2 TLV per connection, so
/// connection pools are keyed by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// Through the serverless NEG of an internal Application Load Balancer.
    #[serde(rename_all = "camelCase")]
    InternalLoadBalancer {
        /// The network of the load balancer.
        network: NetworkId,
        /// The forwarding rule that accepted the connection.
        forwarding_rule: SelfLink,
    },
    /// Through the serverless NEG of an external Application Load Balancer.
    #[serde(rename_all = "camelCase")]
    ExternalLoadBalancer {
        /// The forwarding rule that accepted the connection; it names project and region.
        forwarding_rule: SelfLink,
    },
    /// Through a Google front end, from a workload in a VPC network.
    #[serde(rename_all = "camelCase")]
    Network {
        /// The network in which the workload sits.
        network: NetworkId,
        /// The workload's own project (a Shared VPC service project, say).
        project: Arc<str>,
        /// Which front-end address was used.
        front_end: FrontEnd,
    },
    /// From outside of every VPC network.
    Internet,
}

impl Origin {
    /// Where a connection to a Google front end comes from: from a workload of this project in this
    /// network.
    pub fn through(front_end: FrontEnd, network: &NetworkId, project: &str) -> Origin {
        match network.is_internet() {
            true => Origin::Internet,
            false => {
                Origin::Network { network: network.clone(), project: project.into(), front_end }
            }
        }
    }
}

/// The addresses under which a network reaches Google's front ends (private-connectivity 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FrontEnd {
    /// `private.googleapis.com`, 199.36.153.8/30.
    Private,
    /// `restricted.googleapis.com`, 199.36.153.4/30.
    Restricted,
    /// The public addresses of `*.run.app`.
    Public,
    /// A PSC endpoint for Google APIs (1.6), whose address the network chose itself.
    PrivateServiceConnect,
}

/// Is this the name of a Cloud Run service (or of none, but in Cloud Run's domain)? In lower case;
/// the dot of the root may stand at its end.
pub fn is_run_app(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.strip_suffix(".run.app").is_some_and(|service| !service.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_run_app;

    #[test]
    fn run_app_names() {
        for (name, is) in [
            ("orders-123.europe-west1.run.app", true),
            ("orders-123.europe-west1.run.app.", true),
            ("a.run.app", true),
            ("run.app", false),
            (".run.app", false),
            ("evilrun.app", false),
            ("orders.run.app.example.com", false),
            ("storage.googleapis.com", false),
        ] {
            assert_eq!(is_run_app(name), is, "{name}");
        }
    }
}
