//! Arguments of a program, and its whole `main`.

use crate::{Program, by_hand, control, log};
use clap::{CommandFactory, FromArgMatches, Parser};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use names::NetworkId;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

/// Serves one part of a topology. `postern up` starts it; by hand it reads the topology itself.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// The topology: a file or a folder. SIGHUP reads it again
    #[arg(long, value_name = "PATH", required_unless_present = "control_fd")]
    pub(crate) topology: Option<PathBuf>,
    /// The network to serve
    #[arg(long, value_name = "PROJECT/NETWORK")]
    pub(crate) network: Option<NetworkId>,
    /// Where keys, channels and lasting state live
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// How long to wait for what is in flight when told to stop
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) drain_seconds: u16,
    /// The supervisor's channel
    #[arg(long, hide = true)]
    control_fd: Option<RawFd>,
}

/// The whole `main` of a program.
pub fn main<P: Program>() -> ExitCode {
    // A process that may not raise its limit goes on with what it has.
    let _ = sys::raise_descriptors_max();
    let name = P::ROLE.program();
    let example = format!(
        "Example: {name} --topology topology/apigee-psc-cloud-run --network PROJECT/NETWORK"
    );
    let command = Args::command().name(name).after_help(example);
    let args = match command.try_get_matches().and_then(|found| Args::from_arg_matches(&found)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match recorder() {
        Err(error) => Err(error),
        Ok(metrics) => match args.control_fd {
            Some(number) => supervised::<P>(number, args, &metrics),
            None => by_hand::run::<P>(args),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::entry(log::Severity::Error, &error).field("program", name).emit();
            log::flush();
            ExitCode::FAILURE
        }
    }
}

fn supervised<P: Program>(
    number: RawFd,
    args: Args,
    metrics: &PrometheusHandle,
) -> Result<(), String> {
    let channel = sys::adopt(number).map_err(|error| format!("--control-fd {number}: {error}"))?;
    let state_dir = args.state_dir.ok_or("--control-fd needs --state-dir")?;
    let workers = usize::from(args.workers);
    control::supervised::<P>(UnixStream::from(channel), state_dir, args.network, workers, metrics)
}

/// Histograms in seconds, at Google's usual exponential steps.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Google's `…_latencies` are in milliseconds.
const BUCKETS_MS: [f64; 14] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 5e3, 30e3, 300e3];

/// How often the samples of histograms are added up.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let latencies = Matcher::Suffix("_latencies".to_owned());
    PrometheusBuilder::new().set_buckets(&BUCKETS)?.set_buckets_for_metric(latencies, &BUCKETS_MS)
}

fn recorder() -> Result<PrometheusHandle, String> {
    let recorder = builder().map_err(|error| format!("metrics: {error}"))?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| format!("metrics: {error}"))?;
    // Histograms gather single samples until somebody adds them up: without this, without bound.
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        })
        .map_err(|error| format!("metrics: {error}"))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    #[test]
    fn latencies_have_buckets_of_milliseconds_and_everything_else_of_seconds() {
        let recorder = super::builder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("run_googleapis_com_request_latencies").record(30.0);
            metrics::histogram!("postern_reload_seconds").record(0.03);
        });
        let text = handle.render();
        for line in [
            "run_googleapis_com_request_latencies_bucket{le=\"20\"} 0",
            "run_googleapis_com_request_latencies_bucket{le=\"50\"} 1",
            "postern_reload_seconds_bucket{le=\"0.02\"} 0",
            "postern_reload_seconds_bucket{le=\"0.05\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
