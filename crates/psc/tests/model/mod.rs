//! Admission a second time, naively: written from the fact sheet (private-connectivity 1.1 to 1.3)
//! sentence by sentence, with nothing of the engine. It walks lists, counts by looking at everybody,
//! and knows nothing of NAT addresses, evidence or efficiency.

/// One kind of value in both lists (1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Project,
    Network,
    Endpoint,
}

/// What the producer writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Producer {
    pub automatic: bool,
    pub kind: Kind,
    /// Whom, and how many connections.
    pub accept: Vec<(String, u32)>,
    pub reject: Vec<String>,
    pub reconcile: bool,
    /// Projects that an organization policy of the producer blocks.
    pub blocked: Vec<String>,
}

/// An endpoint, or a PSC backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    pub project: String,
    pub network: String,
    pub name: String,
    pub backend: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Accepted,
    Rejected,
    Closed,
}

/// One producer's attachment over the course of its edits.
#[derive(Default)]
pub struct Model {
    /// Oldest first.
    pub connections: Vec<(Consumer, Status)>,
}

impl Producer {
    /// The name under which a list of this kind would hold the consumer.
    fn name_of(&self, consumer: &Consumer) -> Option<String> {
        match self.kind {
            Kind::Project => Some(consumer.project.clone()),
            Kind::Network => Some(consumer.network.clone()),
            // "they never cover PSC backends"
            Kind::Endpoint if consumer.backend => None,
            Kind::Endpoint => Some(format!("{}/{}", consumer.project, consumer.name)),
        }
    }

    fn rejects(&self, consumer: &Consumer) -> bool {
        self.name_of(consumer).is_some_and(|name| self.reject.contains(&name))
    }

    /// The limit of the entry that names the consumer; "for endpointUrl … no effect".
    fn limit(&self, consumer: &Consumer) -> Option<u32> {
        let name = self.name_of(consumer)?;
        let (_, limit) = self.accept.iter().find(|(own, _)| *own == name)?;
        Some(if self.kind == Kind::Endpoint { u32::MAX } else { *limit })
    }
}

impl Model {
    /// An edit of the files: the attachment as it is now, if there is one, and the endpoints that
    /// exist now, new ones in the order in which they are created.
    pub fn edit(&mut self, producer: Option<&Producer>, endpoints: &[Consumer]) {
        self.connections.retain(|(consumer, _)| endpoints.contains(consumer));
        let Some(producer) = producer else {
            // "SA was deleted": CLOSED. An endpoint that is made now has no connection at all.
            self.connections.iter_mut().for_each(|(_, status)| *status = Status::Closed);
            return;
        };
        // "reconcile=true: all statuses are recomputed". Who is accepted and still welcome stays
        // whatever the limit says: "lowering connectionLimit does not touch existing connections".
        if producer.reconcile {
            for at in 0..self.connections.len() {
                let (consumer, status) = &self.connections[at];
                let new = match status {
                    Status::Closed | Status::Pending => continue,
                    Status::Rejected => Status::Pending, // asked again below
                    Status::Accepted if producer.blocked.contains(&consumer.project) => {
                        Status::Rejected
                    }
                    Status::Accepted if producer.rejects(consumer) => Status::Rejected,
                    Status::Accepted if producer.automatic => Status::Accepted,
                    Status::Accepted if producer.limit(consumer).is_some() => Status::Accepted,
                    Status::Accepted => Status::Pending,
                };
                self.connections[at].1 = new;
            }
        }
        for endpoint in endpoints {
            if !self.connections.iter().any(|(known, _)| known == endpoint) {
                self.connections.push((endpoint.clone(), Status::Pending));
            }
        }
        // "an update acts on new and PENDING connections", oldest first.
        for at in 0..self.connections.len() {
            if self.connections[at].1 == Status::Pending {
                self.connections[at].1 = self.evaluate(producer, &self.connections[at].0);
            }
        }
    }

    /// The six steps of 1.2.
    fn evaluate(&self, producer: &Producer, consumer: &Consumer) -> Status {
        if producer.blocked.contains(&consumer.project) || producer.rejects(consumer) {
            return Status::Rejected;
        }
        if producer.automatic {
            return Status::Accepted;
        }
        let Some(limit) = producer.limit(consumer) else { return Status::Pending };
        // "Count = endpoints + backends of that project/network on this SA".
        let name = producer.name_of(consumer);
        let accepted = self
            .connections
            .iter()
            .filter(|(other, status)| {
                *status == Status::Accepted && producer.name_of(other) == name
            })
            .count();
        if (accepted as u64) < u64::from(limit) { Status::Accepted } else { Status::Pending }
    }
}
