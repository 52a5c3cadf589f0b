//! The command `postern`: one command for the user, and the supervisor behind `postern up`.
//!
//! Words it owns: session, workload, generation in force. It decides nothing about traffic: it
//! asks the topology crate what runs, the `vpc` crate what the kernel has to know, and starts,
//! feeds and ends processes accordingly.

mod account_keys;
mod certificate;
mod child;
mod cli;
mod client;
mod collector;
mod connected;
mod doctor;
mod events;
mod explain;
mod forward;
mod gateway;
mod instances;
mod limits;
mod log_view;
mod loopback;
mod namespaces;
mod nft;
mod output;
mod protocol;
mod render;
mod slices;
mod stage;
mod state_dir;
mod status;
mod supervise;
mod surroundings;
mod up;
mod volumes;
mod workload;
mod workloads;

pub use cli::main;
