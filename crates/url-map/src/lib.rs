//! url-map
