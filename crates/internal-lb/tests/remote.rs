//! Endpoints behind a service attachment and behind a name, with the programs that lead there.

mod common;

use common::support::{self, run};
use common::*;
use http_proxy::ServerOptions;
use internal_lb::InternalLb;
use names::{NetworkId, Reason, SelfLink};
use private_dns::PrivateDns;
use runtime::testing::{Place, Started};
use service_attachment::ServiceAttachment;
use slice::dns::{ManagedZone, PrivateDnsSlice, ResourceRecordSet, ZoneKind};
use slice::load_balancer::{
    Endpoints, FqdnEndpoint, InternalLbSlice, NetworkEndpointGroup, Protocol,
    ServiceAttachmentEndpoint,
};
use slice::psc::{
    ConnectionPreference, ConnectionStatus, Endpoint, EndpointKind, NatSubnet,
    ServiceAttachment as Attachment, ServiceAttachmentSlice, Target,
};
use slice::{ConnectionState, METADATA_ADDRESS, Notice, Placement};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

const HOST: &str = "a.example.com";

fn of(endpoints: Endpoints) -> InternalLbSlice {
    let group = NetworkEndpointGroup { self_link: link("networkEndpointGroups", "a"), endpoints };
    slice(&[(HOST, to("a"))], vec![service("a", Protocol::Http, "a")], vec![group])
}

fn producer() -> NetworkId {
    NetworkId::new("q", "producer")
}

fn endpoint() -> Endpoint {
    Endpoint {
        self_link: link("networkEndpointGroups", "a"),
        kind: EndpointKind::ForwardingRule,
        project: "p".to_owned(),
        project_number: 1,
        network: network(),
        region: "europe-west1".to_owned(),
        address: Ipv4Addr::new(10, 0, 7, 2),
        ports: vec![80],
        protocol: Default::default(),
        all_ports: false,
        target: SelfLink::regional("q", "europe-west1", "serviceAttachments", "published"),
        producer_network: Some(producer()),
        psc_connection_id: 77,
        allow_psc_global_access: false,
        producer_allows_global_access: true,
        automatic_dns_name: None,
        ancestry: Vec::new(),
        propagated_from: None,
    }
}

fn published(target: SocketAddrV4) -> ServiceAttachmentSlice {
    let regional = |collection, name| SelfLink::regional("q", "europe-west1", collection, name);
    ServiceAttachmentSlice {
        network: producer(),
        attachments: vec![Attachment {
            connection_preference: ConnectionPreference::AcceptAutomatic,
            // Of the host's loopback, so that it can be bound without a namespace.
            nat_subnets: vec![NatSubnet {
                self_link: regional("subnetworks", "nat"),
                range: "127.9.0.0/28".parse().expect("a range"),
            }],
            ..Attachment::new(
                endpoint().target,
                "europe-west1",
                producer(),
                Target {
                    forwarding_rule: regional("forwardingRules", "target"),
                    address: *target.ip(),
                    ports: vec![target.port()],
                    protocol: Default::default(),
                    all_ports: false,
                    allow_global_access: false,
                },
            )
        }],
        endpoints: vec![endpoint()],
        nat_subnetworks: Vec::new(),
        remote: Default::default(),
    }
}

#[test]
fn a_group_leads_through_the_service_attachment_and_its_admission() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let SocketAddr::V4(target) = backend.address else { return };
        let to = ServiceAttachmentEndpoint { endpoint: endpoint(), producer_port: target.port() };
        let started = start("psc", of(Endpoints::ServiceAttachment(to)), &[]);
        let place = Place {
            state_dir: state_dir_of(&started),
            network: Some(producer()),
            workers: 1,
            placements: Vec::new(),
        };
        let attachment: Started<ServiceAttachment> =
            Started::start(published(target), place).expect("the attachment starts");
        for n in 0..3 {
            let answer = get(address(&started), HOST, &format!("/x{n}")).await;
            assert_eq!(answer.status(), "200", "{}", answer.text());
            assert!(answer.text().starts_with(&format!("GET /x{n}\n")), "{}", answer.text());
        }
        assert_eq!(backend.accepted.borrow().0, 1, "the connection is kept");
        let states = attachment.program().expect("it runs").states();
        assert_eq!(states[0].status, ConnectionStatus::Accepted);

        // What the attachment says of the connection is asked before anything is sent.
        let refused = ConnectionState {
            status: ConnectionStatus::Rejected,
            reason: Some(Reason::PscConnectionNotAccepted),
            detail: "the reject list names it".to_owned(),
            ..states[0].clone()
        };
        started.notice(Notice::Connections(vec![refused]));
        // The kept connection ends; then there is no new one.
        backend.drain.notify_waiters();
        loop {
            let answer = get(address(&started), HOST, "/").await;
            if answer.text().contains("delayed connect error") {
                assert_eq!(answer.status(), "503");
                break;
            }
        }
    });
}

fn state_dir_of(started: &Started<InternalLb>) -> std::path::PathBuf {
    started.context().expect("it runs").state_dir().to_owned()
}

fn zone(address: Option<&str>) -> PrivateDnsSlice {
    let record = |address: &str| ResourceRecordSet {
        name: "backend.corp.internal.".to_owned(),
        record_type: "A".to_owned(),
        ttl: 1,
        rrdatas: vec![address.to_owned()],
        routing_policy: None,
    };
    PrivateDnsSlice {
        network: network(),
        zones: vec![ManagedZone {
            self_link: SelfLink::new("projects/p/managedZones/corp"),
            dns_name: "corp.internal.".to_owned(),
            networks: vec![network()],
            kind: ZoneKind::Private(address.map(record).into_iter().collect()),
        }],
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    }
}

#[test]
fn a_name_is_followed_through_the_networks_own_resolver() {
    run(async {
        let say = async |text: &'static str| {
            support::server(ServerOptions::default(), move |_| async move {
                http::Response::new(http_proxy::Body::full(text))
            })
            .await
        };
        let (one, two) = (say("1").await, say("2").await);
        let place = Place {
            state_dir: state_dir("names-dns"),
            network: Some(network()),
            workers: 1,
            placements: Vec::new(),
        };
        let mut dns: Started<PrivateDns> =
            Started::start(zone(Some("10.0.9.1")), place).expect("the resolver starts");
        let resolver = dns.address("udp").expect("a listener");
        let placed = |declared, actual| Placement { network: network(), declared, actual };
        let placements = vec![
            placed(SocketAddrV4::new(METADATA_ADDRESS, 53), resolver),
            placed(declared(1), one.address),
            placed(declared(2), two.address),
        ];
        let fqdn = FqdnEndpoint { fqdn: "backend.corp.internal".to_owned(), port: 80 };
        let place = Place {
            state_dir: state_dir("names"),
            network: Some(network()),
            workers: 1,
            placements,
        };
        let started: Started<InternalLb> =
            Started::start(of(Endpoints::Fqdn(vec![fqdn])), place).expect("it starts");
        let until = async |text: &str| {
            while get(address(&started), HOST, "/").await.text() != text {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until("1").await;
        dns.reload(zone(Some("10.0.9.2"))).expect("a reload");
        until("2").await;
        dns.reload(zone(None)).expect("a reload");
        until("no healthy upstream").await;
    });
}
