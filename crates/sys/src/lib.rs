//! System calls that need `unsafe`, or that must be done with care, in one small audited place:
//! sockets that carry file descriptors, namespaces, and the birth of processes.
//!
//! Everything here is a thin safe function over one system call or a fixed sequence of them. No
//! policy, no knowledge of Postern. Every other crate forbids `unsafe_code`.

mod descriptors;
mod limits;
mod memory;
mod namespace;
mod process;

pub use descriptors::{Received, adopt, receive, send};
pub use limits::{descriptors_max, raise_descriptors_max};
pub use memory::release_free_memory;
pub use namespace::{
    NamespaceKind, current, enter, in_network_namespace, new_network_namespace, unshare,
};
pub use process::{
    Fork, Inheritance, drop_capabilities, end_on_broken_pipe, fork, inherit, kill_on_parent_death,
    no_new_privileges, reap, write_identity_map,
};
