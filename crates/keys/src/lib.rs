//! The state directory's keys: a development CA, leaves issued by it, and the token issuer's
//! signing keys. Made once, kept in files with mode 0600, written atomically.
//!
//! Nothing here is a production default: the CA is trusted by `exec` sessions and programs of one
//! state directory, by nobody else.

mod store;

pub use store::{Store, make_private, write_atomically};
