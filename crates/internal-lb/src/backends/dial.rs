//! Connections to endpoints.

use super::choice::Choice;
use super::endpoint::Target;
use crate::InternalLb;
use crate::upstream::PoolKey;
use http_proxy::{BoxIo, tls};
use runtime::Worker;
use slice::load_balancer::Protocol;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

impl Choice {
    /// A connection to the endpoint, from the address of the proxy-only subnet where there is one
    /// (2.1), in TLS where the backend service says so. The certificate is not verified, and no
    /// server name is sent.
    ///
    /// # Errors
    /// `InvalidData`: the TLS handshake failed. Else those of the connect.
    pub async fn dial(&self, worker: &Rc<Worker<InternalLb>>) -> io::Result<BoxIo> {
        let endpoint = &self.endpoint;
        let Target::Address(address) = endpoint.target else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let stream = worker.context().network().dial(endpoint.source, address).await?;
        self.watch(worker);
        let (config, h2) = match endpoint.protocol {
            Protocol::Http | Protocol::H2c => return Ok(Box::new(stream)),
            Protocol::Https => (&worker.program.backend_http1, false),
            Protocol::Http2 => (&worker.program.backend_http2, true),
        };
        // An address as server name: no SNI is sent.
        let stream = tls::connect(config.clone(), &address.ip().to_string(), stream)
            .await
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the backend speaks no HTTP/2"));
        }
        Ok(Box::new(stream))
    }

    /// Kept connections do not outlive the endpoint.
    fn watch(&self, worker: &Rc<Worker<InternalLb>>) {
        let number = self.endpoint.number;
        if !worker.local.watched.borrow_mut().insert(number) {
            return;
        }
        let (endpoint, worker) = (Arc::clone(&self.endpoint), Rc::clone(worker));
        let key = PoolKey::Endpoint(number, self.version());
        tokio::task::spawn_local(async move {
            endpoint.removed().await;
            worker.local.pool.forget(&key);
            worker.local.watched.borrow_mut().remove(&number);
        });
    }
}
