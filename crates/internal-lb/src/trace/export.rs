//! Sends finished spans to the collector, in batches, from one task of the first worker.

use super::otlp::{self, Span};
use super::settings::Settings;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_proxy::{Body, BoxIo, Pool, PoolOptions, Version};
use runtime::Context;
use runtime::log::{self, Severity};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

/// Spans wait for others for so long.
const DELAY: Duration = Duration::from_millis(500);
/// Most spans of one export.
const BATCH_MAX: usize = 512;
/// An export must end within this time.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of the collector's answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Exports until nobody is left who could send a span. What cannot be delivered is dropped and
/// counted: the next batch is more interesting than this one.
pub async fn run(context: Context, settings: Settings, mut spans: mpsc::Receiver<Span>) {
    let pool = Pool::new(PoolOptions::default());
    let failed = metrics::counter!("postern_spans_dropped_total", "reason" => "export_failed");
    let exported = metrics::counter!("postern_spans_exported_total");
    let mut batch = Vec::new();
    let mut silent = false;
    while spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if batch.len() < BATCH_MAX {
            tokio::time::sleep(DELAY).await;
            while batch.len() < BATCH_MAX
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        let count = batch.len() as u64;
        let text = otlp::encode(&settings.service, &batch);
        batch.clear();
        let sent = tokio::time::timeout(EXPORT_TIMEOUT, send(&pool, &context, &settings, text));
        let outcome = sent.await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match outcome {
            Ok(()) => {
                exported.increment(count);
                silent = false;
            }
            Err(error) => {
                failed.increment(count);
                // Said once until it works again: a collector that is down is down for long.
                if !std::mem::replace(&mut silent, true) {
                    log::entry(Severity::Warning, "spans cannot be exported")
                        .field("collector", settings.authority.as_str())
                        .field("error", error.as_str())
                        .emit();
                }
            }
        }
    }
}

async fn send(
    pool: &Pool<()>,
    context: &Context,
    settings: &Settings,
    text: Vec<u8>,
) -> Result<(), String> {
    let mut request = Request::new(Body::full(Bytes::from(text)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = settings.path.clone().into();
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(settings.authority.as_str());
    headers.insert(HOST, host.map_err(|error| error.to_string())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    let connect = || dial(context, settings);
    let response = pool.send(&(), Version::H1, connect, request).await;
    let response = response.map_err(|error| error.to_string())?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    let answer = response.into_body().collect(ANSWER_BYTES_MAX).await;
    match status.is_success() {
        true => answer.map(drop).map_err(|error| error.to_string()),
        false => Err(format!("the collector answered {status}")),
    }
}

/// A program in a simulated network cannot reach the collector, which is not part of it: the
/// supervisor takes the connection on its channel and carries it. Otherwise it is dialled.
async fn dial(context: &Context, settings: &Settings) -> io::Result<BoxIo> {
    match UnixStream::connect(context.channel(slice::OTLP_CHANNEL)).await {
        Ok(stream) => return Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (host, port) = (settings.authority.host(), settings.authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    Ok(Box::new(stream))
}
