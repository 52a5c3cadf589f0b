//! The front of Cloud Run: which service is asked for, may this request come in from there, and
//! may this caller invoke it.
//!
//! Words owned here: *front* (the compiled services), *target*, *ingress*, *invoker*, *credential*.
//! [`admit`] is the one ordered decision, host → ingress → method and path → IAM, that traffic,
//! `explain`, `check` and logs all call. It returns a [`Decision`]: what matched at each step, and
//! either who was admitted or one [`Refusal`] with Google's status, headers and body, a
//! [`names::Reason`], and a fix.
//!
//! This crate never opens a socket, reads a clock or trusts HTTP for where a request comes from:
//! the origin is the fabric's word. It starts no instance.
//!
//! [`Routing`] says which revision an admitted request gets; the random number comes from the
//! caller.
//!
//! Facts: fact sheet cloud-run 0, 1.3, 2.4, 3.1, 3.2, 4 and 5.

pub mod affinity;
mod authorize;
mod decision;
mod front;
mod ingress;
pub mod pages;
mod path;
mod plain_http;
mod traffic;

#[cfg(test)]
mod tests;

pub use affinity::Affinity;
pub use authorize::{
    Admitted, AuthorizationHeaders, Credential, HeaderValues, Invoker, Unauthorized,
    UnauthorizedCause, authorize,
};
pub use decision::{Decision, Refusal, RequestHead, Step, admit};
pub use front::{CompileError, Found, Front, FrontService, Target, TargetRefusal};
pub use ingress::{IngressEvidence, IngressNearMiss, IngressRefusal, ingress};
pub use path::{ReservedPath, decode_needless_escapes, method_supported, reserved_path};
pub use plain_http::{PlainHttp, REDIRECT_STATUS, plain_http};
pub use traffic::{Candidate, Preference, Readiness, Routed, Routing, Unresolved, latest};
