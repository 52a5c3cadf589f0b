//! Runs the fuzz targets with libFuzzer on the stable compiler: coverage by LLVM's own pass, which
//! needs no nightly flag.

use std::path::Path;
use std::process::Command;

/// Coverage that libFuzzer can read.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions=on -Coverflow-checks=on -Ccodegen-units=1";

/// A hang is a crash after this many seconds, and memory over this many MiB too.
const LIMITS: [&str; 4] =
    ["-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=0"];

/// `[--seconds N] [TARGET…]`: every target for N seconds (default 60).
pub fn run(root: &Path, arguments: &[String]) -> Result<String, String> {
    let mut seconds = "60".to_owned();
    let mut targets = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                seconds =
                    rest.next().filter(|n| n.parse::<u32>().is_ok()).ok_or("--seconds N")?.clone();
            }
            _ => targets.push(argument.clone()),
        }
    }
    let fuzz = root.join("fuzz");
    let known = targets_of(&fuzz)?;
    if targets.is_empty() {
        targets = known;
    } else if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target `{unknown}`; there are {}", known.join(", ")));
    }
    let target_dir = root.join("target").join("fuzz");
    let host = host()?;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bins", "--target", &host])
        .current_dir(&fuzz)
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_TARGET_DIR", &target_dir)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.success() {
        return Err("the fuzz targets do not build".to_owned());
    }
    for target in &targets {
        println!("--- {target}, {seconds} s");
        let corpus = fuzz.join("corpus").join(target);
        let artifacts = fuzz.join("artifacts").join(target);
        for dir in [&corpus, &artifacts] {
            std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let seeds = fuzz.join("seeds").join(target);
        let mut command = Command::new(target_dir.join(&host).join("release").join(target));
        command.arg(&corpus);
        if seeds.is_dir() {
            command.arg(&seeds);
        }
        let status = command
            .args(LIMITS)
            .arg(format!("-max_total_time={seconds}"))
            .arg("-seed=1")
            .arg("-verbosity=0")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .status()
            .map_err(|error| format!("{target}: {error}"))?;
        if !status.success() {
            return Err(format!("{target} crashed; the input is in {}", artifacts.display()));
        }
    }
    Ok(format!("{} fuzz targets ran for {seconds} s each without a crash", targets.len()))
}

fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn targets_of(fuzz: &Path) -> Result<Vec<String>, String> {
    let dir = fuzz.join("fuzz_targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut targets: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "rs"))
        .filter_map(|entry| {
            entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    targets.sort();
    Ok(targets)
}
