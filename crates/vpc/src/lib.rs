//! The VPC networks as one map: who has which address, and who can reach it
//! (private-connectivity section 5, and 1.6 and 2.1 for endpoints and forwarding rules).
//!
//! [`Fabric::reach`] is the one decision about the network boundary. `explain` prints it, the
//! gateway of loopback isolation enforces it, and the supervisor's routes and filters are drawn
//! from the same map ([`Fabric::plan`]), so that the kernel says the same. No I/O here.

mod address;
mod egress;
mod fabric;
mod filter;
mod firewall;
mod plan;
mod reach;

pub use address::{
    egress_address, instance_address, internet_address, is_declared, session_address,
};
pub use egress::PRIVATE_RANGES;
pub use fabric::Fabric;
pub use filter::{Filter, Group, Member};
pub use firewall::{Protocol, Ruling};
pub use plan::{Plan, Route, Target};
pub use reach::{Caller, Packet, Reach, Taken, Verdict};
