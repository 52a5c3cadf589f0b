//! A container's own file system: volumes at their paths, a writable `/tmp` of its own
//! (cloud-run 1.1). Everything happens in the mount namespace of one workload; no file or folder of
//! the host is made or changed.
//!
//! A path that the host does not have gets a place by covering the nearest folder above it with one
//! in memory that shows what the host has there, and the new path beside it; where that folder is
//! `/`, with a new root.

use crate::volumes::Bound;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder with more entries than this is not covered.
const ENTRIES_MAX: usize = 4096;

const NONE: Option<&str> = None;

/// Puts the volumes in their places. `scratch` is an empty folder in memory, the container's own.
///
/// # Errors
/// What the kernel says, with the path.
pub fn set(bounds: &[Bound], scratch: &Path) -> io::Result<()> {
    let mut places = Places::default();
    let first_missing = |bound: &Bound| {
        bound.target.ancestors().any(|path| path.parent() == Some(Path::new("/")) && !path.exists())
    };
    if bounds.iter().any(first_missing) {
        places.new_root(&scratch.join("root"))?;
    }
    // Found before anything covers them.
    let sources = bounds.iter().map(|bound| source(bound).map(|fd| (fd, bound)));
    let sources: Vec<_> = sources.collect::<io::Result<_>>()?;
    places.own_tmp(scratch);
    for (source, bound) in sources {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", bound.target.display()))
        };
        let from = through(&source);
        places.make(&bound.target, fs::metadata(&from)?.is_dir()).map_err(failed)?;
        bind(&from, &bound.target, bound.read_only).map_err(failed)?;
    }
    Ok(())
}

/// Can a container have a `/tmp` of its own here? Tried by `doctor`.
///
/// # Errors
/// What the kernel says.
pub fn trial_of_tmp() -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let scratch = Path::new("/mnt");
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::empty(), NONE)?;
    overlay_tmp(scratch)
}

/// What we have made, and may add to.
#[derive(Default)]
struct Places {
    made: BTreeSet<PathBuf>,
    own_tmp: bool,
}

impl Places {
    /// Makes a place to mount something at.
    fn make(&mut self, target: &Path, is_folder: bool) -> io::Result<()> {
        if target.exists() {
            return Ok(());
        }
        let existing = target.ancestors().skip(1).find(|path| path.exists());
        let existing = existing.ok_or(io::ErrorKind::NotFound)?.to_path_buf();
        let own = self.own_tmp && existing.starts_with("/tmp");
        if !own && !self.made.contains(&existing) {
            cover(&existing)?;
            self.made.insert(existing.clone());
        }
        let missing = target.ancestors().take_while(|path| **path != *existing);
        let mut missing: Vec<&Path> = missing.collect();
        let last = if is_folder { None } else { Some(missing.remove(0)) };
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder)?;
            self.made.insert(folder.to_path_buf());
        }
        last.map_or(Ok(()), |file| fs::File::create(file).map(|_| ()))
    }

    /// A root in memory that shows what the host has in its own.
    fn new_root(&mut self, root: &Path) -> io::Result<()> {
        fs::create_dir(root)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("mode=0755"))?;
        show(Path::new("/"), &entries(Path::new("/"))?, root)?;
        std::env::set_current_dir(root)?;
        // pivot_root(2): "." for both puts the old root over the new one, from where it is taken.
        nix::unistd::pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        std::env::set_current_dir("/")?;
        self.made.insert("/".into());
        Ok(())
    }

    /// A `/tmp` whose changes nobody else sees. Where the kernel does not give one (`doctor` says
    /// so) the host's stays.
    fn own_tmp(&mut self, scratch: &Path) {
        self.own_tmp = overlay_tmp(scratch).is_ok();
    }
}

fn overlay_tmp(scratch: &Path) -> io::Result<()> {
    let (upper, work) = (scratch.join("tmp"), scratch.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // "`/tmp` mode rwxrwxrwx" (1.6), and sticky as everywhere.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o1777))?;
    let options = |extra: &str| {
        format!("lowerdir=/tmp,upperdir={},workdir={}{extra}", upper.display(), work.display())
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let try_with = |extra| {
        mount(Some("overlay"), "/tmp", Some("overlay"), flags, Some(options(extra).as_str()))
    };
    // The first is for user namespaces (Linux 5.11).
    Ok(try_with(",userxattr").or_else(|_| try_with(""))?)
}

/// Covers a folder with one in memory that shows the same entries.
fn cover(folder: &Path) -> io::Result<()> {
    let held = hold(folder)?;
    let entries = entries(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
    let options = format!("mode={mode:o}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options.as_str()))?;
    show(&through(&held), &entries, folder)
}

fn entries(folder: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<OsString> = names.take(ENTRIES_MAX + 1).collect::<io::Result<_>>()?;
    if names.len() > ENTRIES_MAX {
        let text = format!("{} has too many entries to add one", folder.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(names)
}

/// Shows entries of one folder in another.
fn show(from: &Path, names: &[OsString], to: &Path) -> io::Result<()> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        // One that has gone in between is not there.
        let Ok(kind) = fs::symlink_metadata(&source).map(|data| data.file_type()) else { continue };
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            continue;
        }
        match kind.is_dir() {
            true => fs::create_dir(&target)?,
            false => drop(fs::File::create(&target)?),
        }
        mount(Some(&source), &target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    }
    Ok(())
}

/// Mounts a file or a folder at another place too.
///
/// # Errors
/// Those of `mount(2)`.
pub fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?;
    if read_only {
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        mount(NONE, target, NONE, flags, NONE)?;
    }
    Ok(())
}

/// Keeps hold of what is mounted: the volume's folder, or what lies below it. No link is followed:
/// a container that shares the volume could make one that leads anywhere on the host.
fn source(bound: &Bound) -> io::Result<OwnedFd> {
    let mut held = hold(&bound.source)?;
    for name in bound.below.iter().flat_map(|path| path.iter()) {
        let found = match below(&held, name) {
            // Folders that a volume lacks are made, as a writable one allows (1.1).
            Err(Errno::ENOENT) if !bound.read_only => {
                match mkdirat(&held, name, Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO) {
                    Ok(()) | Err(Errno::EEXIST) => below(&held, name),
                    Err(errno) => Err(errno),
                }
            }
            found => found,
        };
        held = found.map_err(|errno| {
            let path = bound.below.as_deref().unwrap_or(Path::new(""));
            let kind = io::Error::from(errno).kind();
            io::Error::new(kind, format!("{} in its volume: {errno}", path.display()))
        })?;
    }
    Ok(held)
}

fn below(folder: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(folder, name, how)
}

/// Keeps hold of a file or a folder whatever covers it.
fn hold(path: &Path) -> io::Result<OwnedFd> {
    let held = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    held.map_err(|errno| {
        io::Error::new(io::Error::from(errno).kind(), format!("{}: {errno}", path.display()))
    })
}

fn through(held: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_volume_is_found_without_following_links() {
        let folder = std::env::temp_dir().join(format!("postern-below-{}", std::process::id()));
        let (volume, secret) = (folder.join("volume"), folder.join("secret"));
        fs::create_dir_all(volume.join("a")).expect("a folder");
        fs::create_dir_all(&secret).expect("a folder");
        std::os::unix::fs::symlink(&secret, volume.join("planted")).expect("a link");
        let part = |below: &str, read_only| {
            source(&Bound {
                source: volume.clone(),
                below: Some(below.into()),
                target: "/data".into(),
                read_only,
            })
        };
        assert!(part("a", false).is_ok());
        assert!(part("new/deeper", true).is_err(), "nothing is made for a reader");
        assert!(part("new/deeper", false).is_ok());
        assert!(volume.join("new/deeper").is_dir());
        for planted in ["planted", "planted/x", "a/../planted"] {
            assert!(part(planted, false).is_err(), "{planted}");
        }
        assert_eq!(fs::read_dir(&secret).expect("readable").count(), 0);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
