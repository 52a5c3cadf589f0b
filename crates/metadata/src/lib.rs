//! The metadata server at 169.254.169.254:80 of one network, and the token issuer.
//!
//! Words owned here: *tree* (what one caller sees below `/computeMetadata/v1/`), *caller*,
//! *issuer*, *token request*. Everything that is answered is a pure function of the snapshot, the
//! caller, the request and the time ([`respond`], [`respond_identity`], which also reads the accounts' keys); around it stands
//! a thin shell that reads the clock, waits for changes and writes the log.
//!
//! Who calls is known by the address that the kernel vouches for ([`runtime::Worker::workload`]),
//! never by anything in the request. The signing key never leaves this program.
//!
//! Facts: fact sheets cloud-run 1.5 and 5.4, google-clients 1.3 to 1.5.

mod certs;
mod front_end;
mod iam_credentials;
mod identity_hosts;
#[cfg(test)]
mod identity_tests;
mod impersonation;
mod issuer;
mod json_fields;
mod memory;
mod program;
mod request;
mod respond;
mod response;
mod snapshot;
mod snapshot_tree;
#[cfg(test)]
mod tests;
mod token_endpoint;
mod tree;

pub use iam_credentials::BODY_MAX;
pub use identity_hosts::IdentityRequest;
pub use identity_hosts::respond as respond_identity;
pub use issuer::{AccountToken, Issuer};
pub use memory::TokenMemory;
pub use program::Metadata;
pub use request::{Flavor, MetadataRequest, Wait};
pub use respond::{Caller, respond, wait};
pub use response::{ContentType, MetadataResponse};
pub use snapshot::Snapshot;
pub use tree::{Node, Representation};
