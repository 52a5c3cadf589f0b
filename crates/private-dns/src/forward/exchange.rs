//! One question to one name server, over UDP and, where the answer was cut short, over TCP.
//!
//! hickory speaks the protocol: an id and a source port of chance, the name in random case (0x20),
//! repetition, and no answer taken that does not come from the server asked, with the id and the
//! question that it was asked. This file only says how a network is reached.

use hickory_net::DnsHandle;
use hickory_net::NetError;
use hickory_net::proto::op::{DnsRequest, DnsRequestOptions, Query};
use hickory_net::proto::rr;
use hickory_net::proto::serialize::binary::BinDecodable;
use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioTime};
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsExchange, DnsRequestSender, FirstAnswer};
use managed_zone::{Name, RecordType, UDP_SIZE_MAX};
use net::Network;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Octets of a message before its question.
const HEADER: usize = 12;
/// Where name servers listen.
const PORT: u16 = 53;
/// A query is repeated as often, so far apart.
const SENT_MAX: u8 = 3;
const REPEAT_AFTER: Duration = Duration::from_millis(1500);

/// A question for name servers.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: rr::Name,
    /// The name as it should be read in answers.
    wire: Box<[u8]>,
    pub(crate) record_type: RecordType,
}

impl Question {
    /// The same question in hickory's words; none where the name is none to it.
    pub(crate) fn new(name: &Name, record_type: RecordType) -> Option<Self> {
        let wire = name.as_wire().into();
        let name = rr::Name::from_bytes(name.as_wire()).ok()?;
        Some(Question { name, wire, record_type })
    }

    /// A response with the question in its own case again: names in answers point to it.
    fn restored(&self, mut response: Vec<u8>) -> Vec<u8> {
        let asked = response.get_mut(HEADER..HEADER + self.wire.len());
        if let Some(asked) = asked.filter(|asked| asked.eq_ignore_ascii_case(&self.wire)) {
            asked.copy_from_slice(&self.wire);
        }
        response
    }

    pub(super) fn request(&self) -> DnsRequest {
        let mut options = DnsRequestOptions::default();
        options.edns_payload_len = UDP_SIZE_MAX as u16;
        options.case_randomization = true;
        options.retry_interval = REPEAT_AFTER;
        let query = Query::query(self.name.clone(), rr::RecordType::from(self.record_type.0));
        DnsRequest::from_query(query, options)
    }
}

/// The server's whole response.
///
/// # Errors
/// It did not answer within `wait`, cannot be reached, or what it sent is no answer.
pub(crate) async fn ask(
    network: Network,
    source: Option<Ipv4Addr>,
    server: Ipv4Addr,
    question: Question,
    wait: Duration,
) -> Result<Vec<u8>, NetError> {
    let to = SocketAddrV4::new(server, PORT);
    let outward = Outward { network, source, handle: TokioHandle::default() };
    let mut datagrams = UdpClientStream::builder(to.into(), outward.clone())
        .with_timeout(Some(wait))
        .with_max_retries(SENT_MAX)
        .build();
    match datagrams.send_message(question.request()).first_answer().await {
        Ok(response) if !response.truncation => {
            return Ok(question.restored(response.into_buffer()));
        }
        // A server that does not keep the case of names is asked where nobody can forge answers.
        Ok(_) | Err(NetError::QueryCaseMismatch) => {}
        Err(error) => return Err(error),
    }
    let stream: DnsExchange<Outward> =
        TcpClientStream::exchange(to.into(), None, wait, None, outward).await?;
    let response = stream.send(question.request()).first_answer().await?;
    Ok(question.restored(response.into_buffer()))
}

/// How hickory reaches a declared address of a network.
#[derive(Clone)]
struct Outward {
    network: Network,
    source: Option<Ipv4Addr>,
    handle: TokioHandle,
}

impl RuntimeProvider for Outward {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Datagrams;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let Outward { network, source, .. } = self.clone();
        Box::pin(async move {
            let server = v4(server)?;
            if !network.has(server) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let dialled = network.dial(source, server);
            let dialled = tokio::time::timeout(wait.unwrap_or(REPEAT_AFTER), dialled).await;
            Ok(AsyncIoTokioAsStd(dialled??))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        let Outward { network, source, .. } = self.clone();
        Box::pin(async move {
            let socket = network.udp(source, local.port(), v4(server)?).await?;
            Ok(Datagrams { socket, server })
        })
    }
}

fn v4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// A socket connected to one server: the kernel drops what others send, and tells when nobody
/// listens there.
struct Datagrams {
    socket: tokio::net::UdpSocket,
    /// As declared.
    server: SocketAddr,
}

impl DnsUdpSocket for Datagrams {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut out = ReadBuf::new(out);
        let received = self.socket.poll_recv(cx, &mut out);
        received.map_ok(|()| (out.filled().len(), self.server))
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        message: &[u8],
        _server: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, message)
    }
}
