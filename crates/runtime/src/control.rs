//! The life of a program: generations are prepared aside and committed, listeners opened and
//! drained, until the supervisor (or a signal) says stop.

use crate::context::{Context, Supervisor, Surroundings};
use crate::wire::{self, FromProgram, ToProgram};
use crate::worker::{self, Generation, Open, Socket};
use crate::{Drainer, Program, log};
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use names::NetworkId;
use net::Network;
use slice::{Bind, Listen, Notice};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A stopping program waits this long for what is in flight, if it is not told otherwise.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How a program is set up, by a supervisor or by hand.
pub(crate) struct Setup {
    pub(crate) state_dir: PathBuf,
    pub(crate) network_id: Option<NetworkId>,
    pub(crate) workers: usize,
    /// How long it waits for what is in flight when it stops.
    pub(crate) drain: Duration,
    pub(crate) supervisor: Option<Supervisor>,
}

/// A running program: its workers, its generations, its listeners.
pub(crate) struct Running<P: Program> {
    pub(crate) program: Arc<P>,
    pub(crate) context: Context,
    generation: Option<Arc<ArcSwap<Generation<P::Snapshot>>>>,
    workers: Vec<mpsc::UnboundedSender<Open>>,
    threads: Vec<std::thread::JoinHandle<io::Result<()>>>,
    pub(crate) listeners: HashMap<String, Serving>,
    drain: Duration,
}

/// A listener in force; dropping it drains.
pub(crate) struct Serving {
    pub(crate) listen: Listen,
    pub(crate) actual: SocketAddr,
    drainer: Drainer,
}

/// A generation that was built and is not yet in force.
pub(crate) struct Prepared<P: Program> {
    number: u64,
    snapshot: P::Snapshot,
    open: Vec<(Listen, OwnedFd)>,
    close: Vec<String>,
    network: Network,
}

impl<P: Program> Running<P> {
    pub(crate) fn new(setup: Setup) -> Result<Self, String> {
        let context = Context(Arc::new(Surroundings {
            state_dir: setup.state_dir,
            network_id: setup.network_id,
            workers: setup.workers,
            network: ArcSwap::from_pointee(Network::direct()),
            workloads: ArcSwap::default(),
            connections: Default::default(),
            supervisor: setup.supervisor,
        }));
        let program = Arc::new(P::new(context.clone())?);
        Ok(Running {
            program,
            context,
            generation: None,
            workers: Vec::new(),
            threads: Vec::new(),
            listeners: HashMap::new(),
            drain: setup.drain,
        })
    }

    /// Builds a generation aside.
    pub(crate) fn prepare(
        &self,
        number: u64,
        slice: P::Slice,
        open: Vec<(Listen, OwnedFd)>,
        close: Vec<String>,
        network: Network,
    ) -> Result<Prepared<P>, String> {
        let snapshot = self.program.compile(slice)?;
        Ok(Prepared { number, snapshot, open, close, network })
    }

    /// Puts it into force: one pointer, then the listeners.
    pub(crate) fn commit(&mut self, prepared: Prepared<P>) -> io::Result<()> {
        let Prepared { number, snapshot, open, close, network } = prepared;
        let snapshot = Arc::new(snapshot);
        let next = Generation { number, snapshot: Arc::clone(&snapshot) };
        self.context.0.network.store(Arc::new(network));
        match &self.generation {
            Some(cell) => cell.store(Arc::new(next)),
            None => {
                let cell = Arc::new(ArcSwap::from_pointee(next));
                self.start_workers(&cell)?;
                self.generation = Some(cell);
            }
        }
        self.program.committed(&snapshot, number);
        for (listen, descriptor) in open {
            self.open(listen, descriptor)?;
        }
        for key in close {
            if let Some(serving) = self.listeners.remove(&key) {
                serving.drainer.drain();
            }
        }
        Ok(())
    }

    fn start_workers(&mut self, cell: &Arc<ArcSwap<Generation<P::Snapshot>>>) -> io::Result<()> {
        for index in 0..self.context.workers() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (program, context) = (Arc::clone(&self.program), self.context.clone());
            let cell = Arc::clone(cell);
            let body = move || worker::run(program, index, context, cell, receiver);
            let name = format!("worker-{index}");
            self.threads.push(std::thread::Builder::new().name(name).spawn(body)?);
            self.workers.push(sender);
        }
        Ok(())
    }

    fn open(&mut self, listen: Listen, descriptor: OwnedFd) -> io::Result<()> {
        let mut actual = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = match &listen.bind {
            Bind::Tcp(_, declared) => {
                let listener = TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                actual = listener.local_addr()?;
                Socket::Tcp(listener, Some(*declared))
            }
            Bind::Host(_) => {
                let listener = TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                actual = listener.local_addr()?;
                Socket::Tcp(listener, None)
            }
            Bind::Udp(..) => {
                let socket = UdpSocket::from(descriptor);
                socket.set_nonblocking(true)?;
                actual = socket.local_addr()?;
                Socket::Udp(Arc::new(socket))
            }
            Bind::Channel(_) => {
                let listener = UnixListener::from(descriptor);
                listener.set_nonblocking(true)?;
                Socket::Unix(listener)
            }
        };
        let (drainer, drain) = Drainer::new();
        let open = Open { key: listen.key.as_str().into(), socket, drain };
        for sender in &self.workers {
            // A worker that is gone has said why in the log; the others go on.
            let _ = sender.send(open.try_clone()?);
        }
        self.listeners.insert(listen.key.clone(), Serving { listen, actual, drainer });
        Ok(())
    }

    /// Finishes what is in flight, within bounds.
    pub(crate) fn stop(mut self) {
        self.listeners.clear();
        let until = Instant::now() + self.drain;
        while self.context.0.connections.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.workers.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        log::flush();
    }
}

/// Serves the control channel until the supervisor says stop or is gone.
pub(crate) fn supervised<P: Program>(
    channel: UnixStream,
    state_dir: PathBuf,
    network_id: Option<NetworkId>,
    workers: usize,
    metrics: &PrometheusHandle,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("the control channel failed: {error}");
    let supervisor = Supervisor::new(channel.try_clone().map_err(failed)?);
    // `/proc` of the supervisor's mount namespace is the host's, so this is the host's number.
    let pid = std::fs::read_link("/proc/self")
        .ok()
        .and_then(|link| link.to_string_lossy().parse().ok())
        .unwrap_or_else(std::process::id);
    supervisor.send(&FromProgram::Hello { pid });
    let drain = DRAIN_MAX;
    let setup = Setup { state_dir, network_id, workers, drain, supervisor: Some(supervisor) };
    let mut running = Running::<P>::new(setup)?;
    let mut pending = None;
    while let Some((message, descriptors)) = wire::receive(&channel).map_err(failed)? {
        let Some(supervisor) = &running.context.0.supervisor else { break };
        match message {
            ToProgram::Prepare {
                generation,
                slice,
                open,
                close,
                placements,
                hosts,
                placed,
                source,
            } => {
                let network = match placed {
                    true => Network::placed(&placements, &hosts).extended([], source).closed(),
                    false => Network::direct(),
                };
                let open = open.into_iter().zip(descriptors).collect();
                let result = serde_json::from_str(&slice)
                    .map_err(|error| format!("the slice cannot be read: {error}"))
                    .and_then(|slice| running.prepare(generation, slice, open, close, network));
                let error = result.as_ref().err().cloned();
                pending = result.ok();
                supervisor.send(&FromProgram::Prepared { generation, error });
            }
            ToProgram::Commit { generation } => {
                // Without it this process serves nothing: better to end, and be started again.
                let prepared = pending
                    .take()
                    .filter(|p: &Prepared<P>| p.number == generation)
                    .ok_or_else(|| format!("generation {generation} was not prepared"))?;
                running
                    .commit(prepared)
                    .map_err(|error| format!("generation {generation}: {error}"))?;
                sys::release_free_memory();
                if let Some(supervisor) = &running.context.0.supervisor {
                    supervisor.send(&FromProgram::Committed { generation });
                }
            }
            ToProgram::Abort { .. } => pending = None,
            ToProgram::Hosts(hosts) => {
                let network = running.context.network().extended(hosts, None);
                running.context.0.network.store(Arc::new(network));
            }
            ToProgram::Notice(notice) => {
                if let Notice::Workloads(workloads) = &notice {
                    running.context.set_workloads(workloads);
                }
                running.program.notice(notice);
            }
            ToProgram::Answer { id, result } => supervisor.answered(id, result),
            ToProgram::Metrics { id } => {
                supervisor.send(&FromProgram::Metrics { id, text: metrics.render() });
            }
            ToProgram::Ping { id } => supervisor.send(&FromProgram::Pong { id }),
            ToProgram::Stop => break,
        }
    }
    running.stop();
    Ok(())
}
