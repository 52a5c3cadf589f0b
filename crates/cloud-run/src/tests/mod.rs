//! The whole program over real sockets, with real processes. Everything waits for a state.

mod containers;
pub(crate) mod harness;
mod hostile;
mod instances;
mod load;
mod requests;
mod revisions;
mod upstream;
