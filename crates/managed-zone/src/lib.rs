//! managed-zone
