//! Network endpoint groups (private-connectivity 3.1 to 3.3).

use super::Lowering;
use super::addresses::{Claim, give};
use super::fabric::{Location, locate};
use super::psc::NewEndpoint;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::backends::{
    CloudRun, NetworkEndpoint, NetworkEndpointGroup, NetworkEndpointType,
};
use crate::model::Item;
use slice::load_balancer as lb;
use slice::psc::EndpointKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use url_map::{Placeholder, UrlMask};

impl Lowering<'_> {
    /// All network endpoint groups.
    pub(crate) fn network_endpoint_groups(&mut self, findings: &mut Findings) {
        for item in &self.model.network_endpoint_groups.items {
            if let Some(endpoints) = self.endpoints_of(item, findings) {
                let group = lb::NetworkEndpointGroup { self_link: item.link.clone(), endpoints };
                self.topology.load_balancing.network_endpoint_groups.push(group);
            }
        }
    }

    fn endpoints_of(
        &self,
        item: &Item<NetworkEndpointGroup>,
        findings: &mut Findings,
    ) -> Option<lb::Endpoints> {
        let raw = &item.raw;
        match raw.network_endpoint_type.value {
            NetworkEndpointType::Serverless => {
                for (at, field) in [
                    (raw.network.as_ref().map(|text| text.at), "network"),
                    (raw.subnetwork.as_ref().map(|text| text.at), "subnetwork"),
                    (raw.default_port.as_ref().map(|port| port.at), "defaultPort"),
                    (raw.network_endpoints.first().map(|endpoint| endpoint.at), "networkEndpoints"),
                ] {
                    if let Some(at) = at {
                        findings.error(
                            Code::ConflictingFields,
                            at,
                            format!("a serverless group has no `{field}`"),
                            format!("remove `{field}`"),
                        );
                    }
                }
                let Some(cloud_run) = &raw.cloud_run else {
                    if !raw.faulty {
                        findings.error(
                            Code::MissingField,
                            raw.at,
                            "`cloudRun` is missing; a serverless group leads to Cloud Run",
                            "add cloudRun: {service: NAME} or cloudRun: {urlMask: \"/<service>\"}",
                        );
                    }
                    return None;
                };
                self.cloud_run(item, cloud_run, findings).map(lb::Endpoints::CloudRun)
            }
            NetworkEndpointType::NonGcpPrivateIpPort
            | NetworkEndpointType::GceVmIpPort
            | NetworkEndpointType::InternetIpPort => self.address_group(item, findings),
            NetworkEndpointType::InternetFqdnPort => {
                let mut all = Vec::with_capacity(raw.network_endpoints.len());
                for endpoint in &raw.network_endpoints {
                    let port = port_of(item, endpoint, findings);
                    let fqdn = endpoint.fqdn.as_ref();
                    let good = fqdn.filter(|fqdn| crate::names_rules::is_hostname(fqdn));
                    match (good, port) {
                        (Some(fqdn), Some(port)) => {
                            all.push(lb::FqdnEndpoint { fqdn: fqdn.value.clone(), port });
                        }
                        (None, _) => findings.error(
                            Code::MissingField,
                            fqdn.map_or(endpoint.at, |fqdn| fqdn.at),
                            "an endpoint of a group of type INTERNET_FQDN_PORT has a host name in `fqdn`",
                            "write fqdn: api.example.com",
                        ),
                        (Some(_), None) => {}
                    }
                }
                Some(lb::Endpoints::Fqdn(all))
            }
            // Lowered when service attachments are: `psc_groups`.
            NetworkEndpointType::PrivateServiceConnect => None,
            NetworkEndpointType::GceVmIp => {
                let mut all = lb::InstanceEndpoints::default();
                for endpoint in &raw.network_endpoints {
                    if let Some(port) = &endpoint.port {
                        findings.error(
                            Code::ConflictingFields,
                            port.at,
                            "an endpoint of a group of type GCE_VM_IP has no port; packets keep theirs",
                            "remove `port`",
                        );
                    }
                    all.addresses.extend(self.address_of(item, endpoint, true, findings));
                }
                if let Some(port) = &raw.default_port {
                    findings.error(
                        Code::ConflictingFields,
                        port.at,
                        "a group of type GCE_VM_IP has no port; packets keep theirs",
                        "remove `defaultPort`",
                    );
                }
                Some(lb::Endpoints::Instances(all))
            }
            NetworkEndpointType::GceVmIpPortmap => {
                findings.error(
                    Code::NotYetSupported,
                    raw.network_endpoint_type.at,
                    "groups of this type are for port mapping",
                    "use GCE_VM_IP_PORT for VMs",
                );
                None
            }
        }
    }

    /// `NON_GCP_PRIVATE_IP_PORT`, `GCE_VM_IP_PORT`, `INTERNET_IP_PORT`.
    fn address_group(
        &self,
        item: &Item<NetworkEndpointGroup>,
        findings: &mut Findings,
    ) -> Option<lb::Endpoints> {
        let raw = &item.raw;
        let zonal = raw.network_endpoint_type.value == NetworkEndpointType::GceVmIpPort;
        let mut all = Vec::with_capacity(raw.network_endpoints.len());
        for endpoint in &raw.network_endpoints {
            let (Some(address), Some(port)) = (
                self.address_of(item, endpoint, zonal, findings),
                port_of(item, endpoint, findings),
            ) else {
                continue;
            };
            let address = SocketAddrV4::new(address, port);
            if all.contains(&address) && all.len() < 1000 {
                findings.error(
                    Code::DuplicateEntry,
                    endpoint.at,
                    format!("{address} stands in the group twice"),
                    "remove one of the two",
                );
            }
            all.push(address);
        }
        let network_endpoint_type = match raw.network_endpoint_type.value {
            NetworkEndpointType::GceVmIpPort => "GCE_VM_IP_PORT",
            NetworkEndpointType::InternetIpPort => "INTERNET_IP_PORT",
            _ => "NON_GCP_PRIVATE_IP_PORT",
        };
        let network_endpoint_type = network_endpoint_type.to_owned();
        Some(lb::Endpoints::Addresses { network_endpoint_type, endpoints: all })
    }

    /// The address of an endpoint: as written, or for a VM its own.
    fn address_of(
        &self,
        item: &Item<NetworkEndpointGroup>,
        endpoint: &NetworkEndpoint,
        zonal: bool,
        findings: &mut Findings,
    ) -> Option<Ipv4Addr> {
        let written = endpoint.ip_address.as_ref().map(|address| address.value);
        match (&endpoint.instance, zonal) {
            (Some(instance), true) => {
                let model = self.model;
                let vm = model.find(&model.instances, instance, &item.scope(), findings)?;
                let own = self.addresses.placed.get(&vm.link)?;
                if let Some(written) = endpoint.ip_address.as_ref()
                    && written.value != own.address
                {
                    findings.error(
                        Code::ConflictingFields,
                        written.at,
                        format!(
                            "{} is not the address of `{}`, which is {}",
                            written.value,
                            vm.name(),
                            own.address
                        ),
                        "remove `ipAddress`",
                    );
                }
                Some(own.address)
            }
            (None, true) => {
                if !endpoint.faulty {
                    findings.error(
                        Code::MissingField,
                        endpoint.at,
                        "an endpoint of a group of type GCE_VM_IP_PORT names its VM",
                        "add `instance: NAME`",
                    );
                }
                None
            }
            (Some(instance), false) => {
                findings.error(
                    Code::ConflictingFields,
                    instance.at,
                    "only endpoints of groups of type GCE_VM_IP_PORT name a VM",
                    "remove `instance`",
                );
                written
            }
            (None, false) => {
                if written.is_none() && !endpoint.faulty {
                    findings.error(
                        Code::MissingField,
                        endpoint.at,
                        "the endpoint has no `ipAddress`",
                        "add `ipAddress`",
                    );
                }
                written
            }
        }
    }

    /// Groups of type `PRIVATE_SERVICE_CONNECT`: PSC endpoints without a listener. Called when
    /// service attachments are known.
    pub(crate) fn psc_groups(&mut self, findings: &mut Findings) {
        let model = self.model;
        for item in &model.network_endpoint_groups.items {
            let raw = &item.raw;
            if raw.network_endpoint_type.value != NetworkEndpointType::PrivateServiceConnect {
                continue;
            }
            let Some(target) = &raw.psc_target_service else {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        "`pscTargetService` is missing; a group of type PRIVATE_SERVICE_CONNECT leads to a service attachment",
                        "add pscTargetService: projects/P/regions/R/serviceAttachments/NAME",
                    );
                }
                continue;
            };
            let location = Location {
                network: raw.network.as_ref(),
                subnetwork: raw.subnetwork.as_ref(),
                address: None,
                scope: item.scope(),
                at: raw.at,
                called: "the network endpoint group",
            };
            let Some((network, index)) = locate(model, &self.fabric, &location, findings) else {
                continue;
            };
            let claim = Claim { at: raw.at, called: "the network endpoint group", ports: None };
            let Some(net) = self.fabric.nets.get_mut(&network) else { continue };
            let Some(address) = give(net, index, &claim, findings) else { continue };
            self.endpoint(
                NewEndpoint {
                    self_link: item.link.clone(),
                    kind: EndpointKind::NetworkEndpointGroup,
                    project: item.project.to_string(),
                    network,
                    region: item.region().to_owned(),
                    address,
                    target,
                    scope: item.scope(),
                    allow_psc_global_access: false,
                    automate_dns: false,
                    at: raw.at,
                },
                findings,
            );
            let Some((_, endpoint)) = self.endpoints.last() else { continue };
            let written = raw.psc_data.as_ref().and_then(|data| data.producer_port.as_ref());
            let published = self
                .attachment_index
                .get(&endpoint.target)
                .map(|index| &self.topology.service_attachments[*index].target);
            let producer_port = match written {
                Some(port) => {
                    let number = u16::try_from(port.value.0).unwrap_or(u16::MAX);
                    let serves =
                        |target: &slice::psc::Target| target.serves(slice::IpProtocol::Tcp, number);
                    if published.is_some_and(|target| !serves(target)) {
                        let served: Vec<_> = endpoint.ports.iter().map(u16::to_string).collect();
                        findings.error(
                            Code::PortRange,
                            port.at,
                            format!(
                                "the published service has no TCP port {number}; it has {} {}",
                                endpoint.protocol,
                                served.join(", ")
                            ),
                            "name one of its ports, or remove `producerPort`",
                        );
                    }
                    number
                }
                None => {
                    if published.is_some_and(|target| target.all_ports) {
                        findings.error(
                            Code::MissingField,
                            raw.at,
                            "the published service has all ports, and the group does not say which; it would get port 1",
                            "add pscData: {producerPort: PORT}",
                        );
                    }
                    // Where nothing is published, connecting fails anyhow.
                    published.and_then(slice::psc::Target::default_port).unwrap_or(443)
                }
            };
            let endpoint =
                lb::ServiceAttachmentEndpoint { endpoint: endpoint.clone(), producer_port };
            self.topology.load_balancing.network_endpoint_groups.push(lb::NetworkEndpointGroup {
                self_link: item.link.clone(),
                endpoints: lb::Endpoints::ServiceAttachment(endpoint),
            });
        }
    }

    fn cloud_run(
        &self,
        item: &Item<NetworkEndpointGroup>,
        raw: &CloudRun,
        findings: &mut Findings,
    ) -> Option<lb::CloudRunEndpoints> {
        for text in raw.service.iter().chain(&raw.tag) {
            if !crate::names_rules::is_rfc1035(text, 63) {
                findings.error(
                    Code::InvalidName,
                    text.at,
                    format!("`{}` is no name of a service or tag; 1 to 63 lower-case letters, digits and hyphens, a letter first", text.value),
                    "write the short name, not a URL",
                );
            }
        }
        let mask = match raw.url_mask.as_ref().map(|mask| (mask, UrlMask::parse(mask))) {
            Some((mask, Err(why))) => {
                findings.error(
                    Code::UrlMask,
                    mask.at,
                    format!("the URL mask `{}` is not well-formed: {why}", mask.value),
                    "write a mask such as /<service>, example.com/<service>/<tag> or <tag>.<service>.example.com",
                );
                return None;
            }
            Some((_, Ok(mask))) => Some(mask),
            None => None,
        };
        let masked = |placeholder| mask.as_ref().is_some_and(|mask| mask.has(placeholder));
        let fixed = [
            ("service", Placeholder::Service, raw.service.as_ref()),
            ("tag", Placeholder::Tag, raw.tag.as_ref()),
        ];
        for (word, placeholder, text) in fixed {
            if let Some(text) = text
                && masked(placeholder)
            {
                findings.error(
                    Code::ConflictingFields,
                    text.at,
                    format!(
                        "the {word} is fixed, and the URL mask has <{word}> too; only one can count"
                    ),
                    format!("remove `{word}`, or <{word}> from the mask"),
                );
            }
        }
        if raw.service.is_none() && !masked(Placeholder::Service) {
            if !raw.faulty {
                findings.error(
                    Code::UrlMask,
                    raw.url_mask.as_ref().map_or(raw.at, |mask| mask.at),
                    "neither `service` nor a URL mask with <service> says which service is meant",
                    "add `service`, or <service> to the mask",
                );
            }
            return None;
        }
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        Some(lb::CloudRunEndpoints {
            project: item.project.to_string(),
            region: item.region().to_owned(),
            service: text(&raw.service),
            tag: text(&raw.tag),
            url_mask: text(&raw.url_mask),
            services: Arc::default(),
        })
    }
}

/// The port of an endpoint: its own, or the group's default.
fn port_of(
    item: &Item<NetworkEndpointGroup>,
    endpoint: &NetworkEndpoint,
    findings: &mut Findings,
) -> Option<u16> {
    let port = endpoint.port.as_ref().or(item.raw.default_port.as_ref());
    if port.is_none() {
        findings.error(
            Code::MissingField,
            endpoint.at,
            "the endpoint has no `port`, and the group no `defaultPort`",
            "add `port`",
        );
    }
    port.map(|port| u16::try_from(port.value.0).unwrap_or(u16::MAX))
}
