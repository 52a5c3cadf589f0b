//! Networks, subnetworks, addresses, declared VMs (private-connectivity 5).

use crate::decode::{At, Decode, Int, Mapping, Text, record, words};
use crate::diagnostic::{Code, Findings};
use crate::node::Node;
use crate::schema::Schema;
use serde_json::Value;
use std::net::Ipv4Addr;

record! {
    /// A VPC network.
    Network {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        def peerings: Vec<Peering> = "peerings";
    }
    descriptive [
        "description", "params",
        // Concerns dynamic routes only; what would make them (`routers`) is itself warned about.
        "routingConfig"
    ]
    not_yet [
        "networkFirewallPolicyEnforcementOrder" ("AFTER_CLASSIC_FIREWALL"),
        "autoCreateSubnetworks" ("false"), "mtu" ("1460"), "enableUlaInternalIpv6" ("false"),
        "internalIpv6Range", "firewallPolicy", "networkProfile", "IPv4Range", "gatewayIPv4"
    ]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "subnetworks", "region",
        "x_gcloud_bgp_routing_mode", "x_gcloud_subnet_mode", "x_gcloud_mode"
    ]
}

record! {
    /// One side of a VPC peering (5.2).
    Peering {
        req name: Text = "name";
        req network: Text = "network";
        opt export_custom_routes: bool = "exportCustomRoutes";
        opt import_custom_routes: bool = "importCustomRoutes";
        opt export_subnet_routes_with_public_ip: bool = "exportSubnetRoutesWithPublicIp";
        opt import_subnet_routes_with_public_ip: bool = "importSubnetRoutesWithPublicIp";
    }
    not_yet [
        "stackType" ("IPV4_ONLY"), "peerMtu" ("1460"),
        "updateStrategy" ("INDEPENDENT", "UPDATE_STRATEGY_UNSPECIFIED")
    ]
    refused [
        "exchangeSubnetRoutes" ("true"): "subnet routes are always exchanged",
        "autoCreateRoutes" ("true"): "subnet routes are always exchanged",
    ]
    output_only ["state", "stateDetails", "connectionStatus"]
}

words! {
    /// The purposes of a subnetwork.
    SubnetPurpose {
        Private = "PRIVATE" | "PRIVATE_RFC_1918";
        RegionalManagedProxy = "REGIONAL_MANAGED_PROXY" | "INTERNAL_HTTPS_LOAD_BALANCER";
        PrivateServiceConnect = "PRIVATE_SERVICE_CONNECT";
        GlobalManagedProxy = "GLOBAL_MANAGED_PROXY";
        PrivateNat = "PRIVATE_NAT";
        PeerMigration = "PEER_MIGRATION";
    }
}

words! {
    /// The role of a proxy-only subnetwork.
    SubnetRole { Active = "ACTIVE"; Backup = "BACKUP"; }
}

record! {
    /// A subnetwork (5.1).
    Subnetwork {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req network: Text = "network";
        req ip_cidr_range: Text = "ipCidrRange";
        opt purpose: At<SubnetPurpose> = "purpose";
        opt role: At<SubnetRole> = "role";
    }
    descriptive ["description", "params"]
    not_yet [
        // Google's front ends answer every workload, with and without it.
        "privateIpGoogleAccess" ("true"), "secondaryIpRanges", "stackType" ("IPV4_ONLY"), "enableFlowLogs" ("false"), "logConfig", "ipv6AccessType",
        "privateIpv6GoogleAccess" ("DISABLE_GOOGLE_ACCESS"), "reservedInternalRange", "externalIpv6Prefix",
        "internalIpv6Prefix", "allowSubnetCidrRoutesOverlap" ("false"), "ipCollection", "aggregationInterval",
        "resolveSubnetMask", "drainTimeoutSeconds"
    ]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "gatewayAddress", "state",
        "ipv6CidrRange", "ipv6GceEndpoint", "systemReservedInternalIpv6Ranges", "systemReservedExternalIpv6Ranges",
        "utilizationDetails"
    ]
}

words! {
    /// Inside or outside.
    AddressType { Internal = "INTERNAL"; External = "EXTERNAL"; Unspecified = "UNSPECIFIED_TYPE"; }
}

words! {
    /// What a reserved address is for.
    AddressPurpose {
        GceEndpoint = "GCE_ENDPOINT";
        SharedLoadbalancerVip = "SHARED_LOADBALANCER_VIP";
        PrivateServiceConnect = "PRIVATE_SERVICE_CONNECT";
        VpcPeering = "VPC_PEERING";
        DnsResolver = "DNS_RESOLVER";
        NatAuto = "NAT_AUTO";
        IpsecInterconnect = "IPSEC_INTERCONNECT";
    }
}

record! {
    /// A reserved address (5.1).
    Address {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt address: At<Ipv4Addr> = "address";
        opt address_type: AddressType = "addressType";
        opt purpose: At<AddressPurpose> = "purpose";
        opt subnetwork: Text = "subnetwork";
        opt network: Text = "network";
    }
    descriptive ["description", "labels", "networkTier", "params"]
    not_yet ["prefixLength", "ipVersion" ("IPV4", "UNSPECIFIED_VERSION"), "ipv6EndpointType", "ipCollection"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "labelFingerprint", "status", "users"]
}

record! {
    /// A declared VM: what of a Compute Engine instance makes it a caller.
    Instance {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt zone: Text = "zone";
        req network_interfaces: Vec<NetworkInterface> = "networkInterfaces";
        def service_accounts: Vec<InstanceServiceAccount> = "serviceAccounts";
        opt tags: InstanceTags = "tags";
        opt metadata: InstanceMetadata = "metadata";
        opt can_ip_forward: bool = "canIpForward";
    }
    descriptive [
        "description", "labels", "machineType", "disks", "scheduling", "minCpuPlatform", "deletionProtection",
        "displayDevice", "shieldedInstanceConfig", "shieldedInstanceIntegrityPolicy", "confidentialInstanceConfig",
        "guestAccelerators", "resourcePolicies", "reservationAffinity", "advancedMachineFeatures",
        "keyRevocationActionType", "networkPerformanceConfig", "params", "sourceMachineImage",
        "sourceMachineImageEncryptionKey", "startRestricted", "instanceEncryptionKey"
    ]
    not_yet [
        "privateIpv6GoogleAccess" ("INHERIT_FROM_SUBNETWORK"), "workloadIdentityConfig",
        "hostname"
    ]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "labelFingerprint", "status",
        "statusMessage", "cpuPlatform", "lastStartTimestamp", "lastStopTimestamp", "lastSuspendedTimestamp",
        "resourceStatus", "satisfiesPzs", "satisfiesPzi", "upcomingMaintenance"
    ]
}

record! {
    /// A network interface of a declared VM.
    NetworkInterface {
        opt network: Text = "network";
        opt subnetwork: Text = "subnetwork";
        opt network_ip: Text = "networkIP";
    }
    descriptive ["nicType", "queueCount"]
    not_yet ["accessConfigs", "aliasIpRanges", "ipv6AccessConfigs", "stackType" ("IPV4_ONLY"), "ipv6Address"]
    refused ["networkAttachment": "the interface would be in another network than it says"]
    output_only ["name", "kind", "fingerprint", "ipv6AccessType", "internalIpv6PrefixLength"]
}

record! {
    /// The service account of a declared VM.
    InstanceServiceAccount {
        req email: Text = "email";
        opt scopes: Scopes = "scopes";
    }
}

record! {
    /// Network tags of a declared VM.
    InstanceTags {
        def items: Vec<Text> = "items";
    }
    output_only ["fingerprint"]
}

record! {
    /// Custom metadata of a declared VM; `startup-script` is run.
    InstanceMetadata {
        def items: Vec<MetadataItem> = "items";
    }
    output_only ["fingerprint", "kind"]
}

record! {
    /// A metadata entry.
    MetadataItem {
        req key: Text = "key";
        opt value: Text = "value";
    }
}

/// The access scopes of a VM's account, judged when they are read: its access tokens always carry
/// `cloud-platform`, which includes every other scope.
#[derive(Clone, Debug)]
pub(crate) struct Scopes;

impl Decode for Scopes {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let scopes = Vec::<Text>::decode(node, findings)?;
        let whole = ["https://www.googleapis.com/auth/cloud-platform", "cloud-platform"];
        if !scopes.is_empty() && !scopes.iter().any(|scope| whole.contains(&scope.as_str())) {
            findings.warning(
                Code::NotYetHonoured,
                node.at,
                "`scopes` is known, but has no effect in this release; access tokens have cloud-platform",
                format!("write [{}] to silence this warning", whole[0]),
            );
        }
        Some(Scopes)
    }

    fn schema(schema: &mut Schema) -> Value {
        Vec::<Text>::schema(schema)
    }
}

/// Labels and other free texts.
pub(crate) type Texts = Mapping<Text>;
/// A TCP port.
pub(crate) type Port = Int<1, 65535>;
