//! What `postern check` does grows with the topology and not with its square: counted in
//! allocations, which are the same in every run, and not in time. (`cargo bench --bench check` counts
//! instructions, which also tells of scans that allocate nothing.)

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::path::{Path, PathBuf};
use topology::Loaded;
use xtask::big_topology::{Size, documents};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A tenth more for each unit than in the small one: maps have steps.
const SLACK: f64 = 1.1;

struct Work {
    read: f64,
    compiled: f64,
    walked: f64,
    cut: f64,
}

fn size(factor: usize) -> Size {
    Size {
        networks: 15 * factor,
        attachments: 50 * factor,
        zones: 250 * factor,
        records: 1_000 * factor,
    }
}

fn load(size: Size) -> Loaded {
    let documents = documents(size, 1).expect("a size that has a topology");
    let sources = documents.into_iter().map(|(name, text)| (PathBuf::from(name), text)).collect();
    topology::load_sources(sources, Path::new("/nowhere"))
}

/// Allocations for each of `factor` units.
fn work(factor: usize) -> Work {
    let mut region = Region::new(GLOBAL);
    let mut allocations = || region.change_and_reset().allocations as f64 / factor as f64;
    let loaded = load(size(factor));
    let read = allocations();
    let texts: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let topology = loaded.topology.unwrap_or_else(|| panic!("{}", texts.join("\n")));
    assert_eq!(texts, [""; 0]);
    allocations();
    let world = path::World::compile(&topology, None).expect("a topology that compiles");
    let compiled = allocations();
    assert_eq!(world.url_map_test_failures(), []);
    let results = path::check_expectations(&world, &topology.expectations, 0);
    let walked = allocations();
    assert!(results.len() > 9 * factor / 2, "{} expectations", results.len());
    for result in results {
        assert!(result.holds(), "{}: {:?}", result.at, result.failures);
    }
    allocations();
    for (role, network) in topology::programs(&topology) {
        let Some(network) = network else { continue };
        match role {
            slice::Role::PrivateDns => drop(topology::private_dns(&topology, &network)),
            slice::Role::InternalLb => drop(topology::internal_lb(&topology, &network)),
            slice::Role::ServiceAttachment => {
                drop(topology::service_attachment(&topology, &network));
            }
            slice::Role::EndpointAttachment => {
                drop(topology::endpoint_attachment(&topology, &network));
            }
            slice::Role::GoogleFrontEnd => drop(topology::google_front_end(&topology, &network)),
            // Every metadata server knows every service account.
            _ => {}
        }
    }
    Work { read, compiled, walked, cut: allocations() }
}

// One test: the allocator counts for the whole process.
#[test]
fn work_grows_with_the_topology() {
    // What is set up once is set up.
    work(1);
    let (small, large) = (work(1), work(8));
    for (what, small, large) in [
        ("reading", small.read, large.read),
        ("compiling", small.compiled, large.compiled),
        ("expectations", small.walked, large.walked),
        ("slices", small.cut, large.cut),
    ] {
        println!("{what}: {small:.0} allocations a unit, {large:.0} in a topology of 8 units");
        assert!(large < small * SLACK, "{what}: {small} → {large} allocations a unit");
    }
}
