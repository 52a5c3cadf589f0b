//! One accepted connection: who is it for, where does it come from.

use crate::hello::{Hello, peek};
use crate::plain::serve_plain;
use names::{FrontEnd, NetworkId, Origin, Reason, is_run_app};
use net::Channel;
use net::splice::reset;
use proxy_protocol::Header;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Context, Program, Stream, Worker};
use slice::run::GoogleFrontEndSlice;
use slice::{
    CLOUD_RUN_FRONT_END_CHANNEL, IDENTITY_FRONT_END_CHANNEL, IDENTITY_HOSTS, Role, Workload,
};
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// The port without TLS.
const HTTP: u16 = 80;
/// How long a client may take to send its ClientHello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection waits for a program that is restarting or busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program.
pub struct GoogleFrontEnd {
    context: Context,
}

/// One generation.
pub struct Snapshot {
    network: NetworkId,
}

/// The channels of a thread.
pub struct Local {
    /// To `cloud-run`.
    cloud_run: Channel,
    /// To the `metadata` program that serves Google's hosts for identity.
    identity: Channel,
}

impl Program for GoogleFrontEnd {
    const ROLE: Role = Role::GoogleFrontEnd;
    type Slice = GoogleFrontEndSlice;
    type Snapshot = Snapshot;
    type Local = Local;

    fn new(context: Context) -> Result<Self, String> {
        Ok(GoogleFrontEnd { context })
    }

    fn compile(&self, slice: GoogleFrontEndSlice) -> Result<Snapshot, String> {
        let GoogleFrontEndSlice { network, endpoints: _listened_on } = slice;
        Ok(Snapshot { network })
    }

    fn local(&self) -> Local {
        Local {
            cloud_run: Channel::new(self.context.channel(CLOUD_RUN_FRONT_END_CHANNEL)),
            identity: Channel::new(self.context.channel(IDENTITY_FRONT_END_CHANNEL)),
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        serve(&worker, accepted).await;
    }
}

async fn serve(worker: &Worker<GoogleFrontEnd>, accepted: Accepted) {
    let Accepted { key, stream: Stream::Tcp(stream), peer, declared, drain } = accepted else {
        return; // every listener of this program is TCP
    };
    let (Some(client), Some(destination)) = (peer, declared) else { return };
    if destination.port() == HTTP {
        return serve_plain(stream, client, destination, drain).await;
    }
    let Some(front_end) = front_end(&key) else { return reset(&stream) };
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, peek(&stream)).await {
        Ok(Ok(hello)) => hello,
        // Too slow, or reset: the client's own affair.
        Ok(Err(_)) | Err(_) => return,
    };
    let (channel, program) = match hello {
        Hello::Gone => return,
        Hello::Tls(Some(name)) if IDENTITY_HOSTS.contains(&name.as_str()) => {
            (&worker.local.identity, "metadata")
        }
        Hello::Tls(name) => {
            if !name.as_deref().is_some_and(is_run_app) {
                note_unknown(name.as_deref(), client, destination);
            }
            (&worker.local.cloud_run, "cloud-run")
        }
        // `cloud-run` tells the client in the way of its TLS library.
        Hello::NotTls => (&worker.local.cloud_run, "cloud-run"),
    };
    let workload = worker.workload(*client.ip());
    let origin = origin(&worker.snapshot().network, workload.as_deref(), front_end);
    let header =
        Header::tcp(client, destination).with_origin(&origin).and_then(|header| header.encode());
    let failed = match header {
        Ok(header) => match channel.hand_over(&header, stream.as_fd(), PATIENCE).await {
            Ok(()) => return,
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    reset(&stream);
    let reason = Reason::BackendConnectionFailed;
    metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
    log::entry(Severity::Error, "a program did not take a connection")
        .field("program", program)
        .field("reason", reason)
        .field("src", Shown(client))
        .field("dst", Shown(destination))
        .field("error", failed)
        .emit();
}

/// The front end behind a listener of `GoogleFrontEndSlice::listens`.
fn front_end(key: &str) -> Option<FrontEnd> {
    match key.split(' ').next()? {
        "private" => Some(FrontEnd::Private),
        "restricted" => Some(FrontEnd::Restricted),
        "public" => Some(FrontEnd::Public),
        // Any other listener is a PSC endpoint's, keyed by its self link.
        _ => key.contains("/forwardingRules/").then_some(FrontEnd::PrivateServiceConnect),
    }
}

/// Where a connection comes from. Whom the network does not know is taken for the internet: nothing
/// vouches for him.
fn origin(network: &NetworkId, workload: Option<&Workload>, front_end: FrontEnd) -> Origin {
    match workload {
        Some(workload) => Origin::through(front_end, network, &workload.project),
        None => Origin::Internet,
    }
}

/// Everybody else's names are answered like a host that Google does not know; who looks for the
/// reason finds it here.
fn note_unknown(name: Option<&str>, client: SocketAddrV4, destination: SocketAddrV4) {
    log::entry(Severity::Notice, "no Google service of this name is offered here")
        .field("sni", name)
        .field("src", Shown(client))
        .field("dst", Shown(destination))
        .emit();
}
