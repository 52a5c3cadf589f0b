//! Real sockets: a client, the program, and a stand-in for `cloud-run` at the end of the channel.

use google_front_end::GoogleFrontEnd;
use names::{FrontEnd, NetworkId, Origin};
use net::take_over;
use proxy_protocol::Header;
use runtime::testing::{Place, Started};
use slice::run::GoogleFrontEndSlice;
use slice::{CLOUD_RUN_FRONT_END_CHANNEL, Notice, PRIVATE_VIP, Workload};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

struct Stage {
    program: Started<GoogleFrontEnd>,
    cloud_run: UnixListener,
    state_dir: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let state_dir = std::env::temp_dir().join(format!("gfe-{name}-{}", std::process::id()));
        let network = NetworkId::new("p", "n");
        let place = Place {
            state_dir: state_dir.clone(),
            network: Some(network.clone()),
            workers: 1,
            placements: Vec::new(),
        };
        let program = Started::<GoogleFrontEnd>::start(
            GoogleFrontEndSlice { network, endpoints: Vec::new() },
            place,
        )
        .expect("started");
        let channel = program.context().expect("running").channel(CLOUD_RUN_FRONT_END_CHANNEL);
        let _ = std::fs::remove_file(&channel);
        let cloud_run = UnixListener::bind(channel).expect("bound");
        Stage { program, cloud_run, state_dir }
    }

    async fn connect(&self, front_end: &str) -> TcpStream {
        let address = self.program.address(front_end).expect("listens");
        TcpStream::connect(address).await.expect("connected")
    }

    async fn lane(&self) -> UnixStream {
        self.cloud_run.accept().await.expect("accepted").0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}

async fn take(lane: &UnixStream) -> (Header, TcpStream) {
    let (head, socket) = take_over(lane).await.expect("whole").expect("one");
    let (header, length) = Header::decode(&head).expect("well-formed").expect("complete");
    assert_eq!(length, head.len());
    let socket = std::net::TcpStream::from(socket.expect("a socket"));
    (header, TcpStream::from_std(socket).expect("non-blocking"))
}

fn client_hello(name: &'static str) -> Vec<u8> {
    let config = http_proxy::tls::client_config_unverified(&["h2"]).expect("a configuration");
    let name = name.try_into().expect("a name");
    let mut connection = rustls::ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("written");
    bytes
}

fn workload(address: Ipv4Addr) -> Workload {
    Workload {
        name: "exec-1".to_owned(),
        network: NetworkId::new("p", "n"),
        address,
        project: "service-project".to_owned(),
        project_number: 7,
        region: "europe-west1".to_owned(),
        zone: "europe-west1-b".to_owned(),
        tags: Vec::new(),
        service_account: None,
        instance_id: "1".to_owned(),
        serverless: false,
        outside: None,
        metadata: Default::default(),
    }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("the listener is IPv4"),
    }
}

#[tokio::test]
async fn a_client_hello_in_pieces_is_handed_over_unread_with_its_origin() {
    let stage = Stage::new("pieces");
    stage.program.notice(Notice::Workloads(vec![workload(Ipv4Addr::LOCALHOST)]));
    let mut client = stage.connect("private").await;
    let hello = client_hello("orders-123.europe-west1.run.app");
    for piece in hello.chunks(hello.len() / 5) {
        client.write_all(piece).await.expect("written");
        tokio::task::yield_now().await;
    }
    let (header, mut socket) = take(&stage.lane().await).await;
    let origin = Origin::Network {
        network: NetworkId::new("p", "n"),
        project: "service-project".into(),
        front_end: FrontEnd::Private,
    };
    assert_eq!(header.origin(), Ok(Some(origin)));
    assert_eq!(header.source_v4(), Some(v4(client.local_addr().expect("connected"))));
    assert_eq!(header.destination_v4(), Some(SocketAddrV4::new(PRIVATE_VIP, 443)));
    let mut read = vec![0; hello.len()];
    socket.read_exact(&mut read).await.expect("still there");
    assert!(read == hello, "from the first byte on");
    // And it is the very connection, both ways.
    socket.write_all(b"ServerHello").await.expect("written");
    drop(socket);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    assert_eq!(answer, b"ServerHello");
}

#[tokio::test]
async fn whom_the_network_does_not_know_comes_from_the_internet() {
    let stage = Stage::new("internet");
    let mut client = stage.connect("public").await;
    client.write_all(&client_hello("example.com")).await.expect("written");
    let (header, _socket) = take(&stage.lane().await).await;
    assert_eq!(header.origin(), Ok(Some(Origin::Internet)));
}

#[tokio::test]
async fn what_is_not_tls_is_handed_over_and_who_gives_up_is_not() {
    let stage = Stage::new("not-tls");
    // Silence, then the end; half a ClientHello, then the end.
    for bytes in [&b""[..], &client_hello("a.run.app")[..40]] {
        let mut client = stage.connect("restricted").await;
        client.write_all(bytes).await.expect("written");
        client.shutdown().await.expect("half-closed");
        let mut rest = Vec::new();
        // Closed by the program; with bytes unread the kernel makes that a reset.
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    let mut client = stage.connect("restricted").await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let (_, mut socket) = take(&stage.lane().await).await;
    let mut read = [0; 3];
    socket.read_exact(&mut read).await.expect("still there");
    assert_eq!(&read, b"GET", "the first that was handed over");
}
