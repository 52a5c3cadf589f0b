//! Runs this very program again under Valgrind's callgrind, and reads what it counted.

use std::path::Path;
use std::process::{Command, Stdio};

/// Is Valgrind there? Says so loudly if not.
pub fn is_here() -> bool {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    let here = found.is_ok_and(|status| status.success());
    if !here {
        println!(
            "SKIPPED: valgrind is not installed (apt-get install valgrind); nothing is counted"
        );
    }
    here
}

/// Runs this program with a variable set, and returns the instructions inside of a function, one
/// number for each of its `calls` calls.
pub fn count(function: &str, calls: usize, (variable, value): (&str, usize)) -> Vec<u64> {
    let dir = std::env::temp_dir().join(format!("postern-callgrind-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for callgrind's files");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "-q"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!("--callgrind-out-file={}", dir.join("out").display()))
        .arg(std::env::current_exe().expect("this program"))
        .env(variable, value.to_string())
        .status()
        .expect("valgrind starts");
    assert!(status.success(), "valgrind: {status}");
    let counts = (1..=calls).map(|call| total(&dir.join(format!("out.{call}")))).collect();
    std::fs::remove_dir_all(&dir).expect("callgrind's files go");
    counts
}

fn total(file: &Path) -> u64 {
    let text =
        std::fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.unwrap_or_else(|| panic!("{} has no total", file.display()))
}
