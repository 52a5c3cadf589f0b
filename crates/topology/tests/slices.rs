//! Which programs the reference topology needs, and what each of them is given.

use names::NetworkId;
use slice::dns::ZoneKind;
use slice::load_balancer::{Destination, Endpoints, Rules};
use slice::{Role, Slice, Topology};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn reference() -> Topology {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/reference");
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).expect("part of the crate");
        (PathBuf::from(name), text)
    };
    let sources =
        ["apigee.yaml", "consumer.yaml", "producer.yaml", "tenant.yaml"].map(read).to_vec();
    topology::load_sources(sources, Path::new("/base"))
        .topology
        .expect("the reference topology is good")
}

fn id(text: &str) -> NetworkId {
    text.parse().expect("PROJECT/NETWORK")
}

#[test]
fn programs_run_where_their_resources_are() {
    let programs = topology::programs(&reference());
    let of = |role: Role| -> HashSet<String> {
        let all = programs.iter().filter(|(other, _)| *other == role);
        all.map(|(_, network)| {
            network.as_ref().map_or_else(|| "-".to_owned(), NetworkId::to_string)
        })
        .collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
    let vpcs =
        ["apigee-project/apigee-network", "apigee-tenant/runtime", "ilb-project/ilb-network"];
    let everywhere = [&vpcs[..], &["internet"]].concat();
    assert_eq!(of(Role::CloudRun), set(&["-"]));
    assert_eq!(of(Role::GoogleFrontEnd), set(&everywhere));
    assert_eq!(of(Role::PrivateDns), set(&everywhere));
    assert_eq!(of(Role::Metadata), set(&everywhere));
    assert_eq!(of(Role::EndpointAttachment), set(&["apigee-tenant/runtime"]));
    assert_eq!(of(Role::ServiceAttachment), set(&["ilb-project/ilb-network"]));
    assert_eq!(of(Role::InternalLb), set(&["ilb-project/ilb-network"]));
    assert_eq!(of(Role::ApiProxy), set(&["apigee-tenant/runtime"]));
    assert_eq!(programs.iter().collect::<HashSet<_>>().len(), programs.len());
}

#[test]
fn a_load_balancer_s_slice_is_closed_and_knows_the_services_that_its_masks_may_yield() {
    let slice = topology::internal_lb(&reference(), &id("ilb-project/ilb-network"));
    let all = &slice.load_balancing;
    assert_eq!(all.forwarding_rules.len(), 3);
    let maps: HashSet<_> = all.url_maps.iter().map(|map| &map.self_link).collect();
    assert!(all.forwarding_rules.iter().all(|rule| maps.contains(&rule.target.url_map)));
    let services: HashSet<_> =
        all.backend_services.iter().map(|service| &service.self_link).collect();
    for map in &all.url_maps {
        let rules = map.path_matchers.iter().flat_map(|matcher| match &matcher.rules {
            Rules::PathRules(rules) => rules.iter().map(|rule| &rule.route).collect::<Vec<_>>(),
            Rules::RouteRules(rules) => rules.iter().map(|rule| &rule.route).collect(),
        });
        let defaults = map.path_matchers.iter().map(|matcher| &matcher.default);
        for action in rules.chain(defaults).chain([&map.default]) {
            if let Destination::Service(link) = &action.to {
                assert!(services.contains(link));
            }
        }
    }
    let groups: HashSet<_> =
        all.network_endpoint_groups.iter().map(|group| &group.self_link).collect();
    assert!(
        all.backend_services.iter().flat_map(|s| &s.backends).all(|b| groups.contains(&b.group))
    );
    let mut known = all.network_endpoint_groups.iter().filter_map(|group| match &group.endpoints {
        Endpoints::CloudRun(cloud_run) => Some(cloud_run.services.clone()),
        _ => None,
    });
    let names: Vec<_> =
        known.next().expect("one serverless group").iter().map(|s| s.name.clone()).collect();
    assert_eq!(names, ["orders", "login", "search"]);
    assert_eq!(slice.listens().len(), 3);
    assert!(topology::internal_lb(&reference(), &id("apigee-tenant/runtime")).listens().is_empty());
}

#[test]
fn a_resolver_is_given_the_zones_behind_its_peering_zones() {
    let slice = topology::private_dns(&reference(), &id("apigee-tenant/runtime"));
    assert_eq!(slice.zones.len(), 2);
    assert!(slice.zones.iter().any(|zone| matches!(zone.kind, ZoneKind::Peering(_))));
    assert!(slice.instances.iter().any(|instance| instance.name == "vm"));
    let producer = topology::private_dns(&reference(), &id("ilb-project/ilb-network"));
    assert!(producer.zones.is_empty() && producer.instances.is_empty());
}

#[test]
fn each_end_of_private_service_connect_is_given_its_endpoints() {
    let topology = reference();
    let consumer = topology::endpoint_attachment(&topology, &id("apigee-tenant/runtime"));
    assert_eq!(consumer.listens().len(), 1);
    let producer = topology::service_attachment(&topology, &id("ilb-project/ilb-network"));
    assert_eq!(producer.attachments.len(), 1);
    assert_eq!(producer.endpoints, consumer.endpoints);
    assert_eq!(
        consumer.endpoints[0].psc_connection_id as u32,
        u32::from(consumer.endpoints[0].address)
    );
}

#[test]
fn one_metadata_server_issues_the_tokens_for_all() {
    let topology = reference();
    let programs = topology::programs(&topology).into_iter();
    let metadata =
        programs.filter(|(role, _)| *role == Role::Metadata).filter_map(|(_, network)| network);
    let issuers: Vec<_> = metadata
        .filter(|network| topology::metadata(&topology, network).issuer.is_some())
        .collect();
    assert_eq!(issuers, [NetworkId::internet()]);
}

#[test]
fn the_runtime_of_an_organisation_is_in_its_tenant_network() {
    let topology = reference();
    let slice =
        topology::api_proxy(&topology, &id("apigee-tenant/runtime")).expect("one organisation");
    assert_eq!(slice.organization.name, "apigee-project");
    assert_eq!(
        slice.northbound.map(|address| address.to_string()).as_deref(),
        Some("127.0.0.1:8443")
    );
    assert!(topology::api_proxy(&topology, &id("ilb-project/ilb-network")).is_none());
}

#[test]
fn lists_longer_than_google_s_are_refused() {
    let entries: String = (0..65).map(|n| format!("project-{n}, ")).collect();
    let text = format!(
        "project: p\nregion: europe-west1\nserviceAttachments: [{{name: a, targetService: b, connectionPreference: ACCEPT_MANUAL, natSubnets: [c], consumerRejectLists: [{entries}]}}]"
    );
    let loaded = topology::load_sources(vec![("a.yaml".into(), text)], Path::new("/"));
    let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
    assert!(codes.contains(&"LIST_TOO_LONG"), "{codes:?}");
}

#[test]
fn programs_on_several_hosts_are_told_who_dials_whom() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hosts");
    let text = std::fs::read_to_string(folder.join("a.yaml")).expect("part of the crate");
    let loaded = topology::load_sources(vec![(PathBuf::from("a.yaml"), text)], Path::new("/base"));
    let topology = loaded.topology.expect("good");
    let address = |text: &str| text.parse::<std::net::SocketAddr>().expect("an address");
    let (shop, near) = (id("shop/shop-network"), id("shop/near-network"));
    let (bank, vault) = (id("shop/bank-network"), id("shop/vault-network"));
    // The bank can be dialled, the vault dials out.
    let slice = topology::endpoint_attachment(&topology, &shop);
    let rendezvous = address("192.0.2.6:15008");
    assert_eq!(slice.remote.rendezvous, Some(rendezvous));
    let producers: Vec<_> =
        slice.remote.producers.iter().map(|p| (&p.network, p.address)).collect();
    assert_eq!(producers, [(&bank, Some(address("192.0.2.7:15008"))), (&vault, None)]);
    assert!(slice.listens().iter().any(|listen| listen.key == "rendezvous"));
    // On the bank's own host the sockets are handed over.
    let slice = topology::endpoint_attachment(&topology, &near);
    assert_eq!(slice.remote, Default::default());
    let slice = topology::service_attachment(&topology, &bank);
    assert_eq!(slice.remote.address, Some(address("192.0.2.7:15008")));
    assert!(slice.remote.dials.is_empty());
    assert!(slice.listens().iter().any(|listen| listen.key == "hbone"));
    let slice = topology::service_attachment(&topology, &vault);
    let dials: Vec<_> = slice.remote.dials.iter().map(|c| (&c.network, c.address)).collect();
    assert_eq!((slice.remote.address, dials), (None, vec![(&shop, rendezvous)]));
    // Without hosts there is nothing of it.
    let one = Topology { hosts: Vec::new(), ..topology };
    assert_eq!(topology::service_attachment(&one, &vault).remote, Default::default());
    assert_eq!(topology::endpoint_attachment(&one, &shop).remote, Default::default());
}
