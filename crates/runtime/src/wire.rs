//! The control channel between the supervisor and a program: frames of JSON over an inherited
//! socket pair, with the descriptors of new listeners behind the frame that names them.
//!
//! A frame is a length (four bytes, big endian), a count of descriptors (four bytes), the JSON
//! text, then one byte per descriptor with the descriptor attached.

use names::NetworkId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slice::{
    Listen, Notice, Placement, Report, SpawnInstance, SpawnedInstance, StartContainer,
    StartedContainer, VolumeFile,
};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// No frame is larger, in bytes: 100,000 record sets take about 20 MB.
const FRAME_MAX: usize = 512 << 20;

/// From the supervisor to a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToProgram {
    /// Build this generation aside and say whether it is good. The descriptors of `open` follow.
    #[serde(rename_all = "camelCase")]
    Prepare {
        /// Only grows.
        generation: u64,
        /// The program's slice as JSON: a text in the text, because whoever sends it has it as one,
        /// and whoever reads it reads it into its own type at once.
        slice: String,
        /// New listeners, in the order of the descriptors.
        open: Vec<Listen>,
        /// Keys of listeners that this generation no longer has.
        close: Vec<String>,
        /// Where declared sockets are really bound; empty where they are what they seem.
        placements: Vec<Placement>,
        /// Where whole declared addresses are really bound.
        hosts: Vec<(Ipv4Addr, Ipv4Addr)>,
        /// Does the program look addresses up in these tables at all?
        placed: bool,
        /// The declared address from which the program dials; none: the network's own.
        source: Option<Ipv4Addr>,
    },
    /// Put the prepared generation into force.
    Commit {
        /// Which.
        generation: u64,
    },
    /// Forget the prepared generation.
    Abort {
        /// Which.
        generation: u64,
    },
    /// Where more declared addresses are really bound.
    Hosts(Vec<(Ipv4Addr, Ipv4Addr)>),
    /// Something beside the slices.
    Notice(Notice),
    /// The answer to a request.
    Answer {
        /// The request's number.
        id: u64,
        /// What came of it.
        result: Result<Answer, String>,
    },
    /// Render the metrics.
    Metrics {
        /// A number to be sent back.
        id: u64,
    },
    /// Say that everything before this was done.
    Ping {
        /// A number to be sent back.
        id: u64,
    },
    /// Finish what is in flight, then end.
    Stop,
}

/// From a program to the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromProgram {
    /// The process runs and reads its channel.
    Hello {
        /// Its process id as `/proc` shows it: the host's.
        pid: u32,
    },
    /// A generation was built, or not.
    Prepared {
        /// Which.
        generation: u64,
        /// Why it was refused.
        error: Option<String>,
    },
    /// A generation is in force.
    Committed {
        /// Which.
        generation: u64,
    },
    /// Something that wants an answer.
    Request {
        /// Numbered by the program.
        id: u64,
        /// What.
        request: Request,
    },
    /// Something that wants none.
    Report(Report),
    /// Everything before the ping was done.
    Pong {
        /// The ping's number.
        id: u64,
    },
    /// The rendered metrics.
    Metrics {
        /// The number asked with.
        id: u64,
        /// Prometheus text.
        text: String,
    },
}

/// What a program can ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Make a Cloud Run instance.
    Spawn(Box<SpawnInstance>),
    /// Start a container in it.
    Start(Box<StartContainer>),
    /// Other contents for the files of a volume.
    #[serde(rename_all = "camelCase")]
    WriteFiles {
        /// Number from `SpawnedInstance`.
        instance: u64,
        /// The volume's name.
        volume: String,
        /// All of its files.
        files: Vec<VolumeFile>,
    },
    /// Stop an instance: SIGTERM to all of its containers, then SIGKILL after `grace_ms`; with the
    /// last of them goes everything else that was made for it.
    #[serde(rename_all = "camelCase")]
    Stop {
        /// Number from `SpawnedInstance`.
        instance: u64,
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// What it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The instance is made.
    Spawned(SpawnedInstance),
    /// The container runs.
    Started(StartedContainer),
    /// Done.
    Done,
}

/// What a workload session asks of the supervisor's control socket (`postern exec`, `status`, …).
pub fn control_socket(state_dir: &std::path::Path) -> std::path::PathBuf {
    state_dir.join("control")
}

/// The path of a channel: short, since a Unix path ends at 107 bytes.
pub fn channel_path(state_dir: &std::path::Path, name: &str) -> std::path::PathBuf {
    // FNV-1a: only a short stable name is wanted; the supervisor refuses two names of one hash.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    state_dir.join(format!("c{:08x}", (hash ^ (hash >> 32)) as u32))
}

/// What people call a program: `internal-lb@ilb-project/ilb-network`.
pub fn label(role: slice::Role, network: Option<&NetworkId>) -> String {
    match network {
        Some(network) => format!("{}@{network}", role.program()),
        None => role.program().to_owned(),
    }
}

/// Sends one frame.
///
/// # Errors
/// Those of the socket; `InvalidInput` for a frame over 512 MiB.
pub fn send(
    mut channel: &UnixStream,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"));
    }
    let mut head = Vec::with_capacity(8);
    head.extend_from_slice(&(text.len() as u32).to_be_bytes());
    head.extend_from_slice(&(descriptors.len() as u32).to_be_bytes());
    channel.write_all(&head)?;
    channel.write_all(&text)?;
    for descriptor in descriptors {
        sys::send(channel.as_fd(), b"d", &[*descriptor])?;
    }
    Ok(())
}

/// Receives one frame; `None` at the orderly end.
///
/// # Errors
/// Those of the socket; `InvalidData` for anything that is not a frame of this shape.
pub fn receive<T: DeserializeOwned>(
    mut channel: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0; 8];
    match channel.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => channel.read_exact(&mut head[1..])?,
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, count) = (number(0) as usize, number(4));
    if length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too large"));
    }
    let mut text = vec![0; length];
    channel.read_exact(&mut text)?;
    let message = serde_json::from_slice(&text)?;
    let mut descriptors = Vec::new();
    for _ in 0..count {
        let mut byte = [0];
        let mut received = sys::receive(channel.as_fd(), &mut byte)?;
        match (received.bytes, received.descriptors.len()) {
            (1, 1) => descriptors.append(&mut received.descriptors),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing")),
        }
    }
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_frame_carries_its_descriptors() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let (near, _far) = UnixStream::pair().expect("a pair");
        let message = FromProgram::Hello { pid: 7 };
        send(&left, &message, &[near.as_fd(), near.as_fd()]).expect("sent");
        send(&left, &message, &[]).expect("sent");
        drop(left);
        let (got, descriptors) = receive::<FromProgram>(&right).expect("frame").expect("one");
        assert!(matches!(got, FromProgram::Hello { pid: 7 }));
        assert_eq!(descriptors.len(), 2);
        let (_, none) = receive::<FromProgram>(&right).expect("frame").expect("one");
        assert!(none.is_empty());
        assert!(receive::<FromProgram>(&right).expect("the end").is_none());
    }

    #[test]
    fn channel_paths_are_short_and_stable() {
        let path = channel_path(Path::new("/s"), "cloud-run");
        assert_eq!(path, channel_path(Path::new("/s"), "cloud-run"));
        assert_ne!(path, channel_path(Path::new("/s"), "cloud-run-front-end"));
        assert_eq!(path.to_string_lossy().len(), "/s/c01234567".len());
    }
}
