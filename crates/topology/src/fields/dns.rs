//! Cloud DNS managed zones, record sets and policies (private-connectivity 4.2).

use crate::decode::{At, Int, Number, Text, TextOrNumber, record, words};
use std::net::Ipv4Addr;

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
        opt forwarding_config: ForwardingConfig = "forwardingConfig";
        opt reverse_lookup_config: ReverseLookupConfig = "reverseLookupConfig";
        def rrsets: Vec<ResourceRecordSet> = "rrsets";
        opt cloud_logging_config: CloudLoggingConfig = "cloudLoggingConfig";
        opt postern: ManagedZonePostern = "postern";
    }
    descriptive ["description", "labels"]
    not_yet ["dnssecConfig", "nameServerSet"]
    refused [
        "serviceDirectoryConfig": "without it names would be resolved otherwise",
    ]
    output_only ["id", "kind", "creationTime", "nameServers"]
}

record! {
    /// Ours: records in a zone file (RFC 1035, 5.1), by its path relative to the topology file.
    ManagedZonePostern {
        opt zone_file: Text = "zoneFile";
    }
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
    /// The network as which resolution starts again. It is gone where a `deactivateTime` is set.
    PeeringTarget {
        req network_url: Text = "networkUrl";
        opt deactivate_time: Text = "deactivateTime";
    }
    output_only ["kind"]
}

record! {
    /// Makes a private zone a forwarding zone.
    ForwardingConfig {
        def target_name_servers: Vec<TargetNameServer> = "targetNameServers";
    }
    output_only ["kind"]
}

words! {
    /// How a name server is reached.
    ForwardingPath { Default = "default" | "DEFAULT"; Private = "private" | "PRIVATE"; }
}

record! {
    /// A name server that questions are forwarded to.
    TargetNameServer {
        opt ipv4_address: At<Ipv4Addr> = "ipv4Address";
        opt forwarding_path: ForwardingPath = "forwardingPath";
    }
    refused [
        "ipv6Address": "everything here is IPv4, and the name server would never answer",
        "domainName": "the name server would never be asked; write its ipv4Address",
    ]
    output_only ["kind"]
}

record! {
    /// Makes a private zone a managed reverse lookup zone.
    ReverseLookupConfig {}
    output_only ["kind"]
}

record! {
    /// A server policy: forwarding out of and into its networks.
    Policy {
        req name: Text = "name";
        def networks: Vec<ZoneNetwork> = "networks";
        opt enable_inbound_forwarding: bool = "enableInboundForwarding";
        opt enable_logging: bool = "enableLogging";
        opt alternative_name_server_config: ForwardingConfig = "alternativeNameServerConfig";
    }
    descriptive ["description"]
    not_yet ["dns64Config"]
    output_only ["id", "kind"]
}

record! {
    /// A response policy. `rules` holds the items of its `responsePolicyRules`.
    ResponsePolicy {
        req name: Text = "responsePolicyName";
        def networks: Vec<ZoneNetwork> = "networks";
        def rules: Vec<ResponsePolicyRule> = "rules" | "responsePolicyRules";
    }
    descriptive ["description", "labels"]
    not_yet ["gkeClusters"]
    output_only ["id", "kind"]
}

words! {
    /// What a rule without data does.
    Behavior { BypassResponsePolicy = "bypassResponsePolicy" | "BYPASS_RESPONSE_POLICY"; }
}

record! {
    /// A rule of a response policy.
    ResponsePolicyRule {
        req rule_name: Text = "ruleName";
        req dns_name: Text = "dnsName";
        opt local_data: LocalData = "localData";
        opt behavior: At<Behavior> = "behavior";
    }
    output_only ["kind"]
}

record! {
    /// The data of a response policy rule.
    LocalData {
        def local_datas: Vec<ResourceRecordSet> = "localDatas";
    }
}

record! {
    /// A record set, as `gcloud dns record-sets export` writes it.
    ResourceRecordSet {
        req name: Text = "name";
        req record_type: Text = "type";
        opt ttl: Int<0, 2147483647> = "ttl";
        def rrdatas: Vec<Text> = "rrdatas";
        opt routing_policy: Box<RoutingPolicy> = "routingPolicy";
    }
    descriptive ["signatureRrdatas"]
    output_only ["kind"]
}

record! {
    /// Which records are answered depends on chance, region and health: exactly one of the three.
    RoutingPolicy {
        opt wrr: WrrPolicy = "wrr";
        opt geo: GeoPolicy = "geo";
        opt primary_backup: PrimaryBackupPolicy = "primaryBackup";
    }
    // Of external endpoints, which are refused where they stand.
    not_yet ["healthCheck"]
    output_only ["kind"]
}

record! {
    /// Weighted round robin.
    WrrPolicy {
        def items: Vec<WrrPolicyItem> = "items";
    }
    output_only ["kind"]
}

record! {
    /// An item of a weighted round robin.
    WrrPolicyItem {
        req weight: At<Number> = "weight";
        def rrdatas: Vec<Text> = "rrdatas";
        opt health_checked_targets: HealthCheckedTargets = "healthCheckedTargets";
    }
    descriptive ["signatureRrdatas"]
    output_only ["kind"]
}

record! {
    /// By the client's region.
    GeoPolicy {
        def items: Vec<GeoPolicyItem> = "items";
        opt enable_fencing: bool = "enableFencing";
    }
    output_only ["kind"]
}

record! {
    /// What clients of one region are answered.
    GeoPolicyItem {
        req location: Text = "location";
        def rrdatas: Vec<Text> = "rrdatas";
        opt health_checked_targets: HealthCheckedTargets = "healthCheckedTargets";
    }
    descriptive ["signatureRrdatas"]
    output_only ["kind"]
}

record! {
    /// Failover: the primary targets while one of them is healthy, else the backup.
    PrimaryBackupPolicy {
        req primary_targets: HealthCheckedTargets = "primaryTargets";
        req backup_geo_targets: GeoPolicy = "backupGeoTargets";
        opt trickle_traffic: At<Number> = "trickleTraffic";
    }
    output_only ["kind"]
}

record! {
    /// What is answered only while it is healthy.
    HealthCheckedTargets {
        def internal_load_balancers: Vec<LoadBalancerTarget> = "internalLoadBalancers";
    }
    refused ["externalEndpoints": "nothing outside of the topology is probed, and they would never be answered"]
}

words! {
    /// `loadBalancerType`.
    LoadBalancerType {
        None = "none";
        RegionalL4 = "regionalL4ilb";
        RegionalL7 = "regionalL7ilb";
        GlobalL7 = "globalL7ilb";
    }
}

record! {
    /// A load balancer, by its forwarding rule's address.
    LoadBalancerTarget {
        req ip_address: At<Ipv4Addr> = "ipAddress";
        req port: At<TextOrNumber> = "port";
        req network_url: Text = "networkUrl";
        opt ip_protocol: Text = "ipProtocol";
        opt load_balancer_type: LoadBalancerType = "loadBalancerType";
        opt region: Text = "region";
        opt project: Text = "project";
    }
    output_only ["kind"]
}
