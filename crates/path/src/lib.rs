//! The whole path of a request, from the name to the container: `postern explain`, and the static
//! run of a topology's expectations.
//!
//! [`World::compile`] compiles each program's snapshot by that program's own compile function;
//! [`explain`] asks them in the order in which traffic would pass: API proxy → DNS → route → PSC
//! endpoint → service attachment → forwarding rule → certificate → URL map → backend service →
//! serverless NEG → Cloud Run's host, ingress and invoker checks → revision. Every answer comes
//! with its evidence, so a hop that says no says why and what to change.
//!
//! Words owned here: *world* (a topology, compiled), *caller*, *step*, *trace*, *explanation*. The
//! words of traces and steps are those of Connectivity Tests, extended to HTTP
//! (private-connectivity 5.4).
//!
//! Never here: a decision. What a zone answers, whether a consumer is admitted, what a mask yields
//! and whether a token is good is decided by `managed_zone`, `vpc`, `psc`, `url_map`, `serverless`
//! and `policy_bundle`, the same functions that serve traffic. No socket is opened: nothing is
//! probed, and what a container would answer is not known.

mod api_proxy;
mod backends;
mod caller;
mod cloud_run;
mod expectations;
mod guard;
mod load_balancer;
mod network;
mod network_lb;
mod render;
mod request;
mod resolve;
mod token;
mod trace;
mod walk;
mod world;

#[cfg(test)]
mod tests;

pub use caller::{Caller, CallerError, From};
pub use expectations::{ExpectationResult, check_expectations};
pub use request::{ExplainRequest, Token};
pub use trace::{Answer, Explanation, Reachability, State, Step};
pub use walk::explain;
pub use world::{Live, World};
