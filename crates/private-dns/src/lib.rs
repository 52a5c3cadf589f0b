//! The resolver at 169.254.169.254, UDP and TCP port 53, of one VPC network, or of several whose
//! clients are told apart by address.
//!
//! It decides nothing: [`managed_zone`] answers a message, this crate carries messages. Datagrams
//! are taken and sent in batches straight from the shared socket (`datagrams.rs`), streams are
//! length-prefixed, pipelined and bounded (`streams.rs`), questions that other name servers answer
//! wait in tasks of their own (`answering.rs`, `forward/`), and queries are logged in the shape of
//! Cloud DNS's query log (`query_log.rs`).
//!
//! Never here: a cache, recursion, any choice of a zone or of who is to be asked.

mod answering;
mod datagrams;
mod forward;
mod program;
mod query_log;
mod streams;

pub(crate) use program::Meter;
pub use program::PrivateDns;
