//! Both ends of Private Service Connect over real sockets: client → endpoint attachment → service
//! attachment → target.

use endpoint_attachment::EndpointAttachment;
use names::{NetworkId, Reason, SelfLink};
use net::splice::reset;
use proxy_protocol::Header;
use runtime::testing::{Place, Started};
use service_attachment::ServiceAttachment;
use slice::psc::{
    Accept, ConnectionPreference, ConnectionStatus, Consumer, Endpoint, EndpointAttachmentSlice,
    EndpointKind, NatSubnet, ServiceAttachmentSlice, Target,
};
use slice::{Notice, Placement, Workload};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REGION: &str = "europe-west1";
const ID: u64 = 0x009b_34d7_0a00_3c64;

fn producer() -> NetworkId {
    NetworkId::new("producer", "ilb-network")
}

fn consumer() -> NetworkId {
    NetworkId::new("tenant", "apigee-network")
}

fn endpoint() -> Endpoint {
    Endpoint {
        self_link: SelfLink::regional("tenant", REGION, "forwardingRules", "apps"),
        kind: EndpointKind::ForwardingRule,
        project: "tenant".to_owned(),
        project_number: 42,
        network: consumer(),
        region: REGION.to_owned(),
        address: Ipv4Addr::new(10, 0, 60, 100),
        ports: vec![443],
        protocol: Default::default(),
        all_ports: false,
        target: SelfLink::regional("producer", REGION, "serviceAttachments", "apps"),
        producer_network: Some(producer()),
        psc_connection_id: ID,
        allow_psc_global_access: false,
        producer_allows_global_access: true,
        automatic_dns_name: None,
        ancestry: Vec::new(),
        propagated_from: None,
    }
}

fn service() -> ServiceAttachmentSlice {
    let link = |collection, name| SelfLink::regional("producer", REGION, collection, name);
    let attachment = slice::psc::ServiceAttachment {
        self_link: link("serviceAttachments", "apps"),
        region: REGION.to_owned(),
        network: producer(),
        target: Target {
            forwarding_rule: link("forwardingRules", "ilb"),
            address: Ipv4Addr::new(10, 0, 0, 5),
            ports: vec![443],
            protocol: Default::default(),
            all_ports: false,
            allow_global_access: false,
        },
        connection_preference: ConnectionPreference::AcceptManual,
        consumer_accept_lists: vec![Accept {
            consumer: Consumer::ProjectIdOrNum("tenant".to_owned()),
            connection_limit: 4,
        }],
        consumer_reject_lists: Vec::new(),
        // Any address of 127/8 can be bound, so NAT is as real as in a namespace.
        nat_subnets: vec![NatSubnet {
            self_link: link("subnetworks", "nat"),
            range: "127.10.2.0/28".parse().expect("a range"),
        }],
        enable_proxy_protocol: false,
        reconcile_connections: true,
        nat_ips_per_endpoint: 1,
        propagated_connection_limit: 250,
        domain_names: Vec::new(),
        description: None,
        metadata: Default::default(),
        idle_timeouts: Default::default(),
        consumer_policy: None,
    };
    ServiceAttachmentSlice {
        network: producer(),
        attachments: vec![attachment],
        endpoints: vec![endpoint()],
        nat_subnetworks: Vec::new(),
        remote: Default::default(),
    }
}

struct Stage {
    endpoint: Started<EndpointAttachment>,
    service: Option<Started<ServiceAttachment>>,
    target: TcpListener,
    state_dir: PathBuf,
}

impl Stage {
    async fn new(name: &str, slice: ServiceAttachmentSlice) -> Self {
        let state_dir = std::env::temp_dir().join(format!("psc-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state_dir);
        let target = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let endpoints = vec![endpoint()];
        let here =
            EndpointAttachmentSlice { network: consumer(), endpoints, remote: Default::default() };
        let place = place(&state_dir, consumer(), Vec::new());
        let endpoint = Started::start(here, place).expect("started");
        let mut stage = Stage { endpoint, service: None, target, state_dir };
        stage.start_service(slice);
        stage
    }

    fn start_service(&mut self, slice: ServiceAttachmentSlice) {
        let placement = Placement {
            network: producer(),
            declared: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 443),
            actual: self.target.local_addr().expect("bound"),
        };
        let place = place(&self.state_dir, producer(), vec![placement]);
        self.service = Some(Started::start(slice, place).expect("started"));
        self.tell();
    }

    fn reload(&mut self, slice: ServiceAttachmentSlice) {
        self.service.as_mut().expect("started").reload(slice).expect("good");
        self.tell();
    }

    fn states(&self) -> Vec<slice::ConnectionState> {
        self.service.as_ref().and_then(Started::program).expect("started").states()
    }

    /// What the supervisor does with `Report::Connections`.
    fn tell(&self) {
        self.endpoint.notice(Notice::Connections(self.states()));
    }

    fn address(&self) -> SocketAddr {
        let key = format!("{}:443", endpoint().self_link);
        self.endpoint.address(&key).expect("listens")
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.expect("connected")
    }

    async fn assert_refused(&self) {
        // The reset may come before the client has learned that it was connected.
        let error = match TcpStream::connect(self.address()).await {
            Ok(mut client) => read_to_end(&mut client).await.expect_err("a reset"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    /// A client and the target's end of its connection.
    async fn connect(&self) -> (TcpStream, TcpStream, SocketAddr) {
        let client = self.dial().await;
        let (target, peer) = self.target.accept().await.expect("accepted");
        (client, target, peer)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

fn place(state_dir: &std::path::Path, network: NetworkId, placements: Vec<Placement>) -> Place {
    Place { state_dir: state_dir.to_owned(), network: Some(network), workers: 1, placements }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

async fn read_to_end(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.map(|_| bytes)
}

async fn assert_reset(socket: &mut TcpStream) {
    let error = read_to_end(socket).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

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
    stage.service = None;
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
    stage.service = None;
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
}
