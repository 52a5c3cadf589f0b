//! The command line of `postern` (DESIGN.md 4).

use crate::protocol::ExecRequest;
use crate::{client, doctor, up, workload};
use clap::{Args, Parser, Subcommand, ValueEnum};
use names::NetworkId;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// A private connectivity router: Google Cloud's private path for APIs, on one machine.
#[derive(Debug, Parser)]
#[command(name = "postern", version, arg_required_else_help = true)]
struct Cli {
    /// Where keys, sockets and logs of the running topology live
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a topology, start everything, and print the entry points
    #[command(after_help = "Example: postern up topology/apigee-psc-cloud-run --detach")]
    Up(UpOptions),
    /// End everything that `up` started
    Down,
    /// Show what runs where
    Status {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Read the files again and put them into force; a mistake changes nothing
    Reload,
    /// Show the logs of the programs and workloads
    #[command(after_help = "Example: postern logs -f internal-lb cloud-run")]
    Logs {
        /// Go on showing what is added
        #[arg(short, long)]
        follow: bool,
        /// Only logs whose name contains one of these
        programs: Vec<String>,
    },
    /// Run a program as a workload of its own in a network
    #[command(
        after_help = "Example: postern exec --network PROJECT/NETWORK --as SERVICE_ACCOUNT -- curl https://internal.example.com/orders"
    )]
    Exec(ExecOptions),
    /// Show the metrics of every program, Prometheus text
    Metrics,
    /// Find out what this machine can do
    Doctor {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of topology files, for editors
    Schema,
    #[command(hide = true)]
    WorkloadInit,
}

#[derive(Debug, Args)]
struct UpOptions {
    /// A file, or a folder of files
    topology: PathBuf,
    /// Return once everything is ready
    #[arg(long)]
    detach: bool,
    /// How networks are kept apart; default: netns where the kernel allows it
    #[arg(long, value_enum)]
    isolation: Option<Isolation>,
    /// Where the API proxy's northbound host is published, instead of where the topology says;
    /// port 0: any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    northbound: Option<SocketAddr>,
    /// Worker threads of each program
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
}

/// How networks are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// By the kernel: a network namespace each.
    Netns,
    /// By addresses of 127.0.0.0/8, without any privilege.
    Loopback,
}

/// `up`, with the state directory.
#[derive(Debug)]
pub struct UpArgs {
    /// A file or a folder.
    pub topology: PathBuf,
    /// Return once everything is ready.
    pub detach: bool,
    /// How networks are kept apart.
    pub isolation: Option<Isolation>,
    /// State directory.
    pub state_dir: Option<PathBuf>,
    /// Where the northbound host is published instead.
    pub northbound: Option<SocketAddr>,
    /// Worker threads of each program.
    pub workers: u16,
}

#[derive(Debug, Args)]
struct ExecOptions {
    /// The network
    #[arg(long, value_name = "PROJECT/NETWORK", required_unless_present = "instance")]
    network: Option<NetworkId>,
    /// The service account that the metadata server speaks for
    #[arg(long = "as", value_name = "SERVICE_ACCOUNT", conflicts_with = "instance")]
    service_account: Option<String>,
    /// The region; default: that of the network's first subnetwork
    #[arg(long, conflicts_with = "instance")]
    region: Option<String>,
    /// Network tags
    #[arg(long, value_delimiter = ',', conflicts_with = "instance")]
    tags: Vec<String>,
    /// Run inside this declared VM
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1..)]
    command: Vec<String>,
}

/// The whole `main`.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let state_dir = cli.state_dir.clone().unwrap_or_else(crate::state_dir::default);
    match cli.command {
        Command::Up(options) => up::run(UpArgs {
            topology: options.topology,
            detach: options.detach,
            isolation: options.isolation,
            state_dir: cli.state_dir,
            northbound: options.northbound,
            workers: options.workers,
        }),
        Command::Down => client::down(&state_dir),
        Command::Status { json } => client::status(&state_dir, json),
        Command::Reload => client::reload(&state_dir),
        Command::Logs { follow, programs } => client::logs(&state_dir, follow, &programs),
        Command::Exec(options) => {
            let request = ExecRequest {
                network: options.network,
                service_account: options.service_account,
                region: options.region,
                tags: options.tags,
                instance: options.instance,
            };
            client::exec(&state_dir, request, options.command)
        }
        Command::Metrics => client::metrics(&state_dir),
        Command::Doctor { json } => doctor::run(json),
        Command::Schema => {
            println!("{:#}", topology::json_schema());
            ExitCode::SUCCESS
        }
        Command::WorkloadInit => workload::init(),
    }
}
