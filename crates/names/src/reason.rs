//! The one registry of reasons: every refusal that Postern makes has one code here. Traffic,
//! `explain`, log lines and metrics print the same code (DESIGN.md 3, "Words").

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $fix:literal;)*) => {
        /// Why a hop said no. Google's own name is used wherever one exists.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            /// All reasons, in the order of this registry.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code that logs, metrics and `explain` print.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// One sentence: what happened.
            pub const fn summary(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)*).trim_ascii(),)* }
            }

            /// One sentence: what to change.
            pub const fn fix(self) -> &'static str {
                match self { $(Reason::$name => $fix,)* }
            }

            /// The reason with this code, if there is one.
            pub fn from_code(code: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.code() == code)
            }
        }

        impl std::fmt::Display for Reason {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.code())
            }
        }

        impl serde::Serialize for Reason {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.code())
            }
        }

        impl<'de> serde::Deserialize<'de> for Reason {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let code = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Reason::from_code(&code)
                    .ok_or_else(|| serde::de::Error::custom(format!("unknown reason `{code}`")))
            }
        }
    };
}

reasons! {
    // --- private-dns ---
    /// No zone that the network sees has this name.
    DnsNameNotFound = "DNS_NAME_NOT_FOUND", "Add a record set for the name to a private zone that this network sees, or a peering zone towards the network that has it.";
    /// The zone that owns the name has no record for it; private zones never fall through.
    DnsNxdomain = "DNS_NXDOMAIN", "Add the record set to the zone named above.";
    /// The name exists, but not with this type.
    DnsNodata = "DNS_NODATA", "Ask for a type that the name has, or add a record set of this type.";
    /// DNS peering is transitive through one hop only.
    DnsPeeringTooDeep = "DNS_PEERING_TOO_DEEP", "Let the peering zone target the network that holds the private zone.";
    /// A CNAME chain is longer than 16 or runs in a circle.
    DnsCnameChain = "DNS_CNAME_CHAIN", "Shorten the chain of CNAME records.";
    /// A response policy rule answers the name, and has no record of this type.
    DnsResponsePolicy = "DNS_RESPONSE_POLICY", "Add the type to the rule's localData, or let a bypassResponsePolicy rule exempt the name.";
    /// The target network of the peering zone was deleted, and the zone is deactivated.
    DnsPeeringDeactivated = "DNS_PEERING_DEACTIVATED", "Let the peering zone target a network that exists, and remove deactivateTime.";
    /// A name server outside of the zones answers; what it says is not in the topology.
    DnsForwarded = "DNS_FORWARDED", "Ask the name server itself, or from a workload with `postern exec`.";
    /// None of the name servers that the question was forwarded to responded.
    DnsUpstreamSilent = "DNS_UPSTREAM_SILENT", "Start the name server, and see to a route and a firewall rule for port 53 between it and the network.";
    /// The name server that the question was forwarded to answered with something that is no answer.
    DnsUpstreamMalformed = "DNS_UPSTREAM_MALFORMED", "Look at what the name server answers, with `dig` from a workload of the network.";
    /// The name server that the question was forwarded to has no such record.
    DnsUpstreamNegative = "DNS_UPSTREAM_NEGATIVE", "Add the record at the name server.";
    /// The DNS message is malformed.
    DnsMalformed = "DNS_MALFORMED", "Send one question that follows RFC 1035, and EDNS version 0.";
    /// The resolver does not do this DNS operation.
    DnsNotImplemented = "DNS_NOT_IMPLEMENTED", "Send plain queries; there are no updates and notifications here.";
    /// Zone transfers and classes other than IN are refused.
    DnsRefused = "DNS_REFUSED", "Ask for a record type in class IN; private zones are not transferred.";
    // --- VPC network ---
    /// The network has nothing at this address.
    UnknownInternalAddress = "UNKNOWN_INTERNAL_ADDRESS", "Use an address that a forwarding rule, an endpoint or an instance of this network has.";
    /// The network has no route to this address.
    NoRoute = "NO_ROUTE", "Only declared subnets, active peerings and Google front ends are reachable.";
    /// The address belongs to a forwarding rule, but not this port or protocol.
    ForwardingRuleMismatch = "FORWARDING_RULE_MISMATCH", "Use the port of the forwarding rule.";
    /// The client is in another region than the forwarding rule, which has no global access.
    ForwardingRuleRegionMismatch = "FORWARDING_RULE_REGION_MISMATCH", "Call from the forwarding rule's region, or set allowGlobalAccess (allowPscGlobalAccess on an endpoint).";
    /// A Private Service Connect endpoint cannot be reached over VPC peering.
    PscEndpointAccessedFromPeeredNetwork = "PSC_ENDPOINT_ACCESSED_FROM_PEERED_NETWORK", "Create an endpoint in the calling network itself.";
    /// The peering is not active, because only one side declares it.
    VpcPeeringInactive = "VPC_PEERING_INACTIVE", "Declare the peering on both networks.";
    /// A firewall rule, or an implied one, denies the packet.
    FirewallRule = "FIREWALL_RULE", "Allow it with a firewall rule of a lower priority number than the one named above.";
    /// A Cloud Run instance has an address in the network to call others, and takes no connections
    /// at it.
    CloudRunEgressOnly = "CLOUD_RUN_EGRESS_ONLY", "Call the service by its run.app name or through a load balancer.";
    /// A static route leads to an instance that may not take packets for other addresses.
    ForeignIpDisallowed = "FOREIGN_IP_DISALLOWED", "Set canIpForward of the instance, or let the route lead elsewhere.";
    // --- Private Service Connect ---
    /// The service attachment has not accepted this endpoint's connection.
    PscConnectionNotAccepted = "PSC_CONNECTION_NOT_ACCEPTED", "Add the consumer to consumerAcceptLists of the service attachment, or raise its connectionLimit.";
    /// The endpoint and the service attachment are in different regions.
    PscRegionMismatch = "PSC_REGION_MISMATCH", "Create the endpoint in the region of the service attachment.";
    /// The endpoint's target names no service attachment of this topology.
    PscServiceAttachmentNotFound = "PSC_SERVICE_ATTACHMENT_NOT_FOUND", "Correct the endpoint's target.";
    /// The service attachment has no NAT subnet.
    NoNatSubnetsForPscServiceAttachment = "NO_NAT_SUBNETS_FOR_PSC_SERVICE_ATTACHMENT", "Add a subnet of purpose PRIVATE_SERVICE_CONNECT to natSubnets.";
    /// Every address of the NAT subnets is in use.
    PscNatSubnetExhausted = "PSC_NAT_SUBNET_EXHAUSTED", "Add another subnet to natSubnets.";
    /// The endpoint allows global access, but the forwarding rule behind it does not.
    PscProducerEndpointNoGlobalAccess = "PSC_PRODUCER_ENDPOINT_NO_GLOBAL_ACCESS", "Call from the endpoint's region, or have the producer set allowGlobalAccess on its forwarding rule before the service attachment is made.";
    /// The consumer has as many propagated connections as the service attachment allows.
    PscPropagatedConnectionLimitExceeded = "ERROR_PRODUCER_PROPAGATED_CONNECTION_LIMIT_EXCEEDED", "Raise propagatedConnectionLimit of the service attachment.";
    /// Every source port of the endpoint's NAT address is in use.
    PscNatPortsExhausted = "PSC_NAT_PORTS_EXHAUSTED", "Close idle connections, or spread them over several endpoints.";
    /// The service attachment's target did not take the connection.
    DroppedInsidePscServiceProducer = "DROPPED_INSIDE_PSC_SERVICE_PRODUCER", "Check the producer's forwarding rule and its port.";
    /// The service attachment sends a PROXY header, which the target does not understand.
    ProxyProtocolNotSupported = "PROXY_PROTOCOL_NOT_SUPPORTED", "Set enableProxyProtocol of the service attachment to false, or publish a target that understands PROXY.";
    /// There is no connection to the host on which the other network lives.
    PeerUnreachable = "PEER_UNREACHABLE", "See the error: `hosts` of the topology names the address, port 15008 has to pass, and both sides need certificates of one CA that have not expired.";
    /// The certificate of the other host is for another network or program.
    PeerIdentityMismatch = "PEER_IDENTITY_MISMATCH", "Issue the certificate for the network and program that it speaks for: `postern certificate --network PROJECT/NETWORK --program PROGRAM`.";
    // --- internal load balancer ---
    /// The client and the target proxy do not agree on TLS: one of them speaks plain HTTP.
    SchemeMismatch = "SCHEME_MISMATCH", "Use https with a target HTTPS proxy, and http with a target HTTP proxy.";
    /// The certificate that the load balancer presents is for other host names.
    TlsCertificateMismatch = "TLS_CERTIFICATE_MISMATCH", "Call by a name of the certificate, or add a certificate for this name to the target HTTPS proxy.";
    /// The connection does not begin with the PROXY v2 header that the target proxy expects.
    ProxyHeaderMalformed = "PROXY_HEADER_MALFORMED", "Call through a service attachment with enableProxyProtocol, or drop acceptProxyProtocol of the target proxy.";
    /// The TLS handshake failed.
    TlsHandshakeFailed = "TLS_HANDSHAKE_FAILED", "See the error: the client may not trust the certificate, or bring none that a server TLS policy asks for.";
    /// The request is not well-formed HTTP.
    HttpMalformed = "HTTP_MALFORMED", "Send a request that follows RFC 9112 or RFC 9113.";
    /// The request head is larger than the limit.
    HttpHeaderTooLarge = "HTTP_HEADER_TOO_LARGE", "Send fewer or shorter headers.";
    /// The path holds `/../`; the load balancer redirects to the collapsed path.
    UrlPathCollapsed = "URL_PATH_COLLAPSED", "Ask for the collapsed path.";
    /// The route's fault injection policy aborts this request on purpose.
    FaultFilterAbort = "FAULT_FILTER_ABORT", "Lower the percentage of faultInjectionPolicy.abort, or remove it.";
    /// A rule of the backend service's security policy denies the request.
    DeniedBySecurityPolicy = "denied_by_security_policy", "Allow it with a rule of a lower priority number than the one named above.";
    /// A rule of the backend service's security policy answers the request with a redirect.
    RedirectedBySecurityPolicy = "SECURITY_POLICY_REDIRECT", "Allow it with a rule of a lower priority number than the one named above.";
    /// The client has sent more requests than a rule of the security policy lets through.
    SecurityPolicyRateLimited = "SECURITY_POLICY_RATE_LIMITED", "Send fewer requests, or raise rateLimitThreshold of the rule.";
    /// The client is banned: it has sent more requests than a rule of the security policy lets through.
    SecurityPolicyBanned = "SECURITY_POLICY_BANNED", "Wait until the ban is over (banDurationSec), or raise banThreshold of the rule.";
    /// The URL map has no rule and no default for this request.
    UrlMapNoMatch = "URL_MAP_NO_MATCH", "Add a host rule, a path rule or a default service.";
    /// The backend service has no backend.
    BackendServiceEmpty = "BACKEND_SERVICE_EMPTY", "Add a network endpoint group to the backend service.";
    /// The network endpoint group has no endpoint.
    NetworkEndpointGroupEmpty = "NETWORK_ENDPOINT_GROUP_EMPTY", "Add a network endpoint to the group.";
    /// The request URL does not match the URL mask.
    UrlMaskNoMatch = "URL_MASK_NO_MATCH", "Change the path or host, or the mask, at the segment named above.";
    /// The mask yields a text that is no legal service name or tag.
    UrlMaskIllegalName = "URL_MASK_ILLEGAL_NAME", "Service names are lower-case letters, digits and hyphens, at most 49.";
    /// No Cloud Run service of this name is in the endpoint group's project and region.
    CloudRunServiceNotFound = "CLOUD_RUN_SERVICE_NOT_FOUND", "Deploy the service in the project and region of the endpoint group, or correct the URL.";
    /// The service has no traffic target with this tag.
    CloudRunTagNotFound = "CLOUD_RUN_TAG_NOT_FOUND", "Add the tag to a traffic target of the service.";
    /// No endpoint of the backend service is healthy, or its groups are drained.
    NoHealthyBackend = "NO_HEALTHY_BACKEND", "Look at the health checks of the backend service, the backend's answers to them, and capacityScaler.";
    /// A circuit breaker of the backend service is open: too much is under way already.
    BackendCircuitBreakerOpen = "BACKEND_CIRCUIT_BREAKER_OPEN", "Raise circuitBreakers of the backend service, or add endpoints.";
    /// The backend did not accept the connection.
    BackendConnectionFailed = "BACKEND_CONNECTION_FAILED", "Start the backend, or correct its address.";
    /// The backend closed or broke the connection before its answer was complete.
    BackendConnectionClosed = "BACKEND_CONNECTION_CLOSED", "Look into the backend's own log.";
    /// The backend did not answer in time.
    BackendTimeout = "BACKEND_TIMEOUT", "Answer faster, or raise timeoutSec.";
    // --- Cloud Run ---
    /// The Host names no Cloud Run service that is known here.
    CloudRunHostNotFound = "CLOUD_RUN_HOST_NOT_FOUND", "Use the service's run.app host name.";
    /// The service's ingress setting does not admit traffic from there.
    IngressNotAllowed = "INGRESS_NOT_ALLOWED", "Call through the internal load balancer or from a network of the same project, or widen the service's ingress.";
    /// A path that Cloud Run reserves for itself.
    ReservedPath = "RESERVED_PATH", "Use a path that does not begin with /_ah/ and is not /eventlog or /healthz.";
    /// Cloud Run does not support this method.
    MethodNotSupported = "METHOD_NOT_SUPPORTED", "Do not use TRACE or CONNECT.";
    /// The service demands an ID token and the request has none.
    TokenMissing = "TOKEN_MISSING", "Send `Authorization: Bearer ID_TOKEN`, or grant roles/run.invoker to allUsers.";
    /// The Authorization header holds no bearer token, or two values.
    TokenNotBearer = "TOKEN_NOT_BEARER", "Send one header `Authorization: Bearer ID_TOKEN`.";
    /// The token is not a well-formed RS256 JWT.
    TokenMalformed = "TOKEN_MALFORMED", "Send an ID token from the metadata server or generateIdToken.";
    /// The token is an access token; Cloud Run takes ID tokens only.
    TokenIsAccessToken = "TOKEN_IS_ACCESS_TOKEN", "Ask the metadata server for `identity`, not `token`.";
    /// No published key has the token's `kid`, or the signature is wrong.
    TokenSignatureInvalid = "TOKEN_SIGNATURE_INVALID", "Use a token of this topology's own issuer.";
    /// The token's issuer is not Google's.
    TokenIssuerMismatch = "TOKEN_ISSUER_MISMATCH", "Use a token whose iss is https://accounts.google.com.";
    /// The token has expired.
    TokenExpired = "TOKEN_EXPIRED", "Fetch a new token; they live for one hour.";
    /// The token is not valid yet.
    TokenNotYetValid = "TOKEN_NOT_YET_VALID", "Check the clock of whoever made the token.";
    /// The token's audience is none that the service accepts.
    TokenAudienceMismatch = "TOKEN_AUDIENCE_MISMATCH", "Ask for a token whose audience is one of the service's URLs or custom audiences.";
    /// The caller lacks run.routes.invoke on the service.
    InvokerPermissionDenied = "INVOKER_PERMISSION_DENIED", "Grant roles/run.invoker on the service to the caller.";
    /// No instance became free in time, at the limit of instances.
    NoAvailableInstance = "NO_AVAILABLE_INSTANCE", "Raise maxScale or containerConcurrency.";
    /// No instance became ready in time, although the service may have more.
    NoInstanceStarted = "NO_INSTANCE_STARTED", "Let the program listen sooner; see its log.";
    /// No instance of the revision starts.
    InstanceStartFailed = "CLOUD_RUN_REVISION_NOT_READY", "Let the program listen on 0.0.0.0:$PORT; see its log.";
    /// The connection to the instance failed, or its answer was malformed.
    InstanceConnectionError = "INSTANCE_CONNECTION_ERROR", "See the program's own log.";
    /// The request ran into the service's timeout.
    RequestTimeout = "REQUEST_TIMEOUT", "Answer faster, or raise timeoutSeconds.";
    /// The request body is larger than 32 MiB.
    RequestTooLarge = "REQUEST_TOO_LARGE", "Send at most 32 MiB over HTTP/1.";
    /// The service's default URL is switched off.
    DefaultUriDisabled = "DEFAULT_URI_DISABLED", "Call the service through a load balancer, or set defaultUriDisabled to false.";
    // --- metadata server and token issuer ---
    /// The request lacks the header `Metadata-Flavor: Google`.
    MetadataFlavorMissing = "METADATA_FLAVOR_MISSING", "Send the header `Metadata-Flavor: Google`.";
    /// The request carries X-Forwarded-For, so it came through a proxy.
    MetadataForwarded = "METADATA_FORWARDED", "Ask the metadata server directly, without a proxy that adds X-Forwarded-For.";
    /// The Host is not the metadata server's.
    MetadataHostNotFound = "METADATA_HOST_NOT_FOUND", "Use http://metadata.google.internal or http://169.254.169.254.";
    /// The metadata server has no such path.
    MetadataPathNotFound = "METADATA_PATH_NOT_FOUND", "Use a path below /computeMetadata/v1/; a directory lists its entries.";
    /// The metadata server answers GET and HEAD only.
    MetadataMethodNotAllowed = "METADATA_METHOD_NOT_ALLOWED", "Use GET.";
    /// A query parameter is missing or has no legal value.
    MetadataParameterInvalid = "METADATA_PARAMETER_INVALID", "Correct the parameter named in the answer.";
    /// The caller's address belongs to no workload of the network.
    MetadataCallerUnknown = "METADATA_CALLER_UNKNOWN", "Call from a declared instance, an exec session or a service's instance.";
    /// The caller has no such service account.
    ServiceAccountNotFound = "SERVICE_ACCOUNT_NOT_FOUND", "Give the workload a service account that the topology declares.";
    /// The body of the token request is not what the IAM Credentials API takes.
    TokenRequestInvalid = "TOKEN_REQUEST_INVALID", "Correct the field named in the answer.";
    /// The credential of a call to a Google API is no access token of this issuer.
    ApiTokenInvalid = "ACCESS_TOKEN_TYPE_UNSUPPORTED", "Send `Authorization: Bearer` with an access token from the metadata server or the token endpoint.";
    /// The access token has none of the scopes that the API asks for.
    ApiScopeInsufficient = "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Ask for a token with the scope https://www.googleapis.com/auth/cloud-platform.";
    /// The caller may not act as the service account.
    ImpersonationDenied = "IAM_PERMISSION_DENIED", "Grant roles/iam.serviceAccountTokenCreator on the service account to the caller.";
    /// The response body is larger than 32 MiB and announced by Content-Length.
    ResponseTooLarge = "RESPONSE_TOO_LARGE", "Send at most 32 MiB, or stream the response without Content-Length.";
    // --- API proxy ---
    /// No API proxy is deployed under this host and base path.
    ApplicationNotFound = "messaging.adaptors.http.flow.ApplicationNotFound", "Use a hostname of the environment group and the base path of a deployed proxy.";
    /// A policy of the proxy raised a fault.
    PolicyFault = "POLICY_FAULT", "See the policy and fault code named above.";
    /// No RouteRule matches.
    RouteFailed = "messaging.runtime.RouteFailed", "Add a RouteRule without a condition as the last one.";
    /// The target cannot be reached.
    TargetUnavailable = "messaging.adaptors.http.flow.ServiceUnavailable", "Check the target's name, address and certificate.";
    /// The target did not answer in time.
    TargetTimeout = "messaging.adaptors.http.flow.GatewayTimeout", "Answer faster, or raise io.timeout.millis.";
    /// No ID token could be made for the target.
    GoogleTokenGenerationFailure = "messaging.adaptors.http.filter.GoogleTokenGenerationFailure", "Deploy the proxy with a serviceAccount that exists, and set the audience.";
    /// The target answered with an error status.
    TargetErrorStatus = "messaging.adaptors.http.flow.ErrorResponseCode", "See the hop that refused, below.";
    /// The target's TLS certificate was not accepted.
    TargetSslHandshakeFailed = "messaging.adaptors.http.flow.SslHandshakeFailed", "Let the certificate name the host of the target URL; with Enforce it must come from the trusted CA.";
    /// The target closed the connection before its answer was complete, or did not speak HTTP.
    TargetUnexpectedEof = "messaging.adaptors.http.flow.UnexpectedEOFAtTarget", "Look into the target's own log.";
    /// The call ran into api.timeout.
    ApiTimedOut = "flow.APITimedOut", "Answer faster, or raise api.timeout of the proxy endpoint.";
    /// A payload is larger than the proxy may buffer.
    BodyBufferOverflow = "protocol.http.TooBigBody", "Send less, raise the payload parse limit, or enable streaming.";
    /// The client was too slow with its request.
    ClientTimeout = "messaging.adaptors.http.flow.RequestTimeOut", "Send the request faster, or raise io.timeout.millis.";
}

#[cfg(test)]
mod tests {
    use super::Reason;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_found_again() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(reason.summary().ends_with('.') && reason.fix().ends_with('.'), "{reason}");
        }
    }
}
