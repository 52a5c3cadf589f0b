//! Cloud Armor security policies (cloud-run 6.2).

use ipnet::IpNet;
use names::SelfLink;
use serde::{Deserialize, Serialize};

/// A security policy of type CLOUD_ARMOR: what is asked before a backend service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityPolicy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// By priority, each once; the last one is the default rule.
    pub rules: Vec<SecurityRule>,
    /// `advancedOptionsConfig.userIpRequestHeaders`: who the client is, the first header that
    /// holds an address.
    pub user_ip_request_headers: Vec<String>,
    /// The address groups that rules name, by the name that they use.
    pub address_groups: Vec<AddressGroup>,
    /// Ours (`postern: {origins}`): what is known about addresses, the longest range first.
    pub origins: Vec<KnownOrigin>,
}

/// `rules[]` of a security policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecurityRule {
    /// The lowest number goes first.
    pub priority: u32,
    /// Free text.
    pub description: String,
    /// Is it logged only?
    pub preview: bool,
    /// Whom it is for.
    pub matches: SecurityMatch,
    /// What becomes of them.
    pub action: SecurityAction,
    /// `headerAction.requestHeadersToAdds[]` of a request that is let through: name and value.
    pub request_headers_to_add: Vec<(String, String)>,
}

/// `match` of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecurityMatch {
    /// `*`.
    Everyone,
    /// `SRC_IPS_V1`.
    SrcIpRanges(Vec<IpNet>),
    /// `expr.expression`, in the rules language.
    Expression(String),
}

/// `action` of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecurityAction {
    /// `allow`.
    Allow,
    /// `deny(STATUS)`.
    Deny(u16),
    /// `redirect` with EXTERNAL_302: its target.
    Redirect(String),
    /// `throttle`.
    Throttle(RateLimit),
    /// `rate_based_ban`.
    RateBasedBan(RateLimit, Ban),
}

/// `rateLimitOptions` of a rule, but for the ban.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// `rateLimitThreshold`.
    pub threshold: RateThreshold,
    /// `exceedAction`.
    pub exceed: ExceedAction,
    /// Whose requests are counted together: one to three kinds of key.
    pub keys: Vec<RateKey>,
}

/// So many requests in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateThreshold {
    /// Requests.
    pub count: u32,
    /// Seconds.
    pub interval_sec: u32,
}

/// `banThreshold` and `banDurationSec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// None: whoever exceeds the rate limit is banned at once.
    pub threshold: Option<RateThreshold>,
    /// Seconds.
    pub duration_sec: u32,
}

/// `exceedAction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExceedAction {
    /// `deny(STATUS)`.
    Deny(u16),
    /// `redirect`, with EXTERNAL_302: its target.
    Redirect(String),
}

/// `enforceOnKey`, `enforceOnKeyConfigs[].enforceOnKeyType`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RateKey {
    /// Everybody together.
    All,
    /// The client's address.
    Ip,
    /// A header.
    HttpHeader(String),
    /// The first address of X-Forwarded-For.
    XffIp,
    /// A cookie.
    HttpCookie(String),
    /// The path.
    HttpPath,
    /// The name in the TLS handshake.
    Sni,
    /// The country, as [`SecurityPolicy::origins`] know it.
    RegionCode,
    /// As [`SecurityPolicy::user_ip_request_headers`] say.
    UserIp,
}

/// An address group of the network security API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressGroup {
    /// As rules name it.
    pub name: String,
    /// Its items.
    pub items: Vec<IpNet>,
}

/// What is known about the addresses of a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownOrigin {
    /// The range.
    pub range: IpNet,
    /// `origin.region_code`.
    pub region_code: Option<String>,
    /// `origin.asn`.
    pub asn: Option<u32>,
}
