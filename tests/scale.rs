//! Sixty networks at once, with all their programs.

mod common;

use common::{Up, have, namespaces, scratch};
use std::fs;
use std::path::PathBuf;
use xtask::big_topology::{Size, documents};

const SIZE: Size = Size { networks: 60, attachments: 120, zones: 240, records: 2_400 };

fn topology() -> PathBuf {
    let folder = scratch().join("big");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in documents(SIZE, 7).expect("a size that has a topology") {
        fs::write(folder.join(name), text).expect("written");
    }
    folder
}

/// The `expectations` line of a consumer: its region and URL.
fn expected(consumer: &str) -> (String, String) {
    let between = |from: &str, to: &str| {
        let rest = consumer.split_once(from).expect("an expectation").1;
        rest.split_once(to).expect("an expectation").0.to_owned()
    };
    (between("/main, region: ", ","), between("url: \"", "\""))
}

#[test]
fn sixty_networks_come_up_carry_traffic_and_reload_only_what_changed() {
    if !have(&["curl", "dig"]) || !namespaces() {
        return;
    }
    let folder = topology();
    let up = Up::start(&folder, &[]);
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    // Three of each network, three beside the networks, a load balancer and a service attachment
    // for each publisher, an endpoint attachment for each consumer that has endpoints.
    assert!(programs.len() > 3 * 60 + 3 + 2 * 20 + 30, "{} programs", programs.len());
    assert!(programs.iter().all(|program| program["state"] == "running"));

    let mut asked = 0;
    for number in [0, 13, 39] {
        let consumer = format!("consumer-{number:04}");
        let text = fs::read_to_string(folder.join(format!("{consumer}.yaml"))).expect("a file");
        if !text.contains("expectations:") {
            continue;
        }
        let (region, url) = expected(&text);
        let network = format!("{consumer}/main");
        let curl = format!("curl -s -o /dev/null -w '%{{http_code}}' {url}");
        let options = ["--network", &network, "--region", &region];
        assert_eq!(up.text(&options, &curl), "200", "{network}");
        asked += 1;
    }
    assert!(asked > 0);

    let file = folder.join("consumer-0005.yaml");
    let text = fs::read_to_string(&file).expect("a file");
    let zone = "zone-1.consumer-0005.internal.";
    let added = format!(
        "dnsName: {zone}\n  visibility: private\n  privateVisibilityConfig: {{networks: [{{networkUrl: main}}]}}\n  rrsets:\n"
    );
    assert!(text.contains(&added), "{text}");
    let record = format!("  - {{name: new.{zone}, type: A, ttl: 300, rrdatas: [10.9.9.9]}}\n");
    fs::write(&file, text.replace(&added, &format!("{added}{record}"))).expect("written");
    assert!(up.run(&["reload"]).status.success());
    let status = up.status();
    let programs = status["programs"].as_array().expect("programs");
    assert!(programs.iter().all(|program| program["generation"] == 2));
    let built = programs.iter().filter(|program| program["builtGeneration"] == 2);
    let built: Vec<String> =
        built.map(|program| format!("{}@{}", program["program"], program["network"])).collect();
    assert_eq!(built.len(), 1, "{built:?}");
    assert!(built[0].contains("private-dns") && built[0].contains("consumer-0005"), "{built:?}");
    let dig = format!("dig +short new.{zone}");
    assert_eq!(up.text(&["--network", "consumer-0005/main"], &dig).trim(), "10.9.9.9");
    assert!(up.down().status.success());
}
