//! Port 80: everything is answered here, with a redirect or a page.

use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode};
use http_proxy::{Body, ConnectionInfo, Handler, Incoming, ServerOptions, serve};
use runtime::Drain;
use runtime::log::{self, Severity, Shown};
use serverless::{PlainHttp, REDIRECT_STATUS, pages, plain_http};
use std::net::SocketAddrV4;
use std::rc::Rc;
use tokio::net::TcpStream;

/// Serves a connection to its end.
pub(crate) async fn serve_plain(
    stream: TcpStream,
    client: SocketAddrV4,
    destination: SocketAddrV4,
    drain: Drain,
) {
    let info = ConnectionInfo { peer: Some(client), local: Some(destination), tls: None };
    let options = ServerOptions { http2: false, ..ServerOptions::default() };
    let ending = async move { drain.wait().await };
    let prefix = bytes::Bytes::new();
    serve(stream, prefix, Rc::new(info), Rc::new(Plain), &options, ending).await;
}

struct Plain;

impl Handler for Plain {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let uri = request.uri();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let authority = uri.authority().map_or(host.unwrap_or_default(), |a| a.as_str());
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let decision = plain_http(authority, target);
        let (status, body) = match &decision {
            PlainHttp::Redirect { location } => (REDIRECT_STATUS, pages::moved(location)),
            PlainHttp::NotFound => (404, pages::robot_not_found(uri.path())),
        };
        log::entry(Severity::Info, "a request without TLS")
            .field("host", authority)
            .field("status", u64::from(status))
            .field("src", connection.peer.map(Shown))
            .emit();
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(pages::CONTENT_TYPE));
        headers.insert("server", HeaderValue::from_static("Google Frontend"));
        if let PlainHttp::Redirect { location } = decision
            && let Ok(location) = HeaderValue::try_from(location)
        {
            headers.insert(LOCATION, location);
        }
        response
    }
}
