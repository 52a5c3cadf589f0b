//! Network Load Balancers over real sockets: a target TCP proxy, and what passthrough load
//! balancers and target instances get where no kernel does it.

mod common;

use common::support::run;
use common::{declared, group, link, network, state_dir};
use internal_lb::InternalLb;
use proxy_protocol::Header;
use runtime::testing::{Place, Started};
use slice::Placement;
use slice::load_balancer::{
    BackendService, ConnectionTracking, Endpoints, FailoverPolicy, HealthCheck, InstanceEndpoints,
    InternalLbSlice, LoadBalancing, NetworkEndpointGroup, NetworkForwardingRule, NetworkTarget,
    PacketAffinity, PassthroughBackend, PassthroughProtocol, PassthroughService, Ports, Probe,
    Protocol, RuleProtocol, TargetInstance, TargetTcpProxy,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

fn rule(name: &str, protocol: RuleProtocol, target: NetworkTarget) -> NetworkForwardingRule {
    NetworkForwardingRule {
        self_link: link("forwardingRules", name),
        network: network(),
        region: "europe-west1".to_owned(),
        address: Ipv4Addr::new(10, 0, 0, 5),
        protocol,
        ports: Ports::Listed(vec![80]),
        allow_global_access: false,
        proxy_address: None,
        target,
    }
}

fn check() -> HealthCheck {
    HealthCheck {
        self_link: link("healthChecks", "tcp"),
        probe: Probe::Tcp { tls: false, request: String::new(), response: String::new() },
        port: None,
        proxy_header: false,
        check_interval: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
        healthy_threshold: 1,
        unhealthy_threshold: 1,
        log: false,
    }
}

/// A proxy in front of `10.0.9.1:80` and `10.0.9.2:80`.
fn proxied(change: impl FnOnce(&mut BackendService, &mut TargetTcpProxy)) -> InternalLbSlice {
    let mut service = BackendService {
        protocol: Protocol::Tcp,
        ..BackendService::new(link("backendServices", "tcp"), link("networkEndpointGroups", "vms"))
    };
    let mut proxy = TargetTcpProxy {
        self_link: link("targetTcpProxies", "proxy"),
        service: service.self_link.clone(),
        proxy_header: false,
    };
    change(&mut service, &mut proxy);
    InternalLbSlice {
        network: network(),
        carries_packets: true,
        load_balancing: LoadBalancing {
            backend_services: vec![service],
            network_endpoint_groups: vec![group("vms", &[declared(1), declared(2)])],
            health_checks: vec![check()],
            network_rules: vec![rule("proxy", RuleProtocol::Tcp, NetworkTarget::TcpProxy(proxy))],
            ..LoadBalancing::default()
        },
    }
}

fn start(name: &str, slice: InternalLbSlice, backends: &[(u8, SocketAddr)]) -> Started<InternalLb> {
    common::start(name, slice, backends)
}

fn at(started: &Started<InternalLb>, key: &str) -> SocketAddr {
    started.address(key).expect("a listener")
}

/// Says its name, then sends back what it got once the client is done.
async fn echo(name: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let task = tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut all = name.as_bytes().to_vec();
                let _ = stream.read_to_end(&mut all).await;
                let _ = stream.write_all(&all).await;
            });
        }
    });
    (address, task)
}

/// What comes back for these bytes, the client's end of stream after them; an error: a reset.
async fn ask(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all)
}

#[test]
fn a_proxy_takes_turns_and_carries_half_closes() {
    run(async {
        let ((a, _one), (b, _other)) = (echo("a:").await, echo("b:").await);
        let started = start("l4-turns", proxied(|_, _| {}), &[(1, a), (2, b)]);
        let to = at(&started, link("forwardingRules", "proxy").as_str());
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(ask(to, b"hello").await.expect("an answer"));
        }
        seen.sort();
        assert_eq!(seen, [&b"a:hello"[..], b"a:hello", b"b:hello", b"b:hello"]);
    });
}

#[test]
fn a_proxy_writes_a_v1_header_and_lets_a_v2_header_through() {
    run(async {
        let (a, _task) = echo("").await;
        let slice = proxied(|_, proxy| proxy.proxy_header = true);
        let started = start("l4-header", slice, &[(1, a), (2, a)]);
        let to = at(&started, link("forwardingRules", "proxy").as_str());
        // As a service attachment with enableProxyProtocol sends it (1.5).
        let v2 = Header::tcp(
            "10.0.60.2:33080".parse().expect("a socket"),
            "10.0.60.100:80".parse().expect("a socket"),
        )
        .with_psc_connection_id(0x009b_34d7_0a00_3c64)
        .and_then(|header| header.encode())
        .expect("a header");
        let mut sent = v2.clone();
        sent.extend_from_slice(b"payload");
        let answer = ask(to, &sent).await.expect("an answer");
        let line = answer.windows(2).position(|pair| pair == b"\r\n").expect("a line") + 2;
        let text = String::from_utf8_lossy(&answer[..line]).into_owned();
        let words: Vec<&str> = text.trim_end().split(' ').collect();
        assert_eq!(words[..4], ["PROXY", "TCP4", "127.0.0.1", "10.0.0.5"], "{text}");
        assert_eq!(words[5], "80");
        assert_eq!(answer[line..], sent);
    });
}

#[test]
fn a_proxy_leaves_an_ill_endpoint_alone_and_resets_when_none_is_left() {
    run(async {
        let ((a, one), (b, other)) = (echo("a:").await, echo("b:").await);
        let slice = proxied(|service, _| service.health_check = Some(link("healthChecks", "tcp")));
        let started = start("l4-health", slice, &[(1, a), (2, b)]);
        let to = at(&started, link("forwardingRules", "proxy").as_str());
        assert!(ask(to, b"x").await.is_ok());
        one.abort();
        let _ = one.await; // its listener is closed now
        let mut in_a_row = 0;
        while in_a_row < 10 {
            match ask(to, b"x").await {
                Ok(answer) if answer == b"b:x" => in_a_row += 1,
                _ => in_a_row = 0,
            }
        }
        other.abort();
        let _ = other.await;
        let refused = ask(to, b"x").await;
        assert!(refused.is_err(), "{refused:?}");
    });
}

#[test]
fn connections_to_a_removed_endpoint_are_cut_when_it_has_drained() {
    run(async {
        let (a, _task) = echo("a:").await;
        let drained = |service: &mut BackendService, _: &mut TargetTcpProxy| {
            service.draining_timeout_sec = 1;
        };
        let mut started = start("l4-drain", proxied(drained), &[(1, a), (2, a)]);
        let to = at(&started, link("forwardingRules", "proxy").as_str());
        let mut open = TcpStream::connect(to).await.expect("connected");
        open.write_all(b"x").await.expect("written");
        ask(to, b"y").await.expect("an answer"); // the first one has been dialled by now
        let mut without = proxied(drained);
        without.load_balancing.network_endpoint_groups = vec![group("vms", &[])];
        started.reload(without).expect("a generation");
        let mut rest = Vec::new();
        let end = open.read_to_end(&mut rest).await;
        assert!(end.is_err(), "cut with a reset, after {rest:?}");
    });
}

fn passed(protocol: RuleProtocol, members: &[u8]) -> InternalLbSlice {
    let vms = InstanceEndpoints {
        addresses: members.iter().map(|n| *declared(*n).ip()).collect(),
        named_ports: Vec::new(),
    };
    let service = PassthroughService {
        self_link: link("backendServices", "passed"),
        protocol: PassthroughProtocol::Tcp,
        backends: vec![PassthroughBackend {
            group: link("instanceGroups", "vms"),
            failover: false,
        }],
        health_check: Some(link("healthChecks", "tcp")),
        session_affinity: PacketAffinity::None,
        connection_tracking: ConnectionTracking::default(),
        failover_policy: FailoverPolicy::default(),
    };
    let to = NetworkTarget::PassthroughService(service.self_link.clone());
    InternalLbSlice {
        network: network(),
        carries_packets: true,
        load_balancing: LoadBalancing {
            network_endpoint_groups: vec![NetworkEndpointGroup {
                self_link: link("instanceGroups", "vms"),
                endpoints: Endpoints::Instances(vms),
            }],
            health_checks: vec![HealthCheck { port: Some(80), ..check() }],
            network_rules: vec![rule("passed", protocol, to)],
            passthrough_services: vec![service],
            ..LoadBalancing::default()
        },
    }
}

#[test]
fn without_a_kernel_that_does_it_connections_are_passed_on_to_healthy_vms() {
    run(async {
        let ((a, one), (b, _other)) = (echo("a:").await, echo("b:").await);
        let started = start("l4-passed", passed(RuleProtocol::Tcp, &[1, 2]), &[(1, a), (2, b)]);
        let to = at(&started, &format!("{}:80", link("forwardingRules", "passed")));
        let (mut of_a, mut of_b) = (0, 0);
        while of_a == 0 || of_b == 0 {
            match &ask(to, b"x").await.expect("an answer")[..] {
                b"a:x" => of_a += 1,
                b"b:x" => of_b += 1,
                other => panic!("{other:?}"),
            }
        }
        one.abort();
        let _ = one.await;
        let mut in_a_row = 0;
        while in_a_row < 20 {
            match ask(to, b"x").await {
                Ok(answer) if answer == b"b:x" => in_a_row += 1,
                _ => in_a_row = 0,
            }
        }
    });
}

#[test]
fn datagrams_are_passed_on_and_answered() {
    run(async {
        let vm = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let real = vm.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = vm.recv_from(&mut buffer).await {
                let _ = vm.send_to(&buffer[..length], from).await;
            }
        });
        let target = NetworkTarget::Instance(TargetInstance {
            self_link: link("targetInstances", "vm"),
            instance: "vm".to_owned(),
            address: *declared(1).ip(),
        });
        let slice = InternalLbSlice {
            network: network(),
            carries_packets: true,
            load_balancing: LoadBalancing {
                network_rules: vec![rule("udp", RuleProtocol::Udp, target)],
                ..LoadBalancing::default()
            },
        };
        let placement = Placement { network: network(), declared: declared(1), actual: real };
        let place = Place {
            state_dir: state_dir("l4-udp"),
            network: Some(network()),
            workers: 2,
            placements: vec![placement],
        };
        let started = Started::<InternalLb>::start(slice, place).expect("it starts");
        let to = at(&started, &format!("{}:80", link("forwardingRules", "udp")));
        for client in 0..3 {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
            socket.connect(to).await.expect("connected");
            for number in 0..5u8 {
                let sent = [client, number].repeat(700);
                socket.send(&sent).await.expect("sent");
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer).await.expect("received");
                assert_eq!(buffer[..length], sent);
            }
        }
    });
}

#[test]
fn what_the_kernel_carries_has_no_listener_here() {
    let mut slice = passed(RuleProtocol::Tcp, &[1]);
    let listens = |slice: &InternalLbSlice| slice::Slice::listens(slice).len();
    assert_eq!(listens(&slice), 1);
    slice.carries_packets = false;
    assert_eq!(listens(&slice), 0);
    // The proxy always has one.
    let mut proxy = proxied(|_, _| {});
    proxy.carries_packets = false;
    assert_eq!(listens(&proxy), 1);
}
