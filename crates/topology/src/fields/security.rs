//! Cloud Armor security policies and the address groups that they name (cloud-run 6.2).

use crate::decode::{At, Int, Text, TextOrNumber, record, words};

words! {
    /// What a security policy is for.
    SecurityPolicyType {
        CloudArmor = "CLOUD_ARMOR";
        Edge = "CLOUD_ARMOR_EDGE";
        Network = "CLOUD_ARMOR_NETWORK";
        InternalService = "CLOUD_ARMOR_INTERNAL_SERVICE";
    }
}

record! {
    /// A security policy.
    SecurityPolicy {
        req name: Text = "name";
        opt self_link: Text = "selfLink";
        opt region: Text = "region";
        opt policy_type: At<SecurityPolicyType> = "type";
        def rules: Vec<SecurityPolicyRule> = "rules";
        opt advanced_options: AdvancedOptions = "advancedOptionsConfig";
        opt adaptive_protection: AdaptiveProtection = "adaptiveProtectionConfig";
        opt postern: SecurityPolicyPostern = "postern";
    }
    descriptive ["description", "labels", "displayName", "shortName"]
    refused [
        "ddosProtectionConfig": "only network edge policies have it",
        "recaptchaOptionsConfig": "there is no reCAPTCHA service",
        "userDefinedFields": "only network edge policies have them",
        "associations": "hierarchical policies are not simulated",
        "parent": "hierarchical policies are not simulated",
    ]
    output_only [
        "id", "kind", "selfLinkWithId", "creationTimestamp", "fingerprint", "labelFingerprint", "ruleTupleCount"
    ]
}

record! {
    /// Ours: what nobody can know of addresses without the internet.
    SecurityPolicyPostern {
        def origins: Vec<KnownOrigin> = "origins";
    }
}

record! {
    /// What is known about the addresses of a range.
    KnownOrigin {
        req range: Text = "range";
        opt region_code: Text = "regionCode";
        opt asn: At<Int<0, 4294967295>> = "asn";
    }
}

record! {
    /// Of the advanced options those that name the user's address.
    AdvancedOptions {
        def user_ip_request_headers: Vec<Text> = "userIpRequestHeaders";
    }
    // Bodies are inspected by preconfigured rules alone, and these are refused.
    descriptive ["jsonParsing", "jsonCustomConfig", "requestBodyInspectionSize"]
    not_yet ["logLevel" ("NORMAL")]
}

record! {
    /// Adaptive protection: off.
    AdaptiveProtection {
        opt layer7: Layer7DdosDefense = "layer7DdosDefenseConfig";
    }
    refused ["autoDeployConfig": "there is no adaptive protection"]
}

record! {
    /// Adaptive protection at layer 7: off.
    Layer7DdosDefense {
        opt rule_visibility: Text = "ruleVisibility";
    }
    refused [
        "enable" ("false"): "there is no adaptive protection",
        "thresholdConfigs": "there is no adaptive protection",
    ]
}

record! {
    /// A rule of a security policy.
    SecurityPolicyRule {
        req priority: At<Int<0, 2147483647>> = "priority";
        req action: Text = "action";
        opt description: Text = "description";
        opt preview: bool = "preview";
        req matches: SecurityPolicyMatch = "match";
        opt rate_limit: RateLimitOptions = "rateLimitOptions";
        opt redirect: RedirectOptions = "redirectOptions";
        opt header_action: SecurityHeaderAction = "headerAction";
    }
    not_yet ["enableLogging" ("true")]
    refused [
        "preconfiguredWafConfig": "the rule sets of preconfigured WAF rules are Google's own",
        "networkMatch": "only network edge policies have it",
        "targetResources": "hierarchical policies are not simulated",
        "targetServiceAccounts": "hierarchical policies are not simulated",
        "direction" ("INGRESS"): "hierarchical policies are not simulated",
    ]
    output_only ["kind", "ruleNumber", "ruleTupleCount"]
}

words! {
    /// What `config` of a match means.
    VersionedExpr {
        SrcIpsV1 = "SRC_IPS_V1";
    }
}

record! {
    /// Whom a rule is for: addresses, or an expression.
    SecurityPolicyMatch {
        opt versioned_expr: VersionedExpr = "versionedExpr";
        opt config: SecurityMatchConfig = "config";
        opt expr: SecurityExpression = "expr";
    }
    refused ["exprOptions": "there is no reCAPTCHA service"]
}

record! {
    /// Addresses.
    SecurityMatchConfig {
        def src_ip_ranges: Vec<Text> = "srcIpRanges";
    }
}

record! {
    /// An expression of the rules language.
    SecurityExpression {
        req expression: Text = "expression";
    }
    descriptive ["title", "description", "location"]
}

record! {
    /// Headers that a rule adds.
    SecurityHeaderAction {
        def add: Vec<SecurityHeader> = "requestHeadersToAdds" | "requestHeadersToAdd";
    }
}

record! {
    /// A header that a rule adds.
    SecurityHeader {
        req name: Text = "headerName";
        opt value: Text = "headerValue";
    }
}

words! {
    /// Where a rule redirects to.
    RedirectType {
        Recaptcha = "GOOGLE_RECAPTCHA";
        External = "EXTERNAL_302";
    }
}

record! {
    /// A redirect.
    RedirectOptions {
        req redirect_type: At<RedirectType> = "type";
        opt target: Text = "target";
    }
}

words! {
    /// Whose requests are counted together.
    EnforceOnKey {
        All = "ALL";
        Ip = "IP";
        HttpHeader = "HTTP_HEADER";
        XffIp = "XFF_IP";
        HttpCookie = "HTTP_COOKIE";
        HttpPath = "HTTP_PATH";
        Sni = "SNI";
        RegionCode = "REGION_CODE";
        Ja3 = "TLS_JA3_FINGERPRINT";
        Ja4 = "TLS_JA4_FINGERPRINT";
        UserIp = "USER_IP";
    }
}

record! {
    /// How many requests, by which key.
    RateLimitOptions {
        opt threshold: RateLimitThreshold = "rateLimitThreshold";
        opt conform_action: Text = "conformAction";
        opt exceed_action: Text = "exceedAction";
        opt exceed_redirect: RedirectOptions = "exceedRedirectOptions";
        opt key: At<EnforceOnKey> = "enforceOnKey";
        opt key_name: Text = "enforceOnKeyName";
        opt keys: At<Vec<EnforceOnKeyConfig>> = "enforceOnKeyConfigs";
        opt ban_threshold: RateLimitThreshold = "banThreshold";
        opt ban_duration_sec: At<Int<1, 2147483647>> = "banDurationSec";
    }
    refused ["exceedActionRpcStatus": "only service meshes have it"]
}

record! {
    /// One of several keys.
    EnforceOnKeyConfig {
        req key: At<EnforceOnKey> = "enforceOnKeyType";
        opt key_name: Text = "enforceOnKeyName";
    }
}

record! {
    /// So many requests in so many seconds.
    RateLimitThreshold {
        req count: At<Int<1, 1000000>> = "count";
        req interval_sec: At<Int<1, 3600>> = "intervalSec";
    }
}

record! {
    /// An address group (network security API).
    AddressGroup {
        req name: Text = "name";
        req items: Vec<Text> = "items";
    }
    descriptive ["description", "labels", "capacity", "purpose", "type"]
    output_only ["createTime", "updateTime", "selfLink"]
}

record! {
    /// Identity-Aware Proxy: off.
    Iap {
        opt oauth2_client_id: TextOrNumber = "oauth2ClientId";
    }
    descriptive ["oauth2ClientSecret"]
    refused ["enabled" ("false"): "without it requests would pass without a sign-in"]
    output_only ["oauth2ClientSecretSha256", "oauth2ClientInfo"]
}
