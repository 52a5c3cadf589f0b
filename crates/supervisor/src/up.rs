//! `postern up`: check the files, take the state directory, make the namespaces, become the
//! supervisor.
//!
//! The process that the user started stays outside and in front; the supervisor is its child, and
//! process 1 of a PID namespace of its own, so that when it ends, however it ends, the kernel ends
//! everything that it started.

use crate::cli::{Isolation, UpArgs};
use crate::events::{self, Event};
use crate::loopback::Loopback;
use crate::supervise::{Options, Supervisor};
use crate::surroundings::Surroundings;
use crate::{doctor, render, state_dir, status};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sys::Fork;

/// Runs the command.
pub fn run(args: UpArgs) -> ExitCode {
    // It keeps a copy of every listener, and every leaf's namespace; programs inherit the limit.
    let _ = sys::raise_descriptors_max();
    match up(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn up(args: UpArgs) -> Result<ExitCode, String> {
    let topology = absolute(&args.topology)?;
    let loaded = topology::load(&topology);
    for diagnostic in &loaded.diagnostics {
        eprintln!("{diagnostic}");
    }
    if loaded.topology.is_none() {
        return Err(format!(
            "{} is not started: correct the errors above",
            args.topology.display()
        ));
    }
    let state_dir = args.state_dir.clone().unwrap_or_else(state_dir::default);
    // This process waits from here on, with as little memory as it can.
    drop(loaded);
    sys::release_free_memory();
    keys::make_private(&state_dir)?;
    let state_dir = absolute(&state_dir)?;
    let lock = state_dir::take(&state_dir, &args.topology, args.forget)?;
    let isolation = match args.isolation {
        Some(chosen) => chosen,
        None if doctor::namespaces_work() => Isolation::Netns,
        None => {
            eprintln!(
                "postern: this machine does not let us make network namespaces; using loopback \
                 isolation (`postern doctor` says how to change that)"
            );
            Isolation::Loopback
        }
    };
    let (ready, mut told) = UnixStream::pair().map_err(|error| error.to_string())?;
    if args.detach {
        match sys::fork().map_err(|error| error.to_string())? {
            Fork::Parent(_) => {
                drop(ready);
                // The child holds the lock; ours would be released with this process anyway.
                std::mem::forget(lock);
                return Ok(wait_until_ready(&mut told));
            }
            Fork::Child => detach(&state_dir)?,
        }
    }
    drop(told);
    let outcome = in_front(&args, topology, &state_dir, isolation, ready);
    state_dir::tidy(&state_dir);
    drop(lock);
    outcome
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Prints what the supervisor says at its start, and ends with its word.
fn wait_until_ready(told: &mut UnixStream) -> ExitCode {
    let mut text = String::new();
    let _ = told.read_to_string(&mut text);
    match text.strip_prefix("ready\n") {
        Some(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        None => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the terminal.
fn detach(state_dir: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot detach: {error}");
    nix::unistd::setsid().map_err(|errno| failed(errno.into()))?;
    let log = crate::child::open_log(&crate::child::log_path(state_dir, "supervisor"));
    let log = log.map_err(failed)?;
    let null = std::fs::File::open("/dev/null").map_err(failed)?;
    nix::unistd::dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
    nix::unistd::dup2_stdout(&log).map_err(|errno| failed(errno.into()))?;
    nix::unistd::dup2_stderr(&log).map_err(|errno| failed(errno.into()))
}

/// The process in front: makes the namespaces, forks the supervisor into them, passes signals on.
fn in_front(
    args: &UpArgs,
    topology: PathBuf,
    state_dir: &Path,
    isolation: Isolation,
    ready: UnixStream,
) -> Result<ExitCode, String> {
    let signals = waited_for();
    signals.thread_block().map_err(|errno| errno.to_string())?;
    if isolation == Isolation::Netns {
        doctor::make_namespaces().map_err(|error| {
            format!("cannot make namespaces: {error}; `postern doctor` says what is missing")
        })?;
    }
    let binaries = std::env::current_exe().map_err(|error| error.to_string())?;
    let binaries = binaries.parent().map(Path::to_path_buf).unwrap_or_default();
    match sys::fork().map_err(|error| error.to_string())? {
        Fork::Parent(child) => {
            drop(ready);
            Ok(attend(child, &signals))
        }
        Fork::Child => {
            let host_pid = std::fs::read_link("/proc/self")
                .ok()
                .and_then(|link| link.to_string_lossy().parse().ok())
                .unwrap_or_else(std::process::id);
            let options = Options {
                topology,
                state_dir: state_dir.to_path_buf(),
                binaries,
                workers: usize::from(args.workers),
                northbound: args.northbound,
                host_pid,
            };
            let outcome = supervise(options, isolation, args, ready, signals);
            if let Err(error) = &outcome {
                eprintln!("postern: {error}");
            }
            std::process::exit(i32::from(outcome.is_err()))
        }
    }
}

fn waited_for() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals
}

/// Passes signals on to the supervisor until it ends.
fn attend(child: i32, signals: &SigSet) -> ExitCode {
    let pid = Pid::from_raw(child);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => {
                return ExitCode::from(u8::try_from(status).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                eprintln!(
                    "postern: the supervisor was ended by {signal}; everything ended with it"
                );
                return ExitCode::FAILURE;
            }
            Err(_) => return ExitCode::FAILURE,
            Ok(_) => {}
        }
        match signals.wait() {
            Ok(Signal::SIGINT | Signal::SIGTERM) => {
                let _ = kill(pid, Signal::SIGTERM);
            }
            Ok(Signal::SIGHUP) => {
                let _ = kill(pid, Signal::SIGHUP);
            }
            _ => {}
        }
    }
}

/// The supervisor's whole life.
fn supervise(
    options: Options,
    isolation: Isolation,
    args: &UpArgs,
    mut ready: UnixStream,
    signals: SigSet,
) -> Result<(), String> {
    sys::kill_on_parent_death().map_err(|error| error.to_string())?;
    let (sender, queue) = std::sync::mpsc::channel();
    let control = runtime::wire::control_socket(&options.state_dir);
    let listener =
        UnixListener::bind(&control).map_err(|error| format!("{}: {error}", control.display()))?;
    events::listen(listener, sender.clone()).map_err(|error| error.to_string())?;
    let teller = sender.clone();
    crate::child::spawn_thread("signals", move || {
        loop {
            let event = match signals.wait() {
                Ok(Signal::SIGTERM | Signal::SIGINT) => Event::Stop,
                Ok(Signal::SIGHUP) => Event::Reload,
                _ => continue,
            };
            if teller.send(event).is_err() {
                return;
            }
        }
    })
    .map_err(|error| error.to_string())?;
    crate::collector::start(&options.state_dir)
        .map_err(|error| format!("the collector's channel: {error}"))?;
    let surroundings = match isolation {
        Isolation::Netns => Surroundings::Namespaces {
            namespaces: Default::default(),
            runtimes: Default::default(),
        },
        Isolation::Loopback => Surroundings::Loopback {
            loopback: Loopback::claim().map_err(|error| error.to_string())?,
            gateways: crate::gateway::Gateways::start().map_err(|error| error.to_string())?,
        },
    };
    let state_dir = options.state_dir.clone();
    let mut supervisor = Supervisor::new(options, surroundings, sender, queue)?;
    match supervisor.reload() {
        Err(error) => {
            let _ = write!(ready, "{error}\npostern: not started\n");
            supervisor.give_up();
            state_dir::clear(&state_dir);
            return Err(if args.detach { String::new() } else { error });
        }
        Ok(_) => {
            let status = status::of(&supervisor);
            let mut table = render::status(&status);
            if args.detach {
                if let Some(line) = status.try_it.filter(|_| args.try_it) {
                    // The supervisor serves while curl asks.
                    let serving = std::thread::Builder::new().name("try".to_owned());
                    let ready = ready.try_clone().map_err(|error| error.to_string())?;
                    let asked = move || finish(ready, format!("ready\n{table}{}", try_out(&line)));
                    serving.spawn(asked).map_err(|error| error.to_string())?;
                } else {
                    let _ = write!(ready, "ready\n{table}");
                }
            } else {
                table.push_str("\nCtrl-C ends everything.\n");
                print!("{table}");
                let _ = std::io::stdout().flush();
                if let Some(line) = status.try_it.filter(|_| args.try_it) {
                    let asked = move || print!("{}", try_out(&line));
                    crate::child::spawn_thread("try", asked).map_err(|error| error.to_string())?;
                }
            }
            drop(ready);
        }
    }
    supervisor.run();
    Ok(())
}

fn finish(mut ready: UnixStream, text: String) {
    let _ = ready.write_all(text.as_bytes());
}

/// Sends the request of `Try it`, as the user would, and shows status and body.
fn try_out(line: &str) -> String {
    let shown = format!("{line} --silent --show-error --include --max-time 30");
    match std::process::Command::new("sh").args(["-c", &shown]).output() {
        Ok(output) => format!(
            "\n$ {line}\n{}{}\n",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("\ncurl was not started: {error}\n"),
    }
}
