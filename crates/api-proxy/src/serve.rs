//! One accepted connection: TLS, and the head of every request.

use crate::exchange::Exchange;
use crate::{ApiProxy, record, respond};
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response};
use http_proxy::headers::{X_FORWARDED_PROTO, strip_hop_by_hop};
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming, ServerOptions, tls};
use names::Reason;
use policy_bundle::{ClientInfo, Content, ContentOrigin, Fault, Message, Platform, Query, Routed};
use runtime::log::{self, Severity};
use runtime::{Accepted, Stream, Worker};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

/// A TLS handshake must end within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest request line (9.3: 7 to 10 KB, unconfirmed on X).
const LINE_BYTES_MAX: usize = 10 * 1024;
/// The largest header section (9.3: 25 KB).
const HEADER_BYTES_MAX: usize = 25 * 1024;

/// Serves one accepted connection to its end.
pub async fn serve(worker: Rc<Worker<ApiProxy>>, accepted: Accepted) {
    let Accepted { stream, peer, drain, .. } = accepted;
    let Stream::Tcp(stream) = stream else { return };
    let client = peer.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let Some(config) = worker.snapshot().tls.clone() else { return };
    let (stream, tls) = match tls::accept(config, stream, HANDSHAKE_TIMEOUT).await {
        Ok(accepted) => accepted,
        Err(error) => {
            log::entry(Severity::Notice, "a TLS handshake failed")
                .field("client_ip", client.ip().to_string().as_str())
                .field("error", error.to_string().as_str())
                .emit();
            return;
        }
    };
    let info = Rc::new(ConnectionInfo { peer: Some(client), local: None, tls: Some(tls) });
    let handler = Rc::new(Northbound { worker, client });
    let drain = async move { drain.wait().await };
    let options = ServerOptions::default();
    http_proxy::serve(stream, Bytes::new(), info, handler, &options, drain).await;
}

/// A client's connection.
struct Northbound {
    worker: Rc<Worker<ApiProxy>>,
    client: SocketAddrV4,
}

impl Handler for Northbound {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let snapshot = self.worker.snapshot();
        let (mut parts, body) = request.into_parts();
        let mut exchange =
            Exchange::new(self.worker.clone(), snapshot.clone(), self.client, &parts);
        let upgrade = strip_hop_by_hop(&mut parts.headers);
        match route(&snapshot.platform, &parts) {
            Err(fault) => respond::refusal(exchange, &parts.method, fault),
            Ok(routed) => {
                let method = parts.method.clone();
                // Of upgrades only WebSocket passes (9.4); others are ordinary requests.
                let upgrade = upgrade.filter(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
                let message = message(parts, &body, upgrade.is_some());
                exchange.begin(routed, message, self.client_info());
                let answer = exchange.run(body, upgrade).await;
                respond::response(exchange, &method, answer)
            }
        }
    }

    fn refused(&self, error: &HeadError) {
        self.worker.local.meters.refusal(Reason::HttpMalformed);
        record::malformed(self.client, error);
    }
}

impl Northbound {
    fn client_info(&self) -> ClientInfo {
        ClientInfo { ip: IpAddr::V4(*self.client.ip()), port: self.client.port(), tls: true }
    }
}

/// The proxy endpoint, if the head is one that the platform takes.
fn route(platform: &Platform, parts: &Parts) -> Result<Routed, Fault> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if parts.method.as_str().len() + target.len() + " HTTP/1.1".len() > LINE_BYTES_MAX {
        return Err(Fault::too_big_line());
    }
    let size: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > HEADER_BYTES_MAX {
        return Err(Fault::too_big_headers(HEADER_BYTES_MAX));
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if parts.method == Method::CONNECT {
        return Err(Fault::application_not_found(host, parts.uri.path()));
    }
    platform.route(host, parts.uri.path())
}

/// The request message as the flow sees it.
fn message(parts: Parts, body: &Incoming, upgrade: bool) -> Message {
    let mut message = Message::request();
    message.method = parts.method;
    message.version = match parts.version {
        http::Version::HTTP_10 => "1.0".into(),
        http::Version::HTTP_2 => "2".into(),
        _ => "1.1".into(),
    };
    message.path = parts.uri.path().to_owned();
    message.query = Query::parse(parts.uri.query().unwrap_or_default());
    message.headers = parts.headers;
    from_ingress(&mut message.headers);
    message.content = match upgrade || http_body::Body::is_end_stream(body) {
        true => Content::Empty,
        false => Content::Unread(ContentOrigin::Client),
    };
    message
}

/// What the ingress takes away and adds (2.4).
fn from_ingress(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-apigee-")).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert("x-forwarded-port", HeaderValue::from_static("443"));
}
