//! The `google-front-end` program: arguments in, one call, an exit code out.

fn main() {}
