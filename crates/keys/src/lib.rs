//! The state directory's keys: a development CA, leaves issued by it, the token issuer's signing
//! keys, and keys of service accounts. Made once, kept in files with mode 0600, written atomically.
//!
//! Nothing here is a production default: the CA is trusted by `exec` sessions and programs of one
//! state directory, by nobody else.

mod accounts;
mod signing;
mod store;

pub use accounts::{ACCOUNT_KEYS_MAX, ACCOUNTS, AccountKeys, CreatedKey};
pub use signing::Ring;
pub use store::{Store, make_private, write_atomically};
