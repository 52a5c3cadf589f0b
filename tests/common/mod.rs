//! A running topology for a test: brought up by the real `postern`, driven by foreign clients,
//! taken down at the end, also of a failed test.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command under test.
pub fn postern() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Is every one of these programs installed? If not, the test is skipped, loudly; in CI
/// (`POSTERN_TESTS_COMPLETE=1`) it fails instead.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        })
        .collect();
    skip_unless(missing.is_empty(), &format!("{} not installed", missing.join(", ")))
}

/// Can this machine make network namespaces? Skips as [`have`].
pub fn namespaces() -> bool {
    let output = postern().args(["doctor", "--json"]).output().expect("postern runs");
    let value: Value = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    skip_unless(value["defaultIsolation"] == "netns", "no network namespaces here")
}

fn skip_unless(fine: bool, why: &str) -> bool {
    if !fine {
        assert!(
            std::env::var_os("POSTERN_TESTS_COMPLETE").is_none(),
            "nothing may be skipped: {why}"
        );
        eprintln!("SKIPPED: {why}");
    }
    fine
}

/// A topology that is up.
pub struct Up {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// What `up` printed.
    pub printed: String,
}

/// A short directory that no other test uses.
pub fn scratch() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("pt{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a scratch directory");
    dir
}

impl Up {
    /// Brings a topology up.
    pub fn start(topology: impl AsRef<Path>, options: &[&str]) -> Up {
        Up::start_in(topology, options, &[])
    }

    /// As [`Up::start`], with environment variables.
    pub fn start_in(
        topology: impl AsRef<Path>,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Up {
        let state_dir = scratch();
        let output = postern()
            .envs(environment.iter().copied())
            .args(["up", "--detach", "--northbound", "127.0.0.1:0", "--state-dir"])
            .arg(&state_dir)
            .args(options)
            .arg(topology.as_ref())
            .output()
            .expect("postern runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let up = Up { state_dir, printed };
        assert!(output.status.success(), "up failed: {errors}\n{}", up.logs());
        up
    }

    /// `postern ARGS` on this topology.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = postern();
        command.arg("--state-dir").arg(&self.state_dir).args(args);
        command.output().expect("postern runs")
    }

    /// `postern exec OPTIONS -- sh -c SCRIPT`.
    pub fn exec(&self, options: &[&str], script: &str) -> Output {
        let mut args = vec!["exec"];
        args.extend(options);
        args.extend(["--", "sh", "-c", script]);
        self.run(&args)
    }

    /// What the script prints; it must succeed.
    pub fn text(&self, options: &[&str], script: &str) -> String {
        let output = self.exec(options, script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {:?}\n{text}{errors}", output.status);
        text
    }

    /// `postern status --json`.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).expect("status prints JSON")
    }

    /// Where the northbound host is published.
    pub fn northbound(&self) -> String {
        let status = self.status();
        let programs = status["programs"].as_array().expect("programs");
        let listeners = programs.iter().flat_map(|p| p["listeners"].as_array().expect("listeners"));
        let northbound = listeners.into_iter().find(|listener| listener["key"] == "northbound");
        northbound.expect("an API proxy")["actual"].as_str().expect("an address").to_owned()
    }

    /// Waits for a state of `status`.
    pub fn wait(&self, what: &str, done: impl Fn(&Value) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !done(&self.status()) {
            assert!(Instant::now() < until, "{what} did not come about: {:#}", self.status());
            std::thread::yield_now();
        }
    }

    /// What matters of the logs to a failed test's reader.
    pub fn logs(&self) -> String {
        let output = self.run(&["logs"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let matters = |line: &&str| line.split(' ').nth(1) != Some("INFO");
        let mut lines: Vec<&str> = text.lines().filter(matters).collect();
        lines.drain(..lines.len().saturating_sub(60));
        lines.join("\n")
    }

    /// Ends it.
    pub fn down(&self) -> Output {
        self.run(&["down"])
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let _ = self.down();
        let _ = std::fs::remove_dir_all(&self.state_dir);
    }
}
