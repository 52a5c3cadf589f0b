//! Network Connectivity Center: hubs and their VPC spokes, for propagated PSC connections
//! (private-connectivity 1.4). `name` is `projects/P/locations/global/hubs/H`, or short.

use crate::decode::{Text, record};

record! {
    /// A hub.
    Hub {
        req name: Text = "name";
        opt export_psc: bool = "exportPsc";
    }
    descriptive ["description", "labels"]
    not_yet ["policyMode" ("PRESET"), "presetTopology" ("MESH")]
    output_only [
        "createTime", "updateTime", "uniqueId", "state", "routingVpcs", "routeTables", "spokeSummary"
    ]
}

record! {
    /// A spoke.
    Spoke {
        req name: Text = "name";
        req hub: Text = "hub";
        req linked_vpc_network: LinkedVpcNetwork = "linkedVpcNetwork";
    }
    descriptive ["description", "labels"]
    not_yet ["group"]
    refused [
        "linkedVpnTunnels": "only VPC spokes are simulated",
        "linkedInterconnectAttachments": "only VPC spokes are simulated",
        "linkedRouterApplianceInstances": "only VPC spokes are simulated",
        "linkedProducerVpcNetwork": "connections are not propagated to producer VPC spokes",
    ]
    output_only [
        "createTime", "updateTime", "uniqueId", "state", "reasons", "spokeType", "etag",
        "fieldPathsPendingUpdate"
    ]
}

record! {
    /// The network of a VPC spoke.
    LinkedVpcNetwork {
        req uri: Text = "uri";
        def exclude_export_ranges: Vec<Text> = "excludeExportRanges";
        def include_export_ranges: Vec<Text> = "includeExportRanges";
    }
    output_only ["proposedIncludeExportRanges", "proposedExcludeExportRanges", "producerVpcSpokes"]
}
