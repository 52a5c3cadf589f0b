//! private-dns
