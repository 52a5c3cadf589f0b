//! One request's head: the snapshot taken once, the decision of `serverless::admit`, and either a
//! refusal answered here or a request on its way to an instance.

use crate::forward::{Admitted, forward};
use crate::headers::{self, Sender};
use crate::record::{self, Asked, Ended, Served};
use crate::{CloudRun, Entry};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::header::{REFERER, USER_AGENT, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_proxy::headers::strip_hop_by_hop;
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming};
use names::{Origin, Reason};
use runtime::Worker;
use runtime::log::{self, Severity, Shown};
use serverless::{AuthorizationHeaders, Credential, Refusal, RequestHead, Target};
use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

const X_SERVERLESS_AUTHORIZATION: HeaderName =
    HeaderName::from_static("x-serverless-authorization");

/// What the fabric said about a connection, and so about every request on it.
pub struct Connection {
    worker: Rc<Worker<CloudRun>>,
    origin: Origin,
    /// `SELF_LINK[#TAG]`; without it the Host names the service.
    service: Option<String>,
    client: Option<Ipv4Addr>,
    /// The client speaks HTTP/2 to the load balancer, in whichever version that speaks here.
    http2: bool,
}

impl Connection {
    /// `service` is what a serverless endpoint group resolved; `client` the other end; `http2` what
    /// that speaks, where a load balancer stands between.
    pub fn new(
        worker: Rc<Worker<CloudRun>>,
        origin: Origin,
        service: Option<String>,
        client: Option<Ipv4Addr>,
        http2: bool,
    ) -> Self {
        Connection { worker, origin, service, client, http2 }
    }

    fn sender(&self) -> Sender {
        match self.origin {
            Origin::InternalLoadBalancer { .. } | Origin::ExternalLoadBalancer { .. } => {
                Sender::LoadBalancer
            }
            Origin::Network { .. } | Origin::Internet => Sender::Client(self.client),
        }
    }
}

impl Handler for Connection {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let at = Instant::now();
        let snapshot = self.worker.snapshot();
        let local = &self.worker.local;
        let (mut parts, body) = request.into_parts();
        let upgrade = strip_hop_by_hop(&mut parts.headers);
        let host = parts.headers.get(HOST).cloned();
        let target = parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let head = RequestHead {
            method: parts.method.as_str(),
            path: target.as_str(),
            credentials: AuthorizationHeaders {
                x_serverless: values(&parts.headers, &X_SERVERLESS_AUTHORIZATION),
                authorization: values(&parts.headers, &AUTHORIZATION),
            },
        };
        let asks = match &self.service {
            Some(link) => Target::Service(link),
            None => Target::Host(host.as_ref().and_then(|h| h.to_str().ok()).unwrap_or_default()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let decision = {
            let mut cache = local.tokens.borrow_mut();
            serverless::admit(&snapshot.front, &self.origin, asks, &head, &mut cache, now)
        };
        let entry = decision.found.map(|found| Arc::clone(&snapshot.entries[found.service.index]));
        let tag = decision.found.and_then(|found| found.tag).map(Box::from);
        let refused = match decision.result {
            Ok(admitted) => {
                strip_signature(&mut parts.headers, admitted.strip_signature);
                None
            }
            Err(refusal) => {
                let body = refusal.body(&head);
                Some((refusal, body))
            }
        };
        let sender = self.sender();
        let headers::Said { trace, client } =
            headers::for_container(&mut parts.headers, sender, || local.ids.trace());
        let asked = Asked {
            at,
            method: parts.method.clone(),
            host,
            target,
            version: if self.http2 { Version::HTTP_2 } else { parts.version },
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            referer: parts.headers.get(REFERER).cloned(),
            remote: client,
            server: connection.local.map(|local| *local.ip()),
            trace,
        };
        let entry = match (refused, entry) {
            (None, Some(entry)) => entry,
            (Some((refusal, page)), entry) => {
                return self.refuse(&asked, entry.as_deref(), &refusal, page);
            }
            (None, None) => unreachable!("who is admitted is admitted to a service"),
        };
        if let Cow::Owned(path) = serverless::decode_needless_escapes(asked.target.as_str())
            && let Ok(path) = PathAndQuery::try_from(path)
        {
            parts.uri = Uri::from(path);
        }
        let request = Request::from_parts(parts, body);
        let worker = Rc::clone(&self.worker);
        forward(Admitted { worker, entry, tag, asked, request, upgrade }).await
    }

    fn refused(&self, error: &HeadError) {
        let reason = match error {
            HeadError::TooLarge => Reason::HttpHeaderTooLarge,
            _ => Reason::HttpMalformed,
        };
        self.worker.local.meters.refusal(reason);
        log::entry(Severity::Warning, reason.summary())
            .field("reason", reason)
            .field("detail", Shown(error))
            .emit();
    }
}

impl Connection {
    /// Answers a refusal, and writes it where the real one does: what ingress refuses is not in the
    /// request log (0 row 2).
    fn refuse(
        &self,
        asked: &Asked,
        entry: Option<&Entry>,
        refusal: &Refusal,
        page: String,
    ) -> Response<Body> {
        let (status, reason) = (refusal.status(), refusal.reason());
        let meters = &self.worker.local.meters;
        match (refusal.log_text(), entry) {
            (Some(text), Some(entry)) => {
                let served = Served {
                    service: Arc::clone(&entry.service),
                    deployment: entry.number,
                    instance: None,
                    revision: None,
                };
                let ended = Ended {
                    status,
                    response_bytes: page.len() as u64,
                    reason: Some(reason),
                    ..Ended::default()
                };
                let severity = record::severity(status);
                record::request(meters, asked, &served, ended, severity, &text, Some(refusal));
            }
            (_, entry) => {
                let service = entry.map(|entry| entry.service.self_link.as_str());
                record::unlogged(meters, asked, service, status, reason, refusal);
            }
        }
        let mut response = Response::new(Body::full(page));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(serverless::pages::CONTENT_TYPE));
        if let Some(challenge) = refusal.www_authenticate() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        headers::own(headers, asked.trace);
        response
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> serverless::HeaderValues<'a> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// The container gets the token that was verified without its signature (0 row 5).
fn strip_signature(headers: &mut HeaderMap, credential: Option<Credential>) {
    let Some(credential) = credential else { return };
    let name = HeaderName::from_static(credential.header());
    let stripped = |value: &HeaderValue| {
        let text = id_token::replace_signature(value.to_str().ok()?)?;
        HeaderValue::try_from(text).ok()
    };
    let mut values: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
    // A single value held a token when it was looked at; rather none than one that could be used
    // again. Among several there may be others, which are the program's to judge.
    let several = values.len() > 1;
    values = values
        .iter()
        .filter_map(|value| stripped(value).or_else(|| several.then(|| value.clone())))
        .collect();
    headers.remove(&name);
    for value in values {
        headers.append(name.clone(), value);
    }
}
