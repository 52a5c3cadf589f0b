//! What automation and tests share: [`big_topology`] writes topologies of any size.

pub mod big_topology;
