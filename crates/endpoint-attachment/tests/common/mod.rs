//! Two programs on one stage: an endpoint attachment and a service attachment in this process, real
//! sockets in between and around.

#![allow(dead_code, reason = "each test binary uses its own part")]

use endpoint_attachment::EndpointAttachment;
use names::{NetworkId, SelfLink};
use runtime::testing::{Place, Started};
use service_attachment::ServiceAttachment;
use slice::psc::{
    Accept, Consumer, Endpoint, EndpointAttachmentSlice, EndpointKind, NatSubnet,
    ServiceAttachmentSlice, Target,
};
use slice::{Notice, Placement};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

pub const REGION: &str = "europe-west1";
pub const ID: u64 = 0x009b_34d7_0a00_3c64;

pub fn producer() -> NetworkId {
    NetworkId::new("producer", "ilb-network")
}

pub fn consumer() -> NetworkId {
    NetworkId::new("tenant", "apigee-network")
}

pub fn endpoint() -> Endpoint {
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

pub fn service() -> ServiceAttachmentSlice {
    let link = |collection, name| SelfLink::regional("producer", REGION, collection, name);
    let attachment = slice::psc::ServiceAttachment {
        consumer_accept_lists: vec![Accept {
            consumer: Consumer::ProjectIdOrNum("tenant".to_owned()),
            connection_limit: 4,
        }],
        // Any address of 127/8 can be bound, so NAT is as real as in a namespace.
        nat_subnets: vec![NatSubnet {
            self_link: link("subnetworks", "nat"),
            range: "127.10.2.0/28".parse().expect("a range"),
        }],
        reconcile_connections: true,
        ..slice::psc::ServiceAttachment::new(
            link("serviceAttachments", "apps"),
            REGION,
            producer(),
            Target {
                forwarding_rule: link("forwardingRules", "ilb"),
                address: Ipv4Addr::new(10, 0, 0, 5),
                ports: vec![443],
                protocol: Default::default(),
                all_ports: false,
                allow_global_access: false,
            },
        )
    };
    ServiceAttachmentSlice {
        network: producer(),
        attachments: vec![attachment],
        endpoints: vec![endpoint()],
        nat_subnetworks: Vec::new(),
        remote: Default::default(),
    }
}

pub struct Stage {
    pub endpoint: Started<EndpointAttachment>,
    service: Option<Started<ServiceAttachment>>,
    /// Where the published forwarding rule really is, if not elsewhere.
    pub target: TcpListener,
    pub state_dir: PathBuf,
    one: Endpoint,
    elsewhere: Option<SocketAddr>,
}

impl Stage {
    pub async fn new(name: &str, slice: ServiceAttachmentSlice) -> Self {
        Stage::with(name, slice, None, Vec::new()).await
    }

    /// `elsewhere`: where the published forwarding rule really is; `clients`: where clients are.
    pub async fn with(
        name: &str,
        slice: ServiceAttachmentSlice,
        elsewhere: Option<SocketAddr>,
        clients: Vec<Placement>,
    ) -> Self {
        let state_dir = std::env::temp_dir().join(format!("psc-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state_dir);
        let target = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let one = slice.endpoints[0].clone();
        let here = EndpointAttachmentSlice {
            network: consumer(),
            endpoints: vec![one.clone()],
            remote: Default::default(),
        };
        let place = place(&state_dir, consumer(), clients);
        let endpoint = Started::start(here, place).expect("started");
        let mut stage = Stage { endpoint, service: None, target, state_dir, one, elsewhere };
        stage.start_service(slice);
        stage
    }

    pub fn start_service(&mut self, slice: ServiceAttachmentSlice) {
        let bound = || self.target.local_addr().expect("bound");
        let placement = Placement {
            network: producer(),
            declared: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), self.one.ports[0]),
            actual: self.elsewhere.unwrap_or_else(bound),
        };
        let place = place(&self.state_dir, producer(), vec![placement]);
        self.service = Some(Started::start(slice, place).expect("started"));
        self.tell();
    }

    /// Stops the service attachment in the way a supervisor does.
    pub fn stop_service(&mut self) {
        self.service = None;
    }

    pub fn reload(&mut self, slice: ServiceAttachmentSlice) {
        self.service.as_mut().expect("started").reload(slice).expect("good");
        self.tell();
    }

    pub fn states(&self) -> Vec<slice::ConnectionState> {
        self.service.as_ref().and_then(Started::program).expect("started").states()
    }

    /// What the supervisor does with `Report::Connections`.
    pub fn tell(&self) {
        self.endpoint.notice(Notice::Connections(self.states()));
    }

    pub fn address(&self) -> SocketAddr {
        let key = format!("{}:{}", self.one.self_link, self.one.ports[0]);
        self.endpoint.address(&key).expect("listens")
    }

    pub async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.expect("connected")
    }

    pub async fn assert_refused(&self) {
        // The reset may come before the client has learned that it was connected.
        let error = match TcpStream::connect(self.address()).await {
            Ok(mut client) => read_to_end(&mut client).await.expect_err("a reset"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    /// A client and the target's end of its connection.
    pub async fn connect(&self) -> (TcpStream, TcpStream, SocketAddr) {
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

pub fn place(state_dir: &std::path::Path, network: NetworkId, placements: Vec<Placement>) -> Place {
    Place { state_dir: state_dir.to_owned(), network: Some(network), workers: 1, placements }
}

pub fn pattern(count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub async fn read_to_end(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.map(|_| bytes)
}

pub async fn assert_reset(socket: &mut TcpStream) {
    let error = read_to_end(socket).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
