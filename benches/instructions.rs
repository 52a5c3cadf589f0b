//! How many instructions a URL map's decision takes, counted by Valgrind's callgrind, so that a noisy
//! machine does not matter: the same binary gives the same numbers.
//!
//! `cargo bench --bench instructions` runs itself under callgrind, once for 10, 1,000 and 100,000
//! rules of each kind, and prints instructions per decision. `--max N` fails where one takes more than
//! N. Without Valgrind nothing is counted, and that is said.

#[path = "common/callgrind.rs"]
mod callgrind;
#[path = "common/maps.rs"]
mod maps;

use maps::{FRONT, Kind, SIZES, decide, kinds, load_balancing};
use std::hint::black_box;
use url_map::{Front, Snapshot};

/// Decisions per kind.
const ROUNDS: usize = 1024;
/// Names the number of rules to the run under callgrind.
const SIZE: &str = "POSTERN_BENCH_RULES";

fn main() {
    if let Some(size) = std::env::var_os(SIZE) {
        let size = size.to_str().and_then(|text| text.parse().ok()).expect("a number of rules");
        return run(size, ROUNDS);
    }
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --benches`: does it still work?
        return run(SIZES[0], 16);
    }
    if !callgrind::is_here() {
        return;
    }
    let at = arguments.iter().position(|argument| argument == "--max");
    let max: Option<u64> = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let counts: Vec<Vec<u64>> = SIZES.iter().map(|size| count(*size)).collect();
    print!("{:<20}", "rules of each kind");
    SIZES.iter().for_each(|size| print!(" {size:>16}"));
    println!();
    let mut most = 0;
    for (row, kind) in kinds(SIZES[0]).iter().enumerate() {
        print!("{:<20}", kind.name);
        for of_size in &counts {
            most = most.max(of_size[row]);
            let ratio = of_size[row] as f64 / counts[0][row] as f64;
            print!(" {:>16}", format!("{} {ratio:.1}x", of_size[row]));
        }
        println!();
    }
    if max.is_some_and(|max| most > max) {
        println!("a decision takes {most} instructions");
        std::process::exit(1);
    }
}

/// Instructions per decision of each kind.
fn count(size: usize) -> Vec<u64> {
    let calls = kinds(SIZES[0]).len();
    let counts = callgrind::count("instructions::measured", calls, (SIZE, size));
    counts.into_iter().map(|count| count / ROUNDS as u64).collect()
}

fn run(size: usize, rounds: usize) {
    let snapshot = Snapshot::compile(&load_balancing(size)).expect("the generated map is legal");
    let front = snapshot.front(FRONT).expect("the generated map has the rule");
    for kind in kinds(size) {
        // Once beforehand, for what is set up at its first use.
        black_box(decide(front, &kind, 0));
        measured(front, &kind, rounds);
    }
}

#[inline(never)]
fn measured(front: Front<'_>, kind: &Kind, rounds: usize) {
    for n in 0..rounds {
        black_box(decide(front, black_box(kind), n));
    }
}
