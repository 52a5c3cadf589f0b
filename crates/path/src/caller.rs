//! Who asks: a place of the topology, and what the fabric knows of it.

use crate::world::World;
use names::NetworkId;
use slice::Purpose;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Where the client is, as the command line and expectations write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// `internet`: outside of every network.
    Internet,
    /// `PROJECT/NETWORK[/WORKLOAD]`.
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
    /// Is it a declared VM?
    pub is_instance: bool,
    /// Its identity.
    pub service_account: Option<String>,
    /// Its network tags.
    pub tags: Vec<String>,
    /// The address that its packets come from: its own, or the one that it would be given.
    pub source: Ipv4Addr,
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
        let taken = |address| {
            let running = self.workloads().iter();
            vpc::is_declared(self.topology(), &network.id, address)
                || running.into_iter().any(|w| w.network == network.id && w.address == address)
        };
        vpc::session_address(network, region, taken)
            .map_or(Ipv4Addr::UNSPECIFIED, |(_, address)| address)
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
            let taken = |address| {
                let mut running = self.workloads().iter();
                vpc::is_declared(topology, network, address)
                    || running.any(|w| w.network == *network && w.address == address)
            };
            let source = vpc::internet_address(taken).unwrap_or(Ipv4Addr::UNSPECIFIED);
            return Ok(Caller {
                network: network.clone(),
                project: String::new(),
                region: region.unwrap_or_default().to_owned(),
                address: None,
                name: "exec".to_owned(),
                is_instance: false,
                service_account: service_account.map(str::to_owned),
                tags: Vec::new(),
                source,
            });
        }
        let Some(declared) = topology.networks.iter().find(|other| other.id == *network) else {
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
                    is_instance: running.name.starts_with("vm/"),
                    service_account: service_account
                        .map(str::to_owned)
                        .or_else(|| running.service_account.clone()),
                    tags: running.tags.clone(),
                    source: running.address,
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
                    is_instance: true,
                    service_account: service_account
                        .map(str::to_owned)
                        .or_else(|| vm.service_account.clone()),
                    tags: vm.tags.clone(),
                    source: vm.address,
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
                    is_instance: false,
                    service_account: service_account.map(str::to_owned),
                    tags: Vec::new(),
                    source: self.free_address(declared, Some(&organization.region)),
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
                is_instance: false,
                service_account: service_account.map(str::to_owned),
                tags: Vec::new(),
                source: self.free_address(declared, region),
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
