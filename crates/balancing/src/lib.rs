//! Which endpoint of a backend service takes a request: groups by capacity, endpoints by locality
//! policy and session affinity, health, outliers, circuit breakers (private-connectivity 2.8, 2.10).
//!
//! Words owned here: *member* (an endpoint as the choice sees it: an identity and an availability),
//! *table* (the choice made ready: built anew when a member's availability changes, asked for every
//! request), *draw* (what a choice may depend on: the turn, a random number, a hash), *outcome*
//! (what an endpoint did with a request).
//!
//! Time and randomness are arguments. Facts that are (unconfirmed), and what was decided:
//!
//! * An endpoint that fails its health check gets no request, also when all do: there is no panic
//!   mode ([`Availability`]).
//! * An endpoint of which no probe has decided yet is used where no healthy one is there; its first
//!   success decides alone ([`Health`]), as in Envoy.
//! * A group takes its share by capacity; one that is full is passed over, unless all are
//!   ([`Table`]).
//! * The values of the load balancer's own cookies ([`Affinity`]).
//! * `drainingTimeoutSec` 0, the default: a request under way to a removed endpoint goes on to its
//!   own end, as in Envoy; a reload fails no request.

mod affinity;
mod consistent;
mod hash;
mod health;
mod meter;
mod outlier;
pub mod passthrough;
mod table;
mod told;

pub use affinity::{Affinity, Bound};
pub use hash::{mix, stable_hash};
pub use health::{Health, Standing};
pub use meter::Meter;
pub use outlier::{Conduct, Outcome, may_eject, sweep};
pub use table::{Availability, Capacity, Draw, Load, Member, Table};
