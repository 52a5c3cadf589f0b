//! Target proxies, backend services, network endpoint groups, certificates
//! (private-connectivity 2 and 3).

use super::network::Port;
use crate::decode::{At, Int, Number, Text, record, words};
use std::net::Ipv4Addr;

record! {
    /// A target HTTP proxy (2.1).
    TargetHttpProxy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req url_map: Text = "urlMap";
        opt http_keep_alive_timeout_sec: Int<5, 1200> = "httpKeepAliveTimeoutSec";
    }
    descriptive ["description"]
    not_yet ["proxyBind" ("false"), "httpFilters"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint"]
}

record! {
    /// A target HTTPS proxy (2.1).
    TargetHttpsProxy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req url_map: Text = "urlMap";
        def ssl_certificates: Vec<Text> = "sslCertificates";
        opt http_keep_alive_timeout_sec: Int<5, 1200> = "httpKeepAliveTimeoutSec";
    }
    descriptive ["description"]
    not_yet [
        "proxyBind" ("false"), "httpFilters", "quicOverride" ("NONE", "DISABLE"), "tlsEarlyData" ("DISABLED"), "sslPolicy"
    ]
    refused [
        "certificateManagerCertificates": "there is no Certificate Manager here; use sslCertificates",
        "certificateMap": "certificate maps are for global external load balancers",
        "serverTlsPolicy": "without it clients would be admitted without a certificate",
        "authorizationPolicy": "without it clients would be admitted that it denies",
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint"]
}

record! {
    /// A certificate (2.1): self-managed PEM, or only names for which the dev CA issues one.
    SslCertificate {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt certificate: Text = "certificate";
        opt private_key: Text = "privateKey";
        opt self_managed: SelfManaged = "selfManaged";
        opt managed: ManagedCertificate = "managed";
        def subject_alternative_names: Vec<Text> = "subjectAlternativeNames";
        opt postern: CertificatePostern = "postern";
    }
    descriptive ["description", "type"]
    output_only ["id", "kind", "creationTimestamp", "expireTime"]
}

record! {
    /// PEM texts of a self-managed certificate.
    SelfManaged {
        opt certificate: Text = "certificate";
        opt private_key: Text = "privateKey";
    }
}

record! {
    /// Names of a managed certificate.
    ManagedCertificate {
        def domains: Vec<Text> = "domains";
    }
    output_only ["status", "domainStatus"]
}

record! {
    /// Ours: names for which the dev CA issues a certificate.
    CertificatePostern {
        def domains: Vec<Text> = "domains";
    }
}

words! {
    /// The protocol towards backends.
    Protocol {
        Http = "HTTP";
        Https = "HTTPS";
        Http2 = "HTTP2";
        H2c = "H2C";
        Tcp = "TCP";
        Ssl = "SSL";
        Udp = "UDP";
        Grpc = "GRPC";
        Unspecified = "UNSPECIFIED";
    }
}

record! {
    /// A backend service (2.10).
    BackendService {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt protocol: At<Protocol> = "protocol";
        opt load_balancing_scheme: At<super::psc::LoadBalancingScheme> = "loadBalancingScheme";
        opt timeout_sec: At<Int<1, 2147483647>> = "timeoutSec";
        def backends: Vec<Backend> = "backends";
        opt health_checks: At<Vec<Text>> = "healthChecks";
        opt session_affinity: Text = "sessionAffinity";
        opt locality_lb_policy: Text = "localityLbPolicy";
        def custom_request_headers: Vec<Text> = "customRequestHeaders";
        def custom_response_headers: Vec<Text> = "customResponseHeaders";
        opt log_config: LogConfig = "logConfig";
        opt connection_draining: ConnectionDraining = "connectionDraining";
    }
    descriptive ["description", "params"]
    not_yet [
        "port" ("80", "443"), "portName" ("http", "https"), "affinityCookieTtlSec" ("0"), "circuitBreakers",
        "compressionMode" ("DISABLED"), "connectionTrackingPolicy", "consistentHash", "enableCDN" ("false"), "cdnPolicy",
        "failoverPolicy", "localityLbPolicies", "maxStreamDuration", "metadatas", "network", "outlierDetection",
        "serviceBindings", "serviceLbPolicy", "strongSessionAffinityCookie", "subsetting", "networkPassThroughLbTrafficPolicy",
        "ipAddressSelectionPolicy" ("IPV4_ONLY", "IP_ADDRESS_SELECTION_POLICY_UNSPECIFIED"), "haPolicy",
        "dynamicForwarding", "orchestrationInfo",
        "externalManagedMigrationState", "externalManagedMigrationTestingPercentage"
    ]
    refused [
        "securityPolicy": "without it requests would pass that it denies",
        "edgeSecurityPolicy": "without it requests would pass that it denies",
        "iap": "without it requests would pass without a sign-in",
        "securitySettings": "without it backends would be spoken to otherwise",
        "tlsSettings": "without it backends would be spoken to otherwise",
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "usedBy"]
}

record! {
    /// Request logs of a backend service.
    LogConfig {}
    not_yet [
        "enable" ("false"), "sampleRate" ("1", "1.0"), "optionalMode" ("EXCLUDE_ALL_OPTIONAL"), "optional" ("EXCLUDE_ALL_OPTIONAL"),
        "optionalFields", "loggingHttpRequestHeaders", "loggingHttpResponseHeaders"
    ]
}

record! {
    /// How long connections to a removed backend may go on.
    ConnectionDraining {}
    not_yet ["drainingTimeoutSec" ("0")]
}

record! {
    /// A backend of a backend service. Balancing modes and capacities are without effect for
    /// serverless groups in the real product too (2.10); for others `lower` warns.
    Backend {
        req group: Text = "group";
        opt balancing_mode: Text = "balancingMode";
        opt capacity_scaler: At<Number> = "capacityScaler";
        opt max_utilization: At<Number> = "maxUtilization";
        opt max_rate: At<Number> = "maxRate";
        opt max_rate_per_endpoint: At<Number> = "maxRatePerEndpoint";
        opt max_rate_per_instance: At<Number> = "maxRatePerInstance";
        opt max_connections: At<Number> = "maxConnections";
        opt max_connections_per_endpoint: At<Number> = "maxConnectionsPerEndpoint";
        opt max_connections_per_instance: At<Number> = "maxConnectionsPerInstance";
    }
    descriptive ["description"]
    not_yet [
        "failover" ("false"), "preference" ("DEFAULT", "PREFERENCE_UNSPECIFIED"), "customMetrics", "trafficDuration",
        "maxInFlightRequests", "maxInFlightRequestsPerEndpoint", "maxInFlightRequestsPerInstance"
    ]
    output_only ["orchestrationInfo"]
}

words! {
    /// The kind of a network endpoint group.
    NetworkEndpointType {
        Serverless = "SERVERLESS";
        NonGcpPrivateIpPort = "NON_GCP_PRIVATE_IP_PORT";
        GceVmIpPort = "GCE_VM_IP_PORT";
        GceVmIp = "GCE_VM_IP";
        GceVmIpPortmap = "GCE_VM_IP_PORTMAP";
        InternetIpPort = "INTERNET_IP_PORT";
        InternetFqdnPort = "INTERNET_FQDN_PORT";
        PrivateServiceConnect = "PRIVATE_SERVICE_CONNECT";
    }
}

record! {
    /// A network endpoint group (3.1).
    NetworkEndpointGroup {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt zone: Text = "zone";
        req network_endpoint_type: At<NetworkEndpointType> = "networkEndpointType";
        opt cloud_run: CloudRun = "cloudRun";
        opt network: Text = "network";
        opt subnetwork: Text = "subnetwork";
        opt default_port: At<Port> = "defaultPort";
        def network_endpoints: Vec<NetworkEndpoint> = "networkEndpoints";
    }
    descriptive ["description", "annotations"]
    refused [
        "cloudFunction": "name the function's Cloud Run service under cloudRun",
        "appEngine": "internal load balancers reach Cloud Run only",
        "serverlessDeployment": "internal load balancers reach Cloud Run only",
        "pscTargetService": "groups of type PRIVATE_SERVICE_CONNECT come later",
        "pscData": "groups of type PRIVATE_SERVICE_CONNECT come later",
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "size"]
}

record! {
    /// The Cloud Run service, tag or URL mask of a serverless group (3.1).
    CloudRun {
        opt service: Text = "service";
        opt tag: Text = "tag";
        opt url_mask: Text = "urlMask";
    }
}

record! {
    /// An endpoint of a hybrid group.
    NetworkEndpoint {
        req ip_address: At<Ipv4Addr> = "ipAddress";
        opt port: At<Port> = "port";
    }
    descriptive ["annotations"]
    refused [
        "instance": "groups of type GCE_VM_IP_PORT come later",
        "fqdn": "groups of type INTERNET_FQDN_PORT come later",
    ]
}
