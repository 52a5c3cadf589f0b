//! Accepting, choosing the HTTP version, draining.

use crate::body::{Body, full};
use crate::instance::Instance;
use crate::{events, grpc, json, log, websocket};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// Cloud Run kills ten seconds after SIGTERM (cloud-run 1.2); be gone before.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a client may take for the first bytes and for each request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The beginning of every HTTP/2 connection; no HTTP/1 method begins with `PRI`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Held by every connection: tells that the program drains, and, dropped, that this one is done.
#[derive(Clone)]
pub(crate) struct Busy {
    draining: watch::Receiver<bool>,
    _done: mpsc::Sender<()>,
}

impl Busy {
    /// Resolves when the program drains.
    pub(crate) async fn draining(&mut self) {
        // An error means that the sender is gone: draining as well.
        let _ = self.draining.wait_for(|draining| *draining).await;
    }
}

/// Serves until `stop` resolves, then lets every running request finish, for nine seconds at most.
pub async fn serve(listener: TcpListener, instance: Instance, stop: impl Future<Output = ()>) {
    let instance = Arc::new(instance);
    let (drain, draining) = watch::channel(false);
    let (done, mut all_done) = mpsc::channel(1);
    let busy = Busy { draining, _done: done };
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, instance.clone(), busy.clone()));
            }
            // Out of file descriptors, say: they come back when connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    drop(listener);
    drop(busy);
    let _ = drain.send(true);
    // Nothing is ever sent: `recv` ends when the last connection has dropped its sender.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all_done.recv()).await;
}

async fn connection(stream: TcpStream, instance: Arc<Instance>, mut busy: Busy) {
    let _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let mut head = Vec::with_capacity(PREFACE.len());
    let read = async {
        while head.len() < PREFACE.len() && PREFACE.starts_with(&head) {
            let missing = (PREFACE.len() - head.len()) as u64;
            if (&mut reader).take(missing).read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    };
    let first = tokio::select! {
        first = tokio::time::timeout(HEAD_TIMEOUT, read) => first,
        () = busy.draining() => return,
    };
    if !matches!(first, Ok(Some(()))) {
        return;
    }
    let http2 = head == PREFACE;
    let io = TokioIo::new(tokio::io::join(Cursor::new(head).chain(reader), writer));
    let service = {
        let busy = busy.clone();
        service_fn(move |request| answer(request, instance.clone(), busy.clone()))
    };
    if http2 {
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(io, service);
        let mut serving = pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            () = busy.draining() => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    } else {
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(io, service)
            .with_upgrades();
        let mut serving = pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            () = busy.draining() => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    }
}

async fn answer(
    request: http::Request<Incoming>,
    instance: Arc<Instance>,
    busy: Busy,
) -> Result<http::Response<Body>, hyper::Error> {
    if websocket::is_upgrade(request.headers()) {
        let (head, body) = request.into_parts();
        let response = websocket::answer(http::Request::from_parts(head.clone(), body), busy);
        log::request(&head, response.status());
        return Ok(response);
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let response = if grpc::is_grpc(&head.headers) {
        grpc::answer(path, body, &instance).await
    } else if path.ends_with("/sse") {
        events::answer(head.uri.query(), instance.id().await.to_owned())
    } else if path.ends_with("/body") {
        let mut response = http::Response::new(body.boxed_unsync());
        if let Some(kind) = head.headers.get(http::header::CONTENT_TYPE) {
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind.clone());
        }
        response
    } else {
        json::answer(&head, body, &instance).await?.map(full)
    };
    log::request(&head, response.status());
    Ok(response)
}
