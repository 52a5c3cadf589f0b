//! Topology files → the normalised [`slice::Topology`], with every mistake of every file.
//!
//! Text is parsed once into nodes with marks ([`load`]), decoded against one table of fields per
//! resource type (module `fields`; the same table makes the [`json_schema`]), given canonical
//! names, and lowered under Google's rules (module `lower`). Words owned here: diagnostic, code,
//! export, placement, expectation as files write them.
//!
//! What this crate never does: open a socket, start a program, decide about traffic, or stop at
//! the first mistake. Apart from [`load`] it does no I/O.

mod cut;
mod decode;
mod derive;
mod diagnostic;
mod export;
mod fields;
mod files;
mod knative;
mod lower;
mod model;
mod names_rules;
mod node;
mod read;
mod reference;
mod scalars;
mod schema;
mod similar;
mod x509;
mod zone_file;
mod zones;

pub use cut::{
    api_proxy, cloud_run, endpoint_attachment, every_private_dns, google_front_end, internal_lb,
    metadata, private_dns, programs, service_attachment,
};
pub use diagnostic::{CODES, Diagnostic, Position, Severity};
pub use schema::json_schema;

use diagnostic::{Code, Findings, Mark};
use lower::Disk;
use model::Model;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest topology file.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Dangling references that get a "did you mean".
const HINTS_MAX: u32 = 500;

/// What came out of the files.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The topology; none if any diagnostic is an error.
    pub topology: Option<slice::Topology>,
    /// Every finding, sorted by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that were read, for whoever watches them.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Is there an error among the diagnostics?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads a file, or all `*.yaml`, `*.yml` and `*.json` files of a folder and its subfolders
/// (without those named `apps`, `proxies`, `apiproxy`, `bundles`, hidden ones, and bundles).
pub fn load(path: &Path) -> Loaded {
    let files = match files::find(path) {
        Ok(files) => files,
        Err(error) => {
            let mut findings = Findings::new(vec![path.into()]);
            findings.error(
                Code::FileNotReadable,
                Mark::default(),
                format!("cannot be read: {error}"),
                "name a topology file or a folder that holds some",
            );
            return Loaded { topology: None, diagnostics: findings.finish(), files: Vec::new() };
        }
    };
    let sources = files.iter().map(|file| (file.clone(), read_file(file))).collect();
    let base = std::env::current_dir().unwrap_or_default();
    let is_bundle = |path: &Path| {
        let inner = path.file_name().is_some_and(|name| name == "apiproxy") && path.is_dir();
        path.join("apiproxy").is_dir() || inner || path.is_file()
    };
    let read = |path: &Path| Some(read_bytes(path).map_err(|(_, what)| what));
    let disk = Disk { bundle_exists: &is_bundle, read: &read };
    let mut loaded = load_all(path, sources, &base, &disk, &read_file);
    loaded.files = files;
    loaded
}

/// Reads texts as if they were files; relative folders count from `base`. No I/O: bundles and files
/// that the texts name are not looked for, and zone files are empty.
pub fn load_sources(sources: Vec<(PathBuf, String)>, base: &Path) -> Loaded {
    let sources = sources.into_iter().map(|(path, text)| (path, Ok(text))).collect();
    let disk = Disk { bundle_exists: &|_| true, read: &|_| None };
    load_all(base, sources, base, &disk, &|_| Ok(String::new()))
}

fn read_file(path: &Path) -> Result<String, (Code, String)> {
    String::from_utf8(read_bytes(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        (Code::Syntax, format!("not UTF-8: the byte at offset {at} begins no character"))
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, (Code, String)> {
    let unreadable =
        |error: std::io::Error| (Code::FileNotReadable, format!("cannot be read: {error}"));
    let known = std::fs::metadata(path).map_err(unreadable)?;
    if !known.is_file() {
        // Opening a named pipe would wait for somebody who writes.
        let what = "it is no regular file".to_owned();
        return Err((Code::FileNotReadable, what));
    }
    let length = known.len();
    if length > FILE_BYTES_MAX {
        let what = format!("the file has {length} bytes; at most {FILE_BYTES_MAX} are read");
        return Err((Code::FileTooLarge, what));
    }
    std::fs::read(path).map_err(unreadable)
}

type Source = (PathBuf, Result<String, (Code, String)>);

fn load_all(
    whole: &Path,
    sources: Vec<Source>,
    base: &Path,
    disk: &Disk<'_>,
    zone_file: zone_file::ReadFile<'_>,
) -> Loaded {
    let json = |text: &str| text.trim_start().starts_with(['{', '[']);
    let mend = |text: String| if json(&text) { node::without_surrogates(text) } else { text };
    let sources: Vec<Source> =
        sources.into_iter().map(|(path, text)| (path, text.map(mend))).collect();
    let mut names: Vec<Arc<Path>> = sources.iter().map(|(path, _)| path.as_path().into()).collect();
    if names.is_empty() {
        names.push(whole.into());
    }
    let mut findings = Findings::new(names);
    let mut model = Model { hints: HINTS_MAX.into(), ..Model::default() };
    let mut parsed = Vec::with_capacity(sources.len());
    for (number, (path, text)) in sources.iter().enumerate() {
        let file = u32::try_from(number).unwrap_or(u32::MAX);
        let folder = base.join(path.parent().unwrap_or(Path::new("")));
        model.directories.push(folder.components().collect());
        match text {
            Ok(text) => {
                let one = node::parse(text, file, &mut findings);
                if !one.unread.is_empty() {
                    model.unread.push(one.unread.clone());
                }
                parsed.push(one);
            }
            Err((code, what)) => {
                let fix = "check the file's permissions, size and encoding";
                findings.error(*code, Mark { file, line: 1, column: 1 }, what.clone(), fix);
            }
        }
    }
    if findings.errors() == 0
        && parsed.iter().all(|file| file.documents.iter().all(|d| d.is_null()))
    {
        findings.error(
            Code::EmptyTopology,
            Mark::default(),
            "there is no document here",
            "write a document with `project:` and collections such as `networks:`",
        );
    }
    let mut model = read::read(parsed, model, &mut findings);
    zone_file::import(&mut model, zone_file, &mut findings);
    let topology = lower::lower(&model, disk, &mut findings);
    let good = findings.errors() == 0;
    Loaded {
        topology: good.then_some(topology),
        diagnostics: findings.finish(),
        files: sources.into_iter().map(|(path, _)| path).collect(),
    }
}
