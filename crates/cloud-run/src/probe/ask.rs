//! One attempt of a probe over the wire.

use http::header::{HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response};
use http_proxy::{Body, Incoming, Pool, PoolOptions, SendError, Version, grpc_health};
use slice::run::ProbeAction;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// What Google's probers say of themselves (Cloud Run's own (unconfirmed)).
const AGENT: HeaderValue = HeaderValue::from_static("GoogleHC/1.0");

/// Pauses between two tries of a port that is not open yet: the first ones short, since most
/// programs listen at once.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How an attempt failed.
enum Failure {
    /// Nobody took the connection.
    NotOpen(String),
    /// The container answered, but not as it should.
    Answered(String),
}

/// One attempt.
///
/// # Errors
/// Why it failed, in words for the log.
pub async fn once(
    action: &ProbeAction,
    address: SocketAddr,
    timeout: Duration,
) -> Result<(), String> {
    match timeout_at(Instant::now() + timeout, ask(action, address, timeout)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::NotOpen(why) | Failure::Answered(why))) => Err(why),
        Err(_) => Err(no_answer(timeout)),
    }
}

/// One attempt that waits for the port to be open.
///
/// # Errors
/// As [`once`].
pub async fn patiently(
    action: &ProbeAction,
    address: SocketAddr,
    timeout: Duration,
) -> Result<(), String> {
    let mut last = None;
    let attempt = async {
        let mut pause = PAUSE_FIRST;
        loop {
            match ask(action, address, timeout).await {
                Ok(()) => return Ok(()),
                Err(Failure::Answered(why)) => return Err(why),
                Err(Failure::NotOpen(why)) => last = Some(why),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    };
    match timeout_at(Instant::now() + timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(last.unwrap_or_else(|| no_answer(timeout))),
    }
}

fn no_answer(timeout: Duration) -> String {
    format!("no answer within {} s", timeout.as_secs())
}

async fn ask(action: &ProbeAction, address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    match action {
        ProbeAction::Tcp { .. } => {
            let connected = TcpStream::connect(address).await;
            connected.map(drop).map_err(|error| Failure::NotOpen(error.to_string()))
        }
        // "HTTP/1 only even with h2c; 2xx/3xx = pass (unconfirmed)" (2.3).
        ProbeAction::Http { path, headers, .. } => {
            let request = http_request(address, path, headers).map_err(Failure::Answered)?;
            let response = send(address, Version::H1, timeout, request).await?;
            match response.status().as_u16() {
                200..400 => Ok(()),
                status => Err(Failure::Answered(format!("the answer is {status}"))),
            }
        }
        ProbeAction::Grpc { service, .. } => {
            let mut request = grpc_health::request(&address.to_string(), service)
                .map_err(|error| Failure::Answered(error.to_string()))?;
            request.headers_mut().insert(USER_AGENT, AGENT);
            let response = send(address, Version::H2, timeout, request).await?;
            grpc_health::serving(response).await.map_err(Failure::Answered)
        }
    }
}

/// Sends a request over a connection of its own.
async fn send(
    address: SocketAddr,
    version: Version,
    timeout: Duration,
    request: Request<Body>,
) -> Result<Response<Incoming>, Failure> {
    let options = PoolOptions { idle_timeout: Duration::ZERO, ..PoolOptions::default() };
    let pool = Pool::new(PoolOptions { connect_timeout: timeout, ..options });
    let sent = pool.send(&(), version, || TcpStream::connect(address), request).await;
    sent.map_err(|error| match error {
        SendError::Connect(error) => Failure::NotOpen(error.to_string()),
        error => Failure::Answered(error.to_string()),
    })
}

/// The probe's own headers come last, and may name the host.
fn http_request(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<Request<Body>, String> {
    let mut request = Request::get(if path.is_empty() { "/" } else { path })
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let all = request.headers_mut();
    for (name, value) in headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|error| error.to_string())?;
        all.append(name, value);
    }
    if !all.contains_key(HOST) {
        let own = HeaderValue::try_from(address.to_string()).map_err(|error| error.to_string())?;
        all.insert(HOST, own);
    }
    all.entry(USER_AGENT).or_insert(AGENT);
    Ok(request)
}
