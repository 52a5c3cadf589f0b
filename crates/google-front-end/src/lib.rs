//! The program `google-front-end`: ports 443 and 80 of Google's own addresses, as one VPC network sees
//! them (`private.googleapis.com`, `restricted.googleapis.com` and the public addresses of
//! `*.run.app`; private-connectivity 4.2).
//!
//! It reads the server name out of a connection's first bytes without taking them, and hands the
//! accepted socket to whoever is behind the name, with a PROXY v2 header that says where the
//! connection comes from: which network, which project's workload, which front end. TLS is ended
//! there, so no byte is copied here.
//!
//! Behind Google's hosts for identity ([`slice::IDENTITY_HOSTS`]) stands `metadata`, behind every other
//! name `cloud-run`: for `*.run.app` it finds the service, for the rest it answers what Google
//! answers for a host that it does not know. Whether a subnetwork has
//! Private Google Access is not asked yet: the front ends answer to every workload.
//!
//! On port 80 it answers itself: what `serverless::plain_http` says, a redirect to HTTPS.
//!
//! It never ends TLS, and never looks behind the ClientHello.

mod hello;
mod plain;
mod program;

pub use hello::{HELLO_BYTES_MAX, Hello, peek};
pub use program::{GoogleFrontEnd, Snapshot};
