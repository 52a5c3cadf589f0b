//! policy-bundle
