//! Reading a bundle from disk: the only code here that touches files.

use crate::error::{At, BundleError};
use crate::files::{BUNDLE_BYTES_MAX, ENTRIES_MAX, Files};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The files of a bundle: a folder that holds `apiproxy/`, the folder `apiproxy` itself, or a zip.
///
/// # Errors
/// What cannot be read, leaves the folder (symbolic links are not followed), or exceeds the bounds.
pub fn read(path: &Path) -> Result<Files, BundleError> {
    let label = path.display().to_string();
    let at = At::file(&Arc::from(label.as_str()));
    let metadata = fs::metadata(path).map_err(|error| unreadable(&at, &error))?;
    if metadata.is_dir() {
        let mut files = Files::new(&label);
        let (root, prefix) = if path.file_name().is_some_and(|name| name == "apiproxy") {
            (path.to_owned(), "apiproxy")
        } else if path.join("apiproxy").is_dir() {
            (path.join("apiproxy"), "apiproxy")
        } else if path.join("sharedflowbundle").is_dir() {
            (path.join("sharedflowbundle"), "sharedflowbundle")
        } else {
            return Err(at.error(
                "NO_APIPROXY_FOLDER",
                "the folder holds no `apiproxy/`.",
                "Name the folder that contains `apiproxy`, or a zip of it.",
            ));
        };
        folder(&root, prefix, &mut files, 0)?;
        Ok(files)
    } else {
        let bytes = bounded(path, &at)?;
        Files::from_zip(&label, &bytes)
    }
}

fn folder(path: &Path, prefix: &str, files: &mut Files, depth: u32) -> Result<(), BundleError> {
    let at = At::file(files.label());
    if depth > 16 {
        return Err(at.error(
            "UNSAFE_PATH",
            "the folder is nested too deeply.",
            "Keep to the bundle's own folders.",
        ));
    }
    let entries = fs::read_dir(path).map_err(|error| unreadable(&at, &error))?;
    for (count, entry) in entries.enumerate() {
        if count > ENTRIES_MAX {
            return Err(at.error(
                "BUNDLE_TOO_LARGE",
                "the folder has too many files.",
                "Give the folder of the bundle alone.",
            ));
        }
        let entry = entry.map_err(|error| unreadable(&at, &error))?;
        let kind = entry.file_type().map_err(|error| unreadable(&at, &error))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(at.error("UNSAFE_PATH", "a file name is not UTF-8.", "Rename the file."));
        };
        let inner = format!("{prefix}/{name}");
        if kind.is_dir() {
            folder(&entry.path(), &inner, files, depth + 1)?;
        } else if kind.is_file() {
            files.add(&inner, bounded(&entry.path(), &at)?)?;
        } else {
            return Err(at.error(
                "UNSAFE_PATH",
                format!("`{inner}` is neither a file nor a folder."),
                "Put the file itself into the bundle.",
            ));
        }
    }
    Ok(())
}

fn bounded(path: &Path, at: &At) -> Result<Vec<u8>, BundleError> {
    let file = fs::File::open(path).map_err(|error| unreadable(at, &error))?;
    let mut bytes = Vec::new();
    file.take(BUNDLE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(at, &error))?;
    Ok(bytes)
}

fn unreadable(at: &At, error: &std::io::Error) -> BundleError {
    at.error(
        "BUNDLE_NOT_READABLE",
        format!("the bundle cannot be read: {error}."),
        "Check `bundle`.",
    )
}
