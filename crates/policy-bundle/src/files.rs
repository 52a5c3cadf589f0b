//! The files of a bundle, from a zip or from a folder, with bounds on both (1.1, 9.3).

use crate::error::{At, BundleError};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

/// The largest bundle, and the largest sum of its unpacked files, in bytes (9.3: a zip of 15 MB).
pub const BUNDLE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// The most files of one bundle; a bound of ours, far above what real bundles have.
pub const ENTRIES_MAX: usize = 4096;

/// The files of a bundle: path with `/`, beginning with `apiproxy/`, to content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    entries: BTreeMap<Arc<str>, Vec<u8>>,
    bytes: usize,
    label: Arc<str>,
}

impl Files {
    /// No files yet; `label` names the bundle in messages (its path, say).
    pub fn new(label: &str) -> Files {
        Files { entries: BTreeMap::new(), bytes: 0, label: label.into() }
    }

    /// The bundle's name in messages.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Adds a file. Editors' and Finder's leftovers are passed over (1.1).
    ///
    /// # Errors
    /// A path that leaves the bundle, or a bound that is exceeded.
    pub fn add(&mut self, path: &str, content: Vec<u8>) -> Result<(), BundleError> {
        if is_leftover(path) {
            return Ok(());
        }
        let at = At::file(&self.label);
        if let Some(why) = unsafe_path(path) {
            return Err(at.error(
                "UNSAFE_PATH",
                format!("the bundle holds the path `{}`, which {why}.", path.escape_debug()),
                "Zip the folder `apiproxy` itself, with paths relative to its parent.",
            ));
        }
        self.bytes = self.bytes.saturating_add(content.len());
        if self.bytes > BUNDLE_BYTES_MAX || self.entries.len() >= ENTRIES_MAX {
            return Err(too_large(&at));
        }
        if self.entries.insert(path.into(), content).is_some() {
            return Err(at.error(
                "DUPLICATE_FILE",
                format!("the bundle holds `{path}` twice."),
                "Remove one of them.",
            ));
        }
        Ok(())
    }

    /// The files of a zip that has `apiproxy/` at its root.
    ///
    /// # Errors
    /// Not a zip, encrypted, a path that leaves the bundle, or a bound that is exceeded. What an
    /// entry claims about its size is not believed: reading stops at the bound.
    pub fn from_zip(label: &str, zip: &[u8]) -> Result<Files, BundleError> {
        let mut files = Files::new(label);
        let at = At::file(&files.label);
        if zip.len() > BUNDLE_BYTES_MAX {
            return Err(too_large(&at));
        }
        let broken = |error: &dyn std::fmt::Display| {
            at.error(
                "NOT_A_ZIP",
                format!("the bundle cannot be read as a zip: {error}."),
                "Give a folder that holds `apiproxy/`, or a zip of it.",
            )
        };
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).map_err(|error| broken(&error))?;
        if archive.len() > ENTRIES_MAX {
            return Err(too_large(&at));
        }
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| broken(&error))?;
            let path = entry.name().to_owned();
            if entry.is_dir() {
                continue;
            }
            if entry.is_symlink() {
                return Err(at.error(
                    "UNSAFE_PATH",
                    format!("the bundle's entry `{}` is a symbolic link.", path.escape_debug()),
                    "Zip the file itself.",
                ));
            }
            let room = BUNDLE_BYTES_MAX.saturating_sub(files.bytes) as u64 + 1;
            let mut content = Vec::new();
            entry.take(room).read_to_end(&mut content).map_err(|error| broken(&error))?;
            files.add(&path, content)?;
        }
        Ok(files)
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.entries.get(path).map(Vec::as_slice)
    }

    /// All files, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        self.entries.iter().map(|(path, content)| (path, content.as_slice()))
    }

    /// The files directly in a folder (`apiproxy/policies/`) whose name ends in `.xml`.
    pub(crate) fn xml_in<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a [u8])> {
        self.iter().filter(move |(path, _)| {
            path.strip_prefix(folder)
                .is_some_and(|name| !name.contains('/') && name.ends_with(".xml"))
        })
    }
}

fn too_large(at: &At) -> BundleError {
    at.error(
        "BUNDLE_TOO_LARGE",
        format!(
            "the bundle has more than {} MB unpacked, or more than {ENTRIES_MAX} files.",
            BUNDLE_BYTES_MAX / (1024 * 1024)
        ),
        "Leave out what the proxy does not need.",
    )
}

fn is_leftover(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == ".DS_Store"
        || name.ends_with('~')
        || path.starts_with("__MACOSX/")
        || name.ends_with(".swp")
}

fn unsafe_path(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.starts_with('/') {
        Some("is absolute or empty")
    } else if path.contains('\\') || path.contains(':') || path.contains('\0') {
        Some("holds a character that no bundle path has")
    } else if path.split('/').any(|part| part == ".." || part == "." || part.is_empty()) {
        Some("leaves the bundle")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content) in entries {
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file(*path, options).expect("a zip in memory takes entries");
            writer.write_all(content).expect("a zip in memory takes bytes");
        }
        writer.finish().expect("a zip in memory ends").into_inner()
    }

    #[test]
    fn a_zip_holds_the_same_tree_as_the_folder() {
        let zip = zip_of(&[("apiproxy/p.xml", b"<a/>"), ("apiproxy/.DS_Store", b"x")]);
        let files = Files::from_zip("b.zip", &zip).expect("a good zip");
        assert_eq!(files.get("apiproxy/p.xml"), Some(&b"<a/>"[..]));
        assert_eq!(files.iter().count(), 1);
    }

    #[test]
    fn a_path_that_leaves_the_bundle_is_refused() {
        for path in ["../x", "/etc/passwd", "apiproxy/../../x", "apiproxy//x", "a\\b", "c:/x"] {
            let zip = zip_of(&[(path, b"x")]);
            let code = Files::from_zip("b.zip", &zip).err().map(|error| error.code);
            assert_eq!(code, Some("UNSAFE_PATH"), "{path}");
        }
    }

    #[test]
    fn a_zip_bomb_stops_at_the_bound() {
        let bomb = vec![0; BUNDLE_BYTES_MAX + 1];
        let zip = zip_of(&[("apiproxy/resources/jsc/x.js", &bomb)]);
        assert!(zip.len() < 100_000, "it really is a bomb");
        let code = Files::from_zip("b.zip", &zip).err().map(|error| error.code);
        assert_eq!(code, Some("BUNDLE_TOO_LARGE"));
    }

    #[test]
    fn what_is_no_zip_says_so() {
        let code = Files::from_zip("b.zip", b"PK nonsense").err().map(|error| error.code);
        assert_eq!(code, Some("NOT_A_ZIP"));
    }
}
