//! May a request come in from there? (cloud-run 4)

use names::{FrontEnd, Origin, Reason};
use slice::run::{Ingress, Service};
use std::fmt;

/// Why a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressEvidence {
    /// The setting is `all`.
    All,
    /// It came through an internal Application Load Balancer, which is internal wherever its
    /// frontend stands, also when that is published by a service attachment (the latter
    /// (unconfirmed)).
    InternalLoadBalancer,
    /// It came through an external Application Load Balancer, which the setting
    /// `internal-and-cloud-load-balancing` admits.
    ExternalLoadBalancer,
    /// From a network of the service's own project, whichever front-end address was used.
    SameProject,
    /// From the Shared VPC network into which the revision egresses.
    SharedVpc,
}

/// A request from where the service's setting admits nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRefusal {
    /// The service.
    pub service: String,
    /// Its project.
    pub project: String,
    /// Its setting.
    pub setting: Ingress,
    /// Where the request came from.
    pub origin: Origin,
    /// What nearly made it internal.
    pub near: Option<IngressNearMiss>,
}

/// What nearly made a source internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressNearMiss {
    /// The caller's project is the service's, but its network is another project's and the
    /// revision does not egress into it.
    SharedVpcWithoutEgress,
    /// The caller's network and project are other projects'.
    OtherProject,
    /// It came through an external load balancer, and the setting is `internal`.
    ExternalLoadBalancer,
}

/// Decides by the service's setting and the fabric's word on the origin.
///
/// # Errors
/// The setting, the origin and the near miss.
pub fn ingress(service: &Service, origin: &Origin) -> Result<IngressEvidence, IngressRefusal> {
    let internal = internal(service, origin);
    match service.ingress {
        Ingress::All => Ok(IngressEvidence::All),
        Ingress::InternalLoadBalancer if is_external(origin) => {
            Ok(IngressEvidence::ExternalLoadBalancer)
        }
        Ingress::InternalOnly | Ingress::InternalLoadBalancer => internal,
        Ingress::None => Err(None),
    }
    .map_err(|near| IngressRefusal {
        service: service.name.clone(),
        project: service.project.clone(),
        setting: service.ingress,
        origin: origin.clone(),
        near,
    })
}

fn is_external(origin: &Origin) -> bool {
    matches!(origin, Origin::ExternalLoadBalancer { .. })
}

fn internal(
    service: &Service,
    origin: &Origin,
) -> Result<IngressEvidence, Option<IngressNearMiss>> {
    match origin {
        Origin::InternalLoadBalancer { .. } => Ok(IngressEvidence::InternalLoadBalancer),
        Origin::Network { network, project, .. } => {
            if service.internal_networks.contains(network) {
                if *network.project == *service.project {
                    Ok(IngressEvidence::SameProject)
                } else {
                    Ok(IngressEvidence::SharedVpc)
                }
            } else if **project == *service.project {
                Err(Some(IngressNearMiss::SharedVpcWithoutEgress))
            } else {
                Err(Some(IngressNearMiss::OtherProject))
            }
        }
        Origin::ExternalLoadBalancer { .. } => Err(Some(IngressNearMiss::ExternalLoadBalancer)),
        Origin::Internet => Err(None),
    }
}

impl IngressEvidence {
    /// One phrase, with the origin for which it was found.
    pub fn describe(self, origin: &Origin) -> String {
        match (self, origin) {
            (IngressEvidence::All, _) => "ingress is `all`".to_owned(),
            (IngressEvidence::SameProject, Origin::Network { network, .. }) => {
                format!("{network} is a network of the service's project")
            }
            (IngressEvidence::SharedVpc, Origin::Network { network, .. }) => {
                format!("{network} is the Shared VPC network into which the revision egresses")
            }
            _ => describe(origin),
        }
    }
}

impl IngressRefusal {
    /// The code of the registry.
    pub fn reason(&self) -> Reason {
        Reason::IngressNotAllowed
    }

    /// One sentence: what to change.
    pub fn fix(&self) -> String {
        let IngressRefusal { service, project, .. } = self;
        match self.near {
            _ if self.setting == Ingress::None => {
                format!("Set the ingress of {service} to something else than NONE.")
            }
            Some(IngressNearMiss::SharedVpcWithoutEgress) => format!(
                "Let the revision of {service} egress into the caller's Shared VPC network, or call through the internal load balancer."
            ),
            Some(IngressNearMiss::ExternalLoadBalancer) => {
                format!("Set the ingress of {service} to `internal-and-cloud-load-balancing`.")
            }
            Some(IngressNearMiss::OtherProject) => format!(
                "Call through an internal load balancer with a serverless network endpoint group, or from a network of project {project}, or set the ingress of {service} to `all`."
            ),
            None => format!(
                "Call from a network of project {project} or through the internal load balancer, or set the ingress of {service} to `all`."
            ),
        }
    }
}

impl fmt::Display for IngressRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IngressRefusal { service, setting, origin, .. } = self;
        let origin = describe(origin);
        write!(f, "ingress of {service} is `{}`; the request came {origin}", annotation(*setting))?;
        match self.near {
            Some(IngressNearMiss::SharedVpcWithoutEgress) => f.write_str(
                "; the caller's project is the service's, but the revision does not egress into that Shared VPC network",
            ),
            Some(IngressNearMiss::OtherProject) => {
                write!(f, ", which is none of project {}", self.project)
            }
            Some(IngressNearMiss::ExternalLoadBalancer) => {
                f.write_str(", which is external; `internal` admits internal ones only")
            }
            None => Ok(()),
        }
    }
}

fn describe(origin: &Origin) -> String {
    match origin {
        Origin::InternalLoadBalancer { network, forwarding_rule } => {
            format!("through the internal load balancer {} in {network}", forwarding_rule.name())
        }
        Origin::ExternalLoadBalancer { forwarding_rule } => {
            format!("through the external load balancer {}", forwarding_rule.name())
        }
        Origin::Network { network, front_end, .. } => {
            let front_end = match front_end {
                FrontEnd::Private => "private.googleapis.com",
                FrontEnd::Restricted => "restricted.googleapis.com",
                FrontEnd::Public => "the public address of run.app",
                FrontEnd::PrivateServiceConnect => "a PSC endpoint for Google APIs",
            };
            format!("from network {network} by {front_end}")
        }
        Origin::Internet => "from the internet".to_owned(),
    }
}

/// The setting as the v1 annotation spells it; NONE exists in v2 only.
fn annotation(setting: Ingress) -> &'static str {
    match setting {
        Ingress::All => "all",
        Ingress::InternalOnly => "internal",
        Ingress::InternalLoadBalancer => "internal-and-cloud-load-balancing",
        Ingress::None => "INGRESS_TRAFFIC_NONE",
    }
}
