//! The state directory: where it is, who holds it, what is left in it.

use names::NetworkId;
use nix::fcntl::{Flock, FlockArg};
use slice::psc::ConnectionHistory;
use slice::run::REVISIONS_DIRECTORY;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The default: one per user, short, gone after a reboot.
pub fn default() -> PathBuf {
    let uid = nix::unistd::getuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !runtime.is_empty() => PathBuf::from(runtime).join("postern"),
        _ => std::env::temp_dir().join(format!("postern-{uid}")),
    }
}

/// Longer state directories leave no room for a socket's name: a Unix path ends at 107 bytes.
const LENGTH_MAX: usize = 90;

/// What is kept of PSC connections: their history, by network, and whose it is.
const HISTORY: &str = "psc-";
/// Which topology the histories are of.
const HISTORY_OF: &str = "psc-topology";

/// Which histories of an earlier run are not taken up again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forget {
    /// That of PSC connections.
    pub connections: bool,
    /// That of Cloud Run revisions.
    pub revisions: bool,
}

/// Makes the state directory, private, and takes its lock. The histories that are in it, of PSC
/// connections and of Cloud Run revisions, are taken up again, unless they are another topology's or
/// `forget` says not to.
///
/// # Errors
/// A sentence: it belongs to somebody else, it is in use, its path is too long.
pub fn take(dir: &Path, topology: &Path, forget: Forget) -> Result<Flock<File>, String> {
    if dir.as_os_str().len() > LENGTH_MAX {
        return Err(format!(
            "the state directory {} is longer than {LENGTH_MAX} bytes; give a shorter --state-dir",
            dir.display()
        ));
    }
    keys::make_private(dir)?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        format!(
            "a topology is already up in {}; `postern down` ends it, --state-dir gives another one",
            dir.display()
        )
    })?;
    // What a killed supervisor left behind.
    let topology = std::fs::canonicalize(topology).unwrap_or_else(|_| topology.to_owned());
    let of = std::fs::read(dir.join(HISTORY_OF)).ok();
    let own = of.is_some_and(|of| of == topology.as_os_str().as_encoded_bytes());
    clear_but(dir, |name| {
        own && ((!forget.connections && name.starts_with(HISTORY))
            || (!forget.revisions && name == REVISIONS_DIRECTORY))
    });
    std::fs::write(dir.join(HISTORY_OF), topology.as_os_str().as_encoded_bytes())
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    let logs = dir.join("logs");
    keys::make_private(&logs)?;
    Ok(lock)
}

/// Leaves the state directory with keys, histories if there are any, and nothing else. Only
/// for the holder of the lock: `down` waits for the lock, so nothing may be left to do after it.
pub fn tidy(dir: &Path) {
    clear(dir);
    if histories(dir).is_empty() && !dir.join(REVISIONS_DIRECTORY).exists() {
        let _ = std::fs::remove_file(dir.join(HISTORY_OF));
    }
    let _ = std::fs::remove_file(dir.join("lock"));
    let _ = std::fs::remove_dir(dir);
}

/// Removes everything but keys, histories and the lock.
pub fn clear(dir: &Path) {
    clear_but(dir, |name| name.starts_with(HISTORY) || name == REVISIONS_DIRECTORY);
}

/// The histories of PSC connections that are kept, by producer network; those that cannot be read
/// are their program's to complain of.
pub fn histories(dir: &Path) -> Vec<ConnectionHistory> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let kept = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(HISTORY) && name.ends_with(".json")
    });
    let read = |entry: std::fs::DirEntry| std::fs::read(entry.path()).ok();
    kept.filter_map(read).filter_map(|text| serde_json::from_slice(&text).ok()).collect()
}

/// Removes the history of a network.
pub fn forget(dir: &Path, network: &NetworkId) {
    let _ = std::fs::remove_file(dir.join(slice::psc::history_file(network)));
}

fn clear_but(dir: &Path, keep: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == "keys"
            || name == keys::ACCOUNTS
            || name == "lock"
            || keep(&name.to_string_lossy())
        {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        if let Err(error) = removed {
            eprintln!("postern: {}: {error}", path.display());
        }
    }
}

/// A log that has grown over this size begins anew.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Keeps the logs from filling the disk.
pub fn bound_logs(dir: &Path) {
    let entries = std::fs::read_dir(dir.join("logs")).into_iter().flatten().flatten();
    for entry in entries {
        if entry.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            // The writers append, so they go on at the new end.
            let emptied = OpenOptions::new().write(true).truncate(true).open(entry.path());
            if let Err(error) = emptied {
                eprintln!("postern: {}: {error}", entry.path().display());
            }
        }
    }
}
