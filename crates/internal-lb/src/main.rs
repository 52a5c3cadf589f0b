//! The `internal-lb` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<internal_lb::InternalLb>()
}
