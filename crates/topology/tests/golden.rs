//! Golden files: each folder under `golden/` holds topology files and what comes of them:
//! `diagnostics.txt`, and `topology.json` where the topology is good. `POSTERN_BLESS=1` writes
//! them anew; read the difference before you commit it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(golden()).expect("tests/golden is part of the crate");
    let mut all: Vec<PathBuf> = folders.map(|entry| entry.expect("readable").path()).collect();
    all.sort();
    all
}

fn sources(case: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(case).expect("a case is a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|e| e == "yaml" || e == "json")
            && !file.ends_with("topology.json")
    });
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("readable");
        (PathBuf::from(file.file_name().expect("a file")), text)
    };
    files.into_iter().map(read).collect()
}

/// Compares, or writes when asked to.
fn check(path: &Path, actual: Option<String>, wrong: &mut Vec<String>) {
    if std::env::var_os("POSTERN_BLESS").is_some() {
        match actual {
            Some(text) => std::fs::write(path, text).expect("writable"),
            None => drop(std::fs::remove_file(path)),
        }
        return;
    }
    let expected = std::fs::read_to_string(path).ok();
    if expected != actual {
        let name = path.strip_prefix(golden()).unwrap_or(path).display().to_string();
        let expected = expected.unwrap_or_default();
        let actual = actual.unwrap_or_default();
        let before: BTreeSet<_> = expected.lines().collect();
        let after: BTreeSet<_> = actual.lines().collect();
        let gone: String = before.difference(&after).map(|line| format!("- {line}\n")).collect();
        let new: String = after.difference(&before).map(|line| format!("+ {line}\n")).collect();
        wrong.push(format!("{name}\n{gone}{new}"));
    }
}

#[test]
fn golden_files_come_out_as_written() {
    let mut wrong = Vec::new();
    let mut codes = BTreeSet::new();
    for case in cases() {
        let loaded = topology::load_sources(sources(&case), Path::new("/base"));
        codes.extend(loaded.diagnostics.iter().map(|diagnostic| diagnostic.code));
        let text: String = loaded.diagnostics.iter().map(|one| format!("{one}\n")).collect();
        assert_eq!(loaded.topology.is_none(), loaded.has_errors(), "{}", case.display());
        let json = loaded.topology.map(|topology| {
            let text = serde_json::to_string_pretty(&topology).expect("plain data");
            format!("{text}\n")
        });
        check(&case.join("diagnostics.txt"), Some(text), &mut wrong);
        check(&case.join("topology.json"), json, &mut wrong);
    }
    assert!(wrong.is_empty(), "differences:\n{}", wrong.join("\n"));
    // Every code is shown by some case; these have tests of their own.
    let elsewhere = [
        "FILE_NOT_READABLE",
        "FILE_TOO_LARGE",
        "BUNDLE_NOT_FOUND",
        "EMPTY_TOPOLOGY",
        "LIST_TOO_LONG",
        "MOCK",
    ];
    let shown = |code: &&str| codes.contains(code) || elsewhere.contains(code);
    let missing: Vec<_> =
        topology::CODES.iter().map(|(code, _)| *code).filter(|c| !shown(c)).collect();
    assert_eq!(missing, [""; 0], "no golden case shows these codes");
}

#[test]
fn ten_mistakes_in_three_files_are_ten_diagnostics_in_one_run() {
    let loaded =
        topology::load_sources(sources(&golden().join("ten-mistakes")), Path::new("/base"));
    assert!(loaded.topology.is_none());
    assert_eq!(loaded.diagnostics.len(), 10);
    let files: BTreeSet<_> = loaded.diagnostics.iter().map(|one| one.at.file.clone()).collect();
    assert_eq!(files.len(), 3);
    let mut sorted = loaded.diagnostics.clone();
    sorted.sort_by_key(|one| one.at.clone());
    assert_eq!(sorted, loaded.diagnostics);
}

#[test]
fn the_order_of_documents_changes_nothing_but_order() {
    let case = golden().join("reference");
    let texts = |sources: Vec<(PathBuf, String)>| {
        let loaded = topology::load_sources(sources, Path::new("/base"));
        let topology = loaded.topology.expect("the reference topology is good");
        let mut services: Vec<_> = topology.services.iter().map(|s| s.hosts.clone()).collect();
        services.sort();
        let mut endpoints: Vec<_> =
            topology.endpoints.iter().map(|e| (e.address, e.psc_connection_id)).collect();
        endpoints.sort();
        (services, endpoints)
    };
    let forth = sources(&case);
    let mut back = forth.clone();
    back.reverse();
    assert_eq!(texts(forth), texts(back));
}
