//! Private Service Connect: who may connect to a published service, and with which source
//! address (private-connectivity section 1).
//!
//! * [`reconcile`] takes what was, and what the files say now, and returns the state of every
//!   connection: status, NAT address, and the evidence for both. Admission has a history: lists are
//!   applied to new connections, and to existing ones only where `reconcileConnections` says so.
//! * [`enter`] decides at the endpoint about one new TCP connection (of it, [`reach`] whether a
//!   client of some region may use the endpoint), [`admit`] at the service attachment.
//!
//! Words: an *endpoint* is the consumer's forwarding rule or Apigee endpoint attachment, a
//! *connection* is that endpoint's standing relation to its service attachment (not a TCP
//! connection), a *consumer* is what an accept or reject list names.
//!
//! Pure: no clock, no socket, no file. Who keeps the history between two calls is the program
//! `service-attachment`; `explain` reads it from there.

mod admit;
mod connection;
mod explain;
mod lists;
mod nat;
mod policy;
mod propagation;
mod reconcile;

pub use admit::{Admission, CONNECTIONS_MAX, admit, enter, reach, speak};
pub use connection::{Against, Connection, Evidence, Nat};
pub use nat::{deleted_in_use, usable_addresses};
pub use policy::Blocked;
pub use reconcile::reconcile;
