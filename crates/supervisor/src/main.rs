//! The program `postern`.

use std::process::ExitCode;

fn main() -> ExitCode {
    supervisor::main()
}
