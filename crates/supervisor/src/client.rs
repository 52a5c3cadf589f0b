//! Commands that talk to the running supervisor.

use crate::log_view;
use crate::protocol::{Ask, ExecRequest, Live, Reply, Session, Status};
use crate::render;
use crate::workload::{self, Entrance, Identity, Spec};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Asks; the answer, its descriptors, and the connection.
fn ask(state_dir: &Path, ask: &Ask) -> Result<(Reply, Vec<OwnedFd>, UnixStream), String> {
    let path = runtime::wire::control_socket(state_dir);
    let connection = UnixStream::connect(&path).map_err(|_| {
        format!("nothing is up in {}; start with `postern up TOPOLOGY`", state_dir.display())
    })?;
    let lost = |error: io::Error| format!("the supervisor does not answer: {error}");
    runtime::wire::send(&connection, ask, &[]).map_err(lost)?;
    match runtime::wire::receive(&connection).map_err(lost)? {
        Some((reply, descriptors)) => Ok((reply, descriptors, connection)),
        None => Err("the supervisor ended before it answered".to_owned()),
    }
}

fn outcome(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("postern: {error}");
        ExitCode::FAILURE
    })
}

/// The running world, for `explain`; none if nothing is up.
pub fn live(state_dir: &Path) -> Option<Live> {
    match ask(state_dir, &Ask::Live) {
        Ok((Reply::Live(live), ..)) => Some(*live),
        _ => None,
    }
}

/// `postern down`.
pub fn down(state_dir: &Path) -> ExitCode {
    outcome(ask(state_dir, &Ask::Down).and_then(|(reply, _, connection)| {
        if let Reply::Failed(error) = reply {
            return Err(error);
        }
        // The connection closes with the supervisor's last breath.
        let mut rest = Vec::new();
        let _ = (&connection).read_to_end(&mut rest);
        wait_for_the_end(state_dir);
        println!("down");
        Ok(ExitCode::SUCCESS)
    }))
}

/// Waits until the lock is free: then the process in front has ended too.
fn wait_for_the_end(state_dir: &Path) {
    use nix::fcntl::{Flock, FlockArg};
    if let Ok(file) = std::fs::File::open(state_dir.join("lock")) {
        let _ = Flock::lock(file, FlockArg::LockExclusive);
    }
}

/// `postern status`.
pub fn status(state_dir: &Path, json: bool) -> ExitCode {
    outcome(fetch_status(state_dir).and_then(|status| {
        if json {
            let text = serde_json::to_string_pretty(&status).map_err(|error| error.to_string())?;
            println!("{text}");
        } else {
            print!("{}", render::status(&status));
        }
        Ok(ExitCode::SUCCESS)
    }))
}

fn fetch_status(state_dir: &Path) -> Result<Status, String> {
    match ask(state_dir, &Ask::Status)? {
        (Reply::Status(status), ..) => Ok(*status),
        (Reply::Failed(error), ..) => Err(error),
        _ => Err("the supervisor gave another answer than asked for".to_owned()),
    }
}

/// `postern reload`.
pub fn reload(state_dir: &Path) -> ExitCode {
    outcome(ask(state_dir, &Ask::Reload).and_then(|(reply, ..)| match reply {
        Reply::Done { generation, text } => {
            if !text.is_empty() {
                eprintln!("{text}");
            }
            println!("generation {generation} is in force");
            Ok(ExitCode::SUCCESS)
        }
        Reply::Failed(error) => Err(error),
        _ => Err("the supervisor gave another answer than asked for".to_owned()),
    }))
}

/// `postern metrics`.
pub fn metrics(state_dir: &Path) -> ExitCode {
    outcome(ask(state_dir, &Ask::Metrics).and_then(|(reply, ..)| match reply {
        Reply::Metrics(texts) => {
            print!("{}", merged(&texts));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Failed(error) => Err(error),
        _ => Err("the supervisor gave another answer than asked for".to_owned()),
    }))
}

/// One exposition of several programs': each family once, each sample with its program's name.
fn merged(texts: &BTreeMap<String, String>) -> String {
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for (program, text) in texts {
        let mut family = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                family = comment.split(' ').nth(1).unwrap_or_default();
                let comments = &mut families.entry(family).or_default().0;
                if !comments.contains(&line) {
                    comments.push(line);
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            let sample = match name.split_once('{') {
                Some((name, labels)) => format!("{name}{{program=\"{program}\",{labels} {value}"),
                None => format!("{name}{{program=\"{program}\"}} {value}"),
            };
            families.entry(family).or_default().1.push(sample);
        }
    }
    let lines = families.into_values().flat_map(|(comments, samples)| {
        comments.into_iter().map(str::to_owned).chain(samples).collect::<Vec<String>>()
    });
    lines.map(|line| line + "\n").collect()
}

/// `postern exec`.
pub fn exec(state_dir: &Path, request: ExecRequest, command: Vec<String>) -> ExitCode {
    outcome(ask(state_dir, &Ask::Exec(request)).and_then(|(reply, descriptors, connection)| {
        let session = match reply {
            Reply::Session(session) => *session,
            Reply::Failed(error) => return Err(error),
            _ => return Err("the supervisor gave another answer than asked for".to_owned()),
        };
        let code = run_session(session, descriptors, state_dir, command);
        // The session ends with its connection: its leaf is taken away.
        drop(connection);
        Ok(code)
    }))
}

fn run_session(
    session: Session,
    descriptors: Vec<OwnedFd>,
    state_dir: &Path,
    command: Vec<String>,
) -> ExitCode {
    let mut environment: BTreeMap<String, String> = std::env::vars().collect();
    // Whatever proxy the user's own shell has is not in the network.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        environment.remove(name);
    }
    environment.extend(session.environment);
    let state_dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
    let spec = Spec {
        command,
        directory: None,
        environment,
        state_dir,
        ca: session.ca,
        separate: session.separate,
        identity: Identity::of(&session.workload),
        container: None,
    };
    match entrance(session.separate, descriptors) {
        Ok(entrance) => workload::run(&spec, entrance),
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a session enters. Where it is kept apart all three have to be there: without one of them
/// its command would run in the host's own network.
fn entrance(separate: bool, descriptors: Vec<OwnedFd>) -> Result<Entrance, String> {
    let wanted = if separate { 3 } else { 0 };
    if descriptors.len() != wanted {
        return Err(format!(
            "the supervisor passed {} of {wanted} namespaces: nothing is run",
            descriptors.len()
        ));
    }
    let mut all = descriptors.into_iter();
    Ok(Entrance { user: all.next(), pid: all.next(), network: all.next() })
}

/// `postern logs`.
pub fn logs(state_dir: &Path, follow: bool, json: bool, only: &[String]) -> ExitCode {
    let mut seen: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        let mut found = false;
        let entries = std::fs::read_dir(state_dir.join("logs")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if !only.is_empty() && !only.iter().any(|part| name.contains(part)) {
                continue;
            }
            found = true;
            let from = seen.entry(path.clone()).or_default();
            if let Err(error) = copy_new_lines(&path, &name, json, from) {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    return ExitCode::SUCCESS;
                }
                eprintln!("postern: {}: {error}", path.display());
            }
        }
        if !found && !follow {
            eprintln!("postern: no logs in {}", state_dir.join("logs").display());
            return ExitCode::FAILURE;
        }
        if !follow {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Prints the whole lines that were added since last time: as they are, or for people.
fn copy_new_lines(path: &Path, name: &str, json: bool, from: &mut u64) -> io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.len() < *from {
        *from = 0;
    }
    file.seek(SeekFrom::Start(*from))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    *from += end as u64;
    let mut out = io::stdout().lock();
    if json {
        out.write_all(&text[..end])?;
    } else {
        for line in String::from_utf8_lossy(&text[..end]).lines() {
            writeln!(out, "{}", log_view::line(name, line))?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_without_its_network_does_not_run() {
        let some = |count: usize| -> Vec<OwnedFd> {
            (0..count).map(|_| std::fs::File::open("/dev/null").expect("open").into()).collect()
        };
        for (separate, count, good) in [
            (true, 3, true),
            (true, 2, false),
            (true, 0, false),
            (false, 0, true),
            (false, 3, false),
        ] {
            let entrance = entrance(separate, some(count));
            assert_eq!(entrance.is_ok(), good, "{separate} {count}");
            let inside = entrance.is_ok_and(|entrance| entrance.network.is_some());
            assert_eq!(inside, separate && good);
        }
    }
}
