//! Apigee API proxy bundles: read, checked, compiled and interpreted, without any I/O of their own.
//!
//! A bundle (a folder or a zip) becomes a [`Bundle`]: proxy endpoints, target endpoints and policies
//! with every element and attribute either honoured or refused by name, file and line. The
//! [`Platform`] puts the deployed bundles of one organisation behind their hostnames and base
//! paths. A [`Call`] interprets one request against it: it is resumable, so the program that moves
//! bytes asks [`Call::step`] what to do next (send this to the target, answer with that) and
//! reports what happened; the [`Trace`] says which step ran, which was skipped and why. Traffic
//! and `explain` run the same interpreter.
//!
//! Words owned here: bundle, proxy endpoint, target endpoint, flow, step, policy, condition,
//! message template, flow variable, fault, fault rule, route rule, API product.
//!
//! Never here: sockets, clocks, randomness (both are given), a runtime. [`read`] is the only code
//! that touches files. Facts are from the fact sheet `apigee.md`; its section numbers are cited.

mod bundle;
mod civil;
mod condition;
mod context;
mod counters;
mod directory;
mod endpoint;
mod error;
mod execution;
mod fault;
mod files;
mod json_path;
mod message;
mod pattern;
mod platform;
mod policies;
mod quota;
mod read;
mod spike_arrest;
mod target;
mod template;
#[cfg(test)]
mod testing;
mod trace;
mod value;
mod variable;
mod xml;

pub use bundle::{Bundle, Loaded, load};
pub use condition::{Condition, ConditionError, Evaluation};
pub use context::{ClientInfo, Clock, Context, FlowPhase};
pub use counters::Counters;
pub use directory::{Directory, KeyRefusal};
pub use endpoint::{Flow, FlowPair, ProxyEndpoint, RouteRule, Step, TargetEndpoint};
pub use error::BundleError;
pub use execution::{Call, Next, TargetOutcome};
pub use fault::{Fault, FaultParts, FaultSource};
pub use files::{BUNDLE_BYTES_MAX, ENTRIES_MAX, Files};
pub use json_path::{JsonPath, JsonPathError};
pub use message::{Content, Message, MessageKind, Origin as ContentOrigin, Query};
pub use pattern::{Glob, JavaRegex, PathPattern};
pub use platform::{Deployed, Facts, Platform, Routed};
pub use policies::World;
pub use policies::message_logging::LogRecord;
pub use quota::{QuotaConfig, QuotaKind, QuotaState, TimeUnit};
pub use read::read;
pub use spike_arrest::{Rate, SpikeArrestState};
pub use target::{IdTokenRequest, TargetProperties, TargetRequest, TlsMode};
pub use template::{Template, TemplateError};
pub use trace::{Place, StepAt, StepOutcome, Trace, TraceEvent};
pub use value::Value;
pub use variable::Variable;
