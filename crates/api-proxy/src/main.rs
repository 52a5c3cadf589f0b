//! The `api-proxy` program: arguments in, one call, an exit code out.

fn main() {}
