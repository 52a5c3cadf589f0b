//! Loads topology files and prints the diagnostics; with `--json` the topology too;
//! with `--schema` prints the JSON Schema.

use std::path::Path;

fn main() {
    let mut json = false;
    for argument in std::env::args().skip(1) {
        if argument == "--schema" {
            println!("{:#}", topology::json_schema());
            continue;
        }
        if argument == "--json" {
            json = true;
            continue;
        }
        let start = std::time::Instant::now();
        let loaded = topology::load(Path::new(&argument));
        let took = start.elapsed();
        for diagnostic in &loaded.diagnostics {
            println!("{diagnostic}");
        }
        if let (true, Some(topology)) = (json, &loaded.topology) {
            println!("{}", serde_json::to_string_pretty(topology).unwrap_or_default());
        }
        eprintln!("{argument}: {} diagnostics, {took:?}", loaded.diagnostics.len());
    }
}
