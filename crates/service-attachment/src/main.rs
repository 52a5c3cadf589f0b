//! The `service-attachment` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<service_attachment::ServiceAttachment>()
}
