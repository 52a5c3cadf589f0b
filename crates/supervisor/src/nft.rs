//! Filters in network namespaces, put there by the program `nft`: one run replaces a namespace's
//! whole table at once.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use sys::Inheritance;

/// Where the program is, if it is installed.
pub fn program() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.map(|folder: PathBuf| folder.join("nft")).find(|file| file.is_file())
    };
    PROGRAM.get_or_init(find).as_ref()
}

/// A run that was started.
#[derive(Debug)]
pub struct Run(Child);

/// Starts `nft -f -` inside a namespace.
///
/// # Errors
/// `NotFound` where the program is not installed; those of starting it.
pub fn start(namespace: BorrowedFd<'_>, commands: &str) -> io::Result<Run> {
    let program = program().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(["-f", "-"]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let network = Some(namespace.try_clone_to_owned()?);
    sys::inherit(&mut command, Inheritance { network, ..Inheritance::default() });
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // What it does not read it complains about.
        let _ = stdin.write_all(commands.as_bytes());
    }
    Ok(Run(child))
}

impl Run {
    /// Waits for its end.
    ///
    /// # Errors
    /// What it said, where it failed.
    pub fn finish(mut self) -> io::Result<()> {
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            // Process 1 of a PID namespace may have reaped it already.
            Err(error) if error.raw_os_error() == Some(10) && said.is_empty() => Ok(()),
            Ok(_) | Err(_) => Err(io::Error::other(format!("nft: {}", said.trim()))),
        }
    }
}
