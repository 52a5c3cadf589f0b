//! The way from here to a service attachment.

use crate::rendezvous::tell_fault;
use hbone::{Dialler, Failure, Pool, Terms};
use names::Reason;
use net::splice::Side;
use net::{Channel, LANE, Packets};
use proxy_protocol::Header;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a connection waits for a service attachment that is restarting or busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the service attachments of one producer network are.
pub(crate) enum Way {
    /// On this machine: they get the accepted socket itself, and no byte passes through here.
    Local(Channel),
    /// On another host, which is dialled from here.
    Dialled(Dialler),
    /// On another host, which has dialled here.
    Rendezvous(Pool),
}

/// Why a connection did not get there.
pub(crate) struct Failed {
    pub(crate) reason: Reason,
    pub(crate) error: String,
}

impl Failed {
    /// On this machine.
    pub(crate) fn here(error: impl ToString) -> Self {
        Failed { reason: Reason::DroppedInsidePscServiceProducer, error: error.to_string() }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Failed { reason: failure.reason(), error: failure.to_string() }
    }
}

impl Way {
    /// Sends one accepted connection there, behind the PROXY v2 header that says whose it is, and
    /// tells `opened` once it has got there. Returns when nothing more is to be done for it here.
    ///
    /// # Errors
    /// It did not get there: the client is given back, to be reset.
    pub(crate) async fn send(
        &self,
        header: &Header,
        client: std::net::TcpStream,
        opened: impl FnOnce(),
    ) -> Result<(), (std::net::TcpStream, Failed)> {
        let tunnel = match self {
            Way::Local(channel) => {
                let sent = match header.encode() {
                    Ok(head) => channel.hand_over(&head, client.as_fd(), PATIENCE).await,
                    Err(error) => return Err((client, Failed::here(error))),
                };
                return match sent {
                    Ok(()) => {
                        opened();
                        Ok(())
                    }
                    Err(error) => Err((client, Failed::here(error))),
                };
            }
            Way::Dialled(dialler) => dialler.open(header, PATIENCE).await,
            Way::Rendezvous(pool) => pool.open(header, PATIENCE).await,
        };
        if let Way::Dialled(dialler) = self {
            tell_fault(dialler.pool().credentials());
        }
        match tunnel {
            Ok(tunnel) => {
                // Now it is read and written here.
                let Ok(client) = TcpStream::from_std(client) else { return Ok(()) };
                opened();
                // Who ends it, and when, is the other side's decision: idle, cut or done.
                let terms = Terms {
                    tunnel: Side::Target,
                    first: Vec::new(),
                    idle_timeout: None,
                    cut: None,
                };
                // Boxed, so that a connection that is handed over does not have its size.
                Box::pin(hbone::carry(client, tunnel, terms)).await;
                Ok(())
            }
            Err(failure) => Err((client, failure.into())),
        }
    }

    /// Opens a lane for datagrams there.
    ///
    /// # Errors
    /// Nobody is there to take its far end, or it is on another host: between hosts there are none
    /// (and no topology with such an endpoint is good).
    pub(crate) async fn lane(&self) -> io::Result<Packets> {
        match self {
            Way::Local(channel) => {
                let (near, far) = Packets::pair()?;
                channel.hand_over(LANE, far.as_fd(), PATIENCE).await?;
                Ok(near)
            }
            Way::Dialled(_) | Way::Rendezvous(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
