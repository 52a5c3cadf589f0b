//! Who asks: a place of the topology, and what the fabric knows of it.

use crate::world::World;
use names::{NetworkId, SelfLink};
use slice::Purpose;
use slice::run::VpcEgress;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Where the client is, as the command line and expectations write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// `internet`: outside of every network.
    Internet,
    /// `PROJECT/NETWORK[/WORKLOAD]`, or `PROJECT/run/SERVICE`.
    Network {
        /// The network.
        network: NetworkId,
        /// A declared VM, or `api-proxy`; none: an `exec` session.
        workload: Option<String>,
    },
}

impl FromStr for From {
    type Err = names::NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "internet" {
            return Ok(From::Internet);
        }
        let mut parts = text.splitn(3, '/');
        let (project, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let network =
            format!("{project}/{name}").parse().map_err(|_| names::NotANetwork(text.to_owned()))?;
        match parts.next() {
            Some("") => Err(names::NotANetwork(text.to_owned())),
            workload => Ok(From::Network { network, workload: workload.map(str::to_owned) }),
        }
    }
}

impl From {
    /// The network that the client is in.
    pub fn network(&self) -> NetworkId {
        match self {
            From::Internet => NetworkId::internet(),
            From::Network { network, .. } => network.clone(),
        }
    }

    /// The workload that it is, where that is said.
    pub fn workload(&self) -> Option<&str> {
        match self {
            From::Internet => None,
            From::Network { workload, .. } => workload.as_deref(),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Internet => f.write_str("internet"),
            From::Network { network, workload: None } => write!(f, "{network}"),
            From::Network { network, workload: Some(workload) } => {
                write!(f, "{network}/{workload}")
            }
        }
    }
}

/// Stands for a network in `PROJECT/run/SERVICE`, an instance of a Cloud Run service; a network that
/// has this name wins.
const CLOUD_RUN: &str = "run";

/// What a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A declared VM.
    Instance,
    /// An instance of this Cloud Run service.
    CloudRun(SelfLink),
    /// An `exec` session, or the API proxy's runtime.
    Session,
}

/// A client in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its network.
    pub network: NetworkId,
    /// Its own project.
    pub project: String,
    /// Its region.
    pub region: String,
    /// Its address, where it is declared.
    pub address: Option<Ipv4Addr>,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: CallerKind,
    /// Its identity.
    pub service_account: Option<String>,
    /// Its network tags.
    pub tags: Vec<String>,
    /// The address that its packets come from: its own, or the one that it would be given.
    pub source: Ipv4Addr,
    /// The address by which what goes to no private range leaves it, past its network.
    pub outside: Option<Ipv4Addr>,
}

impl Caller {
    /// As the network boundary knows it.
    pub(crate) fn at_the_boundary(&self) -> vpc::Caller<'_> {
        vpc::Caller {
            network: &self.network,
            region: &self.region,
            address: self.source,
            tags: &self.tags,
            service_account: self.service_account.as_deref(),
            outside: self.outside,
        }
    }
}

/// A place that the topology does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerError {
    /// No such network.
    Network {
        /// The one asked for.
        network: NetworkId,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No such workload in the network.
    Workload {
        /// The network.
        network: NetworkId,
        /// The workload asked for.
        workload: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The network has no subnetwork for workloads in the region.
    Region {
        /// The network.
        network: NetworkId,
        /// The region asked for.
        region: Option<String>,
        /// Regions that it has.
        known: Vec<String>,
    },
}

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, known: &[String]| match known {
            [] => f.write_str("; there is none"),
            known => write!(f, "; there are {}", known.join(", ")),
        };
        match self {
            CallerError::Network { network, known } => {
                write!(f, "there is no network {network}")?;
                list(f, known)
            }
            CallerError::Workload { network, workload, known } => {
                write!(f, "{network} has no workload `{workload}`")?;
                list(f, known)
            }
            CallerError::Region { network, region: None, .. } => {
                write!(f, "{network} has no subnetwork for workloads")
            }
            CallerError::Region { network, region: Some(region), known } => {
                write!(f, "{network} has no subnetwork for workloads in {region}")?;
                list(f, known)
            }
        }
    }
}

impl std::error::Error for CallerError {}

impl World {
    /// The address that a session without one is given: the supervisor asks the same function.
    fn free_address(&self, network: &slice::Network, region: Option<&str>) -> Ipv4Addr {
        vpc::session_address(network, region, |address| self.is_taken(&network.id, address))
            .map_or(Ipv4Addr::UNSPECIFIED, |(_, address)| address)
    }

    fn is_taken(&self, network: &NetworkId, address: Ipv4Addr) -> bool {
        let mut running = self.workloads().iter();
        vpc::is_declared(self.topology(), network, address)
            || running.any(|w| w.network == *network && w.address == address)
    }

    /// An instance of a Cloud Run service's newest revision, as the supervisor would place it.
    fn instance(&self, service: &slice::run::Service) -> Caller {
        let internet = NetworkId::internet();
        let own = vpc::instance_address(|address| self.is_taken(&internet, address))
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        let revision = &service.revision;
        let mut caller = Caller {
            network: internet,
            project: service.project.clone(),
            region: service.region.clone(),
            address: None,
            name: revision.name.clone(),
            kind: CallerKind::CloudRun(service.self_link.clone()),
            service_account: revision.service_account.clone(),
            tags: Vec::new(),
            source: own,
            outside: None,
        };
        if let Some(access) = &revision.vpc_access {
            let networks = &self.topology().networks;
            let declared = networks.iter().find(|known| known.id == access.network);
            let taken = |address| self.is_taken(&access.network, address);
            let address = declared
                .and_then(|network| vpc::egress_address(network, &access.subnetwork, taken));
            caller.network = access.network.clone();
            caller.source = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            caller.tags.clone_from(&access.tags);
            caller.outside = (access.egress == VpcEgress::PrivateRangesOnly).then_some(own);
        }
        caller
    }

    /// The Cloud Run service that `PROJECT/run/SERVICE` means.
    fn service_of(
        &self,
        place: &NetworkId,
        workload: Option<&str>,
        region: Option<&str>,
    ) -> Option<&slice::run::Service> {
        let mut services = self.topology().services.iter();
        services.find(|service| {
            *place.name == *CLOUD_RUN
                && *place.project == *service.project
                && workload == Some(service.name.as_str())
                && region.is_none_or(|region| region == service.region)
        })
    }

    /// What is known of a client in a network. Region and identity are the workload's own unless
    /// others are given.
    ///
    /// # Errors
    /// Where the topology does not have the place.
    pub fn caller(
        &self,
        network: &NetworkId,
        workload: Option<&str>,
        region: Option<&str>,
        service_account: Option<&str>,
    ) -> Result<Caller, CallerError> {
        let topology = self.topology();
        if network.is_internet() {
            let source = vpc::internet_address(|address| self.is_taken(network, address))
                .unwrap_or(Ipv4Addr::UNSPECIFIED);
            return Ok(Caller {
                network: network.clone(),
                project: String::new(),
                region: region.unwrap_or_default().to_owned(),
                address: None,
                name: "exec".to_owned(),
                kind: CallerKind::Session,
                service_account: service_account.map(str::to_owned),
                tags: Vec::new(),
                source,
                outside: None,
            });
        }
        let Some(declared) = topology.networks.iter().find(|other| other.id == *network) else {
            if let Some(service) = self.service_of(network, workload, region) {
                return Ok(self.instance(service));
            }
            let known = topology.networks.iter().map(|other| other.id.to_string()).collect();
            return Err(CallerError::Network { network: network.clone(), known });
        };
        if let Some(workload) = workload {
            let running = self
                .workloads()
                .iter()
                .find(|other| other.network == *network && other.name == workload);
            if let Some(running) = running {
                return Ok(Caller {
                    network: network.clone(),
                    project: running.project.clone(),
                    region: region.unwrap_or(&running.region).to_owned(),
                    address: Some(running.address),
                    name: running.name.clone(),
                    kind: match running.name.starts_with("vm/") {
                        true => CallerKind::Instance,
                        false => CallerKind::Session,
                    },
                    service_account: service_account
                        .map(str::to_owned)
                        .or_else(|| running.service_account.clone()),
                    tags: running.tags.clone(),
                    source: running.address,
                    outside: running.outside,
                });
            }
            let name = workload.strip_prefix("vm/").unwrap_or(workload);
            if let Some(vm) = declared.instances.iter().find(|vm| vm.name == name) {
                return Ok(Caller {
                    network: network.clone(),
                    project: vm.project.clone(),
                    region: region.unwrap_or(&vm.region).to_owned(),
                    address: Some(vm.address),
                    name: format!("vm/{name}"),
                    kind: CallerKind::Instance,
                    service_account: service_account
                        .map(str::to_owned)
                        .or_else(|| vm.service_account.clone()),
                    tags: vm.tags.clone(),
                    source: vm.address,
                    outside: None,
                });
            }
            let runtime = topology.organizations.iter().find(|org| org.network == *network);
            if let Some(organization) = runtime.filter(|_| workload == "api-proxy") {
                return Ok(Caller {
                    network: network.clone(),
                    project: organization.apigee_project_id.clone(),
                    region: region.unwrap_or(&organization.region).to_owned(),
                    address: None,
                    name: workload.to_owned(),
                    kind: CallerKind::Session,
                    service_account: service_account.map(str::to_owned),
                    tags: Vec::new(),
                    source: self.free_address(declared, Some(&organization.region)),
                    outside: None,
                });
            }
            let vms = declared.instances.iter().map(|vm| format!("vm/{}", vm.name));
            let known = vms.chain(runtime.map(|_| "api-proxy".to_owned())).collect();
            return Err(CallerError::Workload {
                network: network.clone(),
                workload: workload.to_owned(),
                known,
            });
        }
        let private = |subnetwork: &&slice::Subnetwork| subnetwork.purpose == Purpose::Private;
        let regions: Vec<&str> =
            declared.subnetworks.iter().filter(private).map(|s| s.region.as_str()).collect();
        let own = regions.iter().find(|own| region.is_none_or(|region| region == **own));
        match own {
            Some(own) => Ok(Caller {
                network: network.clone(),
                project: network.project.to_string(),
                region: (*own).to_owned(),
                address: None,
                name: "exec".to_owned(),
                kind: CallerKind::Session,
                service_account: service_account.map(str::to_owned),
                tags: Vec::new(),
                source: self.free_address(declared, region),
                outside: None,
            }),
            None => Err(CallerError::Region {
                network: network.clone(),
                region: region.map(str::to_owned),
                known: regions.into_iter().map(str::to_owned).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::From;

    #[test]
    fn a_place_is_written_project_network_workload() {
        for good in ["internet", "p/n", "p/n/vm/legacy", "p/n/api-proxy"] {
            assert_eq!(good.parse::<From>().map(|from| from.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "p", "/n", "p/", "p/n/"] {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }
}
