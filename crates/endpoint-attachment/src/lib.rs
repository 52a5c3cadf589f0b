//! endpoint-attachment
