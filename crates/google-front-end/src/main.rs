//! The `google-front-end` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<google_front_end::GoogleFrontEnd>()
}
