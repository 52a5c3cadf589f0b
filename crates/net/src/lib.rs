//! Sockets of a simulated network: dialling from a chosen source, sockets handed from process to
//! process, bytes carried both ways.
//!
//! A program runs inside the namespace of its network, so a declared address is a real one and
//! [`Network::direct`] is all it needs. Without namespaces (loopback isolation, benches) a table of
//! placements says where a declared address is really bound; [`Network`] hides the difference.
//! This crate decides nothing.

mod caller;
mod channel;
mod handover;
mod network;
pub mod packets;
pub mod splice;

pub use caller::Caller;
pub use channel::Channel;
pub use handover::{HEAD_MAX, hand_over, take_over};
pub use network::Network;
pub use packets::{LANE, Packets};
