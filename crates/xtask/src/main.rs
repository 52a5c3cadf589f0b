//! Automation in Rust: `cargo xtask tidy` guards the direction of dependencies, `cargo xtask fuzz`
//! runs every fuzz target for a while, `cargo xtask dns-differential` asks a
//! real NSD and us the same questions, `cargo xtask big-topology` writes a topology of any size,
//! `cargo xtask reachability` compares what connects with what `explain` says, over random topologies,
//! `cargo xtask chaos` lets 100 consumers at once do their worst to Private Service Connect.

mod fuzz;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask tidy
       cargo xtask chaos [SEED]
       cargo xtask dns-differential [SEED]
       cargo xtask reachability [--topologies N] [--seed N]
       cargo xtask fuzz [--seconds N] [TARGET…]
       cargo xtask big-topology [--networks 300] [--attachments 1000] [--zones 5000] [--records 100000]
                                [--seed 1] --out DIR";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, [])) if command == "tidy" => tidy::run(&root()),
        Some((command, rest)) if command == "chaos" => chaos(rest),
        Some((command, rest)) if command == "dns-differential" => dns_differential(rest),
        Some((command, rest)) if command == "reachability" => reachability(rest),
        Some((command, rest)) if command == "fuzz" => fuzz::run(&root(), rest),
        Some((command, rest)) if command == "big-topology" => xtask::big_topology::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// 100 consumers with 100 connections each and 1 GiB in sum: the sample of the tests, whole.
fn chaos(arguments: &[String]) -> Result<String, String> {
    let seed = arguments.first().map_or("1", String::as_str);
    let status = std::process::Command::new(env!("CARGO"))
        .args(["test", "-p", "endpoint-attachment", "--test", "chaos"])
        .current_dir(root())
        .envs([("POSTERN_CHAOS_CONSUMERS", "100"), ("POSTERN_CHAOS_CONNECTIONS", "100")])
        .envs([("POSTERN_CHAOS_MIB", "1024"), ("POSTERN_CHAOS_SEED", seed)])
        .env("POSTERN_TESTS_COMPLETE", "1")
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    match status.success() {
        true => Ok(format!("no byte was lost or crossed with seed {seed}, and nothing is left")),
        false => Err(format!("chaos with seed {seed} found something")),
    }
}

/// 5,000 questions to generated zones, here and in a real NSD: the sample of the tests, longer.
fn dns_differential(arguments: &[String]) -> Result<String, String> {
    let seed = arguments.first().map_or("1", String::as_str);
    let status = std::process::Command::new(env!("CARGO"))
        .args(["test", "-p", "private-dns", "--test", "differential", "--", "--nocapture"])
        .current_dir(root())
        .envs([("POSTERN_DNS_PAIRS", "5000"), ("POSTERN_DNS_SEED", seed)])
        .env("POSTERN_TESTS_COMPLETE", "1")
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    match status.success() {
        true => Ok(format!("5000 questions of seed {seed} are answered as by NSD")),
        false => Err(format!("seed {seed} is answered otherwise than by NSD")),
    }
}

/// Random topologies, up one after the other: the sample of the tests, longer.
fn reachability(arguments: &[String]) -> Result<String, String> {
    let (mut topologies, mut seed) = ("2000", "1");
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--topologies" => topologies = value,
            [name, value] if name == "--seed" => seed = value,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let status = std::process::Command::new(env!("CARGO"))
        .args(["test", "-p", "postern", "--test", "reachability", "--", "--nocapture"])
        .current_dir(root())
        .envs([("POSTERN_REACH_TOPOLOGIES", topologies), ("POSTERN_REACH_SEED", seed)])
        .env("POSTERN_TESTS_COMPLETE", "1")
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    match status.success() {
        true => Ok(format!("{topologies} topologies of seed {seed} connect as explain says")),
        false => Err(format!("seed {seed}: what connects is not what explain says")),
    }
}

/// The repository: two folders above this crate's manifest.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}
