//! One accepted connection: is its client admitted, TLS, and the head of every request.

use crate::compile::{Front, Snapshot};
use crate::decide::{self, Action, Plan};
use crate::forward::{Forward, forward};
use crate::guard::{self, Answer, Guarded};
use crate::headers::{self, Forwarded};
use crate::record::{self, Record};
use crate::variables::Variables;
use crate::{InternalLb, proxy_header, respond};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response};
use http_proxy::headers::strip_hop_by_hop;
use http_proxy::tls::{self, TlsError};
use http_proxy::{Body, BoxIo, ConnectionInfo, Handler, HeadError, Incoming};
use names::Reason;
use runtime::{Accepted, Drain, Stream, Worker};
use slice::load_balancer::NORTHBOUND;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use url_map::{HeaderActions, RequestHead};

/// A TLS handshake must end within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that is not admitted hears nothing: a connect timeout is about as long.
const SILENCE: Duration = Duration::from_secs(130);

/// Serves one accepted connection to its end.
pub async fn serve(worker: Rc<Worker<InternalLb>>, accepted: Accepted) {
    let Accepted { key, stream, peer, drain, .. } = accepted;
    // A listener on the host stands for the forwarding rule that it publishes.
    let key = key.strip_prefix(NORTHBOUND).map_or_else(|| key.clone(), Arc::from);
    let Stream::Tcp(mut stream) = stream else { return };
    let peer = peer.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut client = peer;
    let snapshot = worker.snapshot();
    let Some((place, front)) = snapshot.front(&key, 0) else { return };
    let meters = &worker.local.meters;
    if front.accepts_proxy_header {
        match Box::pin(proxy_header::read(&mut stream)).await {
            Ok(said) => client = said.unwrap_or(client),
            Err(detail) => {
                let reason = Reason::ProxyHeaderMalformed;
                return record::unserved(meters, front, *client.ip(), reason, None, &detail);
            }
        }
    }
    if let Err((reason, detail)) = admitted(&worker, &snapshot, &key, peer) {
        record::unserved(meters, front, *client.ip(), reason, None, &detail);
        drop(snapshot);
        return Box::pin(silence(stream, drain)).await;
    }
    let options = front.options.clone();
    let forwarded = Forwarded::new(*client.ip(), *front.address.ip(), front.tls.is_some());
    let handler = Rc::new(Connection {
        worker: worker.clone(),
        key,
        place: Cell::new(place),
        client,
        client_text: client.ip().to_string().into(),
        forwarded,
    });
    let local = Some(front.address);
    let (io, tls): (BoxIo, _) = match front.tls.clone() {
        None => (Box::new(stream), None),
        Some(config) => match Box::pin(tls::accept(config, stream, HANDSHAKE_TIMEOUT)).await {
            Ok((stream, tls)) => (Box::new(stream), Some(tls)),
            // Plain HTTP on a TLS port, a probe, a client that does not trust the certificate:
            // the connection is closed (2.8 (unconfirmed)).
            Err(error) => {
                let (reason, detail) = (handshake_failure(&error), error.to_string());
                return record::unserved(meters, front, *client.ip(), reason, None, &detail);
            }
        },
    };
    drop(snapshot); // not kept alive by a connection
    let info = Rc::new(ConnectionInfo { peer: Some(client), local, tls });
    let drain = async move { drain.wait().await };
    http_proxy::serve_boxed(io, Bytes::new(), info, handler, &options, drain).await;
}

/// Whose first bytes are no TLS at all has taken the wrong scheme.
fn handshake_failure(error: &TlsError) -> Reason {
    let TlsError::Io(error) = error else { return Reason::TlsHandshakeFailed };
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => Reason::SchemeMismatch,
        _ => Reason::TlsHandshakeFailed,
    }
}

/// Clients of other regions need global access (2.1). Judged by who connects, never by whom a
/// PROXY header names: that address is of another network. A peer whose region nobody knows (a NAT
/// address of a service attachment, a peered network) has been judged there.
fn admitted(
    worker: &Worker<InternalLb>,
    snapshot: &Snapshot,
    key: &str,
    peer: SocketAddrV4,
) -> Result<(), (Reason, String)> {
    let Some(workload) = worker.workload(*peer.ip()) else { return Ok(()) };
    let Some(front) = snapshot.url_maps.front(key) else { return Ok(()) };
    front.admits(&workload.region).map_err(|reason| {
        let of_rule = &front.rule().region;
        let detail = format!("{} is in {}, the rule in {of_rule}", workload.name, workload.region);
        (reason, detail)
    })
}

/// Packets that are dropped answer nothing; neither does this.
pub async fn silence(mut stream: TcpStream, drain: Drain) {
    let mut nothing = [0; 1024];
    let deaf = async { while matches!(stream.read(&mut nothing).await, Ok(1..)) {} };
    tokio::select! {
        () = deaf => {}
        () = drain.wait() => {}
        () = tokio::time::sleep(SILENCE) => {}
    }
}

/// A connection of a forwarding rule.
struct Connection {
    worker: Rc<Worker<InternalLb>>,
    /// The forwarding rule.
    key: Arc<str>,
    /// Where its front was in the last snapshot.
    place: Cell<usize>,
    client: SocketAddrV4,
    /// Its address, for the log.
    client_text: Rc<str>,
    forwarded: Forwarded,
}

impl Handler for Connection {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        info: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let snapshot = self.worker.snapshot();
        let Some((place, front)) = snapshot.front(&self.key, self.place.get()) else {
            return gone(); // the rule was removed while this head was on its way
        };
        self.place.set(place);
        let (mut parts, body) = request.into_parts();
        let upgrade = strip_hop_by_hop(&mut parts.headers);
        let grpc = is_grpc(&parts.headers);
        let client = (&self.client_text, info);
        let mut record = Record::new(&self.worker, &snapshot, place, client, &parts);
        let mut plan = self.plan(&snapshot, front, record.host(), &parts);
        record.planned(&mut plan, &parts.headers);
        let service = plan.service.and_then(|at| snapshot.services.get(at));
        let mut guarded = false;
        if let Some(service) = service.filter(|service| service.policy.is_some()) {
            let asked = guard::ask(
                &self.worker,
                service,
                front,
                (self.client, info),
                record.host(),
                &parts,
            );
            if let Some(Guarded { answer, entry }) = asked {
                record.guarded(entry);
                match answer {
                    Answer::Pass(added) => {
                        guarded = !added.is_empty();
                        for (name, value) in added {
                            parts.headers.insert(name, value.clone());
                        }
                    }
                    Answer::Deny(failure, detail) => {
                        record.failed(&failure, grpc, Some(&detail));
                        return respond::response(&failure, grpc);
                    }
                    Answer::Redirect(target, reason) => {
                        record.guarded_redirect(302, reason);
                        return respond::redirect(target, 302);
                    }
                }
            }
        }
        if let Some(delay) = plan.delay {
            Box::pin(tokio::time::sleep(delay)).await;
            record.held_up();
        }
        let mut response = match plan.action {
            Action::Forward(order) => {
                let variables = Variables {
                    info,
                    client: self.client,
                    balancer: front.address,
                    protocol: record::protocol(parts.version),
                };
                let added = service.map_or(&[][..], |service| &service.request_headers);
                let ids = &self.worker.local.ids;
                let changed = record.proxied()
                    || guarded
                    || !added.is_empty()
                    || !plan.headers.is_empty()
                    || record.is_sampled();
                let fresh = match changed {
                    true => None,
                    false => headers::fresh(&self.forwarded, ids),
                };
                let own = match fresh {
                    Some((fields, trace)) => {
                        record.traced(Some(trace));
                        fields
                    }
                    None => {
                        let map = &mut parts.headers;
                        record.write_trace(map);
                        record.traced(headers::for_backend(map, &self.forwarded, ids));
                        plan.headers.apply_to_request(map);
                        headers::add(map, added, &variables);
                        Box::default()
                    }
                };
                if let Err(detail) = headers::rewrite(&mut parts, &order.rewrite) {
                    let failure = respond::refused(Reason::UrlMapNoMatch, 404);
                    record.failed(&failure, grpc, Some(&detail));
                    return respond::response(&failure, grpc);
                }
                let way = Forward {
                    worker: &self.worker,
                    snapshot: &snapshot,
                    front,
                    variables: &variables,
                    service: plan.service,
                    order: &order,
                    actions: plan.headers,
                };
                // Of upgrades only WebSocket passes, without being configured (2.7); others are
                // ordinary requests ((unconfirmed): Envoy refuses some).
                let websocket =
                    upgrade.filter(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
                match forward(way, parts, own, body, websocket, record).await {
                    Ok(response) => response,
                    Err((failure, detail, record)) => {
                        record.failed(&failure, grpc, Some(&detail));
                        respond::response(&failure, grpc)
                    }
                }
            }
            Action::Preflight => {
                record.answered_by_us(200);
                let Some((policy, origin)) = plan.cors else { return Response::default() };
                return respond::preflight(policy, &origin);
            }
            Action::Redirect { location, status, reason } => {
                record.redirected(status, reason);
                respond::redirect(&location, status)
            }
            Action::Refuse { reason, status, detail } => {
                let failure = respond::refused(reason, status);
                record.failed(&failure, grpc, Some(&detail));
                respond::response(&failure, grpc)
            }
        };
        if let Some((policy, origin)) = plan.cors {
            // What the backend says itself is overwritten, as by Envoy: browsers take one value.
            for (name, value) in policy.actual(&origin) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn refused(&self, error: &HeadError) {
        let snapshot = self.worker.snapshot();
        let Some((_, front)) = snapshot.front(&self.key, self.place.get()) else { return };
        let failure = respond::malformed(error);
        let (meters, status) = (&self.worker.local.meters, Some(failure.status));
        let detail = error.to_string();
        record::unserved(meters, front, *self.client.ip(), failure.reason, status, &detail);
    }
}

impl Connection {
    fn plan<'s>(
        &self,
        snapshot: &'s Snapshot,
        front: &Front,
        host: &str,
        parts: &http::request::Parts,
    ) -> Plan<'s> {
        let rule = snapshot.url_maps.front(&self.key);
        // Envoy has no route for CONNECT unless one is configured.
        if let Some(rule) = rule.filter(|_| parts.method != Method::CONNECT) {
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let roll = front.roll(&self.worker.local.ids);
            let head = RequestHead::new(host, target)
                .with_method(parts.method.as_str())
                .with_headers(&parts.headers)
                .with_roll(roll);
            return decide::decide(rule, &head);
        }
        Plan {
            action: Action::Refuse {
                reason: Reason::UrlMapNoMatch,
                status: 404,
                detail: "no route takes CONNECT".to_owned(),
            },
            service: None,
            path_rule: None,
            headers: HeaderActions::default(),
            cors: None,
            delay: None,
        }
    }
}

fn gone() -> Response<Body> {
    let failure = respond::refused(Reason::UrlMapNoMatch, 404);
    let mut response = respond::response(&failure, false);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Is this gRPC, by its content type?
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
