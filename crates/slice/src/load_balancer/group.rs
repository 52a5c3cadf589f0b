//! Network endpoint groups (private-connectivity 3.1).

use names::SelfLink;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// A network endpoint group (3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkEndpointGroup {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What is in it.
    pub endpoints: Endpoints,
}

/// The kinds of group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoints {
    /// `SERVERLESS` with `cloudRun`.
    CloudRun(CloudRunEndpoints),
    /// `GCE_VM_IP_PORT`, `NON_GCP_PRIVATE_IP_PORT`, `INTERNET_IP_PORT`: reached from the network.
    Addresses {
        /// Which of the three, in Google's spelling.
        network_endpoint_type: String,
        /// Addresses and ports.
        endpoints: Vec<SocketAddrV4>,
    },
    /// VMs without a port: `instanceGroups`, or `GCE_VM_IP` for passthrough load balancers.
    Instances(InstanceEndpoints),
    /// `INTERNET_FQDN_PORT`: resolved by the network's own resolver.
    Fqdn(Vec<FqdnEndpoint>),
    /// `PRIVATE_SERVICE_CONNECT`: a service attachment, reached without an address.
    ServiceAttachment(ServiceAttachmentEndpoint),
}

/// The VMs of an unmanaged instance group, or of a group of type `GCE_VM_IP`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceEndpoints {
    /// Their addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// `namedPorts` of an instance group.
    #[serde(default)]
    pub named_ports: Vec<NamedPort>,
}

/// `namedPorts[]`; a name may have several ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl InstanceEndpoints {
    /// The VMs with the ports of this name: what a proxy speaks to. A name that the group does not
    /// have yields nobody.
    pub fn sockets(&self, port_name: &str) -> Vec<SocketAddrV4> {
        let ports: Vec<u16> = self
            .named_ports
            .iter()
            .filter(|one| one.name == port_name)
            .map(|one| one.port)
            .collect();
        let of = |address: &Ipv4Addr| {
            ports.iter().map(|port| SocketAddrV4::new(*address, *port)).collect::<Vec<_>>()
        };
        self.addresses.iter().flat_map(of).collect()
    }
}

/// An endpoint of a group of type `INTERNET_FQDN_PORT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FqdnEndpoint {
    /// The name.
    pub fqdn: String,
    /// The port.
    pub port: u16,
}

/// What a group of type `PRIVATE_SERVICE_CONNECT` leads to. The group is a PSC endpoint of its
/// network, and stands among [`crate::Topology::endpoints`] with the group's self link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAttachmentEndpoint {
    /// The endpoint, as the service attachment admits it.
    pub endpoint: crate::psc::Endpoint,
    /// The producer's port (`pscData.producerPort`), or the only one that the attachment's target
    /// serves.
    pub producer_port: u16,
}

impl NetworkEndpointGroup {
    /// A hybrid group.
    pub fn addresses(self_link: SelfLink, endpoints: Vec<SocketAddrV4>) -> NetworkEndpointGroup {
        let network_endpoint_type = "NON_GCP_PRIVATE_IP_PORT".to_owned();
        let endpoints = Endpoints::Addresses { network_endpoint_type, endpoints };
        NetworkEndpointGroup { self_link, endpoints }
    }
}

/// `cloudRun` of a serverless group: at least one of service and mask (3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudRunEndpoints {
    /// Project and region in which services are looked up: the group's own.
    pub project: String,
    /// See `project`.
    pub region: String,
    /// A fixed service.
    pub service: Option<String>,
    /// A fixed tag.
    pub tag: Option<String>,
    /// A URL mask.
    pub url_mask: Option<String>,
    /// The services of this project and region and their tags; names that the mask may yield.
    pub services: Arc<Vec<KnownService>>,
}

/// A Cloud Run service as the load balancer knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownService {
    /// Short name.
    pub name: String,
    /// Tags of its traffic targets.
    pub tags: Vec<String>,
}
