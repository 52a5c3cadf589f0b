//! For tests only: URL maps a second time, written straight from the fact sheet
//! (private-connectivity 2.3–2.6, 3.2, 3.3), slow and simple, and a generator of maps and requests
//! that collide often. What the engine, `explain` and the data path say of a request is held
//! against what [`reference()`] says.
//!
//! Words: a [`Case`] is a closed set of resources with requests for its one forwarding rule; an
//! [`Expected`] is what must become of one of them. This crate shares nothing with `url-map`, and
//! must not: two readings of the same sentences are the point.

mod act;
mod alphabet;
mod decide;
mod dice;
mod generate;
mod mask;
mod mirrors;
mod path;
mod retry;
mod shrink;

pub use act::{apply_headers, collapse};
pub use decide::{Expected, Forwarded, Outcome, Rule, reference};
pub use dice::Dice;
pub use generate::{Profile, case};
pub use mask::{Masked, mask};
pub use retry::{Failure, again};
pub use shrink::shrink;

use names::SelfLink;
use slice::load_balancer::LoadBalancing;

/// The forwarding rule of every generated case.
pub const FRONT: &str = "projects/p/regions/europe-west1/forwardingRules/front";

/// The name of a resource of the generated project.
pub fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "europe-west1", collection, name)
}

/// Resources and requests for the forwarding rule [`FRONT`].
#[derive(Clone, Debug)]
pub struct Case {
    /// One forwarding rule, one URL map.
    pub load_balancing: LoadBalancing,
    /// What is asked.
    pub requests: Vec<Request>,
}

/// A request, as plain texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// GET, POST or OPTIONS.
    pub method: String,
    /// `Host`, perhaps with a port.
    pub host: String,
    /// Begins with `/`.
    pub path_and_query: String,
    /// Lower-case names; a name may be there more than once.
    pub headers: Vec<(String, String)>,
    /// The request's random number.
    pub roll: u64,
}

impl Request {
    /// The path.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// What stands after the first question mark.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }
}
