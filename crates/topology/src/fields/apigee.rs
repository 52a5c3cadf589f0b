//! The API platform: organisation and what belongs to it (apigee 10, private-connectivity 1.8).

use crate::decode::{At, Int, Text, TextOrNumber, record, words};
use crate::diagnostic::Mark;
use std::net::Ipv4Addr;

record! {
    /// An Apigee organisation with its collections.
    Organization {
        req name: Text = "name";
        opt project_id: Text = "projectId";
        opt apigee_project_id: Text = "apigeeProjectId";
        opt authorized_network: Text = "authorizedNetwork";
        opt disable_vpc_peering: bool = "disableVpcPeering";
        def environments: Vec<Environment> = "environments";
        def envgroups: Vec<EnvironmentGroup> = "envgroups";
        def instances: Vec<ApigeeInstance> = "instances";
        def endpoint_attachments: Vec<EndpointAttachment> = "endpointAttachments";
        def deployments: Vec<Deployment> = "deployments";
        def apiproducts: Vec<ApiProduct> = "apiproducts" | "apiProducts";
        def developers: Vec<Developer> = "developers";
        def apps: Vec<App> = "apps";
        def dns_zones: Vec<DnsZone> = "dnsZones" | "dnsPeeringZones";
        def peered_dns_domains: Vec<PeeredDnsDomain> = "peeredDnsDomains";
        opt postern: OrganizationPostern = "postern";
    }
    descriptive [
        "displayName", "description", "attributes", "properties", "analyticsRegion", "runtimeType", "billingType", "type",
        "subscriptionType", "customerName", "apiConsumerDataLocation", "controlPlaneEncryptionKeyName",
        "apiConsumerDataEncryptionKeyName", "runtimeDatabaseEncryptionKeyName", "portalDisabled"
    ]
    not_yet [
        "targetservers", "keyvaluemaps", "sharedflows", "flowhooks", "caches", "addonsConfig", "networkEgressRestricted" ("false")
    ]
    output_only [
        "state", "createdAt", "lastModifiedAt", "expiresAt", "caCertificate", "subscriptionPlan"
    ]
}

record! {
    /// Ours: where the organisation's runtime sits.
    OrganizationPostern {
        opt network: Text = "network";
        opt region: Text = "region";
        opt northbound: Text = "northbound";
    }
}

words! {
    /// What is deployed to an environment.
    DeploymentType { Proxy = "PROXY" | "DEPLOYMENT_TYPE_UNSPECIFIED"; Archive = "ARCHIVE"; }
}

record! {
    /// An environment.
    Environment {
        req name: Text = "name";
        opt deployment_type: At<DeploymentType> = "deploymentType";
    }
    descriptive ["displayName", "description"]
    not_yet [
        // A BASE environment takes no extensible proxies, a CONFIGURABLE one no bundles.
        "type" ("ENVIRONMENT_TYPE_UNSPECIFIED", "INTERMEDIATE", "COMPREHENSIVE"),
        "apiProxyType" ("API_PROXY_TYPE_UNSPECIFIED", "PROGRAMMABLE"),
        "targetservers", "keyvaluemaps", "caches", "flowhooks", "resourcefiles", "forwardProxyUri", "nodeConfig", "properties",
        "clientIpResolutionConfig"
    ]
    output_only ["state", "createdAt", "lastModifiedAt", "hasAttachedFlowHooks"]
}

record! {
    /// An environment group: hostnames and attached environments.
    EnvironmentGroup {
        req name: Text = "name";
        req hostnames: At<Vec<Text>> = "hostnames";
        def attachments: Vec<EnvironmentGroupAttachment> = "attachments";
        def environments: Vec<Text> = "environments";
    }
    output_only ["state", "createdAt", "lastModifiedAt"]
}

record! {
    /// An environment attached to a group.
    EnvironmentGroupAttachment {
        req environment: Text = "environment";
    }
    output_only ["name", "createdAt", "environmentGroupId"]
}

record! {
    /// A runtime instance: gives the region.
    ApigeeInstance {
        req name: Text = "name";
        req location: Text = "location";
    }
    descriptive ["displayName", "description", "diskEncryptionKeyName", "maintenanceUpdatePolicy"]
    not_yet ["peeringCidrRange", "ipRange", "consumerAcceptList", "accessLoggingConfig", "natAddresses", "attachments"]
    output_only [
        "host", "port", "serviceAttachment", "state", "createdAt", "lastModifiedAt", "runtimeVersion",
        "scheduledMaintenance", "isVersionLocked"
    ]
}

record! {
    /// A PSC endpoint in the tenant network (1.8). `host` may be given; otherwise it is the next
    /// free address of the tenant network's subnetwork.
    EndpointAttachment {
        opt name: Text = "name";
        opt endpoint_attachment_id: Text = "endpointAttachmentId";
        opt location: Text = "location";
        req service_attachment: Text = "serviceAttachment";
        opt host: At<Ipv4Addr> = "host";
    }
    output_only ["state", "connectionState"]
}

record! {
    /// An API proxy deployed to an environment.
    Deployment {
        req environment: Text = "environment";
        req api_proxy: Text = "apiProxy";
        opt revision: TextOrNumber = "revision";
        opt service_account: Text = "serviceAccount";
        opt postern: DeploymentPostern = "postern";
    }
    output_only [
        "deployStartTime", "state", "errors", "instances", "pods", "routeConflicts", "proxyDeploymentType",
        "deploymentType"
    ]
}

record! {
    /// Ours: where the bundle is, a folder that holds `apiproxy/` or a zip file, relative to the
    /// topology file. Without it: `proxies/API_PROXY`.
    DeploymentPostern {
        opt bundle: Text = "bundle";
    }
}

record! {
    /// A name and a value.
    Attribute {
        req name: Text = "name";
        opt value: Text = "value";
    }
}

record! {
    /// An API product (10.3).
    ApiProduct {
        req name: Text = "name";
        opt display_name: Text = "displayName";
        def environments: Vec<Text> = "environments";
        def proxies: Vec<Text> = "proxies";
        def api_resources: Vec<Text> = "apiResources";
        opt quota: TextOrNumber = "quota";
        opt quota_interval: TextOrNumber = "quotaInterval";
        opt quota_time_unit: Text = "quotaTimeUnit";
        def attributes: Vec<Attribute> = "attributes";
    }
    descriptive ["description", "space"]
    not_yet [
        // Under `manual` a key is pending until approved; here one without `status` is approved.
        "approvalType" ("auto"), "scopes", "quotaCounterScope" ("QUOTA_COUNTER_SCOPE_UNSPECIFIED", "PROXY")
    ]
    refused [
        "operationGroup": "without it keys would open other operations; list proxies and apiResources",
        "graphqlOperationGroup": "without it keys would open other operations",
        "grpcOperationGroup": "without it keys would open other operations",
        "llmOperationGroup": "without it keys would open other operations",
        "payloadOperationGroup": "without it keys would open other operations",
    ]
    output_only ["createdAt", "lastModifiedAt", "createdBy", "lastModifiedBy"]
}

words! {
    /// Of a developer.
    DeveloperStatus { Active = "active"; Inactive = "inactive"; }
}

record! {
    /// A developer.
    Developer {
        req email: Text = "email";
        opt first_name: Text = "firstName";
        opt last_name: Text = "lastName";
        opt user_name: Text = "userName";
        opt status: DeveloperStatus = "status";
        def attributes: Vec<Attribute> = "attributes";
        def apps: Vec<DeveloperApp> = "apps";
    }
    descriptive ["companies"]
    output_only [
        "developerId", "organizationName", "createdAt", "lastModifiedAt", "accessType", "appFamily"
    ]
}

/// An entry of a developer's `apps`: a bare name as exports have it, or the app itself.
#[derive(Clone, Debug)]
pub(crate) enum DeveloperApp {
    Name,
    App(Box<App>),
}

words! {
    /// Of an app or a key.
    ApprovalStatus { Approved = "approved"; Revoked = "revoked"; Pending = "pending"; }
}

record! {
    /// A developer's app with its keys.
    App {
        req name: Text = "name";
        opt developer: Text = "developer" | "developerEmail";
        opt developer_id: Text = "developerId";
        opt status: ApprovalStatus = "status";
        def attributes: Vec<Attribute> = "attributes";
        def credentials: Vec<Credential> = "credentials";
    }
    descriptive ["callbackUrl", "appFamily"]
    // The latter two describe the key that Google makes with the app; keys are `credentials` here.
    not_yet ["scopes", "keyExpiresIn" ("-1"), "apiProducts"]
    output_only ["appId", "createdAt", "lastModifiedAt"]
}

record! {
    /// A consumer key.
    Credential {
        req consumer_key: Text = "consumerKey";
        opt consumer_secret: Text = "consumerSecret";
        opt status: ApprovalStatus = "status";
        opt expires_at: At<Int<-1, 9223372036854775807>> = "expiresAt";
        def api_products: Vec<CredentialProduct> = "apiProducts";
    }
    not_yet ["scopes", "attributes"]
    output_only ["issuedAt", "expiresInSeconds"]
}

record! {
    /// An API product of a key.
    CredentialProduct {
        req apiproduct: Text = "apiproduct";
        opt status: ApprovalStatus = "status";
    }
}

record! {
    /// A DNS peering zone of an organisation without VPC peering (1.8).
    DnsZone {
        req name: Text = "name";
        req domain: Text = "domain";
        req peering_config: DnsZonePeering = "peeringConfig";
    }
    descriptive ["description"]
    output_only ["state", "createTime", "updateTime"]
}

record! {
    /// Where a DNS peering zone leads.
    DnsZonePeering {
        req target_project_id: Text = "targetProjectId";
        req target_network_id: Text = "targetNetworkId";
    }
}

record! {
    /// A peered DNS domain of service networking, for an organisation with VPC peering (1.8).
    PeeredDnsDomain {
        req name: Text = "name";
        req dns_suffix: Text = "dnsSuffix";
    }
}

impl Organization {
    /// An organisation of which only the name is written.
    pub(crate) fn named(name: Text) -> Self {
        Organization {
            at: name.at,
            faulty: false,
            name,
            project_id: None,
            apigee_project_id: None,
            authorized_network: None,
            disable_vpc_peering: None,
            environments: Vec::new(),
            envgroups: Vec::new(),
            instances: Vec::new(),
            endpoint_attachments: Vec::new(),
            deployments: Vec::new(),
            apiproducts: Vec::new(),
            developers: Vec::new(),
            apps: Vec::new(),
            dns_zones: Vec::new(),
            peered_dns_domains: Vec::new(),
            postern: None,
        }
    }

    /// Takes over the document's own `postern` settings; those inside the resource win.
    pub(crate) fn merge_postern(&mut self, document: super::ours::Postern) {
        let super::ours::Postern { at, faulty, northbound, network, region } = document;
        let own = self.postern.get_or_insert(OrganizationPostern {
            at,
            faulty,
            network: None,
            region: None,
            northbound: None,
        });
        own.network = own.network.take().or(network);
        own.region = own.region.take().or(region);
        own.northbound = own.northbound.take().or(northbound);
    }

    /// Takes over what another document says of the same organisation. An error names the field on
    /// which they differ.
    pub(crate) fn merge(&mut self, other: Organization) -> Result<(), (&'static str, Mark)> {
        let Organization {
            at: _,
            faulty,
            name,
            project_id,
            apigee_project_id,
            authorized_network,
            disable_vpc_peering,
            environments,
            envgroups,
            instances,
            endpoint_attachments,
            deployments,
            apiproducts,
            developers,
            apps,
            dns_zones,
            peered_dns_domains,
            postern,
        } = other;
        self.faulty |= faulty;
        self.environments.extend(environments);
        self.envgroups.extend(envgroups);
        self.instances.extend(instances);
        self.endpoint_attachments.extend(endpoint_attachments);
        self.deployments.extend(deployments);
        self.apiproducts.extend(apiproducts);
        self.developers.extend(developers);
        self.apps.extend(apps);
        self.dns_zones.extend(dns_zones);
        self.peered_dns_domains.extend(peered_dns_domains);
        if let Some(OrganizationPostern { at, faulty, network, region, northbound }) = postern {
            let own = self.postern.get_or_insert(OrganizationPostern {
                at,
                faulty,
                network: None,
                region: None,
                northbound: None,
            });
            one("postern.network", &mut own.network, network)?;
            one("postern.region", &mut own.region, region)?;
            one("postern.northbound", &mut own.northbound, northbound)?;
        }
        if let (Some(own), Some(other)) = (self.disable_vpc_peering, disable_vpc_peering)
            && own != other
        {
            return Err(("disableVpcPeering", name.at));
        }
        self.disable_vpc_peering = self.disable_vpc_peering.or(disable_vpc_peering);
        one("projectId", &mut self.project_id, project_id)?;
        one("apigeeProjectId", &mut self.apigee_project_id, apigee_project_id)?;
        one("authorizedNetwork", &mut self.authorized_network, authorized_network)
    }
}

/// One text from two documents.
fn one(
    field: &'static str,
    own: &mut Option<Text>,
    other: Option<Text>,
) -> Result<(), (&'static str, Mark)> {
    match (&own, other) {
        (Some(own), Some(other)) if own.value != other.value => Err((field, other.at)),
        (None, Some(other)) => {
            *own = Some(other);
            Ok(())
        }
        _ => Ok(()),
    }
}
