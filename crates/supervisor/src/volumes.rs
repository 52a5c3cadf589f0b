//! The volumes of an instance on the supervisor's side: folders below the state directory that its
//! containers mount and nobody else sees, gone with the instance (cloud-run 1.1, 7.1).

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use slice::run::Mount;
use slice::{InstanceVolume, VolumeContent, VolumeFile};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The folder below the state directory in which instances have theirs.
const FOLDER: &str = "instances";

/// The volumes of one instance.
#[derive(Debug)]
pub struct Volumes {
    folder: PathBuf,
    /// Where something of ours is mounted, in order.
    mounted: Vec<PathBuf>,
    /// Each volume's folder, and whether containers can only read it.
    all: BTreeMap<String, (PathBuf, bool)>,
}

/// What a container finds at a path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// The volume's folder.
    pub source: PathBuf,
    /// What of it is mounted, if not the whole: names of folders or files below it. They are found
    /// without following links, which another container may have planted.
    pub below: Option<PathBuf>,
    /// Where, absolute.
    pub target: PathBuf,
    /// It cannot be written to.
    pub read_only: bool,
}

impl Volumes {
    /// Makes them. Needs the right to mount.
    ///
    /// # Errors
    /// What the kernel says, with the volume's name.
    pub fn make(state_dir: &Path, instance: u64, volumes: &[InstanceVolume]) -> io::Result<Self> {
        let folder = state_dir.join(FOLDER).join(instance.to_string());
        fs::create_dir_all(&folder)?;
        let mut made = Volumes { folder, mounted: Vec::new(), all: BTreeMap::new() };
        for volume in volumes {
            made.add(volume).map_err(|error| {
                io::Error::new(error.kind(), format!("volume {}: {error}", volume.name))
            })?;
        }
        Ok(made)
    }

    fn add(&mut self, volume: &InstanceVolume) -> io::Result<()> {
        // Numbered: a name is the user's and need not be good as a path.
        let folder = self.folder.join(format!("v{}", self.all.len()));
        fs::create_dir(&folder)?;
        let read_only = matches!(volume.content, VolumeContent::Files(_));
        self.all.insert(volume.name.clone(), (folder.clone(), read_only));
        match &volume.content {
            VolumeContent::Files(files) => {
                // In memory: secrets are not written to a disk.
                self.mount(&folder, "mode=0755".to_owned())?;
                write_files(&folder, files)
            }
            VolumeContent::EmptyDir { size_limit, in_memory: true } => {
                let size = size_limit.map_or_else(String::new, |bytes| format!(",size={bytes}"));
                self.mount(&folder, format!("mode=0777{size}"))
            }
            VolumeContent::EmptyDir { in_memory: false, .. } => {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))
            }
        }
    }

    fn mount(&mut self, folder: &Path, options: String) -> io::Result<()> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options.as_str()))?;
        self.mounted.push(folder.to_path_buf());
        Ok(())
    }

    /// A folder for what a container's own file system needs.
    ///
    /// # Errors
    /// Those of `mkdir(2)` and `mount(2)`.
    pub fn scratch(&mut self) -> io::Result<PathBuf> {
        let folder = self.folder.join(format!("c{}", self.mounted.len()));
        fs::create_dir(&folder)?;
        self.mount(&folder, "mode=0755".to_owned())?;
        Ok(folder)
    }

    /// Where a container's mounts come from.
    ///
    /// # Errors
    /// A volume that the instance does not have; a path that leads out of one.
    pub fn bind(&self, mounts: &[Mount]) -> Result<Vec<Bound>, String> {
        let bound = mounts.iter().map(|mount| {
            let (folder, read_only) = self
                .all
                .get(&mount.volume)
                .ok_or_else(|| format!("there is no volume {}", mount.volume))?;
            let below = mount.sub_path.as_deref().map(inside).transpose();
            let below = below.map_err(|error| error.to_string())?.map(Path::to_path_buf);
            Ok(Bound {
                source: folder.clone(),
                below,
                target: mount.path.clone(),
                read_only: mount.read_only || *read_only,
            })
        });
        bound.collect()
    }

    /// Other contents for a volume's files.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self, volume: &str, files: &[VolumeFile]) -> Result<(), String> {
        let (folder, _) = self.all.get(volume).ok_or_else(|| format!("no volume {volume}"))?;
        let written = write_files(folder, files);
        // A version that can no longer be read is no longer there.
        let kept: BTreeSet<PathBuf> = files.iter().map(|file| folder.join(&file.path)).collect();
        remove_others(folder, &kept);
        written.map_err(|error| format!("volume {volume}: {error}"))
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for folder in self.mounted.iter().rev() {
            // Emptied first: the mount may still be seen from a namespace that is about to go.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
            let _ = umount2(folder, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(parent) = self.folder.parent() {
            // The last one takes the common folder along.
            let _ = fs::remove_dir(parent);
        }
    }
}

fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => remove_others(&path, kept),
            false if kept.contains(&path) => {}
            false => drop(fs::remove_file(&path)),
        }
    }
}

/// Each file is replaced as a whole: whoever opens it reads the old contents or the new ones.
fn write_files(folder: &Path, files: &[VolumeFile]) -> io::Result<()> {
    for file in files {
        let path = folder.join(inside(&file.path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut aside = path.clone().into_os_string();
        aside.push(".new");
        let mut open = fs::OpenOptions::new();
        let mut written = open.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        written.write_all(&file.data)?;
        written.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))?;
        fs::rename(&aside, &path)?;
    }
    Ok(())
}

/// A relative path that does not lead out.
fn inside(path: &Path) -> io::Result<&Path> {
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no path inside of a volume", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_as_a_whole_and_stay_inside() {
        let folder = std::env::temp_dir().join(format!("postern-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = |path: &str, data: &str| VolumeFile {
            path: path.into(),
            mode: 0o440,
            data: data.as_bytes().to_vec(),
        };
        write_files(&folder, &[file("a/b", "one")]).expect("written");
        let open = fs::File::open(folder.join("a/b")).expect("there");
        write_files(&folder, &[file("a/b", "two")]).expect("written again");
        assert_eq!(io::read_to_string(open).expect("readable"), "one");
        let path = folder.join("a/b");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "two");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
        for outside in ["../x", "/etc/x", "a/../../x"] {
            assert!(write_files(&folder, &[file(outside, "")]).is_err(), "{outside}");
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
}
