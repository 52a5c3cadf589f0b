//! Which files make up a topology.

use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold programs and bundles, not topology.
const SKIPPED: &[&str] = &["apps", "proxies", "apiproxy", "bundles", "node_modules", "target"];
/// Most files and deepest folder; a topology path that is `/` by mistake ends here.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 16;

/// The topology files under a path, sorted; a file is itself.
pub(crate) fn find(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut files)?;
        files.sort();
    } else {
        std::fs::metadata(path)?;
        files.push(path.to_owned());
    }
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            // A folder that holds `apiproxy/` is a bundle.
            if !SKIPPED.contains(&&*name) && !path.join("apiproxy").is_dir() {
                walk(&path, depth + 1, files)?;
            }
        } else if is_topology(&path) {
            if files.len() >= FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn is_topology(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}
