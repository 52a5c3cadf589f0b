//! The way from here to a service attachment.

use net::{Channel, LANE, Packets};
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
}

impl Way {
    /// Sends one accepted connection there, behind the PROXY v2 header that says whose it is.
    /// Returns once nothing more is to be done for it here; the caller then drops the socket.
    ///
    /// # Errors
    /// It did not get there: the client is to be reset.
    pub(crate) async fn send(&self, header: &[u8], client: &TcpStream) -> io::Result<()> {
        match self {
            Way::Local(channel) => channel.hand_over(header, client.as_fd(), PATIENCE).await,
        }
    }

    /// Opens a lane for datagrams there.
    ///
    /// # Errors
    /// Nobody is there to take its far end.
    pub(crate) async fn lane(&self) -> io::Result<Packets> {
        match self {
            Way::Local(channel) => {
                let (near, far) = Packets::pair()?;
                channel.hand_over(LANE, far.as_fd(), PATIENCE).await?;
                Ok(near)
            }
        }
    }
}
