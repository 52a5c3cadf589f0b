//! How many instructions `postern check` takes, counted by Valgrind's callgrind: reading the files,
//! compiling the world, walking the expectations, cutting every program's slice; at three sizes, for
//! each unit of 15 networks, 50 service attachments, 250 zones and 5,000 record sets.
//!
//! `cargo bench --bench check`; `--growth 3` fails where a unit of the largest topology costs more
//! than that times a unit of the smallest: something has become quadratic (slices are: each cut
//! looks through the whole topology). 20 units are the figures of the README. Without Valgrind
//! nothing is counted, and that is said.

#[path = "common/callgrind.rs"]
mod callgrind;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use xtask::big_topology::{Size, documents};

const UNITS: [usize; 3] = [1, 5, 20];
const PHASES: [&str; 4] = ["read", "compile", "expectations", "slices"];
/// Names the number of units to the run under callgrind.
const VARIABLE: &str = "POSTERN_BENCH_UNITS";

fn main() {
    if let Some(units) = std::env::var_os(VARIABLE) {
        return run(units.to_str().and_then(|text| text.parse().ok()).expect("a number of units"));
    }
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --benches`: does it still work?
        return run(1);
    }
    if !callgrind::is_here() {
        return;
    }
    let at = arguments.iter().position(|argument| argument == "--growth");
    let most: Option<f64> = at.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let counts: Vec<Vec<u64>> = UNITS.iter().map(|units| count(*units)).collect();
    print!("{:<24}", "instructions / unit");
    UNITS.iter().for_each(|units| print!(" {:>20}", format!("{units} units")));
    println!();
    let mut worst: f64 = 0.0;
    for (row, phase) in PHASES.iter().enumerate() {
        print!("{phase:<24}");
        for of_size in &counts {
            let growth = of_size[row] as f64 / counts[0][row] as f64;
            worst = worst.max(growth);
            print!(" {:>20}", format!("{} {growth:.2}x", of_size[row]));
        }
        println!();
    }
    if most.is_some_and(|most| worst > most) {
        println!("a unit of the larger topology costs {worst:.2} times one of the smaller");
        std::process::exit(1);
    }
}

/// Instructions of each phase for one unit.
fn count(units: usize) -> Vec<u64> {
    let counts = callgrind::count("check::measured", PHASES.len(), (VARIABLE, units));
    counts.into_iter().map(|count| count / units as u64).collect()
}

fn run(units: usize) {
    let size = Size {
        networks: 15 * units,
        attachments: 50 * units,
        zones: 250 * units,
        records: 5_000 * units,
    };
    let files = documents(size, 1).expect("a size that has a topology").into_iter();
    let mut files = Some(files.map(|(name, text)| (PathBuf::from(name), text)).collect());
    let (mut topology, mut world) = (None, None);
    // As many calls as there are phases, in their order.
    measured(&mut || {
        let loaded =
            topology::load_sources(files.take().unwrap_or_default(), Path::new("/nowhere"));
        topology = Some(loaded.topology.expect("the generated topology is valid"));
    });
    let topology = topology.expect("it was read");
    measured(&mut || {
        world = Some(path::World::compile(&topology, None).expect("a topology that compiles"));
    });
    let world = world.expect("it was compiled");
    measured(&mut || {
        let results = path::check_expectations(&world, &world.topology().expectations, 0);
        assert!(results.iter().all(path::ExpectationResult::holds), "the expectations hold");
    });
    measured(&mut || slices(&topology));
}

/// What callgrind collects inside of; it writes a file for each call.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

/// The slices that differ from network to network.
fn slices(topology: &slice::Topology) {
    for (role, network) in topology::programs(topology) {
        let Some(network) = network else { continue };
        match role {
            slice::Role::PrivateDns => drop(black_box(topology::private_dns(topology, &network))),
            slice::Role::InternalLb => drop(black_box(topology::internal_lb(topology, &network))),
            slice::Role::ServiceAttachment => {
                drop(black_box(topology::service_attachment(topology, &network)));
            }
            slice::Role::EndpointAttachment => {
                drop(black_box(topology::endpoint_attachment(topology, &network)));
            }
            _ => {}
        }
    }
}
