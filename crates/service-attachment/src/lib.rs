//! service-attachment
