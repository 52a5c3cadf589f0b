//! What is wrong with the files: where, a stable code, what and why, and how to fix it.

use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How bad it is. A topology with an error is not used; one with warnings is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The topology cannot be used.
    Error,
    /// The topology can be used, but something in it is not what it seems.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// A place in a file. Line and column count from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The file, as it was named to [`crate::load`].
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One finding. Prints as `path:line:column: error CODE: what; why`, and the fix on a second line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code, one of [`CODES`].
    pub code: &'static str,
    /// Where.
    pub at: Position,
    /// What, and why it is so.
    pub message: String,
    /// How to fix it.
    pub fix: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, code, at, message, fix } = self;
        write!(f, "{at}: {severity} {code}: {message}\n    fix: {fix}")
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        /// The codes of all diagnostics, in one place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            pub(crate) const fn code(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }
        }

        /// Every code with its meaning, for documentation and tests.
        pub const CODES: &[(&str, &str)] = &[$(($code, $meaning),)*];
    };
}

codes! {
    // --- files and syntax ---
    FileNotReadable = "FILE_NOT_READABLE", "The file or folder cannot be read.";
    FileTooLarge = "FILE_TOO_LARGE", "The file is larger than the limit.";
    EmptyTopology = "EMPTY_TOPOLOGY", "No document was found.";
    Syntax = "SYNTAX", "The text is not well-formed YAML or JSON.";
    TooDeep = "TOO_DEEP", "Collections are nested too deeply.";
    AliasTooLarge = "ALIAS_TOO_LARGE", "Aliases expand to too much.";
    TagNotSupported = "TAG_NOT_SUPPORTED", "Only the tags of the YAML core schema are read.";
    DuplicateKey = "DUPLICATE_KEY", "A mapping has the same key twice.";
    // --- shape ---
    UnknownField = "UNKNOWN_FIELD", "The resource has no field of this name.";
    UnknownKind = "UNKNOWN_KIND", "The document's kind is none that is read.";
    WrongType = "WRONG_TYPE", "The value is of another type than the field.";
    InvalidValue = "INVALID_VALUE", "The value is not one that the field takes.";
    MissingField = "MISSING_FIELD", "A field that the resource needs is absent.";
    ConflictingFields = "CONFLICTING_FIELDS", "Two fields of which only one may be set.";
    NotYetHonoured = "NOT_YET_HONOURED", "The field or resource is known, but has no effect in this release.";
    NotYetSupported = "NOT_YET_SUPPORTED", "The field or resource is known, and ignoring it would be wrong.";
    FieldNotSupported = "FIELD_NOT_SUPPORTED", "The real product refuses the field.";
    // --- names and references ---
    InvalidName = "INVALID_NAME", "The name breaks the naming rule of its kind.";
    DuplicateResource = "DUPLICATE_RESOURCE", "Two resources have the same name.";
    NoProject = "NO_PROJECT", "It is not known to which project a resource belongs.";
    NoRegion = "NO_REGION", "It is not known to which region a resource belongs.";
    ReferenceNotFound = "REFERENCE_NOT_FOUND", "A reference leads to nothing.";
    ReferenceWrongKind = "REFERENCE_WRONG_KIND", "A reference leads to another kind of resource.";
    RegionMismatch = "REGION_MISMATCH", "Two resources must be in one region and are not.";
    NetworkMismatch = "NETWORK_MISMATCH", "Two resources must be in one network and are not.";
    ProjectNumber = "PROJECT_NUMBER", "Project numbers contradict each other.";
    // --- networks and addresses ---
    InvalidRange = "INVALID_RANGE", "The range is none that a subnetwork can have.";
    SubnetOverlap = "SUBNET_OVERLAP", "Two subnetworks overlap where they must not.";
    SubnetPurpose = "SUBNET_PURPOSE", "The subnetwork has the wrong purpose.";
    SubnetAmbiguous = "SUBNET_AMBIGUOUS", "More than one subnetwork could be meant.";
    SubnetNotFound = "SUBNET_NOT_FOUND", "The network has no subnetwork that fits.";
    AddressOutsideSubnet = "ADDRESS_OUTSIDE_SUBNET", "The address is not in the subnetwork.";
    AddressReserved = "ADDRESS_RESERVED", "The address is one that Google reserves in each subnetwork.";
    AddressInUse = "ADDRESS_IN_USE", "The address is taken.";
    AddressExhausted = "ADDRESS_EXHAUSTED", "The subnetwork has no free address left.";
    PeeringOneSided = "PEERING_ONE_SIDED", "The peering is declared on one side only and is inactive.";
    PeeringInvalid = "PEERING_INVALID", "The peering cannot be.";
    LoadBalancerHasNoProxySubnet = "LOAD_BALANCER_HAS_NO_PROXY_SUBNET", "The region has no proxy-only subnetwork.";
    ProxySubnet = "PROXY_SUBNET", "A proxy-only subnetwork breaks a rule.";
    FirewallRule = "FIREWALL_RULE", "A firewall rule breaks a rule.";
    StaticRoute = "STATIC_ROUTE", "A static route breaks a rule.";
    SharedVpc = "SHARED_VPC", "A project uses a network that is not shared with it.";
    // --- Private Service Connect ---
    NatSubnetShared = "NAT_SUBNET_SHARED", "A NAT subnetwork belongs to one service attachment only.";
    MixedListKinds = "MIXED_LIST_KINDS", "The accept and reject lists hold more than one kind of value.";
    DuplicateEntry = "DUPLICATE_ENTRY", "A list holds the same entry twice.";
    ListTooLong = "LIST_TOO_LONG", "A list holds more entries than the product allows.";
    PscSameNetwork = "PSC_SAME_NETWORK", "An endpoint is in the network of the service that it targets.";
    PscRegionMismatch = "PSC_REGION_MISMATCH", "An endpoint is in another region than its service attachment.";
    PscServiceAttachmentNotFound = "PSC_SERVICE_ATTACHMENT_NOT_FOUND", "An endpoint's target is not in the topology.";
    PscTargetNotSupported = "PSC_TARGET_NOT_SUPPORTED", "The forwarding rule is none that can be published.";
    ProxyProtocolToApplicationLb = "PROXY_PROTOCOL_TO_APPLICATION_LB", "A PROXY header reaches no target HTTP(S) proxy.";
    NoEffect = "NO_EFFECT", "The value has no effect here.";
    // --- load balancing ---
    HostRule = "HOST_RULE", "A host rule breaks a rule of URL maps.";
    PathRule = "PATH_RULE", "A path rule breaks a rule of URL maps.";
    RouteRule = "ROUTE_RULE", "A route rule breaks a rule of URL maps.";
    RouteAction = "ROUTE_ACTION", "A route action breaks a rule of URL maps.";
    HeaderAction = "HEADER_ACTION", "A header action breaks a rule of URL maps.";
    UrlRedirect = "URL_REDIRECT", "A redirect breaks a rule of URL maps.";
    UrlMask = "URL_MASK", "The URL mask is not well-formed.";
    ServerlessBackend = "SERVERLESS_BACKEND", "The backend service breaks a rule for serverless groups.";
    HealthCheck = "HEALTH_CHECK", "A health check breaks a rule, or is missing.";
    SslPolicy = "SSL_POLICY", "An SSL policy breaks a rule.";
    SecurityExpression = "SECURITY_EXPRESSION", "The expression of a security policy's rule is not one that can be evaluated.";
    BackendGroup = "BACKEND_GROUP", "The groups of a backend service do not go together.";
    PortRange = "PORT_RANGE", "The forwarding rule's ports are not one port.";
    Certificate = "CERTIFICATE", "The certificate or its key cannot be read.";
    CertificateWithoutKey = "CERTIFICATE_WITHOUT_KEY", "The certificate has no key; the dev CA issues a leaf with its names.";
    // --- DNS ---
    DnsName = "DNS_NAME", "The text is no DNS name of the form needed.";
    ZoneConflict = "ZONE_CONFLICT", "Two zones of one name are bound to one network.";
    RecordOutsideZone = "RECORD_OUTSIDE_ZONE", "The record's name is not in the zone.";
    RecordConflict = "RECORD_CONFLICT", "Record sets contradict each other.";
    RecordData = "RECORD_DATA", "The record's data does not fit its type.";
    DnsPolicy = "DNS_POLICY", "A server policy or a response policy breaks a rule.";
    NameServer = "NAME_SERVER", "A name server to forward to is missing, or is named twice.";
    RoutingPolicy = "ROUTING_POLICY", "A routing policy breaks a rule.";
    RecordZone = "RECORD_ZONE", "It is not known to which zone an exported record set belongs.";
    // --- Cloud Run and IAM ---
    ImageUnknown = "IMAGE_UNKNOWN", "Nothing says how the image runs on this machine.";
    ImageConflict = "IMAGE_CONFLICT", "Two documents say different things of one image.";
    ServicePorts = "SERVICE_PORTS", "The container's ports break a rule.";
    ServiceContainers = "SERVICE_CONTAINERS", "The containers of a revision do not go together.";
    ServiceResources = "SERVICE_RESOURCES", "CPU or memory limits break a rule.";
    ServiceProbe = "SERVICE_PROBE", "A probe breaks a rule.";
    ServiceVolumes = "SERVICE_VOLUMES", "A volume or its mount breaks a rule.";
    ServiceRevision = "SERVICE_REVISION", "A revision is declared twice, or belongs to no service.";
    LaunchStage = "LAUNCH_STAGE", "A feature needs another launch stage than the declared one.";
    Mock = "MOCK", "The document that a mock answers from cannot be used.";
    Secret = "SECRET", "A secret, or one of its versions, breaks a rule.";
    SecretsAccessCheckFailed = "SECRETS_ACCESS_CHECK_FAILED", "A revision refers to a secret's version that it cannot read.";
    ServiceEnv = "SERVICE_ENV", "The container's environment breaks a rule.";
    ServiceScaling = "SERVICE_SCALING", "Instance counts, concurrency or timeout break a rule.";
    ServiceTraffic = "SERVICE_TRAFFIC", "The traffic targets break a rule.";
    IamMember = "IAM_MEMBER", "The text is no IAM member.";
    IamRole = "IAM_ROLE", "The role is written wrongly.";
    // --- API platform ---
    ApigeeNetwork = "APIGEE_NETWORK", "The organisation's tenant network is not known or not usable.";
    ApigeeDnsModel = "APIGEE_DNS_MODEL", "The way of DNS peering does not go with the organisation's provisioning.";
    HostnameConflict = "HOSTNAME_CONFLICT", "Two environment groups have the same hostname.";
    DeploymentConflict = "DEPLOYMENT_CONFLICT", "An API proxy is deployed twice to one environment.";
    BundleNotFound = "BUNDLE_NOT_FOUND", "The bundle of a deployment is not there.";
    // --- our own ---
    Expectation = "EXPECTATION", "The expectation cannot be checked as it is written.";
    HostConflict = "HOST_CONFLICT", "Two hosts, or two networks of a host, contradict each other.";
    HostWay = "HOST_WAY", "An endpoint and its service are on hosts between which there is no way.";
    PlacementConflict = "PLACEMENT_CONFLICT", "Two placements contradict each other.";
}

/// A place in one of the files, by number; [`Findings::finish`] puts the name in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

struct Finding {
    severity: Severity,
    code: Code,
    at: Mark,
    message: String,
    fix: String,
}

/// Collects everything; nothing stops at the first mistake.
#[derive(Default)]
pub(crate) struct Findings {
    files: Vec<Arc<Path>>,
    list: Vec<Finding>,
    errors: usize,
    dropped: usize,
}

impl Findings {
    /// For these files, which marks name by number.
    pub(crate) fn new(files: Vec<Arc<Path>>) -> Self {
        Findings { files, ..Findings::default() }
    }

    /// One more file; its number for marks.
    pub(crate) fn file(&mut self, path: &Path) -> u32 {
        self.files.push(path.into());
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// A mark as people read it.
    pub(crate) fn position(&self, at: Mark) -> Position {
        let file = self.files.get(at.file as usize).cloned();
        let file = file.unwrap_or_else(|| Arc::from(Path::new("")));
        Position { file, line: at.line.max(1), column: at.column.max(1) }
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        at: Mark,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, code, at, message.into(), fix.into());
    }

    pub(crate) fn warning(
        &mut self,
        code: Code,
        at: Mark,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, at, message.into(), fix.into());
    }

    fn push(&mut self, severity: Severity, code: Code, at: Mark, message: String, fix: String) {
        self.list.push(Finding { severity, code, at, message, fix });
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Notes that an item of a list could not be read and is left out: that the list is empty, or
    /// lacks something, is no second mistake then.
    pub(crate) fn drop_item(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped
    }

    /// All findings, sorted by file, line, column; the same finding is printed once.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let mut list = std::mem::take(&mut self.list);
        list.sort_by_key(|finding| (finding.at, finding.severity));
        let mut all: Vec<Diagnostic> = Vec::with_capacity(list.len());
        for Finding { severity, code, at, message, fix } in list {
            let at = self.position(at);
            let one = Diagnostic { severity, code: code.code(), at, message, fix };
            if all.last() != Some(&one) {
                all.push(one);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_screaming_words() {
        let codes: HashSet<_> = CODES.iter().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), CODES.len());
        for (code, meaning) in CODES {
            assert!(code.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{code}");
            assert!(meaning.ends_with('.'), "{code}");
        }
    }

    #[test]
    fn a_diagnostic_prints_path_line_column_code_what_why_and_fix() {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            code: Code::UnknownField.code(),
            at: Position { file: Arc::from(Path::new("a/b.yaml")), line: 3, column: 5 },
            message: "no field `x`; a network has other fields".into(),
            fix: "remove it".into(),
        };
        assert_eq!(
            diagnostic.to_string(),
            "a/b.yaml:3:5: error UNKNOWN_FIELD: no field `x`; a network has other fields\n    fix: remove it"
        );
    }
}
