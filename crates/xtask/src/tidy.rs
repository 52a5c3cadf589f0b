//! The arrows between crates (STYLE.md 2): programs → topology → decisions → names, and
//! programs → mechanisms → names. Read from the manifests, so that a new arrow is seen at once.

use std::collections::BTreeMap;
use std::path::Path;

const WORDS: &[&str] = &["names", "slice"];
const DECISIONS: &[&str] = &[
    "url-map",
    "autoscaling",
    "balancing",
    "security-policy",
    "psc",
    "proxy-protocol",
    "managed-zone",
    "iam",
    "id-token",
    "serverless",
    "policy-bundle",
    "vpc",
];
const MECHANISMS: &[&str] = &["sys", "net", "http-proxy", "hbone", "runtime", "keys"];
const PROGRAMS: &[&str] = &[
    "endpoint-attachment",
    "service-attachment",
    "internal-lb",
    "private-dns",
    "metadata",
    "google-front-end",
    "cloud-run",
    "api-proxy",
    "supervisor",
    "echo",
];
/// A decision has no runtime, socket, file or clock (STYLE.md 2).
const NOT_IN_DECISIONS: &[&str] =
    &["tokio", "hyper", "nix", "socket2", "rustls", "net", "runtime", "sys"];

/// Checks every manifest below `crates/`.
pub fn run(root: &Path) -> Result<String, String> {
    let mut crates = BTreeMap::new();
    let entries = std::fs::read_dir(root.join("crates")).map_err(|error| error.to_string())?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let manifest = entry.path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .map_err(|error| format!("{}: {error}", manifest.display()))?;
        crates.insert(name, dependencies(&text));
    }
    let mut wrong = Vec::new();
    for (name, dependencies) in &crates {
        for dependency in dependencies {
            if let Some(why) = refused(name, dependency) {
                wrong.push(format!("crates/{name}/Cargo.toml: `{dependency}`: {why}"));
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(format!("{} crates, every arrow points down", crates.len())),
        false => Err(wrong.join("\n")),
    }
}

/// The names below `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn refused(name: &str, dependency: &str) -> Option<&'static str> {
    let is = |group: &[&str]| group.contains(&name);
    let on = |group: &[&str]| group.contains(&dependency);
    if on(PROGRAMS) && name != "xtask" {
        return Some("programs do not depend on programs; they talk over sockets");
    }
    if is(WORDS) && (on(DECISIONS) || on(MECHANISMS) || dependency == "topology") {
        return Some("words depend on nothing of ours");
    }
    if is(DECISIONS) && (on(NOT_IN_DECISIONS) || dependency == "topology") {
        return Some("a decision has no runtime, socket, file or clock");
    }
    if dependency == "url-map-model" {
        return Some("the reference is for tests");
    }
    if name == "url-map-model" && dependency == "url-map" {
        return Some("the reference shares nothing with the engine");
    }
    if dependency == "topology" && is(DECISIONS) {
        return Some("topology comes after the decisions");
    }
    if name == "topology" && on(MECHANISMS) {
        return Some("topology reads files and knows no mechanism");
    }
    if is(&["sys", "net", "http-proxy"]) && on(DECISIONS) {
        return Some("mechanisms decide nothing");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        assert_eq!(run(&crate::root()).err(), None);
    }

    #[test]
    fn an_arrow_that_points_back_is_seen() {
        assert!(refused("psc", "tokio").is_some());
        assert!(refused("internal-lb", "cloud-run").is_some());
        assert!(refused("names", "psc").is_some());
        assert!(refused("internal-lb", "url-map").is_none());
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\na.workspace = true\nb = \"1\"\n\n[x]\nc = 1\n";
        assert_eq!(dependencies(manifest), ["a", "b"]);
    }
}
