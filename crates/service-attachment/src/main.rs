//! The `service-attachment` program: arguments in, one call, an exit code out.

fn main() {}
