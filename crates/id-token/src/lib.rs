//! id-token
