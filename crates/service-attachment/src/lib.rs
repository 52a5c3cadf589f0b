//! The program `service-attachment`: the producer's end of Private Service Connect for one VPC
//! network.
//!
//! It keeps the state of every PSC connection ([`psc::reconcile`] over the lists of today and the
//! history that this program owns), takes over the sockets that endpoint attachments accepted,
//! decides about each ([`psc::admit`]), dials the published forwarding rule from the endpoint's NAT
//! address, with a PROXY v2 header in front where the attachment asks for one, and carries the
//! bytes. A connection that leaves ACCEPTED is cut at once.
//!
//! The history is kept in the state directory as `psc-HASH.json`, so that a restart of the program
//! forgets nothing; without the file every consumer is new.
//!
//! It listens on no address of its network: nobody there can open a connection to a consumer.

mod call;
mod cuts;
mod datagrams;
mod history;
mod program;
mod record;
mod remote;
mod serve;

pub use program::{ServiceAttachment, Snapshot};
