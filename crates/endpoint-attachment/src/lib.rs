//! The program `endpoint-attachment`: owns the addresses of the Private Service Connect endpoints
//! of one consumer network.
//!
//! A connection that it accepts on an endpoint's address is decided by [`psc::enter`] and handed
//! over to the service attachment: the accepted socket itself, with a PROXY v2 header that says
//! who called whom and by which PSC connection. So it copies no byte, and holds nothing of a
//! connection once that is done. Where the service attachment is on another host ([`way`]) it
//! carries the bytes in a tunnel of the crate `hbone`.
//!
//! **What a refused client sees.** On Google Cloud its packets are dropped and connecting times
//! out. Under `netns` isolation so it is here, because the supervisor routes the address of an
//! endpoint that is not accepted into a black hole, and a client of another region as well. Where
//! it does not (loopback and host isolation, or the moment before a route changes), the handshake
//! is done by the kernel before this program is asked, and silence is not to be had any more: the
//! connection is reset, and the log line has the reason.
//!
//! **UDP.** Datagrams go to the service attachment one by one, over a lane of packets, and the answers
//! come back over it; whoever may not enter hears nothing.
//!
//! It knows no target and no NAT address, and never opens a connection into a network.

mod datagrams;
mod program;
mod refusal;
mod rendezvous;
mod serve;
mod way;

pub use program::{EndpointAttachment, Lanes, Snapshot};
