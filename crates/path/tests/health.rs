//! Names that follow the health of load balancers: `resolve` and `explain` say what the resolver
//! says, by what the load balancers that run have told.

use names::NetworkId;
use path::{Live, World};
use slice::BackendState;
use std::net::Ipv4Addr;
use std::path::Path;

#[test]
fn a_name_fails_over_for_explain_as_for_traffic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology/dns");
    let topology = topology::load(&folder).topology.expect("a good topology");
    let told = |health_state: &str| {
        let services = topology.load_balancing.backend_services.iter();
        let state = |service: &slice::load_balancer::BackendService| BackendState {
            backend_service: service.self_link.clone(),
            endpoint: "10.10.0.7:8080".to_owned(),
            health_state: health_state.to_owned(),
            ejected: false,
        };
        let jwks = r#"{"keys": []}"#.to_owned();
        let backends = services.map(state).collect();
        let live = Live { jwks, backends, ..Live::default() };
        let world = World::compile(&topology, Some(live)).expect("a good world");
        let hub = NetworkId::new("dns-hub", "hub");
        let region = Some("europe-west1");
        let resolution = world.resolve(&hub, region, "failover.services.example", "A");
        resolution.expect("a name and a network").addresses()
    };
    assert_eq!(told("HEALTHY"), [Ipv4Addr::new(10, 10, 0, 5)]);
    assert_eq!(told("UNHEALTHY"), [Ipv4Addr::new(10, 11, 0, 5)]);
}
