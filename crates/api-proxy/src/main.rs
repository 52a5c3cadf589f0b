//! The `api-proxy` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<api_proxy::ApiProxy>()
}
