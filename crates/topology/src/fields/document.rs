//! A topology document: a project's resources under the collection names of the REST API.

use super::{
    apigee, backends, cloud_run, dns, firewalls, hubs, iam, load_balancing, network, org_policy,
    ours, psc, secrets, security, url_maps,
};
use crate::decode::{At, Decode, Int, Mapping, Text, record};
use crate::diagnostic::{Code, Findings};
use crate::node::{Kind, Node};
use crate::schema::Schema;
use serde_json::Value;

record! {
    /// A topology document. `project` and `region` are the scope of everything in it.
    Document {
        opt project: Text = "project";
        opt region: Text = "region";
        opt project_number: At<Int<1, 9999999999999999>> = "projectNumber";

        def networks: Items<network::Network> = "networks";
        def subnetworks: Items<network::Subnetwork> = "subnetworks";
        def addresses: Items<network::Address> = "addresses";
        def global_addresses: Items<network::Address> = "globalAddresses";
        def instances: Items<network::Instance> = "instances";
        def firewalls: Items<firewalls::Firewall> = "firewalls";
        def routes: Items<firewalls::Route> = "routes";
        opt xpn_project_status: At<firewalls::XpnProjectStatus> = "xpnProjectStatus";
        def xpn_resources: firewalls::XpnResources = "xpnResources";
        def forwarding_rules: Items<psc::ForwardingRule> = "forwardingRules";
        def global_forwarding_rules: Items<psc::ForwardingRule> = "globalForwardingRules";
        def service_attachments: Items<psc::ServiceAttachment> = "serviceAttachments";
        def url_maps: Items<url_maps::UrlMap> = "urlMaps" | "regionUrlMaps";
        def target_http_proxies: Items<load_balancing::TargetHttpProxy> = "targetHttpProxies" | "regionTargetHttpProxies";
        def target_https_proxies: Items<load_balancing::TargetHttpsProxy> = "targetHttpsProxies" | "regionTargetHttpsProxies";
        def target_tcp_proxies: Items<load_balancing::TargetTcpProxy> = "targetTcpProxies" | "regionTargetTcpProxies";
        def target_instances: Items<load_balancing::TargetInstance> = "targetInstances";
        def instance_groups: Items<backends::InstanceGroup> = "instanceGroups";
        def ssl_certificates: Items<load_balancing::SslCertificate> = "sslCertificates" | "regionSslCertificates";
        def backend_services: Items<backends::BackendService> = "backendServices" | "regionBackendServices";
        def network_endpoint_groups: Items<backends::NetworkEndpointGroup> = "networkEndpointGroups" | "regionNetworkEndpointGroups";
        def health_checks: Items<backends::HealthCheck> = "healthChecks" | "regionHealthChecks";
        def ssl_policies: Items<load_balancing::SslPolicy> = "sslPolicies" | "regionSslPolicies";
        def server_tls_policies: Items<load_balancing::ServerTlsPolicy> = "serverTlsPolicies";
        def trust_configs: Items<load_balancing::TrustConfig> = "trustConfigs";
        def security_policies: Items<security::SecurityPolicy> = "securityPolicies" | "regionSecurityPolicies";
        def address_groups: Items<security::AddressGroup> = "addressGroups";
        def managed_zones: Items<dns::ManagedZone> = "managedZones";
        def policies: Items<dns::Policy> = "policies";
        def response_policies: Items<dns::ResponsePolicy> = "responsePolicies";
        def services: Items<cloud_run::Service> = "services";
        def revisions: Vec<cloud_run::Revision> = "revisions";
        def secrets: Items<secrets::Secret> = "secrets";
        def iam_policies: Vec<iam::IamPolicy> = "iamPolicies";
        def service_accounts: Vec<iam::ServiceAccount> = "serviceAccounts";
        def roles: Vec<iam::Role> = "roles";
        def groups: Vec<iam::Group> = "groups";
        opt parent: Text = "parent";
        def folders: Vec<org_policy::Folder> = "folders";
        def org_policies: Vec<org_policy::OrgPolicy> = "orgPolicies";
        def hubs: Vec<hubs::Hub> = "hubs";
        def spokes: Vec<hubs::Spoke> = "spokes";

        def organizations: Vec<apigee::Organization> = "organizations";
        opt organization: OrganizationName = "organization";
        def environments: Vec<apigee::Environment> = "environments";
        def envgroups: Vec<apigee::EnvironmentGroup> = "envgroups";
        def endpoint_attachments: Vec<apigee::EndpointAttachment> = "endpointAttachments";
        def deployments: Vec<apigee::Deployment> = "deployments";
        def apiproducts: Vec<apigee::ApiProduct> = "apiproducts" | "apiProducts";
        def developers: Vec<apigee::Developer> = "developers";
        def apps: Vec<apigee::App> = "apps";
        def dns_zones: Vec<apigee::DnsZone> = "dnsZones" | "dnsPeeringZones";
        def peered_dns_domains: Vec<apigee::PeeredDnsDomain> = "peeredDnsDomains";
        opt postern: ours::Postern = "postern";

        def images: Mapping<ours::Image> = "images";
        def placements: Placements = "placements";
        def hosts: Vec<ours::Host> = "hosts";
        def expectations: Vec<ours::Expectation> = "expectations";
        opt limits: ours::Limits = "limits";
    }
    descriptive ["description"]
    not_yet [
        "targetservers", "keyvaluemaps", "sharedflows", "flowhooks", "routers", "vpnTunnels", "vpnGateways",
        "interconnectAttachments", "externalVpnGateways",
        "regionInstanceGroups", "instanceTemplates", "instanceGroupManagers", "globalNetworkEndpointGroups",
        "backendBuckets", "networkAttachments", "packetMirrorings", "targetVpnGateways",
        "jobs", "workerPools", "domainMappings", "connectors"
    ]
    refused [
        "targetGrpcProxies": "proxyless gRPC comes in a later release",
        "firewallPolicies": "without them traffic would flow that they deny",
        "regionNetworkFirewallPolicies": "without them traffic would flow that they deny",
        "networkFirewallPolicies": "without them traffic would flow that they deny",
        "organizationSecurityPolicies": "without them requests would pass that they deny",
        "servicePerimeters": "without them requests would pass that they deny",
        // Google's own callers, which Cloud Run takes for internal (cloud-run 4).
        "queues": "Cloud Tasks does not run here, and nothing would make its requests; make them from a network of the project, which is internal as they are",
        "subscriptions": "Pub/Sub does not run here, and nothing would make its push requests; make them from a network of the project, which is internal as they are",
        "triggers": "Eventarc does not run here, and nothing would make its requests; make them from a network of the project, which is internal as they are",
        "workflows": "Workflows does not run here, and nothing would make its requests; make them from a network of the project, which is internal as they are",
        "schedulerJobs": "Cloud Scheduler does not run here, and nothing would make its requests; make them from a network of the project, which is internal as they are",
        "apis": "API gateways come in a later release",
        "gateways": "API gateways come in a later release",
    ]
}

/// The items of a collection. The names of items that could not be read are kept: references to
/// them are no second mistake.
#[derive(Clone, Debug)]
pub(crate) struct Items<T> {
    pub(crate) read: Vec<T>,
    pub(crate) broken: Vec<String>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Items { read: Vec::new(), broken: Vec::new() }
    }
}

impl<T: Decode> Decode for Items<T> {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            crate::decode::wrong_type(node, "a list of resources", findings);
            return None;
        };
        let mut all = Items { read: Vec::with_capacity(items.len()), broken: Vec::new() };
        for item in items {
            match T::decode(item, findings) {
                Some(read) => all.read.push(read),
                None => {
                    findings.drop_item();
                    all.broken.extend(broken_name(item));
                }
            }
        }
        Some(all)
    }

    fn schema(schema: &mut Schema) -> Value {
        Vec::<T>::schema(schema)
    }
}

/// The name of an item that could not be read.
pub(crate) fn broken_name(item: &Node<'_>) -> Option<String> {
    let name = item.text_of("name").or_else(|| item.text_of("selfLink"))?;
    Some(name.rsplit('/').next().unwrap_or(name).to_owned())
}

/// The organisation of a document: its name, or the resource itself.
#[derive(Clone, Debug)]
pub(crate) enum OrganizationName {
    Name(Text),
    Whole(Box<apigee::Organization>),
}

impl Decode for OrganizationName {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            return Decode::decode(node, findings).map(OrganizationName::Whole);
        }
        match node.scalar() {
            Some(crate::node::Scalar::Text(text)) => {
                Some(OrganizationName::Name(At { at: node.at, value: text.to_owned() }))
            }
            _ => {
                findings.error(
                    Code::WrongType,
                    node.at,
                    format!(
                        "expected an organisation's name or resource, found {}",
                        node.type_name()
                    ),
                    "write the organisation's name",
                );
                None
            }
        }
    }

    fn schema(schema: &mut Schema) -> Value {
        serde_json::json!({"anyOf": [{"type": "string"}, apigee::Organization::schema(schema)]})
    }
}

impl Decode for apigee::DeveloperApp {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => Decode::decode(node, findings).map(apigee::DeveloperApp::App),
            _ => String::decode(node, findings).map(|_| apigee::DeveloperApp::Name),
        }
    }

    fn schema(schema: &mut Schema) -> Value {
        serde_json::json!({"anyOf": [{"type": "string"}, apigee::App::schema(schema)]})
    }
}

/// Placements: a list, or a mapping of declared to actual addresses where the project has one
/// network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placements(pub(crate) Vec<ours::Placement>);

impl Decode for Placements {
    fn decode(node: &Node<'_>, findings: &mut Findings) -> Option<Self> {
        if matches!(node.kind, Kind::List(_)) {
            return Decode::decode(node, findings).map(Placements);
        }
        let entries = Mapping::<Text>::decode(node, findings)?;
        let one = |(declared, actual): (Text, Text)| ours::Placement {
            at: declared.at,
            faulty: false,
            network: None,
            declared,
            actual,
        };
        Some(Placements(entries.0.into_iter().map(one).collect()))
    }

    fn schema(schema: &mut Schema) -> Value {
        let list = Vec::<ours::Placement>::schema(schema);
        serde_json::json!({"anyOf": [list, {"type": "object", "additionalProperties": {"type": "string"}}]})
    }
}
