//! cloud-run
