//! Front ends of load balancers: target proxies, certificates, TLS policies (private-connectivity
//! 2.1).

use crate::decode::{At, Int, Text, record, words};

record! {
    /// A target HTTP proxy (2.1).
    TargetHttpProxy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req url_map: Text = "urlMap";
        opt postern: TargetProxyPostern = "postern";
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
        opt ssl_policy: Text = "sslPolicy";
        opt server_tls_policy: Text = "serverTlsPolicy";
        opt postern: TargetProxyPostern = "postern";
        opt http_keep_alive_timeout_sec: Int<5, 1200> = "httpKeepAliveTimeoutSec";
    }
    descriptive ["description"]
    not_yet [
        "proxyBind" ("false"), "httpFilters", "quicOverride" ("NONE", "DISABLE"), "tlsEarlyData" ("DISABLED")
    ]
    refused [
        "certificateManagerCertificates": "there is no Certificate Manager here; use sslCertificates",
        "certificateMap": "certificate maps are for global external load balancers",
        "authorizationPolicy": "without it clients would be admitted that it denies",
    ]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint"]
}

record! {
    /// A target TCP proxy: what a proxy Network Load Balancer's forwarding rule leads to.
    TargetTcpProxy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        req service: Text = "service" | "backendService";
        opt proxy_header: super::backends::ProxyHeader = "proxyHeader";
    }
    descriptive ["description"]
    not_yet ["proxyBind" ("false")]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp"]
}

record! {
    /// A target instance: one VM as what a forwarding rule leads to.
    TargetInstance {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt zone: Text = "zone";
        req instance: Text = "instance";
        opt network: Text = "network";
    }
    descriptive ["description"]
    not_yet ["natPolicy" ("NO_NAT")]
    refused ["securityPolicy": "without it packets would pass that it denies"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp"]
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

record! {
    /// Ours: connections begin with a PROXY protocol version 2 header that names the client.
    TargetProxyPostern {
        opt accept_proxy_protocol: bool = "acceptProxyProtocol";
    }
}

words! {
    /// Which cipher suites.
    SslProfile {
        Compatible = "COMPATIBLE";
        Modern = "MODERN";
        Restricted = "RESTRICTED";
        Fips = "FIPS_202205";
        Custom = "CUSTOM";
    }
}

words! {
    /// The oldest TLS version that is spoken.
    MinTlsVersion {
        Tls10 = "TLS_1_0";
        Tls11 = "TLS_1_1";
        Tls12 = "TLS_1_2";
        Tls13 = "TLS_1_3";
    }
}

record! {
    /// How TLS is spoken to clients (2.1).
    SslPolicy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt profile: SslProfile = "profile";
        opt min_tls_version: At<MinTlsVersion> = "minTlsVersion";
        def custom_features: Vec<Text> = "customFeatures";
    }
    descriptive ["description"]
    output_only ["id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "enabledFeatures", "warnings"]
}

words! {
    /// What happens to a client without a good certificate.
    ClientValidationMode {
        Allow = "ALLOW_INVALID_OR_MISSING_CLIENT_CERT";
        Reject = "REJECT_INVALID";
    }
}

record! {
    /// Clients show a certificate (network security API).
    ServerTlsPolicy {
        req name: Text = "name";
        opt mtls_policy: MtlsPolicy = "mtlsPolicy";
    }
    descriptive ["description", "labels"]
    refused [
        "serverCertificate": "only service meshes have it; load balancers have sslCertificates",
        "allowOpen" ("false"): "only service meshes have it",
        "internalCaller" ("false"): "nobody else calls",
    ]
    output_only ["createTime", "updateTime"]
}

record! {
    /// Which client certificates are good.
    MtlsPolicy {
        opt client_validation_mode: At<ClientValidationMode> = "clientValidationMode";
        opt client_validation_trust_config: Text = "clientValidationTrustConfig";
    }
    refused [
        "clientValidationCa": "only service meshes have it; load balancers have clientValidationTrustConfig",
        "tier": "without it other certificates would be good",
    ]
}

record! {
    /// The CAs that client certificates come from (Certificate Manager API).
    TrustConfig {
        req name: Text = "name";
        def trust_stores: Vec<TrustStore> = "trustStores";
        def allowlisted_certificates: Vec<PemCertificate> = "allowlistedCertificates";
    }
    descriptive ["description", "labels"]
    refused ["spiffeTrustStores": "only service meshes have them"]
    output_only ["createTime", "updateTime", "etag"]
}

record! {
    /// Trust anchors and intermediate CAs.
    TrustStore {
        def trust_anchors: Vec<PemCertificate> = "trustAnchors";
        def intermediate_cas: Vec<PemCertificate> = "intermediateCas";
    }
}

record! {
    /// A certificate as PEM.
    PemCertificate {
        req pem_certificate: Text = "pemCertificate";
    }
}
