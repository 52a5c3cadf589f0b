//! The `postern-echo` program: one call, an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    echo::main()
}
