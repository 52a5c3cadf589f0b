//! A deployment on several hosts: which networks live where, and who can dial whom. It counts for
//! programs that are started by hand; `postern up` runs all networks on one machine.

use names::NetworkId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A host of a deployment (top-level `hosts`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What people call it.
    pub name: String,
    /// The networks whose programs run there.
    pub networks: Vec<HostNetwork>,
}

/// A network on its host. The addresses are the host's own, in no VPC network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// The network.
    pub network: NetworkId,
    /// Where its service attachments are dialled by consumers on other hosts.
    pub address: Option<SocketAddr>,
    /// Where its endpoint attachment takes producers in that cannot be dialled.
    pub rendezvous: Option<SocketAddr>,
}

/// What an endpoint attachment needs to know of producers on other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteProducers {
    /// Where those who dial out are taken in.
    pub rendezvous: Option<SocketAddr>,
    /// All of them.
    pub producers: Vec<RemoteProducer>,
}

/// A producer network on another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteProducer {
    /// The network.
    pub network: NetworkId,
    /// Where it is dialled; none: it dials out.
    pub address: Option<SocketAddr>,
}

/// What the service attachments of a network need to know of consumers on other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteConsumers {
    /// Where they dial.
    pub address: Option<SocketAddr>,
    /// Those that are dialled, because `address` is none.
    pub dials: Vec<RemoteConsumer>,
}

/// A consumer network on another host, dialled by the producer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteConsumer {
    /// The network.
    pub network: NetworkId,
    /// Its rendezvous.
    pub address: SocketAddr,
}
