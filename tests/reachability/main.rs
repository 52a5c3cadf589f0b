//! Does the wire say what `explain` says? Random topologies are put into force one after the other
//! in one running `postern`, and every VM tries to reach addresses of its own and of other networks
//! over TCP, UDP and ICMP. Each outcome is held against the static verdict of the same files.
//!
//! `POSTERN_REACH_TOPOLOGIES` and `POSTERN_REACH_SEED` choose more of them, or others:
//! `cargo xtask reachability`.

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod random;
mod world;

use std::path::Path;

/// How many topologies are up at once.
const BATCH: usize = 6;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn the_wire_says_what_explain_says() {
    if !common::have(&["python3", "nft"]) || !common::namespaces() {
        return;
    }
    let topologies = number("POSTERN_REACH_TOPOLOGIES", 18);
    let seed = number("POSTERN_REACH_SEED", 1);
    let postern = Path::new(env!("CARGO_BIN_EXE_postern"));
    let seed = u64::try_from(seed).expect("a seed");
    let summary = world::run(postern, seed, topologies, BATCH, |summary| {
        let world::Summary { topologies, attempts, reached, different, .. } = summary;
        eprintln!(
            "{topologies} topologies, {attempts} attempts, {reached} reach, {} differ",
            different.len()
        );
    });
    let summary = summary.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{:#?}", summary.reasons);
    assert!(
        summary.different.is_empty(),
        "{} of {} differ\n{}",
        summary.different.len(),
        summary.attempts,
        summary.different[..summary.different.len().min(20)].join("\n")
    );
    // The generator makes what is worth asking.
    assert!(summary.reached * 10 > summary.attempts, "{summary:?}");
    assert!(summary.reached * 10 < summary.attempts * 9, "{summary:?}");
    assert!(summary.reasons.len() >= 6, "{summary:?}");
}
