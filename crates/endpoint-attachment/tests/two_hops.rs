//! Both ends of Private Service Connect over real sockets: client → endpoint attachment → service
//! attachment → target.

mod common;

use common::*;
use names::Reason;
use net::splice::reset;
use proxy_protocol::Header;
use slice::psc::{ConnectionStatus, Consumer, EndpointAttachmentSlice, ServiceAttachmentSlice};
use slice::{Notice, Placement, Workload};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

#[tokio::test]
async fn ten_megabytes_each_way_from_a_nat_address_with_half_close() {
    let stage = Stage::new("bulk", service()).await;
    let (mut client, mut target, peer) = stage.connect().await;
    assert_eq!(peer.ip(), Ipv4Addr::new(127, 10, 2, 2), "the first usable NAT address");
    let (up, down) = (pattern(10_000_000), pattern(10_000_003));
    let (_, at_target) = tokio::join!(
        async {
            client.write_all(&up).await.expect("written");
            client.shutdown().await.expect("half-closed");
        },
        read_to_end(&mut target)
    );
    assert!(at_target.expect("all of it") == up);
    // The other direction is still open.
    let (_, at_client) = tokio::join!(
        async {
            target.write_all(&down).await.expect("written");
            drop(target);
        },
        read_to_end(&mut client)
    );
    assert!(at_client.expect("all of it") == down);
}

#[tokio::test]
async fn a_reset_crosses_both_hops() {
    let stage = Stage::new("reset", service()).await;
    let (mut client, target, _) = stage.connect().await;
    reset(&target);
    drop(target);
    assert_reset(&mut client).await;
    let (client, mut target, _) = stage.connect().await;
    reset(&client);
    drop(client);
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn the_target_gets_the_products_proxy_header_and_nothing_else() {
    let mut slice = service();
    slice.attachments[0].enable_proxy_protocol = true;
    let stage = Stage::new("proxy", slice).await;
    let (mut client, mut target, _) = stage.connect().await;
    client.write_all(b"hello").await.expect("written");
    client.shutdown().await.expect("half-closed");
    let bytes = read_to_end(&mut target).await.expect("read");
    let (header, length) = Header::decode(&bytes).expect("well-formed").expect("complete");
    assert_eq!(length, 39, "as observed (private-connectivity 1.5)");
    assert_eq!(&bytes[length..], b"hello");
    let SocketAddr::V4(from) = client.local_addr().expect("connected") else { return };
    assert_eq!(header.source_v4(), Some(from));
    let dialled = SocketAddrV4::new(endpoint().address, 443);
    assert_eq!(header.destination_v4(), Some(dialled), "the endpoint, not the target");
    assert_eq!(header.psc_connection_id(), Some(ID));
}

/// The header that was captured in the product (private-connectivity 1.5), for the same addresses
/// and the same id.
#[tokio::test]
async fn the_captured_proxy_header_is_reproduced_byte_for_byte() {
    let captured = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00,
        0x17, 0x0a, 0x00, 0x3c, 0x02, 0x0a, 0x00, 0x3c, 0x64, 0x81, 0x38, 0x00, 0x50, 0xe0, 0x00,
        0x08, 0x00, 0x9b, 0x34, 0xd7, 0x0a, 0x00, 0x3c, 0x64,
    ];
    let mut slice = service();
    slice.attachments[0].enable_proxy_protocol = true;
    slice.attachments[0].target.ports = vec![80];
    slice.endpoints[0].ports = vec![80];
    let from: SocketAddr = "127.0.60.2:33080".parse().expect("an address");
    let client = Placement {
        network: consumer(),
        declared: SocketAddrV4::new(Ipv4Addr::new(10, 0, 60, 2), 33080),
        actual: from,
    };
    let stage = Stage::with("captured", slice.clone(), None, vec![client]).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    socket.bind(from).expect("a port of this test's own address");
    // Nothing is sent: the header comes before the first byte, and does not wait for it.
    let _client = socket.connect(stage.address()).await.expect("connected");
    let (mut target, _) = stage.target.accept().await.expect("accepted");
    let mut bytes = [0; 39];
    target.read_exact(&mut bytes).await.expect("the header");
    assert_eq!(bytes, captured);
    assert_eq!(target.try_read(&mut [0]).expect_err("no more").kind(), ErrorKind::WouldBlock);
}

/// Enabling it is for new connections (1.5).
#[tokio::test]
async fn a_connection_from_before_proxy_protocol_was_enabled_stays_without() {
    let mut slice = service();
    let mut stage = Stage::new("enable", slice.clone()).await;
    let (mut before, mut before_target, _) = stage.connect().await;
    slice.attachments[0].enable_proxy_protocol = true;
    stage.reload(slice);
    let (mut after, mut after_target, _) = stage.connect().await;
    for client in [&mut before, &mut after] {
        client.write_all(b"x").await.expect("written");
        client.shutdown().await.expect("half-closed");
    }
    assert_eq!(read_to_end(&mut before_target).await.expect("read"), b"x");
    assert_eq!(read_to_end(&mut after_target).await.expect("read").len(), 39 + 1);
}

#[tokio::test]
async fn who_leaves_accepted_is_cut_and_who_comes_back_is_carried() {
    let mut stage = Stage::new("cut", service()).await;
    let (mut client, mut target, _) = stage.connect().await;
    client.write_all(b"x").await.expect("written");
    target.read_exact(&mut [0]).await.expect("carried");

    let mut rejecting = service();
    rejecting.attachments[0].consumer_reject_lists =
        vec![Consumer::ProjectIdOrNum("tenant".to_owned())];
    stage.reload(rejecting.clone());
    assert_eq!(stage.states()[0].status, ConnectionStatus::Rejected);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    // Refused at the endpoint, and by the service attachment where the endpoint does not know yet.
    stage.assert_refused().await;
    stage.endpoint.notice(Notice::Connections(Vec::new()));
    stage.assert_refused().await;

    // Without reconcileConnections REJECTED would stay; with it the list of today counts.
    stage.reload(service());
    let (mut client, mut target, _) = stage.connect().await;
    client.write_all(b"y").await.expect("written");
    target.read_exact(&mut [0]).await.expect("carried again");
    // A reload that changes nothing for this connection does not touch it.
    let mut other = service();
    other.attachments[0].consumer_accept_lists[0].connection_limit = 1;
    stage.reload(other);
    client.write_all(b"z").await.expect("written");
    target.read_exact(&mut [0]).await.expect("still carried");
}

#[tokio::test]
async fn a_restart_of_the_service_attachment_keeps_the_history_and_loses_no_new_connection() {
    let mut slice = service();
    slice.attachments[0].reconcile_connections = false;
    let mut stage = Stage::new("restart", slice.clone()).await;
    let (client, target, _) = stage.connect().await;
    drop((client, target));
    stage.stop_service();
    // A connection made while it is away waits for it.
    let dialled = stage.dial().await;
    // The consumer is no longer listed, but was accepted before the restart.
    slice.attachments[0].consumer_accept_lists.clear();
    stage.start_service(slice.clone());
    assert_eq!(stage.states()[0].status, ConnectionStatus::Accepted);
    let (mut target, _) = stage.target.accept().await.expect("accepted");
    let mut client = dialled;
    client.write_all(b"x").await.expect("written");
    target.read_exact(&mut [0]).await.expect("carried");

    // A fresh start has no history.
    let fresh = Stage::new("fresh", slice).await;
    assert_eq!(fresh.states()[0].status, ConnectionStatus::Pending);
    assert_eq!(fresh.states()[0].reason, Some(Reason::PscConnectionNotAccepted));
}

#[tokio::test]
async fn a_target_that_refuses_resets_the_client() {
    let mut stage = Stage::new("refused", service()).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    stage.target = gone;
    let address = stage.target.local_addr().expect("bound");
    stage.stop_service();
    stage.start_service(service());
    stage.target = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    assert_ne!(stage.target.local_addr().expect("bound"), address);
    stage.assert_refused().await;
}

fn workload(region: &str) -> Workload {
    Workload {
        name: "vm/client".to_owned(),
        network: consumer(),
        address: Ipv4Addr::LOCALHOST,
        project: "tenant".to_owned(),
        project_number: 42,
        region: region.to_owned(),
        zone: format!("{region}-a"),
        tags: Vec::new(),
        service_account: None,
        instance_id: "1".to_owned(),
        serverless: false,
        outside: None,
        metadata: Default::default(),
    }
}

#[tokio::test]
async fn clients_of_another_region_need_global_access_and_lose_it_at_once() {
    let mut stage = Stage::new("region", service()).await;
    stage.endpoint.notice(Notice::Workloads(vec![workload("us-central1")]));
    stage.assert_refused().await;

    let mut global = endpoint();
    global.allow_psc_global_access = true;
    let here = |one| EndpointAttachmentSlice {
        network: consumer(),
        endpoints: vec![one],
        remote: Default::default(),
    };
    stage.endpoint.reload(here(global.clone())).expect("good");
    stage.reload(ServiceAttachmentSlice { endpoints: vec![global], ..service() });
    let (mut far, mut far_target, _) = stage.connect().await;
    stage.endpoint.notice(Notice::Workloads(vec![workload(REGION)]));
    let (mut near, mut near_target, _) = stage.connect().await;

    // Turning it off cuts connections from other regions, and only those.
    stage.reload(service());
    assert_reset(&mut far).await;
    assert_reset(&mut far_target).await;
    near.write_all(b"x").await.expect("written");
    near_target.read_exact(&mut [0]).await.expect("still carried");
    // The consumer's side has not heard of it yet: the producer's holds new ones to its own rule.
    stage.endpoint.notice(Notice::Workloads(vec![workload("us-central1")]));
    stage.assert_refused().await;
}
