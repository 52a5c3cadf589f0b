//! The channel from an endpoint attachment, and each TCP connection that comes over it.
//!
//! A call is two things, whatever way it came: a PROXY header that says who calls whom, and the
//! caller's end of the connection ([`net::Caller`]). [`call`] does all the rest; datagrams come over
//! lanes of their own, see [`datagrams`]. On one machine both
//! come in one message over the channel, the end being the accepted socket itself; from another
//! machine they are the first bytes of a stream, and the stream ([`remote`]).

use crate::call::{call, not_understood};
use crate::datagrams;
use crate::program::ServiceAttachment;
use crate::remote;
use names::Reason;
use net::splice::reset;
use net::take_over;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Drain, Stream, Worker};
use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What one connection takes: both ends, and a pipe while bytes wait in it.
const DESCRIPTORS_EACH: usize = 4;
/// Left for channels, listeners and logs.
const DESCRIPTORS_SPARE: usize = 256;

/// More sockets than this at once are not taken over: what this process may have descriptors for,
/// which is one limit for all consumers. (Each endpoint has its own in [`psc::CONNECTIONS_MAX`], and
/// connections on the channels themselves are bounded by the runtime.)
pub(crate) fn handed_over_max() -> usize {
    sys::descriptors_max().saturating_sub(DESCRIPTORS_SPARE) / DESCRIPTORS_EACH
}

/// A connection that this process has no room for, by its reason in log and metric.
pub(crate) fn no_room(error: &dyn std::fmt::Display) -> Reason {
    let reason = Reason::DroppedInsidePscServiceProducer;
    metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
    log::entry(Severity::Warning, "a connection was not taken over")
        .field("reason", reason)
        .field("error", Shown(error))
        .emit();
    reason
}

/// Serves one channel to its end, and returns when everything that came over it has ended.
pub(crate) async fn serve(worker: Rc<Worker<ServiceAttachment>>, accepted: Accepted) {
    let Accepted { stream, peer, drain, .. } = accepted;
    let channel = match stream {
        Stream::Unix(channel) => channel,
        Stream::Tcp(stream) => return remote::serve(worker, stream, peer, drain).await,
        Stream::Unwatched(_) => return, // this program watches its connections
    };
    // Every task holds a sender: the receiver ends when they have all ended.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    let mut draining = pin!(drain.wait());
    let mut drained = false;
    loop {
        let mut taking = pin!(take_over(&channel));
        let taken = loop {
            tokio::select! {
                () = &mut draining, if !drained => {
                    drained = true;
                    // The sender finds the channel closed and goes to the successor. What it has
                    // sent already can still be read, up to the end that this makes.
                    let _ = socket2::SockRef::from(&channel).shutdown(Shutdown::Read);
                }
                taken = &mut taking => break taken,
            }
        };
        match taken {
            // That one is lost; it may have been the last for which there was no descriptor.
            Ok(Some((_, None))) => {
                no_room(&"no file descriptor was free");
            }
            Ok(Some((head, Some(socket)))) => {
                let (place, before) = worker.program.handed_over.take();
                if before >= worker.program.handed_over_max {
                    reset(&socket);
                    no_room(&format_args!("there are {before} of them already"));
                    continue; // dropping the socket resets it
                }
                let (worker, alive, drain) = (Rc::clone(&worker), alive.clone(), drain.clone());
                tokio::task::spawn_local(async move {
                    handed_over(worker, &head, socket, drain).await;
                    drop((place, alive));
                });
            }
            Ok(None) => break,
            Err(error) => {
                log::entry(Severity::Error, "a channel from an endpoint attachment broke")
                    .field("error", Shown(error))
                    .emit();
                break;
            }
        }
    }
    drop((alive, channel));
    let _ = ended.recv().await;
}

/// A connection, or a lane of datagrams.
async fn handed_over(
    worker: Rc<Worker<ServiceAttachment>>,
    head: &[u8],
    socket: OwnedFd,
    drain: Drain,
) {
    if head == net::LANE {
        // Boxed, so that a connection does not have the size of a lane.
        return Box::pin(datagrams::serve(worker, socket, drain)).await;
    }
    match adopt(socket) {
        Ok(client) => call(&worker, head, None, client).await,
        Err(error) => not_understood("socket", &error),
    }
}

/// A load balancer hands over one end of a pair of Unix stream sockets: what is done to a socket
/// here (recv, send, splice, shutdown) is the same for both kinds. Both come non-blocking: that is
/// a property of what the descriptor stands for, and travels with it.
fn adopt(socket: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into())
}
