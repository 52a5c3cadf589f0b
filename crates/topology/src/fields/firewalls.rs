//! Firewall rules, static routes and Shared VPC (private-connectivity 5.2, 5.3).

use crate::decode::{At, Decode, Int, Text, TextOrNumber, record, words};
use crate::diagnostic::Findings;
use crate::node::Node;

words! {
    /// The direction of a firewall rule.
    FirewallDirection { Ingress = "INGRESS"; Egress = "EGRESS"; }
}

record! {
    /// A VPC firewall rule (5.3).
    Firewall {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt network: Text = "network";
        opt priority: Int<0, 65535> = "priority";
        opt direction: FirewallDirection = "direction";
        def allowed: Vec<FirewallMatch> = "allowed";
        def denied: Vec<FirewallMatch> = "denied";
        def source_ranges: Vec<Text> = "sourceRanges";
        def destination_ranges: Vec<Text> = "destinationRanges";
        def source_tags: Vec<Text> = "sourceTags";
        def target_tags: Vec<Text> = "targetTags";
        def source_service_accounts: Vec<Text> = "sourceServiceAccounts";
        def target_service_accounts: Vec<Text> = "targetServiceAccounts";
        opt disabled: bool = "disabled";
        opt log_config: FirewallLog = "logConfig";
    }
    descriptive ["description", "params"]
    not_yet ["enableLogging" ("false")]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp"]
}

record! {
    /// Logging of a firewall rule.
    FirewallLog {}
    descriptive ["metadata"]
    not_yet ["enable" ("false")]
}

record! {
    /// Protocol and ports of a firewall rule.
    FirewallMatch {
        req protocol: At<TextOrNumber> = "IPProtocol";
        def ports: Vec<At<TextOrNumber>> = "ports";
    }
}

record! {
    /// A static route.
    Route {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt network: Text = "network";
        req dest_range: Text = "destRange";
        opt priority: Int<0, 65535> = "priority";
        def tags: Vec<Text> = "tags";
        opt next_hop_gateway: Text = "nextHopGateway";
        opt next_hop_instance: Text = "nextHopInstance";
        opt next_hop_ip: Text = "nextHopIp";
        // An export has the routes of subnetworks and peerings too.
        opt next_hop_network: Text = "nextHopNetwork";
        opt next_hop_peering: Text = "nextHopPeering";
    }
    descriptive ["description", "params"]
    refused [
        "nextHopIlb": "packets would go where it does not say",
        "nextHopVpnTunnel": "there are no VPN tunnels here, and nothing outside of the topology is reachable",
        "nextHopHub": "there are no hubs here",
        "nextHopInterconnectAttachment": "there are no interconnects here",
    ]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "routeStatus", "routeType", "warnings", "asPaths",
        "nextHopMed", "nextHopOrigin", "nextHopInterRegionCost"
    ]
}

words! {
    /// Is the project a Shared VPC host (`projects.get`)?
    XpnProjectStatus { Host = "HOST"; Unspecified = "UNSPECIFIED_XPN_PROJECT_STATUS"; }
}

words! {
    /// The kind of a service resource.
    XpnResourceType { Project = "PROJECT"; Unspecified = "XPN_RESOURCE_TYPE_UNSPECIFIED"; }
}

record! {
    /// A service project of a Shared VPC host, as `projects.getXpnResources` lists it and
    /// `projects.enableXpnResource` takes it.
    XpnResource {
        req id: At<TextOrNumber> = "id";
        opt kind: XpnResourceType = "type";
    }
}

/// The list of `projects.getXpnResources`, bare or in its own wrapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct XpnResources(pub(crate) Vec<XpnResource>);

record! {
    /// The answer of `projects.getXpnResources`.
    XpnList {
        def resources: Vec<XpnResource> = "resources";
    }
    output_only ["kind", "nextPageToken"]
}

impl Decode for XpnResources {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            crate::node::Kind::Map(_) => {
                XpnList::decode(node, findings).map(|list| XpnResources(list.resources))
            }
            _ => Vec::decode(node, findings).map(XpnResources),
        }
    }

    fn schema(schema: &mut crate::schema::Schema) -> serde_json::Value {
        serde_json::json!({"anyOf": [Vec::<XpnResource>::schema(schema), XpnList::schema(schema)]})
    }
}
