//! Cloud DNS managed zones and record sets (private-connectivity 4.2).

use crate::decode::{At, Int, Text, record, words};

words! {
    /// Who sees a zone.
    Visibility { Public = "public" | "PUBLIC"; Private = "private" | "PRIVATE"; }
}

record! {
    /// A managed zone. `rrsets` holds the items of a record-set export.
    ManagedZone {
        req name: Text = "name";
        req dns_name: Text = "dnsName";
        opt visibility: At<Visibility> = "visibility";
        opt private_visibility_config: PrivateVisibilityConfig = "privateVisibilityConfig";
        opt peering_config: PeeringConfig = "peeringConfig";
        def rrsets: Vec<ResourceRecordSet> = "rrsets";
        opt cloud_logging_config: CloudLoggingConfig = "cloudLoggingConfig";
    }
    descriptive ["description", "labels"]
    not_yet ["dnssecConfig", "reverseLookupConfig", "nameServerSet"]
    refused [
        "forwardingConfig": "without it names would be resolved otherwise",
        "serviceDirectoryConfig": "without it names would be resolved otherwise",
    ]
    output_only ["id", "kind", "creationTime", "nameServers"]
}

record! {
    /// Query logs of a zone; queries are logged alike for every zone here.
    CloudLoggingConfig {}
    not_yet ["enableLogging" ("false")]
    output_only ["kind"]
}

record! {
    /// The networks that see a private zone.
    PrivateVisibilityConfig {
        def networks: Vec<ZoneNetwork> = "networks";
    }
    not_yet ["gkeClusters"]
    output_only ["kind"]
}

record! {
    /// A network that sees a private zone.
    ZoneNetwork {
        req network_url: Text = "networkUrl";
    }
    output_only ["kind"]
}

record! {
    /// Makes a private zone a peering zone.
    PeeringConfig {
        req target_network: PeeringTarget = "targetNetwork";
    }
    output_only ["kind"]
}

record! {
    /// The network as which resolution starts again.
    PeeringTarget {
        req network_url: Text = "networkUrl";
    }
    output_only ["kind", "deactivateTime"]
}

record! {
    /// A record set, as `gcloud dns record-sets export` writes it.
    ResourceRecordSet {
        req name: Text = "name";
        req record_type: Text = "type";
        opt ttl: Int<0, 2147483647> = "ttl";
        def rrdatas: Vec<Text> = "rrdatas";
    }
    descriptive ["signatureRrdatas"]
    refused ["routingPolicy": "without it other records would be answered"]
    output_only ["kind"]
}
