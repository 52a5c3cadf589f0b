//! PSC endpoints for Google APIs: global forwarding rules with target `all-apis` or `vpc-sc`
//! (private-connectivity 1.6).

use super::Lowering;
use super::psc::network_of;
use super::rules::Rule;
use crate::decode::Text;
use crate::diagnostic::{Code, Findings};
use crate::fields::network::AddressPurpose;
use crate::fields::psc::ForwardingRule;
use crate::model::Item;
use slice::psc::{ApiBundle, GoogleApisEndpoint};
use std::net::Ipv4Addr;

/// The bundle that a target names.
pub(crate) fn bundle(target: &str) -> Option<ApiBundle> {
    match target {
        "all-apis" => Some(ApiBundle::AllApis),
        "vpc-sc" => Some(ApiBundle::VpcSc),
        _ => None,
    }
}

impl Lowering<'_> {
    /// The endpoints for Google APIs.
    pub(crate) fn google_apis_endpoints(&mut self, rules: &[Rule<'_>], findings: &mut Findings) {
        for rule in rules {
            let Rule::GoogleApis { item, bundle } = rule else { continue };
            if let Some(endpoint) = self.google_apis_endpoint(item, *bundle, findings) {
                self.topology.google_apis_endpoints.push(endpoint);
            }
        }
    }

    fn google_apis_endpoint(
        &self,
        item: &Item<ForwardingRule>,
        bundle: ApiBundle,
        findings: &mut Findings,
    ) -> Option<GoogleApisEndpoint> {
        let raw = &item.raw;
        let name = item.name();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.len() > 20
            || !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(plain)
        {
            findings.error(
                Code::InvalidName,
                raw.name.at,
                format!("`{name}` is no name of an endpoint for Google APIs; 1 to 20 lower-case letters and digits, a letter first"),
                "rename it",
            );
        }
        if raw.ports.is_some() || raw.port_range.is_some() || raw.backend_service.is_some() {
            findings.error(
                Code::ConflictingFields,
                raw.at,
                "a Private Service Connect endpoint has no ports and no backend service",
                "remove `ports`, `portRange` and `backendService`",
            );
        }
        if let Some(subnetwork) = &raw.subnetwork {
            findings.error(
                Code::ConflictingFields,
                subnetwork.at,
                "the address of an endpoint for Google APIs is in no subnetwork",
                "remove `subnetwork`",
            );
        }
        let network = match &raw.network {
            Some(network) => network_of(self, network, &item.scope(), findings),
            None => {
                if !raw.faulty {
                    findings.error(
                        Code::MissingField,
                        raw.at,
                        "an endpoint for Google APIs names its `network`",
                        "add `network`",
                    );
                }
                None
            }
        };
        let address = self.global_address(item, findings);
        let (network, (address, text)) = (network?, address?);
        let net = &self.fabric.nets[&network];
        if net.containing(address).is_some() {
            findings.error(
                Code::AddressInUse,
                text.at,
                format!("{address} is in a subnetwork of {network}; the address of an endpoint for Google APIs is in none"),
                "choose an address outside of every range of the network",
            );
        }
        let taken = self.topology.google_apis_endpoints.iter();
        if let Some(other) =
            taken.into_iter().find(|other| other.network == network && other.address == address)
        {
            findings.error(
                Code::AddressInUse,
                text.at,
                format!("{address} is the address of {} already", other.self_link),
                "choose a free address",
            );
        }
        Some(GoogleApisEndpoint {
            self_link: item.link.clone(),
            network,
            address,
            bundle,
            automatic_dns: raw.no_automate_dns_zone != Some(true),
        })
    }

    /// `IPAddress`: written out, or a global address of purpose `PRIVATE_SERVICE_CONNECT`.
    fn global_address<'i>(
        &self,
        item: &'i Item<ForwardingRule>,
        findings: &mut Findings,
    ) -> Option<(Ipv4Addr, &'i Text)> {
        let Some(text) = &item.raw.ip_address else {
            if !item.raw.faulty {
                findings.error(
                    Code::MissingField,
                    item.raw.at,
                    "an endpoint for Google APIs needs `IPAddress`",
                    "reserve a global address of purpose PRIVATE_SERVICE_CONNECT and name it",
                );
            }
            return None;
        };
        if let Ok(address) = text.parse() {
            return Some((address, text));
        }
        let address = self.model.find(&self.model.addresses, text, &item.scope(), findings)?;
        let purpose = address.raw.purpose.as_ref().map(|purpose| purpose.value);
        if purpose != Some(AddressPurpose::PrivateServiceConnect) {
            findings.error(
                Code::ConflictingFields,
                text.at,
                format!("the address `{}` is not of purpose PRIVATE_SERVICE_CONNECT", text.value),
                "name a global address of that purpose",
            );
            return None;
        }
        let Some(written) = &address.raw.address else {
            if !address.raw.faulty {
                findings.error(
                    Code::MissingField,
                    address.raw.at,
                    "a global address of purpose PRIVATE_SERVICE_CONNECT has no `address`",
                    "add `address`, outside of every subnetwork of the network",
                );
            }
            return None;
        };
        Some((written.value, text))
    }
}
