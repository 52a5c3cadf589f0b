//! What a Cloud Armor security policy says of one request (cloud-run 6.2): the first rule by
//! priority that matches lets it through, denies it, redirects it, or counts it.
//!
//! [`Policy::compile`] turns a slice into typed rules; [`Policy::decide`] is the one function that
//! traffic and `explain` call. Expressions of the rules language are parsed by the crate `cel`, and
//! typed here: what the language does not have, and what nobody can know without the internet, is
//! refused by name when the files are checked, not when a request comes.
//!
//! Words owned here: rule, match, expression, attribute, preview, threshold, key, ban.
//!
//! This crate never does I/O and reads no clock: the time comes as an argument, and what was
//! counted lives in [`Limits`], which is bounded.

mod compile;
mod decide;
mod expression;
mod key;
mod limits;
mod request;

pub use compile::{Action, Defect, Policy, Rate, Rule, Test};
pub use decide::{Counted, Decision, Preview, Tried, Verdict};
pub use expression::{Expression, ExpressionError, Missing};
pub use limits::{Limits, RateOutcome};
pub use request::Request;
