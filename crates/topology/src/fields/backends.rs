//! What stands behind a load balancer: backend services, health checks, network endpoint groups
//! (private-connectivity 2.10, 3.1).

use super::network::Port;
use super::url_maps::Duration;
use crate::decode::{At, Int, Number, Text, record, words};
use std::net::Ipv4Addr;

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
        opt port_name: Text = "portName";
        opt network: Text = "network";
        def backends: Vec<Backend> = "backends";
        opt health_checks: At<Vec<Text>> = "healthChecks";
        opt session_affinity: At<SessionAffinity> = "sessionAffinity";
        opt affinity_cookie_ttl_sec: At<Int<0, 1209600>> = "affinityCookieTtlSec";
        opt consistent_hash: ConsistentHash = "consistentHash";
        opt strong_session_affinity_cookie: HttpCookie = "strongSessionAffinityCookie";
        opt locality_lb_policy: At<LocalityLbPolicy> = "localityLbPolicy";
        opt outlier_detection: OutlierDetection = "outlierDetection";
        opt circuit_breakers: CircuitBreakers = "circuitBreakers";
        def custom_request_headers: Vec<Text> = "customRequestHeaders";
        def custom_response_headers: Vec<Text> = "customResponseHeaders";
        opt log_config: LogConfig = "logConfig";
        opt security_policy: Text = "securityPolicy";
        opt iap: super::security::Iap = "iap";
        opt connection_draining: ConnectionDraining = "connectionDraining";
        opt connection_tracking_policy: ConnectionTrackingPolicy = "connectionTrackingPolicy";
        opt failover_policy: FailoverPolicy = "failoverPolicy";
    }
    descriptive ["description", "params"]
    not_yet [
        "port" ("80", "443"), "compressionMode" ("DISABLED"), "cdnPolicy",
        "localityLbPolicies", "metadatas",
        "serviceBindings", "serviceLbPolicy", "subsetting", "networkPassThroughLbTrafficPolicy",
        "ipAddressSelectionPolicy" ("IPV4_ONLY", "IP_ADDRESS_SELECTION_POLICY_UNSPECIFIED"), "haPolicy",
        "dynamicForwarding", "orchestrationInfo",
        "externalManagedMigrationState", "externalManagedMigrationTestingPercentage"
    ]
    refused [
        "maxStreamDuration": "only service meshes support it",
        "enableCDN" ("false"): "Cloud CDN is not simulated, and every request would go to the backend",
        "edgeSecurityPolicy": "it is asked before Cloud CDN, which is not simulated; use securityPolicy",
        "securitySettings": "without it backends would be spoken to otherwise",
        "tlsSettings": "without it backends would be spoken to otherwise",
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "usedBy"]
}

words! {
    /// What keeps a client at one endpoint. The others are for passthrough load balancers.
    SessionAffinity {
        None = "NONE";
        ClientIp = "CLIENT_IP";
        GeneratedCookie = "GENERATED_COOKIE";
        HeaderField = "HEADER_FIELD";
        HttpCookie = "HTTP_COOKIE";
        StrongCookie = "STRONG_COOKIE_AFFINITY";
        ClientIpProto = "CLIENT_IP_PROTO";
        ClientIpPortProto = "CLIENT_IP_PORT_PROTO";
        ClientIpNoDestination = "CLIENT_IP_NO_DESTINATION";
    }
}

words! {
    /// Which endpoint of a group. The others are for other load balancers.
    LocalityLbPolicy {
        RoundRobin = "ROUND_ROBIN";
        LeastRequest = "LEAST_REQUEST";
        RingHash = "RING_HASH";
        Random = "RANDOM";
        Maglev = "MAGLEV";
        OriginalDestination = "ORIGINAL_DESTINATION";
        WeightedMaglev = "WEIGHTED_MAGLEV";
        WeightedRoundRobin = "WEIGHTED_ROUND_ROBIN";
        WeightedGcpRendezvous = "WEIGHTED_GCP_RENDEZVOUS";
    }
}

record! {
    /// What is hashed for HEADER_FIELD and HTTP_COOKIE.
    ConsistentHash {
        opt http_header_name: Text = "httpHeaderName";
        opt http_cookie: HttpCookie = "httpCookie";
    }
    not_yet ["minimumRingSize" ("1024")]
}

record! {
    /// A cookie of the load balancer's.
    HttpCookie {
        opt name: Text = "name";
        opt path: Text = "path";
        opt ttl: Duration = "ttl";
    }
}

record! {
    /// When an endpoint is left alone for some time.
    OutlierDetection {
        opt consecutive_errors: Int<0, 2147483647> = "consecutiveErrors";
        opt consecutive_gateway_failure: Int<0, 2147483647> = "consecutiveGatewayFailure";
        opt enforcing_consecutive_errors: Int<0, 100> = "enforcingConsecutiveErrors";
        opt enforcing_consecutive_gateway_failure: Int<0, 100> = "enforcingConsecutiveGatewayFailure";
        opt enforcing_success_rate: Int<0, 100> = "enforcingSuccessRate";
        opt success_rate_minimum_hosts: Int<0, 2147483647> = "successRateMinimumHosts";
        opt success_rate_request_volume: Int<0, 2147483647> = "successRateRequestVolume";
        opt success_rate_stdev_factor: Int<0, 2147483647> = "successRateStdevFactor";
        opt interval: Duration = "interval";
        opt base_ejection_time: Duration = "baseEjectionTime";
        opt max_ejection_percent: Int<0, 100> = "maxEjectionPercent";
    }
}

record! {
    /// Bounds towards the backends.
    CircuitBreakers {
        opt max_connections: Int<1, 2147483647> = "maxConnections";
        opt max_pending_requests: Int<1, 2147483647> = "maxPendingRequests";
        opt max_requests: Int<1, 2147483647> = "maxRequests";
        opt max_requests_per_connection: Int<1, 2147483647> = "maxRequestsPerConnection";
        opt max_retries: Int<1, 2147483647> = "maxRetries";
    }
    refused ["connectTimeout": "only service meshes support it"]
}

words! {
    /// Which optional fields of the log.
    LogOptionalMode {
        Exclude = "EXCLUDE_ALL_OPTIONAL";
        Include = "INCLUDE_ALL_OPTIONAL";
        Custom = "CUSTOM";
    }
}

record! {
    /// Request logs of a backend service (2.9).
    LogConfig {
        opt enable: bool = "enable";
        opt sample_rate: At<Number> = "sampleRate";
        opt optional_mode: LogOptionalMode = "optionalMode" | "optional";
        def optional_fields: Vec<Text> = "optionalFields";
        def logging_http_request_headers: Vec<LoggedHeader> = "loggingHttpRequestHeaders";
        def logging_http_response_headers: Vec<LoggedHeader> = "loggingHttpResponseHeaders";
    }
}

record! {
    /// A header that is logged.
    LoggedHeader {
        req header_name: Text = "headerName";
    }
}

words! {
    /// By what connections are told apart.
    TrackingMode {
        PerConnection = "PER_CONNECTION";
        PerSession = "PER_SESSION";
    }
}

words! {
    /// What stays with a VM that has become unhealthy.
    Persistence {
        Default = "DEFAULT_FOR_PROTOCOL";
        Never = "NEVER_PERSIST";
        Always = "ALWAYS_PERSIST";
    }
}

record! {
    /// What a passthrough load balancer remembers of connections.
    ConnectionTrackingPolicy {
        opt tracking_mode: At<TrackingMode> = "trackingMode";
        opt persistence: Persistence = "connectionPersistenceOnUnhealthyBackends";
    }
    not_yet ["idleTimeoutSec" ("600")]
    refused ["enableStrongAffinity": "only external load balancers have it"]
}

record! {
    /// When the backups of a passthrough load balancer take over.
    FailoverPolicy {
        opt failover_ratio: At<Number> = "failoverRatio";
        opt drop_traffic_if_unhealthy: bool = "dropTrafficIfUnhealthy";
        opt disable_connection_drain_on_failover: bool = "disableConnectionDrainOnFailover";
    }
}

record! {
    /// How long requests to a removed endpoint may go on.
    ConnectionDraining {
        opt draining_timeout_sec: Int<0, 3600> = "drainingTimeoutSec";
    }
}

words! {
    /// What a backend's capacity is counted in.
    BalancingMode {
        Rate = "RATE";
        Utilization = "UTILIZATION";
        Connection = "CONNECTION";
        CustomMetrics = "CUSTOM_METRICS";
    }
}

record! {
    /// A backend of a backend service. Balancing modes and capacities are without effect for
    /// serverless groups in the real product too (2.10); for others `lower` warns.
    Backend {
        req group: Text = "group";
        opt failover: At<bool> = "failover";
        opt balancing_mode: At<BalancingMode> = "balancingMode";
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
        "preference" ("DEFAULT", "PREFERENCE_UNSPECIFIED"), "customMetrics", "trafficDuration",
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
        opt psc_target_service: Text = "pscTargetService";
        opt psc_data: PscData = "pscData";
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
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "size"]
}

record! {
    /// An unmanaged instance group. Its members, which the API lists by a method of its own, stand
    /// in `instances`.
    InstanceGroup {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt zone: Text = "zone";
        opt region: Text = "region";
        opt network: Text = "network";
        opt subnetwork: Text = "subnetwork";
        def named_ports: Vec<NamedPort> = "namedPorts";
        def instances: Vec<Text> = "instances";
    }
    descriptive ["description"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "size"]
}

record! {
    /// What a name of ports stands for in an instance group.
    NamedPort {
        req name: Text = "name";
        req port: At<Port> = "port";
    }
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
    /// The service attachment's port, where it has several.
    PscData {
        opt producer_port: At<Port> = "producerPort";
    }
    output_only ["consumerPscAddress", "pscConnectionId", "pscConnectionStatus"]
}

record! {
    /// An endpoint of a zonal, hybrid or internet group.
    NetworkEndpoint {
        opt ip_address: At<Ipv4Addr> = "ipAddress";
        opt port: At<Port> = "port";
        opt instance: Text = "instance";
        opt fqdn: Text = "fqdn";
    }
    descriptive ["annotations"]
    not_yet ["ipv6Address", "clientDestinationPort"]
}

words! {
    /// What is asked.
    HealthCheckType {
        Http = "HTTP";
        Https = "HTTPS";
        Http2 = "HTTP2";
        Grpc = "GRPC";
        GrpcWithTls = "GRPC_WITH_TLS";
        Tcp = "TCP";
        Ssl = "SSL";
    }
}

record! {
    /// When an endpoint is healthy.
    HealthCheck {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req check_type: At<HealthCheckType> = "type";
        opt check_interval_sec: At<Int<1, 300>> = "checkIntervalSec";
        opt timeout_sec: At<Int<1, 300>> = "timeoutSec";
        opt healthy_threshold: Int<1, 10> = "healthyThreshold";
        opt unhealthy_threshold: Int<1, 10> = "unhealthyThreshold";
        opt http_health_check: HttpHealthCheck = "httpHealthCheck";
        opt https_health_check: HttpHealthCheck = "httpsHealthCheck";
        opt http2_health_check: HttpHealthCheck = "http2HealthCheck";
        opt tcp_health_check: TcpHealthCheck = "tcpHealthCheck";
        opt ssl_health_check: TcpHealthCheck = "sslHealthCheck";
        opt grpc_health_check: GrpcHealthCheck = "grpcHealthCheck";
        opt grpc_tls_health_check: GrpcHealthCheck = "grpcTlsHealthCheck";
        opt log_config: HealthCheckLogConfig = "logConfig";
    }
    descriptive ["description"]
    refused ["sourceRegions": "only global health checks for DNS have them"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp"]
}

words! {
    /// Which port is asked.
    PortSpecification {
        Fixed = "USE_FIXED_PORT";
        Serving = "USE_SERVING_PORT";
        Named = "USE_NAMED_PORT";
    }
}

words! {
    /// What is sent first.
    ProxyHeader {
        None = "NONE";
        ProxyV1 = "PROXY_V1";
    }
}

record! {
    /// An HTTP, HTTPS or HTTP/2 request.
    HttpHealthCheck {
        opt port: At<Port> = "port";
        opt port_specification: At<PortSpecification> = "portSpecification";
        opt host: Text = "host";
        opt request_path: Text = "requestPath";
        opt proxy_header: ProxyHeader = "proxyHeader";
        opt response: Text = "response";
    }
    not_yet ["portName", "weightReportMode" ("DISABLE")]
}

record! {
    /// A connection, and an exchange of texts.
    TcpHealthCheck {
        opt port: At<Port> = "port";
        opt port_specification: At<PortSpecification> = "portSpecification";
        opt proxy_header: ProxyHeader = "proxyHeader";
        opt request: Text = "request";
        opt response: Text = "response";
    }
    not_yet ["portName"]
}

record! {
    /// gRPC's health protocol.
    GrpcHealthCheck {
        opt port: At<Port> = "port";
        opt port_specification: At<PortSpecification> = "portSpecification";
        opt grpc_service_name: Text = "grpcServiceName";
    }
    not_yet ["portName"]
}

record! {
    /// Are changes of state logged?
    HealthCheckLogConfig {
        opt enable: bool = "enable";
    }
}
