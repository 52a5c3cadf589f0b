//! A load balancer on a free loopback port, for load generators and profilers: hosts `svc-0..100`
//! lead to one backend. Prints the port, serves until its standard input ends.
//!
//! `cargo run --release -p internal-lb --example profile -- BACKEND_ADDRESS [tls]`

use internal_lb::InternalLb;
use names::{NetworkId, SelfLink};
use runtime::testing::{Place, Started};
use slice::Placement;
use slice::load_balancer::*;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

const RULE: &str = "projects/p/regions/r/forwardingRules/ilb";

fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "r", collection, name)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let backend: SocketAddr = args.next().and_then(|to| to.parse().ok()).expect("BACKEND_ADDRESS");
    let https = args.next().as_deref() == Some("tls");
    let network = NetworkId::new("p", "n");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["lb.example.com".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let declared = |n: u8| SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, n), 80);
    let services = || (0..100u8).map(|n| (n, format!("svc-{n}")));
    let service = |name: &str| Route::service(link("backendServices", name));
    let slice = InternalLbSlice {
        carries_packets: true,
        network: network.clone(),
        load_balancing: LoadBalancing {
            forwarding_rules: vec![ForwardingRule {
                self_link: SelfLink::new(RULE),
                network: network.clone(),
                region: "r".to_owned(),
                address: Ipv4Addr::new(10, 0, 0, 5),
                port: 443,
                allow_global_access: true,
                proxy_address: None,
                northbound: None,
                target: TargetProxy {
                    ssl_certificates: vec![SslCertificate {
                        self_link: link("sslCertificates", "c"),
                        certificate: certificate.pem(),
                        private_key: key.serialize_pem(),
                        domains: Vec::new(),
                    }],
                    https,
                    ..TargetProxy::new(link("targetHttpsProxies", "proxy"), link("urlMaps", "map"))
                },
            }],
            url_maps: vec![UrlMap {
                host_rules: services()
                    .map(|(_, name)| HostRule {
                        hosts: vec![format!("{name}.example.com")],
                        path_matcher: name,
                    })
                    .collect(),
                path_matchers: services()
                    .map(|(_, name)| {
                        let default = service(&name);
                        PathMatcher::new(name, default, Rules::PathRules(Vec::new()))
                    })
                    .collect(),
                ..UrlMap::new(link("urlMaps", "map"), service("svc-0"))
            }],
            backend_services: services()
                .map(|(_, name)| {
                    let group = link("networkEndpointGroups", &name);
                    BackendService::new(link("backendServices", &name), group)
                })
                .collect(),
            network_endpoint_groups: services()
                .map(|(n, name)| {
                    let group = link("networkEndpointGroups", &name);
                    NetworkEndpointGroup::addresses(group, vec![declared(n)])
                })
                .collect(),
            ..LoadBalancing::default()
        },
    };
    let placements = services()
        .map(|(n, _)| Placement {
            network: network.clone(),
            declared: declared(n),
            actual: backend,
        })
        .collect();
    let place = Place {
        state_dir: std::env::temp_dir().join(format!("ilb-load-{}", std::process::id())),
        network: Some(network),
        workers: 1,
        placements,
    };
    let started = Started::<InternalLb>::start(slice, place).expect("a load balancer");
    println!("{}", started.address(RULE).expect("a listener").port());
    let _ = std::io::stdin().read(&mut [0]);
}
