//! HTTP for every program: one server, one client with its pools, and the hygiene between them
//! (DESIGN.md 3 "HTTP").
//!
//! Words: a *handler* answers requests of one connection; a *pool* keeps upstream connections under
//! a key that the program chooses; *hop-by-hop* fields concern one connection and never pass.
//!
//! What a handler sees is the same for HTTP/1.1 and HTTP/2: the URI is in origin form (path and
//! query; `*` and CONNECT's authority stay), the authority stands in `host`, trailers and data are
//! frames of [`Incoming`]. What it hands to a [`Pool`] may go out in either version.
//!
//! Everything belongs to one thread: run it inside a `LocalSet` of a `current_thread` runtime.
//! Bodies are `!Send`.
//!
//! Never here: decisions, logs, metrics of a program, anything about Google's products. Never does a
//! message with two readings pass (length and chunked at once, two hosts, a folded line).

mod body;
mod error;
mod flush;
pub mod grpc_health;
mod h1;
mod h2;
pub mod headers;
mod pool;
mod server;
pub mod tls;
pub mod trace;
mod upgrade;

/// For the fuzzers: the parsers of what strangers write, without a socket.
#[doc(hidden)]
pub mod fuzzing {
    use crate::h1::{Decoder, Step, request};
    use bytes::BytesMut;

    /// A request's head and body out of these bytes: no panic, no loop without progress, and a head
    /// that was taken has one reading of where its body ends.
    pub fn request_of(bytes: &[u8]) {
        let mut buffer = BytesMut::from(bytes);
        let Ok(Some(head)) = request(&mut buffer, 60 * 1024) else { return };
        let lengths = head.headers.get_all(http::header::CONTENT_LENGTH).iter().count();
        let chunked = head.headers.contains_key(http::header::TRANSFER_ENCODING);
        assert!(lengths + usize::from(chunked) <= 1, "two readings of one body");
        assert!(head.headers.get_all(http::header::HOST).iter().count() <= 1, "two hosts");
        let mut body: Decoder = head.body;
        let mut steps = 0;
        while let Ok(Step::Data(data)) = body.step(&mut buffer, 8 * 1024) {
            steps += 1;
            assert!(!data.is_empty() && steps <= bytes.len(), "no progress");
        }
    }
}

pub use body::{Body, Incoming};
pub use error::{BodyError, HeadError, SendError};
pub use h1::{BoxIo, Io};
pub use pool::{Pool, PoolOptions, Version};
pub use server::{ConnectionInfo, Handler, ReasonPhrase, ServerOptions, serve, serve_boxed};
pub use upgrade::{Bridged, Upgrade, UpgradedIo, bridge_upgrade};
