//! What only real files show: which files are read, and what cannot be.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("postern-topology-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("writable");
        fs::write(path, text).expect("writable");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn codes(loaded: &topology::Loaded) -> Vec<&str> {
    loaded.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_folder_is_read_with_its_subfolders_but_without_programs_bundles_and_hidden_files() {
    let folder = Folder::new("walk");
    folder.write("b.yaml", "project: b\nnetworks: [{name: b}]");
    folder.write("a.yml", "project: a\nnetworks: [{name: a}]");
    folder.write("sub/c.json", r#"{"project": "c", "networks": [{"name": "c"}]}"#);
    folder.write("notes.txt", "not: [read");
    for skipped in [
        ".hidden.yaml",
        ".git/x.yaml",
        "apps/x.yaml",
        "proxies/x.yaml",
        "bundles/x.yaml",
        "apiproxy/x.yaml",
        "mine/x.yaml",
    ] {
        folder.write(skipped, "not: [read");
    }
    folder.write("mine/apiproxy/mine.xml", "<APIProxy/>");
    let loaded = topology::load(&folder.0);
    assert_eq!(codes(&loaded), [""; 0]);
    let names: Vec<_> =
        loaded.files.iter().map(|file| file.strip_prefix(&folder.0).expect("inside")).collect();
    assert_eq!(names, [Path::new("a.yml"), Path::new("b.yaml"), Path::new("sub/c.json")]);
    let networks = loaded.topology.expect("good").networks;
    assert_eq!(
        networks.iter().map(|n| n.id.to_string()).collect::<Vec<_>>(),
        ["a/a", "b/b", "c/c"]
    );
    let one = topology::load(&folder.0.join("b.yaml"));
    assert_eq!(one.topology.expect("good").networks.len(), 1);
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = Folder::new("unreadable");
    assert_eq!(codes(&topology::load(&folder.0)), ["EMPTY_TOPOLOGY"]);
    assert_eq!(codes(&topology::load(&folder.0.join("no.yaml"))), ["FILE_NOT_READABLE"]);
    folder.write("latin.yaml", b"project: p\ndescription: \xe9\n");
    folder.write("good.yaml", "project: p\nnetwork: [{name: n}]\n");
    // Both files' mistakes in one run.
    assert_eq!(codes(&topology::load(&folder.0)), ["UNKNOWN_FIELD", "SYNTAX"]);
    fs::remove_file(folder.0.join("latin.yaml")).expect("there");
    let huge = fs::File::create(folder.0.join("huge.yaml")).expect("writable");
    huge.set_len((256 << 20) + 1).expect("a sparse file");
    assert_eq!(codes(&topology::load(&folder.0)), ["UNKNOWN_FIELD", "FILE_TOO_LARGE"]);
}

#[test]
fn a_mock_answers_from_a_document_with_examples() {
    let folder = Folder::new("mock");
    folder.write(
        "a.yaml",
        "project: p\nregion: europe-west1\nimages: {i: {mock: apps/api.yaml}}\n\
         services: [{name: s, template: {containers: [{image: i}]}}]\n",
    );
    let document = |responses: &str| {
        format!("openapi: 3.0.3\npaths: {{/a: {{get: {{responses: {{'200': {responses}}}}}}}}}\n")
    };
    let said = |text: Option<&str>| {
        if let Some(text) = text {
            folder.write("apps/api.yaml", text);
        }
        let loaded = topology::load(&folder.0);
        assert_eq!(codes(&loaded), ["MOCK"], "{text:?}");
        loaded.diagnostics[0].message.clone()
    };
    assert!(said(None).contains("cannot be read"));
    assert!(said(Some("openapi: [")).contains("line 2"));
    assert!(said(Some("a: b")).contains("neither `openapi` nor `swagger`"));
    assert!(said(Some("openapi: 3.0.3")).contains("no `paths`"));
    assert!(said(Some(&document("{description: none}"))).contains("none of its responses"));
    folder.write("apps/api.yaml", document("{content: {application/json: {example: {a: 1}}}}"));
    let loaded = topology::load(&folder.0);
    assert_eq!(codes(&loaded), [""; 0]);
    let services = loaded.topology.expect("good").services;
    let openapi = folder.0.join("apps/api.yaml");
    assert_eq!(services[0].revision.containers[0].run, slice::run::Run::Mock { openapi });
}

#[test]
fn a_secret_s_payload_may_lie_in_a_file() {
    let folder = Folder::new("secret");
    folder.write(
        "a.yaml",
        "project: p\nsecrets: [{name: s, versions: [{postern: {file: apps/key.bin}}]}]\n",
    );
    assert_eq!(codes(&topology::load(&folder.0)), ["SECRET"]);
    folder.write("apps/key.bin", vec![0xff; (64 << 10) + 1]);
    assert_eq!(codes(&topology::load(&folder.0)), ["SECRET"]);
    folder.write("apps/key.bin", vec![0xff; 64 << 10]);
    let loaded = topology::load(&folder.0);
    assert_eq!(codes(&loaded), [""; 0]);
    let secret = &loaded.topology.expect("good").secrets[0];
    assert_eq!(secret.versions[0].data, vec![0xff; 64 << 10]);
}

#[test]
fn bundles_are_looked_for_beside_the_file() {
    let folder = Folder::new("bundles");
    let document = |bundle: &str| {
        format!(
            "project: p\nregion: europe-west1\nnetworks: [{{name: n}}]\norganization: o\nenvironments: [{{name: e}}]\n\
             deployments: [{{environment: e, apiProxy: mine{bundle}}}]\n"
        )
    };
    folder.write("a.yaml", document(""));
    assert_eq!(codes(&topology::load(&folder.0)), ["BUNDLE_NOT_FOUND"]);
    folder.write("proxies/mine/apiproxy/mine.xml", "<APIProxy/>");
    let loaded = topology::load(&folder.0);
    assert_eq!(codes(&loaded), [""; 0]);
    let deployment = &loaded.topology.expect("good").organizations[0].deployments[0];
    assert_eq!(deployment.bundle, folder.0.join("proxies/mine"));
    folder.write("a.yaml", document(", postern: {bundle: other.zip}"));
    assert_eq!(codes(&topology::load(&folder.0)), ["BUNDLE_NOT_FOUND"]);
    folder.write("other.zip", "PK");
    assert_eq!(codes(&topology::load(&folder.0)), [""; 0]);
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let folder = std::env::temp_dir().join(format!("postern-pipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let made = std::process::Command::new("mkfifo").arg(folder.join("pipe.yaml")).status();
    assert!(made.expect("mkfifo runs").success());
    let loaded = topology::load(&folder);
    std::fs::remove_dir_all(&folder).expect("removed");
    let text: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    assert!(text.contains("FILE_NOT_READABLE") && text.contains("no regular file"), "{text}");
}
