//! The program `service-attachment`: the producer's end of Private Service Connect for one VPC
//! network.
//!
//! It keeps the state of every PSC connection ([`psc::reconcile`] over the lists of today and the
//! history that this program owns), takes over the sockets that endpoint attachments accepted,
//! decides about each ([`psc::admit`]), dials the published forwarding rule from the endpoint's NAT
//! address, with a PROXY v2 header in front where the attachment asks for one, and carries the
//! bytes. A connection that leaves ACCEPTED is cut at once.
//!
//! **What a client sees of the target.** On Google Cloud his SYN travels to the target itself: one
//! that refuses answers it with a reset (connecting fails), one that is silent lets connecting time
//! out. Here the endpoint has accepted before the target is asked, so connecting succeeds, and the
//! rest comes after it: a refusal as a reset at once, silence as a reset when the transitory idle
//! timeout (30 s, 1.4) is over. What he sends meanwhile waits in his socket. Afterwards each end sees
//! what the other did: end of stream, reset, and how fast it reads.
//!
//! **UDP** has no connections: each client of an endpoint gets a mapping, a socket at the NAT address
//! that is connected to the target, and whoever is refused hears nothing.
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
