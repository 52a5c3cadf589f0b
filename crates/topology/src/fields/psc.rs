//! Forwarding rules and service attachments (private-connectivity 1.1, 1.6, 2.1).

use crate::decode::{At, Int, Mapping, Text, TextOrNumber, record, words};

words! {
    /// How a forwarding rule is used.
    LoadBalancingScheme {
        None = "";
        Internal = "INTERNAL";
        InternalManaged = "INTERNAL_MANAGED";
        InternalSelfManaged = "INTERNAL_SELF_MANAGED";
        External = "EXTERNAL";
        ExternalManaged = "EXTERNAL_MANAGED";
    }
}

record! {
    /// A forwarding rule: the front end of an internal load balancer, or a Private Service Connect
    /// endpoint when its target is a service attachment.
    ForwardingRule {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt ip_address: Text = "IPAddress";
        opt ip_protocol: Text = "IPProtocol";
        opt port_range: At<TextOrNumber> = "portRange";
        opt ports: Vec<At<TextOrNumber>> = "ports";
        opt all_ports: At<bool> = "allPorts";
        opt target: Text = "target";
        opt load_balancing_scheme: At<LoadBalancingScheme> = "loadBalancingScheme";
        opt network: Text = "network";
        opt subnetwork: Text = "subnetwork";
        opt allow_global_access: bool = "allowGlobalAccess";
        opt allow_psc_global_access: bool = "allowPscGlobalAccess";
        opt no_automate_dns_zone: bool = "noAutomateDnsZone";
        def service_directory_registrations: Vec<ServiceDirectoryRegistration> = "serviceDirectoryRegistrations";
        opt id: TextOrNumber = "id";
        opt backend_service: Text = "backendService";
        opt postern: ForwardingRulePostern = "postern";
    }
    descriptive ["description", "labels", "networkTier"]
    not_yet [
        // Makes an internal DNS name.
        "serviceLabel",
        "isMirroringCollector" ("false"), "sourceIpRanges",
        "ipVersion" ("IPV4", "UNSPECIFIED_VERSION"), "metadataFilters", "allowPscPacketInjection" ("false"),
        "ipCollection", "externalManagedBackendBucketMigrationState", "externalManagedBackendBucketMigrationTestingPercentage"
    ]
    output_only [
        "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "labelFingerprint", "pscConnectionId",
        "pscConnectionStatus", "serviceName", "baseForwardingRule"
    ]
}

record! {
    /// Ours: where an external forwarding rule is published on the host's own loopback.
    ForwardingRulePostern {
        opt northbound: Text = "northbound";
    }
}

words! {
    /// How consumers are admitted.
    ConnectionPreference {
        AcceptAutomatic = "ACCEPT_AUTOMATIC";
        AcceptManual = "ACCEPT_MANUAL";
    }
}

record! {
    /// A service attachment: publishes a forwarding rule to consumers (1.1).
    ServiceAttachment {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt target_service: Text = "targetService";
        opt producer_forwarding_rule: Text = "producerForwardingRule";
        req connection_preference: At<ConnectionPreference> = "connectionPreference";
        def consumer_accept_lists: Vec<ConsumerAccept> = "consumerAcceptLists";
        def consumer_reject_lists: Vec<At<TextOrNumber>> = "consumerRejectLists";
        req nat_subnets: At<Vec<Text>> = "natSubnets";
        opt enable_proxy_protocol: At<bool> = "enableProxyProtocol";
        opt reconcile_connections: bool = "reconcileConnections";
        opt nat_ips_per_endpoint: Int<1, 64> = "natIpsPerEndpoint";
        opt propagated_connection_limit: Int<0, 4294967295> = "propagatedConnectionLimit";
        opt domain_names: At<Vec<Text>> = "domainNames";
        opt description: Text = "description";
        def metadata: Mapping<Text> = "metadata";
        opt postern: ServiceAttachmentPostern = "postern";
    }
    refused ["tunnelingConfig": "packets would go to the target without the tunnel that it expects"]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "connectedEndpoints",
        "pscServiceAttachmentId"
    ]
}

record! {
    /// Ours: when idle connections end, in seconds. The product's timers are fixed (1.4); the names
    /// are those that Cloud NAT has for the same timers.
    ServiceAttachmentPostern {
        opt tcp_established: Int<1, 604800> = "tcpEstablishedIdleTimeoutSec";
        opt tcp_transitory: Int<1, 604800> = "tcpTransitoryIdleTimeoutSec";
        opt udp: Int<1, 604800> = "udpIdleTimeoutSec";
    }
}

record! {
    /// Where the endpoint is registered in Service Directory, which is not simulated: what comes of
    /// it, names in the DNS, the endpoint gets without it (1.6).
    ServiceDirectoryRegistration {
        opt namespace: Text = "namespace";
        opt service: Text = "service";
        opt service_directory_region: Text = "serviceDirectoryRegion";
    }
}

record! {
    /// An entry of the accept list: exactly one of project, network and endpoint.
    ConsumerAccept {
        opt project_id_or_num: At<TextOrNumber> = "projectIdOrNum";
        opt network_url: Text = "networkUrl";
        opt endpoint_url: Text = "endpointUrl";
        opt connection_limit: At<Int<0, 4294967295>> = "connectionLimit";
    }
}
