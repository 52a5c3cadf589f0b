//! Any texts as topology files: no panic, no endless work, and a topology exactly when no
//! diagnostic is an error; each program's slice can be cut from it.
//!
//! Input: up to three files, separated by a line `%%`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slice::{Role, Slice};
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let files = text.splitn(3, "\n%%\n").enumerate();
    let sources = files.map(|(n, text)| (format!("{n}.yaml").into(), text.to_owned())).collect();
    let loaded = topology::load_sources(sources, Path::new("/base"));
    assert_eq!(loaded.topology.is_none(), loaded.has_errors());
    for diagnostic in &loaded.diagnostics {
        assert!(diagnostic.at.line > 0 && diagnostic.at.column > 0);
        assert!(topology::CODES.iter().any(|(code, _)| *code == diagnostic.code));
        assert!(!diagnostic.message.is_empty() && !diagnostic.fix.is_empty());
    }
    let Some(topology) = loaded.topology else { return };
    for (role, network) in topology::programs(&topology) {
        let network = network.unwrap_or_else(names::NetworkId::internet);
        let listens = match role {
            Role::EndpointAttachment => topology::endpoint_attachment(&topology, &network).listens(),
            Role::ServiceAttachment => topology::service_attachment(&topology, &network).listens(),
            Role::InternalLb => topology::internal_lb(&topology, &network).listens(),
            Role::PrivateDns => topology::private_dns(&topology, &network).listens(),
            Role::Metadata => topology::metadata(&topology, &network).listens(),
            Role::GoogleFrontEnd => topology::google_front_end(&topology, &network).listens(),
            Role::CloudRun => topology::cloud_run(&topology).listens(),
            Role::ApiProxy => topology::api_proxy(&topology, &network).map(|s| s.listens()).unwrap_or_default(),
        };
        let mut keys: Vec<_> = listens.iter().map(|listen| &listen.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), listens.len());
    }
});
