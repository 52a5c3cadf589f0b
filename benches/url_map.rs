//! What a URL map's decision costs as the number of its rules grows: it should not grow.
//!
//! `cargo bench --bench url_map` prints, for maps with 10, 1,000 and 100,000 rules of each kind, the
//! time to compile the snapshot, and for each kind of decision its time and the ratio to the smallest
//! map. Compare the ratios of one run; absolute times belong to the machine. Instructions are counted
//! by `--bench instructions`.

#[path = "common/maps.rs"]
mod maps;

use maps::{FRONT, Kind, SIZES, decide, kinds, load_balancing};
use std::hint::black_box;
use std::time::{Duration, Instant};
use url_map::Snapshot;

fn main() {
    // `cargo test --benches` runs this too, to see that it still works; once is enough then.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 200_000 } else { 100 };
    let mut table: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut compiled = Vec::new();
    for size in SIZES {
        let load_balancing = load_balancing(size);
        let started = Instant::now();
        let snapshot = Snapshot::compile(&load_balancing).expect("the generated map is legal");
        compiled.push(started.elapsed());
        for (row, kind) in kinds(size).iter().enumerate() {
            if table.len() == row {
                table.push((kind.name, Vec::new()));
            }
            table[row].1.push(measure(&snapshot, kind, rounds));
        }
    }
    print!("{:<20}", "rules of each kind");
    SIZES.iter().for_each(|size| print!(" {size:>16}"));
    print!("\n{:<20}", "compile");
    compiled.iter().for_each(|time| print!(" {:>16}", format!("{time:.1?}")));
    println!();
    for (name, times) in table {
        print!("{name:<20}");
        for time in &times {
            print!(" {:>16}", format!("{time:.0} ns {:.1}x", time / times[0]));
        }
        println!();
    }
}

/// Nanoseconds of one decision, the best of five rounds.
fn measure(snapshot: &Snapshot, kind: &Kind, rounds: usize) -> f64 {
    let front = snapshot.front(FRONT).expect("the generated map has the rule");
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        for n in 0..rounds {
            black_box(decide(front, black_box(kind), n));
        }
        best = best.min(started.elapsed());
    }
    best.as_nanos() as f64 / rounds as f64
}
