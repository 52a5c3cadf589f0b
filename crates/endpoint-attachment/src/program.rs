//! What the program keeps: endpoints by listener, and the states of their connections.

use crate::datagrams;
use crate::serve::serve;
use crate::way::Way;
use arc_swap::ArcSwap;
use names::NetworkId;
use net::Channel;
use runtime::{Accepted, Context, Program, UdpListener, Worker};
use slice::psc::{Endpoint, EndpointAttachmentSlice};
use slice::{ConnectionState, Notice, Role, service_attachment_channel};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The program.
pub struct EndpointAttachment {
    context: Context,
    /// What the service attachments said last, by PSC connection id.
    states: ArcSwap<HashMap<u64, ConnectionState>>,
}

/// One generation: the endpoint behind each listener.
pub struct Snapshot {
    /// With the port.
    listeners: HashMap<String, (Arc<Served>, u16)>,
}

/// An endpoint with what its connections need.
pub(crate) struct Served {
    pub(crate) endpoint: Endpoint,
    /// The metric type is Google's.
    pub(crate) new_connections: metrics::Counter,
}

/// A worker thread's ways to service attachments, by producer network.
#[derive(Default)]
pub struct Lanes(RefCell<HashMap<NetworkId, Rc<Way>>>);

impl EndpointAttachment {
    /// What the service attachments said last, by PSC connection id.
    pub(crate) fn states(&self) -> Arc<HashMap<u64, ConnectionState>> {
        self.states.load_full()
    }

    /// This thread's way to the service attachments of a producer network.
    pub(crate) fn way(&self, lanes: &Lanes, producer: &NetworkId) -> Rc<Way> {
        let mut lanes = lanes.0.borrow_mut();
        if let Some(way) = lanes.get(producer) {
            return Rc::clone(way);
        }
        let path = self.context.channel(&service_attachment_channel(producer));
        let way = Rc::new(Way::Local(Channel::new(path)));
        lanes.insert(producer.clone(), Rc::clone(&way));
        way
    }
}

impl Snapshot {
    pub(crate) fn served(&self, key: &str) -> Option<&(Arc<Served>, u16)> {
        self.listeners.get(key)
    }
}

impl Program for EndpointAttachment {
    const ROLE: Role = Role::EndpointAttachment;
    type Slice = EndpointAttachmentSlice;
    type Snapshot = Snapshot;
    type Local = Lanes;

    fn new(context: Context) -> Result<Self, String> {
        Ok(EndpointAttachment { context, states: ArcSwap::default() })
    }

    fn compile(&self, slice: EndpointAttachmentSlice) -> Result<Snapshot, String> {
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
        Ok(Snapshot { listeners })
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

    async fn serve(worker: Rc<Worker<Self>>, accepted: Accepted) {
        serve(&worker, accepted).await;
    }

    async fn datagrams(worker: Rc<Worker<Self>>, socket: UdpListener) {
        datagrams::serve(worker, socket).await;
    }
}
