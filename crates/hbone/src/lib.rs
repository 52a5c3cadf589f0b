//! Private Service Connect between machines: HTTP/2 CONNECT over mutual TLS, the convention that
//! Istio calls HBONE.
//!
//! **On the wire.** One TLS 1.3 connection (ALPN `h2`, port 15008 by convention) carries many TCP
//! connections, each a CONNECT stream (RFC 9113 8.5). `:authority` is what the client dialled: the
//! endpoint's address and port. `forwarded` (RFC 7239) is sent as Istio's ztunnel does, for whoever
//! looks at it on the way; nothing is decided by it. `baggage` is not: its keys are those of
//! Kubernetes. The first DATA
//! bytes are a PROXY v2 header with the same TLVs as in the hand-over on one machine, as any proxy
//! writes it in front of the byte stream that it forwards: no header field of our own. The answer
//! is 200 once the target has accepted, or a status with the reason as `proxy-status` (RFC 9209)
//! `details`. So nothing of the client is read before the way is open.
//!
//! FIN is END_STREAM and RST is RST_STREAM with CONNECT_ERROR, both ways ([`carry`]); back pressure
//! is HTTP/2's flow control, and a stream that waits holds no buffer.
//!
//! **Identities.** Both ends show a certificate with one SPIFFE id as URI, which names trust
//! domain, network and program ([`Identity`]): the boundary of Private Service Connect is the
//! network, so a key that is stolen from one consumer speaks for that network and no other. Names
//! and addresses of hosts play no part. Certificates are read anew for each handshake when their
//! files have changed, and peers of long connections are judged again ([`Credentials`]).
//!
//! **Rendezvous.** A producer that cannot be dialled dials out. The TLS roles stay (who dials is the
//! TLS client), the HTTP/2 roles are swapped: the consumer's endpoint attachment, TLS server, opens
//! streams; the producer's service attachment, TLS client, answers them. Drafts for reverse HTTP do
//! the same (draft-bt-httpbis-reverse-http); no ALPN name is registered for it, and none is needed,
//! since a service attachment never opens streams and an endpoint attachment never answers one.
//!
//! Words owned here: peer, tunnel (one CONNECT stream), identity, credentials, rendezvous. This
//! crate decides about identities and nothing else: whether a consumer is admitted is for `psc`.

mod carry;
mod client;
mod credentials;
pub mod head;
mod identity;
mod keepalive;
mod rendezvous;
mod server;
mod tunnel;
mod verify;

pub use carry::{Terms, carry};
pub use client::{Dialler, Pool};
pub use credentials::{Credentials, Loaded};
pub use identity::{Identity, NotAnIdentity, TRUST_DOMAIN};
pub use limits::OPENING_MAX;
pub use rendezvous::{Kept, keep};
pub use server::{Authenticated, Incoming, Server};
pub use tunnel::{Failure, Tunnel};

/// The port by convention.
pub const PORT: u16 = 15008;
/// The one application protocol.
const ALPN: &[u8] = b"h2";

/// Bounds, each in one place.
mod limits {
    use std::time::Duration;

    /// TCP connections on one TLS connection, as many as Istio's ztunnel has.
    pub(crate) const STREAMS_MAX: usize = 100;
    /// TLS connections of a pool.
    pub(crate) const POOL_MAX: usize = 256;
    /// TLS connections that a server has at once.
    pub(crate) const CONNECTIONS_MAX: usize = 4096;
    /// Handshakes that a server has under way at once; strangers can make it so many and no more.
    pub(crate) const HANDSHAKES_MAX: usize = 256;
    /// A handshake takes no longer, from the first byte to the peer's SETTINGS.
    pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// What the receiver of a stream holds at the most while its socket takes nothing.
    pub(crate) const STREAM_WINDOW: u32 = 512 * 1024;
    /// Enough for every stream at once: one that stands still must not stop the others.
    pub(crate) const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;
    /// What the sender of a stream holds at the most.
    pub(crate) const SEND_BUFFER: usize = 128 * 1024;
    /// Fewer frames for bulk than the default of 16 KiB.
    pub(crate) const FRAME: u32 = 64 * 1024;
    /// All header fields of a CONNECT request, as HTTP/2 counts them.
    pub(crate) const HEADERS_MAX: u32 = 8 * 1024;
    /// The PROXY header comes with the request, or soon after.
    pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
    /// A service attachment answers CONNECT within this time, silent target or not: half as long
    /// again as a connection may take to be established by default (private-connectivity 1.4).
    pub const OPENING_MAX: Duration = Duration::from_secs(45);
    /// No answer to CONNECT for so long is the peer's fault, not the target's.
    pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
    const _: () = assert!(ANSWER_TIMEOUT.as_secs() >= OPENING_MAX.as_secs() + 10);
    /// A peer that does not answer a PING for so long is gone; peers are judged again as often.
    pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
    /// A pooled connection without a stream is closed after so long.
    pub(crate) const IDLE: Duration = Duration::from_secs(60);
}
