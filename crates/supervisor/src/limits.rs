//! What a container may use, enforced by control groups where they are writable: version 1 or 2
//! (cloud-run 1.1).
//!
//! * memory: the group's limit, without swap. What the kernel ends for it is told as such (1.2).
//!   A writable file system in memory counts, as it does on Cloud Run.
//! * CPU: the quota of the container's CPU, always: neither `cpuIdle` (throttled between requests)
//!   nor the boost at the start is done.
//! * processes: [`PROCESSES_MAX`].
//!
//! Groups are made below the one that the supervisor is in, so nothing escapes the limits that it
//! has itself. Without control groups only the data segment of each process is bounded
//! (`RLIMIT_DATA`): the address space must not be, since runtimes reserve far more than they use.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slice::MemoryUse;
use slice::run::Resources;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes and threads of one container ((unconfirmed): Cloud Run names no figure).
pub const PROCESSES_MAX: u32 = 4096;

/// Of the memory limit, what one process may have as data where groups are not writable: thread
/// stacks and arenas count in full there although most of them are never touched.
const DATA_PER_LIMIT: u64 = 4;

/// How long it is tried to get rid of a group, and the pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same when everything ends: nothing else waits then.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// Microseconds in which a CPU quota is used up.
const PERIOD: u64 = 100_000;

/// The group of this supervisor in each hierarchy that can be used; empty: none.
#[derive(Debug, Default)]
pub struct Groups {
    bases: Vec<Base>,
}

#[derive(Clone, Debug)]
struct Base {
    hierarchy: Hierarchy,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    Memory1,
    Cpu1,
    Pids1,
    Unified,
}

const VERSION_1: [(Hierarchy, &str); 3] =
    [(Hierarchy::Memory1, "memory"), (Hierarchy::Cpu1, "cpu"), (Hierarchy::Pids1, "pids")];

/// The groups of one container, which end with it.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Base>,
}

impl Groups {
    /// Makes the supervisor's groups, and takes away those of supervisors that are gone. `number`
    /// is the supervisor's process id on the host.
    pub fn make(number: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let places = places(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut bases = Vec::new();
        for Base { hierarchy, path } in places {
            sweep(&path);
            let own = path.join(format!("postern-{number}"));
            let base = Base { hierarchy, path: own };
            if std::fs::create_dir(&base.path).is_ok() {
                match base.delegate() {
                    Ok(()) => bases.push(base),
                    Err(_) => drop(std::fs::remove_dir(&base.path)),
                }
            }
            // Below the unified root the first ancestor that passes controllers on is enough.
            if hierarchy == Hierarchy::Unified && !bases.is_empty() {
                break;
            }
        }
        Groups { bases }
    }

    /// What of a container is bounded here, in words.
    pub fn describe(&self) -> Result<String, String> {
        let names: Vec<&str> = self.bases.iter().map(|base| base.hierarchy.words()).collect();
        match names.as_slice() {
            [] => Err(
                "no control group is writable: only the data segment of each process is bounded"
                    .to_owned(),
            ),
            names => Ok(names.join(", ")),
        }
    }

    /// Is memory bounded by groups?
    pub fn bound_memory(&self) -> bool {
        let memory = [Hierarchy::Memory1, Hierarchy::Unified];
        self.bases.iter().any(|base| memory.contains(&base.hierarchy))
    }

    /// Makes the groups of a container.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, name: &str, resources: &Resources) -> io::Result<Group> {
        let mut group = Group { parts: Vec::new() };
        for base in &self.bases {
            let part = Base { hierarchy: base.hierarchy, path: base.path.join(name) };
            std::fs::create_dir(&part.path)?;
            group.parts.push(part.clone());
            part.limit(resources)?;
        }
        Ok(group)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE_AT_THE_END;
        for base in &self.bases {
            remove(&base.path, until);
        }
    }
}

/// The bound for one process's data where groups are not writable, in bytes.
pub fn data_max(resources: &Resources) -> u64 {
    resources.memory_bytes.saturating_mul(DATA_PER_LIMIT)
}

impl Hierarchy {
    fn words(self) -> &'static str {
        match self {
            Hierarchy::Memory1 => "memory",
            Hierarchy::Cpu1 => "CPU",
            Hierarchy::Pids1 => "processes",
            Hierarchy::Unified => "memory, CPU and processes (version 2)",
        }
    }
}

impl Base {
    /// Version 2: passes the controllers on to the containers' groups.
    fn delegate(&self) -> io::Result<()> {
        match self.hierarchy {
            Hierarchy::Unified => {
                std::fs::write(self.path.join("cgroup.subtree_control"), "+memory +cpu +pids")
            }
            _ => Ok(()),
        }
    }

    fn limit(&self, resources: &Resources) -> io::Result<()> {
        let write = |file: &str, value: String| std::fs::write(self.path.join(file), value);
        let quota = u64::from(resources.cpu_millis) * PERIOD / 1000;
        let memory = resources.memory_bytes.to_string();
        match self.hierarchy {
            Hierarchy::Memory1 => {
                write("memory.limit_in_bytes", memory.clone())?;
                // Without swap accounting there is no such file, and no swap to bound.
                let _ = write("memory.memsw.limit_in_bytes", memory);
                Ok(())
            }
            Hierarchy::Cpu1 => {
                write("cpu.cfs_period_us", PERIOD.to_string())?;
                write("cpu.cfs_quota_us", quota.to_string())
            }
            Hierarchy::Pids1 => write("pids.max", PROCESSES_MAX.to_string()),
            Hierarchy::Unified => {
                write("memory.max", memory)?;
                let _ = write("memory.swap.max", "0".to_owned());
                // The whole container ends, not a process of it.
                write("memory.oom.group", "1".to_owned())?;
                write("cpu.max", format!("{quota} {PERIOD}"))?;
                write("pids.max", PROCESSES_MAX.to_string())
            }
        }
    }
}

impl Group {
    /// Puts a process into it, with all that it will start.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        self.parts
            .iter()
            .try_for_each(|part| std::fs::write(part.path.join("cgroup.procs"), pid.to_string()))
    }

    /// Ends what is left in it and takes it away. Says how much memory was used if something was
    /// ended for using too much.
    pub fn finish(self) -> Option<MemoryUse> {
        self.parts.iter().find_map(memory_exceeded)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.parts.iter().for_each(end_all);
        let until = Instant::now() + PATIENCE;
        for part in &self.parts {
            remove(&part.path, until);
        }
    }
}

/// Kills what has outlived the container's first process: something only where containers have no
/// PID namespace.
fn end_all(part: &Base) {
    let until = Instant::now() + PATIENCE;
    while kill_all(&part.path) && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
}

/// Kills the processes of a group. False: it has none that can be seen from here.
fn kill_all(group: &Path) -> bool {
    let left = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    // 0: a process that cannot be seen from here.
    let left = left.lines().filter_map(|pid| pid.parse().ok()).filter(|pid: &i32| *pid > 0);
    let mut any = false;
    for pid in left {
        any = true;
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    any
}

fn memory_exceeded(part: &Base) -> Option<MemoryUse> {
    let (events, limit, used) = match part.hierarchy {
        Hierarchy::Memory1 => {
            ("memory.oom_control", "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        }
        Hierarchy::Unified => ("memory.events", "memory.max", "memory.peak"),
        Hierarchy::Cpu1 | Hierarchy::Pids1 => return None,
    };
    let read = |file: &str| std::fs::read_to_string(part.path.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    let killed = read(events)?
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0");
    let limit = number(limit)?;
    killed.then(|| MemoryUse { limit, used: number(used).unwrap_or(limit) })
}

/// Removes a group and those below it, with what still runs in them, once the kernel is done with
/// their last processes: thousands take seconds to die.
fn remove(group: &Path, until: Instant) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), until);
        }
    }
    while std::fs::remove_dir(group).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
        && Instant::now() < until
    {
        kill_all(group);
        std::thread::sleep(PAUSE);
    }
}

/// Takes away the groups of supervisors that were killed, and what they left running.
fn sweep(place: &Path) {
    let until = Instant::now() + PATIENCE;
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("postern-")) else {
            continue;
        };
        if number.parse::<u32>().is_ok() && !Path::new("/proc").join(number).exists() {
            remove(&entry.path(), until);
        }
    }
}

/// Where groups can be made: below the own group of each hierarchy of version 1; with version 2 at
/// the nearest ancestor first, since a group with processes passes nothing on.
fn places(mounts: &str, own: &str) -> Vec<Base> {
    let mut places = Vec::new();
    for (hierarchy, controller) in VERSION_1 {
        let group = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        });
        let mounted = mounts.lines().find_map(|line| {
            let mount = Mount::parse(line)?;
            let has = mount.options.split(',').any(|option| option == controller);
            (mount.kind == "cgroup" && has).then_some(mount)
        });
        if let (Some(group), Some(mount)) = (group, mounted) {
            places.extend(mount.path(group).map(|path| Base { hierarchy, path }));
        }
    }
    let group = own.lines().find_map(|line| line.strip_prefix("0::"));
    let mounted = mounts.lines().filter_map(Mount::parse).find(|mount| mount.kind == "cgroup2");
    if let (Some(group), Some(mount), true) = (group, mounted, places.is_empty())
        && let Some(path) = mount.path(group)
    {
        let ancestors = path.ancestors().skip(1).take_while(|path| path.starts_with(mount.point));
        let hierarchy = Hierarchy::Unified;
        places.extend(ancestors.map(|path| Base { hierarchy, path: path.to_path_buf() }));
    }
    places
}

/// A line of `/proc/self/mountinfo` (proc(5)).
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: before.next()?,
            point: before.next()?,
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }

    fn path(&self, group: &str) -> Option<PathBuf> {
        let below = group.strip_prefix(self.root.trim_end_matches('/'))?;
        Some(Path::new(self.point).join(below.trim_start_matches('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1_MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn groups_are_made_below_the_own_one() {
        let check = |mounts: &str, own: &str, expected: &[&str]| {
            let got: Vec<PathBuf> = places(mounts, own).into_iter().map(|base| base.path).collect();
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(got, expected);
        };
        check(
            VERSION_1_MOUNTS,
            "8:pids:/docker/abc/x\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n",
            &["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/pids/x"],
        );
        // Version 2: beside the own group, or above.
        check(
            "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user@1000.service/app.slice/run-1.scope\n",
            &[
                "/sys/fs/cgroup/user.slice/user@1000.service/app.slice",
                "/sys/fs/cgroup/user.slice/user@1000.service",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup",
            ],
        );
        check("", "0::/\n", &[]);
    }
}
