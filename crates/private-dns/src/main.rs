//! The `private-dns` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<private_dns::PrivateDns>()
}
