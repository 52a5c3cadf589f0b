//! How many instances Cloud Run runs, which of them takes a request, and who waits
//! (cloud-run 1.2, 2.1, 2.2): plain functions of the time and of what was observed.
//!
//! Words owned here: *fleet* (the instances of a revision and the requests that want one), *slot* (a
//! place for one request on one instance), *demand* and *utilisation* (what asks for instances).
//!
//! # Never here
//! No clock, no randomness, no socket, no process: every call says what time it is, and answers
//! what should be done.

pub mod division;
pub mod fleet;
pub mod scaler;
