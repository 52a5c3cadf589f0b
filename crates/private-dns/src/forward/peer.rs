//! Name servers of another network. Where peering zones lead to a network that forwards, its name
//! servers are reached from there and from nowhere else; so the resolver of that network asks them
//! ("DNS peering exchanges no packets between the networks"). The two talk DNS as over TCP, on a
//! Unix socket: the question, and the name server's response as it came.

use super::exchange::Question;
use hickory_net::proto::op::Message;
use net::Network;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How name servers are reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// From this program's own network.
    Here(Network),
    /// By the resolver of another network, at its channel.
    Peer(PathBuf),
}

/// Asks the other network's resolver.
pub(super) async fn ask(channel: &Path, question: &Question) -> io::Result<Vec<u8>> {
    let query = question.request().to_vec().map_err(io::Error::other)?;
    let mut stream = UnixStream::connect(channel).await?;
    stream.write_all(&(query.len() as u16).to_be_bytes()).await?;
    stream.write_all(&query).await?;
    let length = stream.read_u16().await?;
    let mut response = vec![0; usize::from(length)];
    stream.read_exact(&mut response).await?;
    // It comes from a program of this machine, but its content from a name server.
    match Message::from_vec(&response) {
        Ok(_) => Ok(response),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
