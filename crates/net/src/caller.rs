//! Who calls, as the service attachment has him in hand.

use crate::splice::{Carried, Cut, carry, reset};
use names::Reason;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpStream;

/// The caller's end of one connection: the socket that was accepted from him and handed over, where
/// both programs are on one machine, or a stream that came from another machine.
///
/// Two things are asked of it, so that each kind can do them in its own best way; in between nobody
/// touches it, and what the caller sends meanwhile waits at his end.
pub trait Caller {
    /// Refuses him: he sees a reset, and nothing that was not sent yet. Where the way to him has
    /// words for it, it is told why.
    fn refuse(self, reason: Reason);

    /// Carries bytes between him and `target` as [`carry`] does: end of stream as end of stream,
    /// reset as reset, `first` in front of what he sends, nothing buffered without bound.
    fn carry(
        self,
        target: TcpStream,
        first: Vec<u8>,
        idle_timeout: Duration,
        cut: &Cut,
    ) -> impl Future<Output = Carried>;
}

/// A TCP socket, or any other stream socket in its place (one end of a Unix pair): what is done to
/// it is the same for all kinds.
impl Caller for TcpStream {
    fn refuse(self, _reason: Reason) {
        reset(&self);
    }

    fn carry(
        self,
        target: TcpStream,
        first: Vec<u8>,
        idle_timeout: Duration,
        cut: &Cut,
    ) -> impl Future<Output = Carried> {
        carry(self, target, first, idle_timeout, cut)
    }
}
