//! http-proxy
