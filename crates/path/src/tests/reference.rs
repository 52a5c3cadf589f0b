//! The reference architecture as the topology crate would hand it over.

use names::{NetworkId, SelfLink};
use slice::dns::{ManagedZone, ResourceRecordSet, ZoneKind};
use slice::iam::Iam;
use slice::load_balancer::*;
use slice::psc::*;
use slice::run::{Ingress, Revision, Run, Scaling, Service, ServiceAccount, TrafficTarget};
use slice::{Network, Peering, Project, Purpose, Subnetwork, Topology};
use std::sync::Arc;

pub const REGION: &str = "europe-west1";

fn network(project: &str, name: &str, subnetworks: &[(&str, &str, Purpose)]) -> Network {
    Network {
        id: NetworkId::new(project, name),
        project_number: 1,
        subnetworks: subnetworks
            .iter()
            .map(|(name, range, purpose)| Subnetwork {
                self_link: SelfLink::regional(project, REGION, "subnetworks", name),
                region: REGION.to_owned(),
                range: range.parse().expect("a range"),
                purpose: *purpose,
            })
            .collect(),
        peerings: Vec::new(),
        instances: Vec::new(),
        firewalls: Vec::new(),
        routes: Vec::new(),
    }
}

fn zone(link: &str, network: &NetworkId, kind: ZoneKind) -> ManagedZone {
    ManagedZone {
        self_link: SelfLink::new(link),
        dns_name: "example.com.".to_owned(),
        networks: vec![network.clone()],
        kind,
    }
}

fn records(address: &str) -> ZoneKind {
    ZoneKind::Private(vec![ResourceRecordSet {
        name: "internal.example.com.".to_owned(),
        record_type: "A".to_owned(),
        ttl: 300,
        rrdatas: vec![address.to_owned()],
        routing_policy: None,
    }])
}

fn service(name: &str) -> Service {
    Service {
        self_link: SelfLink::new(&format!("projects/producer/locations/{REGION}/services/{name}")),
        name: name.to_owned(),
        project: "producer".to_owned(),
        project_number: 3,
        region: REGION.to_owned(),
        hosts: vec![format!("{name}-3.{REGION}.run.app")],
        traffic: vec![TrafficTarget::latest()],
        custom_audiences: Vec::new(),
        ingress: Ingress::InternalOnly,
        invoker_iam_disabled: false,
        default_uri_disabled: false,
        internal_networks: vec![NetworkId::new("producer", "ilb-network")],
        revision: Revision::new(
            &format!("{name}-00001-abc"),
            Run::Url("http://127.0.0.1:1".to_owned()),
        ),
        scaling: Scaling::default(),
        older_revisions: Vec::new(),
    }
}

/// Tenant network with an endpoint attachment, DNS peering to the consumer's network, producer
/// network with an internal load balancer and a mask, two services.
pub fn reference() -> Topology {
    let private = Purpose::Private;
    let mut tenant = network("tenant", "tenant-network", &[("runtime", "10.10.0.0/24", private)]);
    let mut consumer = network("consumer", "apigee-network", &[("apigee", "10.0.0.0/24", private)]);
    let producer = network(
        "producer",
        "ilb-network",
        &[
            ("ilb-subnet", "10.0.0.0/24", private),
            ("proxy-only", "10.0.1.0/24", Purpose::RegionalManagedProxy),
            ("psc-nat", "10.0.2.0/28", Purpose::PrivateServiceConnect),
        ],
    );
    let peering = |peer: &Network| Peering {
        name: "peering".to_owned(),
        peer: peer.id.clone(),
        active: true,
        export_custom_routes: false,
        import_custom_routes: false,
        export_subnet_routes_with_public_ip: true,
        import_subnet_routes_with_public_ip: false,
    };
    (tenant.peerings, consumer.peerings) = (vec![peering(&consumer)], vec![peering(&tenant)]);
    let project = |id: &str, number| {
        let project = Project { id: id.to_owned(), number };
        (id.to_owned(), project)
    };
    let link =
        |collection: &str, name: &str| SelfLink::regional("producer", REGION, collection, name);
    let attachment = link("serviceAttachments", "apps-attachment");
    let endpoint = Endpoint {
        self_link: SelfLink::new("organizations/org/endpointAttachments/apps"),
        kind: EndpointKind::EndpointAttachment,
        project: "tenant".to_owned(),
        project_number: 1,
        network: tenant.id.clone(),
        region: REGION.to_owned(),
        address: "10.10.0.9".parse().expect("an address"),
        ports: vec![443],
        protocol: Default::default(),
        all_ports: false,
        target: attachment.clone(),
        producer_network: Some(producer.id.clone()),
        psc_connection_id: 0x1_0a0a_0009,
        allow_psc_global_access: false,
        producer_allows_global_access: true,
        automatic_dns_name: None,
        ancestry: Vec::new(),
        propagated_from: None,
    };
    let service_attachment = ServiceAttachment {
        consumer_accept_lists: vec![Accept {
            consumer: Consumer::ProjectIdOrNum("tenant".to_owned()),
            connection_limit: 4,
        }],
        nat_subnets: vec![NatSubnet {
            self_link: link("subnetworks", "psc-nat"),
            range: "10.0.2.0/28".parse().expect("a range"),
        }],
        ..ServiceAttachment::new(
            attachment,
            REGION,
            producer.id.clone(),
            Target {
                forwarding_rule: link("forwardingRules", "ilb-https"),
                address: "10.0.0.5".parse().expect("an address"),
                ports: vec![443],
                protocol: Default::default(),
                all_ports: false,
                allow_global_access: false,
            },
        )
    };
    let services = vec![service("orders"), service("stock")];
    let load_balancing = load_balancing(&producer.id, &services);
    let zones = vec![
        zone(
            "organizations/org/dnsZones/internal",
            &tenant.id,
            ZoneKind::Peering(consumer.id.clone()),
        ),
        zone("projects/consumer/managedZones/internal", &consumer.id, records("10.10.0.9")),
        zone("projects/producer/managedZones/internal", &producer.id, records("10.0.0.5")),
    ];
    let account = |name: &str, unique_id: &str| ServiceAccount {
        email: format!("{name}@tenant.iam.gserviceaccount.com"),
        project: "tenant".to_owned(),
        unique_id: unique_id.to_owned(),
    };
    Topology {
        projects: [project("tenant", 1), project("consumer", 2), project("producer", 3)].into(),
        networks: vec![tenant, consumer, producer],
        endpoints: vec![endpoint],
        service_attachments: vec![service_attachment],
        load_balancing,
        zones,
        services,
        service_accounts: vec![account("proxy", "1001"), account("other", "1002")],
        iam: Iam::granting(
            "roles/run.invoker",
            "projects/producer",
            &["serviceAccount:proxy@tenant.iam.gserviceaccount.com"],
        ),
        ..Topology::default()
    }
}

fn load_balancing(network: &NetworkId, services: &[Service]) -> LoadBalancing {
    let link =
        |collection: &str, name: &str| SelfLink::regional("producer", REGION, collection, name);
    let backend = Route::service(link("backendServices", "apps-backend"));
    let known = services
        .iter()
        .map(|service| KnownService { name: service.name.clone(), tags: Vec::new() });
    LoadBalancing {
        forwarding_rules: vec![ForwardingRule {
            self_link: link("forwardingRules", "ilb-https"),
            network: network.clone(),
            region: REGION.to_owned(),
            address: "10.0.0.5".parse().expect("an address"),
            port: 443,
            allow_global_access: false,
            proxy_address: None,
            northbound: None,
            target: TargetProxy {
                ssl_certificates: vec![SslCertificate {
                    self_link: link("sslCertificates", "internal"),
                    certificate: String::new(),
                    private_key: String::new(),
                    domains: vec!["internal.example.com".to_owned()],
                }],
                https: true,
                ..TargetProxy::new(link("targetHttpsProxies", "ilb-proxy"), link("urlMaps", "ilb"))
            },
        }],
        url_maps: vec![UrlMap {
            host_rules: vec![HostRule {
                hosts: vec!["internal.example.com".to_owned()],
                path_matcher: "apps".to_owned(),
            }],
            path_matchers: vec![PathMatcher::new(
                "apps",
                backend.clone(),
                Rules::PathRules(Vec::new()),
            )],
            ..UrlMap::new(link("urlMaps", "ilb"), backend)
        }],
        backend_services: vec![BackendService {
            protocol: Protocol::Https,
            ..BackendService::new(
                link("backendServices", "apps-backend"),
                link("networkEndpointGroups", "apps"),
            )
        }],
        network_endpoint_groups: vec![NetworkEndpointGroup {
            self_link: link("networkEndpointGroups", "apps"),
            endpoints: Endpoints::CloudRun(CloudRunEndpoints {
                project: "producer".to_owned(),
                region: REGION.to_owned(),
                service: None,
                tag: None,
                url_mask: Some("/<service>".to_owned()),
                services: Arc::new(known.collect()),
            }),
        }],
        ..LoadBalancing::default()
    }
}
