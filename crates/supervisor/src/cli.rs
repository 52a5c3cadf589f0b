//! The command line of `postern` (DESIGN.md 4).

use crate::protocol::ExecRequest;
use crate::{account_keys, certificate, client, doctor, explain, up, workload};
use clap::{Args, Parser, Subcommand, ValueEnum};
use names::NetworkId;
use slice::Role;
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
        /// Print the entries as they are, one JSON object a line
        #[arg(long)]
        json: bool,
        /// Only logs whose name contains one of these
        programs: Vec<String>,
    },
    /// Run a program as a workload of its own in a network
    #[command(
        after_help = "Example: postern exec --network PROJECT/NETWORK --as SERVICE_ACCOUNT -- curl https://internal.example.com/orders"
    )]
    Exec(ExecOptions),
    /// Check topology files: all diagnostics at once, URL-map tests, expectations
    #[command(after_help = "Exit code: 0 fine, 1 findings, 2 usage")]
    Check {
        /// A file, or a folder of files
        topology: PathBuf,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Tell hop by hop what happens to a request, and why
    #[command(
        after_help = "Exit code: 0 delivered, 1 refused, 2 usage\nExample: postern explain --from PROJECT/NETWORK --as SERVICE_ACCOUNT https://internal.example.com/orders"
    )]
    Explain(ExplainOptions),
    /// Tell which zone answers a name, through which peering, and why
    #[command(
        after_help = "Example: postern resolve --from PROJECT/NETWORK internal.example.com A"
    )]
    Resolve(ResolveOptions),
    /// Show the metrics of every program, Prometheus text
    Metrics,
    /// Find out what this machine can do
    Doctor {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Issue the certificate with which a program speaks to other hosts, by this state directory's CA
    #[command(
        after_help = "Example: postern certificate --network PROJECT/NETWORK --program endpoint-attachment --out consumer"
    )]
    Certificate(CertificateOptions),
    /// Keys of service accounts, and the keys that sign tokens
    #[command(subcommand)]
    Keys(Keys),
    /// Print the JSON Schema of topology files, for editors
    Schema,
    #[command(hide = true)]
    WorkloadInit,
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make a key file for a service account, in Google's form; it is good at once. Removing the
    /// file from the state directory revokes it
    #[command(
        after_help = "Example: postern keys create app@project.iam.gserviceaccount.com --out key.json
then, in `postern exec`: GOOGLE_APPLICATION_CREDENTIALS=key.json python3 program.py"
    )]
    Create {
        /// The service account
        #[arg(value_name = "EMAIL")]
        account: String,
        /// The topology that declares it, where nothing runs
        #[arg(long, value_name = "TOPOLOGY")]
        topology: Option<PathBuf>,
        /// Where the key file goes too
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Let the next key sign tokens from now on; tokens of the one before are good until they
    /// expire. Happens by itself every week
    Rotate,
}

#[derive(Debug, Args)]
struct UpOptions {
    /// A file, or a folder of files
    topology: PathBuf,
    /// Return once everything is ready
    #[arg(long)]
    detach: bool,
    /// Once ready, send the request that is printed to try, with curl, and show the answer
    #[arg(long = "try")]
    try_it: bool,
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
    /// Forget the history of PSC connections that an earlier run of this topology left: all
    /// consumers are new
    #[arg(long)]
    forget_connections: bool,
    /// Forget the Cloud Run revisions of an earlier run of this topology: each service begins with
    /// what the files declare
    #[arg(long)]
    forget_revisions: bool,
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
    /// Send the request that is printed to try.
    pub try_it: bool,
    /// How networks are kept apart.
    pub isolation: Option<Isolation>,
    /// State directory.
    pub state_dir: Option<PathBuf>,
    /// Where the northbound host is published instead.
    pub northbound: Option<SocketAddr>,
    /// Worker threads of each program.
    pub workers: u16,
    /// Forget what an earlier run left.
    pub forget: crate::state_dir::Forget,
}

#[derive(Debug, Args)]
struct ExecOptions {
    /// The network, or `internet`: none
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

#[derive(Debug, Args)]
struct ExplainOptions {
    /// [TOPOLOGY] URL: without a topology, what runs is asked
    #[arg(value_names = ["TOPOLOGY] [URL"], num_args = 1..=2, required = true)]
    target: Vec<String>,
    /// Where the client is: PROJECT/NETWORK[/WORKLOAD], PROJECT/run/SERVICE, or `internet`
    #[arg(long, default_value = "internet")]
    from: path::From,
    /// The client's region
    #[arg(long)]
    region: Option<String>,
    /// The client's network tags, where it is no declared VM
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// The client's service account; its ID token is sent
    #[arg(long = "as", value_name = "SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// The ID token's audience; default: the URL of the service that is reached
    #[arg(long, requires = "service_account")]
    audience: Option<String>,
    /// Send no ID token
    #[arg(long, conflicts_with = "audience")]
    no_token: bool,
    /// Method
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// For machines: traces and steps of Connectivity Tests, extended to HTTP
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ResolveOptions {
    /// The network that asks, or a declared VM in it: PROJECT/NETWORK[/WORKLOAD], or `internet`
    #[arg(long)]
    from: path::From,
    /// The client's region, for geolocation routing policies
    #[arg(long)]
    region: Option<String>,
    /// A topology to take instead of what runs
    #[arg(long, value_name = "PATH")]
    topology: Option<PathBuf>,
    /// The name
    name: String,
    /// The type of record
    #[arg(default_value = "A")]
    record_type: String,
    /// For machines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CertificateOptions {
    /// The network that it speaks for
    #[arg(long, value_name = "PROJECT/NETWORK")]
    network: NetworkId,
    /// The program
    #[arg(long, value_enum)]
    program: Speaker,
    /// How many hours it is good
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: u32,
    /// The SPIFFE trust domain; all hosts of a deployment have the same
    #[arg(long, value_name = "NAME", default_value = hbone::TRUST_DOMAIN)]
    trust_domain: String,
    /// A directory for certificate.pem, key.pem and ca.pem; default: where the program looks, in the
    /// state directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The programs that speak to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Speaker {
    /// The consumer's end.
    EndpointAttachment,
    /// The producer's end.
    ServiceAttachment,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
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
    if !matches!(cli.command, Command::Up(_)) {
        sys::end_on_broken_pipe();
    }
    let state_dir = cli.state_dir.clone().unwrap_or_else(crate::state_dir::default);
    match cli.command {
        Command::Up(options) => up::run(UpArgs {
            topology: options.topology,
            detach: options.detach,
            try_it: options.try_it,
            isolation: options.isolation,
            state_dir: cli.state_dir,
            northbound: options.northbound,
            workers: options.workers,
            forget: crate::state_dir::Forget {
                connections: options.forget_connections,
                revisions: options.forget_revisions,
            },
        }),
        Command::Down => client::down(&state_dir),
        Command::Status { json } => client::status(&state_dir, json),
        Command::Reload => client::reload(&state_dir),
        Command::Logs { follow, json, programs } => {
            client::logs(&state_dir, follow, json, &programs)
        }
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
        Command::Check { topology, json } => explain::check(&topology, json),
        Command::Explain(options) => {
            let mut target = options.target;
            let url = target.pop().unwrap_or_default();
            let question = explain::Question {
                topology: target.pop().map(PathBuf::from),
                from: options.from,
                region: options.region,
                service_account: options.service_account,
                tags: options.tags,
                audience: options.audience,
                no_token: options.no_token,
                method: options.method,
                headers: options.headers,
                url,
            };
            explain::explain(&state_dir, question, options.json)
        }
        Command::Resolve(options) => explain::resolve(
            &state_dir,
            options.topology.as_deref(),
            &options.from,
            options.region.as_deref(),
            &options.name,
            &options.record_type,
            options.json,
        ),
        Command::Metrics => client::metrics(&state_dir),
        Command::Doctor { json } => doctor::run(json),
        Command::Certificate(options) => {
            let role = match options.program {
                Speaker::EndpointAttachment => Role::EndpointAttachment,
                Speaker::ServiceAttachment => Role::ServiceAttachment,
            };
            let CertificateOptions { network, hours, trust_domain, out, .. } = options;
            let request = certificate::Request { network, role, trust_domain, hours, out };
            certificate::run(&state_dir, &request)
        }
        Command::Keys(Keys::Create { account, topology, out }) => {
            account_keys::create(&state_dir, &account, topology.as_deref(), out)
        }
        Command::Keys(Keys::Rotate) => account_keys::rotate(&state_dir),
        Command::Schema => {
            println!("{:#}", topology::json_schema());
            ExitCode::SUCCESS
        }
        Command::WorkloadInit => workload::init(),
    }
}
