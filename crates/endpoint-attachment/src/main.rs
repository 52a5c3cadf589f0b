//! The `endpoint-attachment` program: arguments in, one call, an exit code out.

fn main() -> std::process::ExitCode {
    runtime::main::<endpoint_attachment::EndpointAttachment>()
}
