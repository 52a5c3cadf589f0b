//! Service attachments and Apigee endpoint attachments with their connections, in Google's shapes
//! (private-connectivity 1.1 `connectedEndpoints`, 1.8).

use serde::{Deserialize, Serialize};
use slice::psc::{ConnectionStatus, EndpointKind};
use slice::{ConnectionState, Topology};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A service attachment as `gcloud compute service-attachments describe` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAttachmentStatus {
    /// Canonical URL.
    pub self_link: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// Free texts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metadata: BTreeMap<String, String>,
    /// The published forwarding rule.
    pub target_service: String,
    /// How consumers are admitted.
    pub connection_preference: slice::psc::ConnectionPreference,
    /// Does an update of the lists act on existing connections?
    pub reconcile_connections: bool,
    /// Endpoints and backends that are connected, whatever their status.
    pub connected_endpoints: Vec<ConnectedEndpoint>,
}

/// An item of `connectedEndpoints`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectedEndpoint {
    /// The forwarding rule, endpoint attachment or network endpoint group.
    pub endpoint: String,
    /// Its network.
    pub consumer_network: Option<String>,
    /// 64 bits, as text.
    pub psc_connection_id: String,
    /// `pscConnectionStatus`.
    pub status: ConnectionStatus,
    /// In how many other networks it is reached over a hub.
    pub propagated_connection_count: usize,
    /// Its NAT addresses (`?showNatIps=true`).
    pub nat_ips: Vec<Ipv4Addr>,
}

/// An Apigee endpoint attachment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAttachmentStatus {
    /// `organizations/ORG/endpointAttachments/ID`.
    pub name: String,
    /// Its region.
    pub location: String,
    /// What to put into a target's URL.
    pub host: Ipv4Addr,
    /// Its target.
    pub service_attachment: String,
    /// `ACTIVE`: it is there.
    pub state: String,
    /// The connection's status; `UNAVAILABLE` where the target does not exist.
    pub connection_state: String,
}

fn url(link: &str) -> String {
    format!("https://www.googleapis.com/compute/v1/{link}")
}

/// Every service attachment.
pub fn service_attachments(
    topology: &Topology,
    states: &[ConnectionState],
) -> Vec<ServiceAttachmentStatus> {
    let of = |attachment: &slice::psc::ServiceAttachment| {
        let own = |state: &&ConnectionState| state.service_attachment == attachment.self_link;
        let (propagated, direct): (Vec<_>, Vec<_>) =
            states.iter().filter(own).partition(|state| state.propagated_from.is_some());
        let connected = |state: &&ConnectionState| ConnectedEndpoint {
            endpoint: match state.endpoint.as_str() {
                apigee if apigee.starts_with("organizations/") => apigee.to_owned(),
                link => url(link),
            },
            consumer_network: state.consumer_network.as_ref().map(|network| {
                url(&format!("projects/{}/global/networks/{}", network.project, network.name))
            }),
            psc_connection_id: state.psc_connection_id.to_string(),
            status: state.status,
            propagated_connection_count: propagated
                .iter()
                .filter(|one| one.propagated_from.as_ref() == Some(&state.endpoint))
                .filter(|one| one.status.carries_traffic())
                .count(),
            nat_ips: state.nat_ips.clone(),
        };
        ServiceAttachmentStatus {
            self_link: url(attachment.self_link.as_str()),
            description: attachment.description.clone(),
            metadata: attachment.metadata.clone(),
            target_service: url(attachment.target.forwarding_rule.as_str()),
            connection_preference: attachment.connection_preference,
            reconcile_connections: attachment.reconcile_connections,
            connected_endpoints: direct.iter().map(connected).collect(),
        }
    };
    topology.service_attachments.iter().map(of).collect()
}

/// Every Apigee endpoint attachment.
pub fn endpoint_attachments(
    topology: &Topology,
    states: &[ConnectionState],
) -> Vec<EndpointAttachmentStatus> {
    let own = topology.endpoints.iter();
    own.filter(|endpoint| endpoint.kind == EndpointKind::EndpointAttachment)
        .map(|endpoint| {
            let mut known = states.iter().filter(|state| state.endpoint == endpoint.self_link);
            EndpointAttachmentStatus {
                name: endpoint.self_link.to_string(),
                location: endpoint.region.clone(),
                host: endpoint.address,
                service_attachment: endpoint.target.to_string(),
                state: "ACTIVE".to_owned(),
                connection_state: known
                    .next()
                    .map_or_else(|| "UNAVAILABLE".to_owned(), |state| state.status.to_string()),
            }
        })
        .collect()
}
