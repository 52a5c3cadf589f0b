//! UDP endpoints over real sockets: client → endpoint attachment → service attachment → target.

mod common;

use common::*;
use names::NetworkId;
use runtime::testing::Started;
use service_attachment::ServiceAttachment;
use slice::psc::{Consumer, EndpointAttachmentSlice, IdleTimeouts, ServiceAttachmentSlice};
use slice::{IpProtocol, Notice, Placement};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

fn udp_service() -> ServiceAttachmentSlice {
    let mut slice = service();
    slice.attachments[0].target.protocol = IpProtocol::Udp;
    slice.endpoints[0].protocol = IpProtocol::Udp;
    slice
}

/// A stage with a target.
async fn stage(name: &str, slice: ServiceAttachmentSlice) -> (Stage, UdpSocket) {
    let target = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = target.local_addr().expect("bound");
    (Stage::with(name, slice, Some(address), Vec::new()).await, target)
}

async fn client(stage: &Stage) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    // Connected: an answer from anywhere else is not taken.
    client.connect(stage.address()).await.expect("connected");
    client
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 70_000];
    // A datagram that is lost must not hang the test.
    let waiting = tokio::time::timeout(Duration::from_secs(60), socket.recv_from(&mut bytes));
    let (length, from) = waiting.await.expect("in time").expect("a datagram");
    bytes.truncate(length);
    (bytes, from)
}

#[tokio::test]
async fn datagrams_of_every_size_go_there_and_back_from_a_nat_address() {
    let mut slice = udp_service();
    slice.attachments[0].enable_proxy_protocol = true; // of which datagrams get nothing
    let (stage, target) = stage("udp", slice).await;
    let client = client(&stage).await;
    let mut mapping = None;
    for size in [0, 1, 512, 1472, 9000, 65_507, 3] {
        let sent = pattern(size);
        client.send(&sent).await.expect("sent");
        let (got, from) = received(&target).await;
        assert!(got == sent, "{size} bytes, and nothing in front");
        assert_eq!(from.ip(), Ipv4Addr::new(127, 10, 2, 2), "the first usable NAT address");
        assert_eq!(*mapping.get_or_insert(from), from, "one mapping");
        target.send_to(&sent, from).await.expect("sent");
        assert!(received(&client).await.0 == sent);
    }
}

#[tokio::test]
async fn each_client_has_a_mapping_of_its_own_that_hears_the_target_only() {
    let (stage, target) = stage("udp-own", udp_service()).await;
    let (one, other) = (client(&stage).await, client(&stage).await);
    one.send(b"one").await.expect("sent");
    let (_, of_one) = received(&target).await;
    other.send(b"other").await.expect("sent");
    let (_, of_other) = received(&target).await;
    assert_eq!(of_one.ip(), of_other.ip());
    assert_ne!(of_one, of_other);

    let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    stranger.send_to(b"let me in", of_one).await.expect("sent");
    target.send_to(b"for the other", of_other).await.expect("sent");
    target.send_to(b"for the one", of_one).await.expect("sent");
    assert_eq!(received(&one).await.0, b"for the one");
    assert_eq!(received(&other).await.0, b"for the other");
}

#[tokio::test]
async fn who_leaves_accepted_loses_his_mapping_and_comes_back_with_a_new_one() {
    let (mut stage, target) = stage("udp-cut", udp_service()).await;
    let client = client(&stage).await;
    client.send(b"x").await.expect("sent");
    let (_, mapping) = received(&target).await;

    let mut rejecting = udp_service();
    rejecting.attachments[0].consumer_reject_lists =
        vec![Consumer::ProjectIdOrNum("tenant".to_owned())];
    stage.reload(rejecting);
    // Silence, at the endpoint, and at the service attachment where the endpoint does not know yet.
    client.send(b"refused").await.expect("sent");
    stage.endpoint.notice(Notice::Connections(Vec::new()));
    client.send(b"refused too").await.expect("sent");
    stage.reload(udp_service());
    client.send(b"y").await.expect("sent");
    let (mut got, mut from) = received(&target).await;
    // The programs were asked from here and not over the wire, so a datagram may be later than a
    // notice that was given after it; one that had been refused in time is nowhere.
    while got != b"y" {
        assert!(got.starts_with(b"refused") && from != mapping, "{got:?} from {from}");
        (got, from) = received(&target).await;
    }
    assert_ne!(from, mapping);
}

#[tokio::test]
async fn a_mapping_ends_when_nothing_moves() {
    let mut slice = udp_service();
    slice.attachments[0].idle_timeouts = IdleTimeouts { udp: 1, ..IdleTimeouts::default() };
    let (stage, target) = stage("udp-idle", slice).await;
    let client = client(&stage).await;
    client.send(b"x").await.expect("sent");
    let (_, first) = received(&target).await;
    assert!(is_bound(first));
    let until = Instant::now() + Duration::from_secs(60);
    while is_bound(first) {
        assert!(Instant::now() < until, "the mapping stays");
        tokio::task::yield_now().await;
    }
    client.send(b"y").await.expect("sent");
    assert_eq!(received(&target).await.0, b"y", "a new mapping");
}

/// Is there a UDP socket at this address?
fn is_bound(address: SocketAddr) -> bool {
    let SocketAddr::V4(v4) = address else { return false };
    let shown = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let sockets = std::fs::read_to_string("/proc/net/udp").expect("the kernel's table");
    sockets.lines().any(|line| line.split_whitespace().nth(1) == Some(&shown))
}

#[tokio::test]
async fn a_restarted_service_attachment_is_found_again() {
    let (mut stage, target) = stage("udp-restart", udp_service()).await;
    let client = client(&stage).await;
    client.send(b"x").await.expect("sent");
    received(&target).await;
    stage.stop_service();
    stage.start_service(udp_service());
    client.send(b"y").await.expect("sent");
    assert_eq!(received(&target).await.0, b"y");
}

#[tokio::test]
async fn an_endpoint_with_a_new_target_in_another_network_sends_there() {
    let (mut stage, target) = stage("udp-other", udp_service()).await;
    let client = client(&stage).await;
    client.send(b"x").await.expect("sent");
    received(&target).await;

    let other = NetworkId::new("producer", "other-network");
    let second = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let mut slice = udp_service();
    slice.network = other.clone();
    slice.attachments[0].network = other.clone();
    slice.endpoints[0].producer_network = Some(other.clone());
    let placement = Placement {
        network: other.clone(),
        declared: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 443),
        actual: second.local_addr().expect("bound"),
    };
    let endpoints = slice.endpoints.clone();
    let place = place(&stage.state_dir, other, vec![placement]);
    let service = Started::<ServiceAttachment>::start(slice, place).expect("started");
    let here =
        EndpointAttachmentSlice { network: consumer(), endpoints, remote: Default::default() };
    stage.endpoint.reload(here).expect("good");
    let states = service.program().expect("started").states();
    stage.endpoint.notice(Notice::Connections(states));
    client.send(b"y").await.expect("sent");
    assert_eq!(received(&second).await.0, b"y");
}
