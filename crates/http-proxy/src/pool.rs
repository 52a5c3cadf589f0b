//! Upstream connections, kept per thread and key.

use crate::body::{Body, Incoming};
use crate::error::SendError;
use crate::server::LocalExecutor;
use crate::upgrade::Upgrade;
use http::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The HTTP version towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1.
    H1,
    /// HTTP/2, with prior knowledge or after ALPN.
    H2,
}

/// The bounds of a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// How long a connection without a request stays.
    pub idle_timeout: Duration,
    /// Most HTTP/1.1 connections without a request, per key.
    pub idle_max: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Largest response head.
    pub header_bytes_max: usize,
    /// Requests at once on one HTTP/2 connection; the peer's own limit holds too.
    pub h2_streams_max: usize,
}

impl Default for PoolOptions {
    /// 600 s idle (private-connectivity 2.1 "backend keep-alive fixed 600"), 5 s to connect.
    fn default() -> Self {
        PoolOptions {
            idle_timeout: Duration::from_secs(600),
            idle_max: 256,
            connect_timeout: Duration::from_secs(5),
            header_bytes_max: 60 * 1024,
            h2_streams_max: 100,
        }
    }
}

/// The upstream connections of one thread, by key. The key must hold all that makes two
/// connections different: address and protocol, or origin, service and tag.
pub struct Pool<K> {
    options: PoolOptions,
    h2: RefCell<HashMap<K, hyper::client::conn::http2::SendRequest<Body>>>,
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        Pool { options, h2: RefCell::default() }
    }

    /// Sends a request over a kept connection, or over a new one from `connect`, and returns when
    /// the response head has arrived. The authority stands in `host`; hop-by-hop fields of the
    /// response are removed, except those of a 101.
    ///
    /// A kept connection that turns out to be closed is replaced once, if the request can be
    /// sent again.
    ///
    /// # Errors
    /// See [`SendError`]. Dropping the future cancels the exchange.
    pub async fn send<C, F, IO>(
        &self,
        key: &K,
        version: Version,
        connect: C,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError>
    where
        C: FnOnce() -> F,
        F: Future<Output = io::Result<IO>>,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connect = async {
            match tokio::time::timeout(self.options.connect_timeout, connect()).await {
                Ok(connected) => connected.map(TokioIo::new).map_err(SendError::Connect),
                Err(_) => Err(SendError::Timeout),
            }
        };
        let failed = |_| SendError::Closed { sent: true };
        let response = match version {
            Version::H1 => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(connect.await?).await.map_err(failed)?;
                tokio::task::spawn_local(connection.with_upgrades());
                sender.send_request(request).await.map_err(failed)?
            }
            Version::H2 => {
                let kept = self.h2.borrow().get(key).filter(|kept| !kept.is_closed()).cloned();
                let mut sender = match kept {
                    Some(kept) => kept,
                    None => {
                        let (sender, connection) =
                            hyper::client::conn::http2::Builder::new(LocalExecutor)
                                .timer(TokioTimer::new())
                                .handshake(connect.await?)
                                .await
                                .map_err(failed)?;
                        tokio::task::spawn_local(connection);
                        self.h2.borrow_mut().insert(key.clone(), sender.clone());
                        sender
                    }
                };
                sender.send_request(request).await.map_err(failed)?
            }
        };
        let mut response = response;
        let upgrade =
            response.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().map(Upgrade::hyper);
        Ok(response.map(|body| Incoming::hyper(body).with_upgrade(upgrade)))
    }

    /// Closes the kept connections of a key: its instance is gone, say.
    pub fn forget(&self, key: &K) {
        self.h2.borrow_mut().remove(key);
    }
}
