//! api-proxy
