//! Which zone answers a name for a network, and with what: Cloud DNS private zones as the resolver
//! at 169.254.169.254 sees them (private-connectivity section 4).
//!
//! [`Snapshot::compile`] turns a slice into an immutable snapshot. A [`View`] is one network's
//! sight of it and has two faces over **one** decision (`decide.rs`): [`View::answer`] on the
//! wire, and [`View::resolve`] as plain data with its evidence, for `explain`, `postern resolve`
//! and log lines.
//!
//! Answers are encoded in advance: a zone keeps every record set in wire form under the hash of
//! its lower-case wire name, so an answer is two probes (which zone, which name) and one copy, and
//! the fast path and the decision are the same code. A zone that many networks see is held once.
//!
//! Words owned here: name, record type, record set, zone, apex, empty non-terminal, closest
//! encloser, view, resolution.
//!
//! What other name servers have to be asked for is a [`Forward`]; [`Snapshot::resume`] goes on with
//! what they say.
//!
//! Never here: sockets, files, clocks, randomness; carrying messages; caching; DNSSEC; a name of a network that the asking one neither sees nor peers to.

mod answer;
mod asked;
mod circumstances;
mod clients;
mod compile;
mod decide;
mod forward;
mod google;
mod health;
mod name;
mod nearest;
mod query;
mod rdata;
mod record_type;
mod regions;
mod reply;
mod resolution;
mod routes;
mod routing;
mod snapshot;
mod story;
mod targets;
mod writer;
mod zone;

pub use answer::{Answered, Outcome, Scratch, TCP_SIZE_MAX, Transport, UDP_SIZE_MAX};
pub use circumstances::{AsReported, Circumstances, FairWeather};
pub use compile::{PRIMARY_NAME_SERVER, Problem, ZoneError};
pub use forward::{Forward, Upstream};
pub use health::unhealthy;
pub use name::{Name, NameError};
pub use query::question;
pub use rdata::RdataError;
pub use record_type::{NotARecordType, RecordType, ResponseCode};
pub use resolution::{
    Candidate, Chosen, Elsewhere, Hop, Horizon, Lookup, Match, PolicyRule, Record, Resolution,
    RoutingItem,
};
pub use snapshot::{CompileError, Snapshot, View};

use names::SelfLink;

/// All mistakes in the record sets of one managed zone, for whoever reads topology files; nothing
/// for a peering zone.
pub fn check(zone: &slice::dns::ManagedZone) -> Vec<ZoneError> {
    match (Name::parse(&zone.dns_name), &zone.kind) {
        (Err(why), _) => vec![ZoneError::of_zone(zone.self_link.clone(), Problem::Name(why))],
        (Ok(apex), slice::dns::ZoneKind::Private(record_sets)) => {
            let targets = &mut targets::Targets::default();
            compile::zone(&zone.self_link, &apex, record_sets, targets).err().unwrap_or_default()
        }
        (Ok(_), _) => Vec::new(),
    }
}

/// All mistakes in the local data of one response policy rule.
pub fn check_rule(policy: &SelfLink, rule: &slice::dns::ResponsePolicyRule) -> Vec<ZoneError> {
    match (Name::parse(&rule.dns_name), &rule.action) {
        (Err(why), _) => vec![ZoneError::of_zone(policy.clone(), Problem::Name(why))],
        (Ok(name), slice::dns::RuleAction::LocalData(record_sets)) => {
            compile::local_data(policy, &name, record_sets).err().unwrap_or_default()
        }
        (Ok(_), slice::dns::RuleAction::BypassResponsePolicy) => Vec::new(),
    }
}
