//! What an internal Application Load Balancer does with one request: forwarding rule → URL map →
//! host rule → path rule or route rule → its action → backend service → network endpoint group →
//! Cloud Run service by fixed name or URL mask (private-connectivity sections 2 and 3).
//!
//! [`Snapshot::compile`] turns a slice into tables; [`Front::decide`] is the one function that
//! traffic, `explain`, `check` and logs call. A [`Decision`] is plain data that borrows from the
//! snapshot and the request: what matched, and the typed reason where the answer is no.
//! [`explain`] finds near misses and words, for people, afterwards.
//!
//! Words owned here: host rule, path matcher, path rule, route rule, match rule, rewrite, header
//! action, budget, roll, URL mask, placeholder, capture.
//!
//! This crate never does I/O, reads no clock and throws no dice: chance comes with the request, as
//! one number ([`RequestHead::roll`]). Of HTTP it knows the vocabulary alone. Forwarding without a
//! rewrite allocates nothing.

mod actions;
mod compile;
mod cors;
mod decide;
mod defect;
mod explain;
mod group;
mod header;
mod hosts;
mod mask;
mod misses;
mod near;
mod paths;
mod pattern;
mod predicate;
mod redirect;
mod request;
mod retry;
mod rewrite;
mod roll;
mod route;
mod routes;
mod table;
mod template;
mod told;
mod url_map_tests;
mod why;

pub use actions::{Changes, HeaderAction, HeaderActionError, HeaderActions, action_header};
pub use compile::{BackendService, ForwardingRule, Kind, Protocol, Snapshot, UrlMap};
pub use cors::{CorsError, CorsPolicy};
pub use decide::{Budget, Decision, Evidence, Front, Outcome, Redirect, RuleMatch};
pub use defect::{CompileError, Defect, Place};
pub use explain::{Explanation, NearMiss, Step, explain};
pub use group::CloudRunTarget;
pub use header::{CustomHeader, HeaderError, Piece, Variable};
pub use hosts::{HostMatch, HostPattern, HostPatternError};
pub use mask::{Captures, MaskError, Mismatch, Part, Placeholder, UrlMask, is_legal_name};
pub use paths::{PathMatch, PathPattern, PathPatternError};
pub use pattern::{Pattern, PatternError, Substitution};
pub use predicate::{Failed, HeaderTest, MatchError, MatchRule, PathTest, QueryTest};
pub use redirect::redirect_text;
pub use request::RequestHead;
pub use retry::{Retry, TryOutcome};
pub use rewrite::{Rewrite, RewriteError, UrlRewrite};
pub use route::{PathMatcher, RouteRule};
pub use template::{PathTemplate, TemplateError, TemplateRewrite};
pub use url_map_tests::TestFailure;
