//! Every example topology is read without a warning that is not meant, and what it says of itself
//! holds: the URL maps' own tests, the bundles, the programs that its images name.
#![allow(clippy::unwrap_used)]

use slice::Topology;
use slice::run::Run;
use std::path::{Path, PathBuf};

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology");
    let mut folders: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 4, "{folders:?}");
    folders
}

/// The warnings that an example is there to show.
const MEANT: [(&str, &str); 3] = [
    ("two-producers", "PSC_REGION_MISMATCH"),
    ("vpc-peering", "PEERING_ONE_SIDED"),
    // A hub propagates PSC connections, and nothing else.
    ("psc-admission", "NOT_YET_HONOURED"),
];

fn each(check: impl Fn(&Path, Topology)) {
    for folder in folders() {
        let loaded = topology::load(&folder);
        let said: Vec<_> = loaded.diagnostics.iter().map(|one| one.code).collect();
        let meant: Vec<_> = MEANT.iter().filter(|(name, _)| folder.ends_with(name)).collect();
        let meant: Vec<_> = meant.into_iter().map(|(_, code)| *code).collect();
        assert_eq!(said, meant, "{}: {:#?}", folder.display(), loaded.diagnostics);
        check(&folder, loaded.topology.unwrap());
    }
}

#[test]
fn every_example_is_read_and_says_what_it_expects() {
    each(|folder, topology| {
        assert!(folder.join("README.md").is_file(), "{}", folder.display());
        let expectations = &topology.expectations;
        let any = |fits: &dyn Fn(&slice::Expectation) -> bool| expectations.iter().any(fits);
        let name = folder.display();
        let with_proxy = !topology.organizations.is_empty();
        let answers = |one: &slice::Expectation| {
            // Without HTTP a connection that carries is the answer.
            let answered = one.status == Some(200) || one.connected == Some(true);
            answered && (one.from == "internet" || !with_proxy)
        };
        assert!(any(&answers), "{name}");
        // Who serves applications also shows what none of them has.
        let serves = !topology.services.is_empty();
        assert!(!serves || any(&|one| one.status == Some(404)), "{name}");
        assert!(any(&|one| one.status.is_none() && one.reason.is_some()), "{name}");
        for one in expectations {
            let reason = one.reason.as_deref();
            let known = reason.is_none_or(|code| names::Reason::from_code(code).is_some());
            assert!(known, "{}: unknown reason {reason:?}", one.at);
            let service = one.service.as_deref();
            let declared = |name| topology.services.iter().any(|service| service.name == name);
            assert!(service.is_none_or(declared), "{}: unknown service {service:?}", one.at);
            assert!(!one.description.is_empty(), "{}", one.at);
        }
    });
}

#[test]
fn every_example_holds_what_it_expects_by_the_static_decisions() {
    each(|folder, topology| {
        let world = path::World::compile(&topology, None).unwrap_or_else(|why| panic!("{why:#?}"));
        assert_eq!(world.url_map_test_failures(), [], "{}", folder.display());
        let warnings: Vec<_> = world.bundle_warnings().collect();
        assert!(warnings.is_empty(), "{}", warnings.join("\n"));
        let now = 1_764_000_000;
        let results = path::check_expectations(&world, &topology.expectations, now);
        let failed: Vec<_> = results.iter().filter(|one| !one.holds()).collect();
        let said = |one: &&path::ExpectationResult| {
            let explanation = one.explanation.as_ref().map(ToString::to_string);
            let explanation = explanation.unwrap_or_default();
            format!("{} {}: {:?}\n{explanation}", one.at, one.description, one.failures)
        };
        let failed: Vec<_> = failed.iter().map(said).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    });
}

#[test]
fn the_programs_that_images_name_are_there() {
    each(|_, topology| {
        for service in &topology.services {
            let Run::Command { command, directory } = &service.revision.ingress().0.run else {
                panic!("{} has no command", service.self_link);
            };
            assert!(directory.is_absolute() && directory.is_dir(), "{}", directory.display());
            for word in command.iter().filter(|word| word.contains('/')) {
                assert!(directory.join(word).is_file(), "{}: {word}", service.self_link);
            }
        }
    });
}

#[test]
fn both_networks_of_the_reference_architecture_have_the_same_range() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topology/apigee-psc-cloud-run");
    let topology = topology::load(&folder).topology.unwrap();
    let ranges = |network: &str| -> Vec<_> {
        let network = topology.networks.iter().find(|one| one.id.to_string() == network);
        network.unwrap().subnetworks.iter().map(|one| one.range.to_string()).collect()
    };
    assert!(ranges("apigee-project/apigee-network").contains(&"10.0.0.0/24".to_owned()));
    assert!(ranges("ilb-project/ilb-network").contains(&"10.0.0.0/24".to_owned()));
}
