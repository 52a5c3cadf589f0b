//! What every program shares: arguments, the control channel to the supervisor, generations of
//! snapshots, listeners, worker threads, the log and the metrics.
//!
//! A program is a type that implements [`Program`]: it compiles a slice into an immutable snapshot
//! and serves one accepted connection. Everything around that is here, once:
//!
//! * **Workers.** One `current_thread` runtime per worker thread; each accepts from every listener.
//!   What a request touches (pools, buffers) lives in the thread's `Local`.
//! * **Generations.** `Prepare` compiles aside, `Commit` swaps one pointer; a refused slice leaves
//!   the last good state in force.
//! * **Listeners** outlive generations: opened when a generation first names them, drained when
//!   one no longer does.
//!
//! This crate knows no protocol and decides nothing.

mod args;
mod by_hand;
mod context;
mod control;
mod drain;
pub mod listener;
pub mod log;
mod program;
pub mod testing;
pub mod wire;
mod worker;

pub use args::main;
pub use context::Context;
pub use drain::{Drain, Drainer};
pub use program::{Accepted, Program, Stream, UdpListener};
pub use worker::Worker;
