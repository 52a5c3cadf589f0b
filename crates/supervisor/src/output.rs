//! What workloads write to standard output and standard error: read from pipes, made into log
//! entries, bounded (cloud-run 7.2).
//!
//! One thread reads all pipes. `entry` makes an entry of a line, `lines` cuts lines out of bytes,
//! `rate` says which are kept: all three are pure. A workload is not held up by what it writes,
//! whatever becomes of it: what is over the rate is read and dropped, and the log says how much.

mod entry;
mod lines;
mod rate;

pub use entry::{Origin, Stream};

use crate::child::spawn_thread;
use lines::Lines;
use rate::Rate;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// Read at once: what a pipe holds.
const READ: usize = 64 * 1024;
/// A workload over its rate is read from this often, so that it takes no whole CPU here.
const PACE: Duration = Duration::from_millis(2);
/// What was dropped is told this often.
const TELL: Duration = Duration::from_secs(1);

/// The thread that reads all pipes; ends with the supervisor.
#[derive(Clone, Debug)]
pub struct Output(mpsc::UnboundedSender<Pipe>);

/// One pipe to read.
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    stream: Stream,
    /// Whose lines become entries; none: they stay as they are.
    origin: Option<Arc<Origin>>,
    log: File,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of `epoll_create(2)` and `pthread_create(3)`.
    pub fn start() -> io::Result<Self> {
        let (sender, mut pipes) = mpsc::unbounded_channel::<Pipe>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        spawn_thread("output", move || {
            LocalSet::new().block_on(&runtime, async {
                while let Some(pipe) = pipes.recv().await {
                    tokio::task::spawn_local(pipe.read());
                }
            });
        })?;
        Ok(Output(sender))
    }

    /// What a process gets as its standard output and standard error. Its lines are appended to
    /// `log`.
    ///
    /// # Errors
    /// Those of `pipe(2)`.
    pub fn pipes(&self, log: File, origin: Option<Origin>) -> io::Result<[OwnedFd; 2]> {
        let origin = origin.map(Arc::new);
        let end = |stream, log| -> io::Result<OwnedFd> {
            let (reader, writer) = io::pipe()?;
            let pipe = Pipe { reader: reader.into(), stream, origin: origin.clone(), log };
            self.0.send(pipe).map_err(|_| io::Error::other("the log's thread is gone"))?;
            Ok(writer.into())
        };
        Ok([end(Stream::Stdout, log.try_clone()?)?, end(Stream::Stderr, log)?])
    }
}

impl Pipe {
    async fn read(self) {
        let Pipe { reader, stream, origin, mut log } = self;
        let Ok(mut reader) = pipe::Receiver::from_owned_fd(reader) else { return };
        let began = Instant::now();
        let (mut lines, mut rate) = (Lines::default(), Rate::default());
        let mut told = began;
        let mut bytes = Vec::new();
        let mut text = Vec::new();
        let write = |line: &[u8], text: &mut Vec<u8>| match &origin {
            Some(origin) => origin.entry(stream, line, SystemTime::now(), text),
            None => {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
        };
        loop {
            bytes.reserve(READ);
            // What was dropped is told also if nothing more comes.
            let read = timeout(TELL, reader.read_buf(&mut bytes)).await;
            let ended = matches!(read, Ok(Ok(0) | Err(_)));
            let mut take = |line: &[u8], cut: usize| {
                if line.is_empty() {
                    return;
                }
                match rate.takes(began.elapsed(), line.len()) {
                    true => write(line, &mut text),
                    false => rate.dropped(1, line.len()),
                }
                rate.dropped(0, cut);
            };
            lines.cut(&bytes, &mut take);
            if ended {
                lines.end(&mut take);
            }
            bytes.clear();
            if ended || told.elapsed() >= TELL {
                told = Instant::now();
                if let Some((lines, bytes)) = rate.told() {
                    let severity = "WARNING";
                    let message = format!(
                        "{lines} lines and {bytes} bytes of {stream} were dropped: a container may \
                         write {} lines and {} KiB a second, and {} KiB in a line.",
                        rate::LINES,
                        rate::BYTES / 1024,
                        lines::LINE_MAX / 1024,
                    );
                    let said = serde_json::json!({ "severity": severity, "message": message });
                    write(said.to_string().as_bytes(), &mut text);
                }
            }
            // A full disk takes nothing; the workload goes on.
            let _ = log.write_all(&text);
            text.clear();
            if ended {
                return;
            }
            if rate.is_over() {
                sleep(PACE).await;
            } else if read.is_err() {
                // Nothing to read: no room is held for it.
                (bytes, text) = (Vec::new(), Vec::new());
            }
        }
    }
}

#[cfg(test)]
mod tests;
