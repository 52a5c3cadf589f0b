//! What the program keeps: endpoints by listener, and the states of their connections.

use crate::datagrams;
use crate::rendezvous;
use crate::serve::serve;
use crate::way::Way;
use arc_swap::ArcSwap;
use hbone::{Credentials, Dialler, Pool, Server};
use names::NetworkId;
use net::Channel;
use runtime::{Accepted, Context, Program, UdpListener, Worker};
use slice::psc::{Endpoint, EndpointAttachmentSlice};
use slice::{ConnectionState, Notice, Role, service_attachment_channel};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The program.
pub struct EndpointAttachment {
    context: Context,
    /// What the service attachments said last, by PSC connection id.
    states: ArcSwap<HashMap<u64, ConnectionState>>,
    /// What it shows to other hosts; of its network, which the first slice tells.
    credentials: OnceLock<Arc<Credentials>>,
    /// Producers that have dialled in.
    rendezvous: Mutex<HashMap<NetworkId, Pool>>,
    pub(crate) server: Server,
}

/// One generation: the endpoint behind each listener.
pub struct Snapshot {
    /// With the port.
    listeners: HashMap<String, (Arc<Served>, u16)>,
    /// Producers on other hosts, and where they are dialled.
    remote: HashMap<NetworkId, Option<SocketAddr>>,
}

/// An endpoint with what its connections need.
pub(crate) struct Served {
    pub(crate) endpoint: Endpoint,
    /// The metric type is Google's.
    pub(crate) new_connections: metrics::Counter,
}

/// A worker thread's ways to service attachments, by producer network.
#[derive(Default)]
pub struct Lanes(RefCell<HashMap<NetworkId, (Place, Rc<Way>)>>);

/// Where a producer is, by the generation in force: none, here; else another host's address, or
/// none if it dials.
type Place = Option<Option<SocketAddr>>;

impl EndpointAttachment {
    /// What the service attachments said last, by PSC connection id.
    pub(crate) fn states(&self) -> Arc<HashMap<u64, ConnectionState>> {
        self.states.load_full()
    }

    /// This thread's way to the service attachments of a producer network.
    pub(crate) fn way(&self, lanes: &Lanes, snapshot: &Snapshot, producer: &NetworkId) -> Rc<Way> {
        let place = snapshot.remote.get(producer).copied();
        let mut lanes = lanes.0.borrow_mut();
        if let Some((known, way)) = lanes.get(producer)
            && *known == place
        {
            return Rc::clone(way);
        }
        let way = Rc::new(match (place, self.credentials()) {
            (Some(Some(address)), Some(credentials)) => {
                Way::Dialled(Dialler::new(credentials, address, producer.clone()))
            }
            (Some(None), Some(credentials)) => {
                Way::Rendezvous(self.rendezvous(producer, &credentials))
            }
            _ => {
                let path = self.context.channel(&service_attachment_channel(producer));
                Way::Local(Channel::new(path))
            }
        });
        lanes.insert(producer.clone(), (place, Rc::clone(&way)));
        way
    }

    /// The connections of a producer that dials out, on whichever thread they came in.
    pub(crate) fn rendezvous(&self, producer: &NetworkId, credentials: &Arc<Credentials>) -> Pool {
        let mut all = self.rendezvous.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = all.entry(producer.clone());
        pool.or_insert_with(|| Pool::new(Arc::clone(credentials))).clone()
    }

    /// What this program shows to other hosts. None before the first generation.
    pub(crate) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.get().cloned()
    }
}

impl Snapshot {
    pub(crate) fn served(&self, key: &str) -> Option<&(Arc<Served>, u16)> {
        self.listeners.get(key)
    }

    /// Does this producer dial out, to here?
    pub(crate) fn takes_in(&self, producer: &NetworkId) -> bool {
        self.remote.get(producer) == Some(&None)
    }
}

impl Program for EndpointAttachment {
    const ROLE: Role = Role::EndpointAttachment;
    const WATCHES: bool = false;
    type Slice = EndpointAttachmentSlice;
    type Snapshot = Snapshot;
    type Local = Lanes;

    fn new(context: Context) -> Result<Self, String> {
        Ok(EndpointAttachment {
            context,
            states: ArcSwap::default(),
            credentials: OnceLock::new(),
            rendezvous: Mutex::default(),
            server: Server::default(),
        })
    }

    fn compile(&self, slice: EndpointAttachmentSlice) -> Result<Snapshot, String> {
        self.credentials.get_or_init(|| {
            let (state_dir, role) = (self.context.state_dir(), Role::EndpointAttachment);
            let directory = Credentials::directory(state_dir, &slice.network, role);
            Arc::new(Credentials::new(directory, slice.network.clone(), role))
        });
        let remote = slice.remote.producers.into_iter();
        let remote = remote.map(|producer| (producer.network, producer.address)).collect();
        let mut listeners = HashMap::new();
        for endpoint in slice.endpoints {
            let new_connections = metrics::counter!(
                "private_service_connect_consumer_new_connections_count",
                "psc_connection_id" => endpoint.psc_connection_id.to_string(),
                "forwarding_rule" => endpoint.self_link.to_string(),
            );
            let served = Arc::new(Served { endpoint, new_connections });
            for port in &served.endpoint.ports {
                // The key that `EndpointAttachmentSlice::listens` gives.
                let key = format!("{}:{port}", served.endpoint.self_link);
                listeners.insert(key, (Arc::clone(&served), *port));
            }
        }
        Ok(Snapshot { listeners, remote })
    }

    fn local(&self) -> Lanes {
        Lanes::default()
    }

    fn notice(&self, notice: Notice) {
        if let Notice::Connections(states) = notice {
            let by_id = states.into_iter().map(|state| (state.psc_connection_id, state));
            self.states.store(Arc::new(by_id.collect()));
        }
    }

    fn committed(&self, snapshot: &Arc<Snapshot>, _generation: u64) {
        let pools = self.rendezvous.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, pool) in pools.iter().filter(|(producer, _)| !snapshot.takes_in(producer)) {
            pool.clear();
        }
        drop(pools);
        if !snapshot.remote.is_empty()
            && let Some(credentials) = self.credentials()
        {
            // The look alone; nothing is to be done with what is good.
            let _ = credentials.current();
            rendezvous::tell_fault(&credentials);
        }
    }

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        if &*accepted.key == rendezvous::KEY {
            return rendezvous::take_in(&worker, accepted).await;
        }
        serve(&worker, accepted).await;
    }

    async fn datagrams(worker: Rc<Worker<Self>>, socket: UdpListener) {
        datagrams::serve(worker, socket).await;
    }
}
