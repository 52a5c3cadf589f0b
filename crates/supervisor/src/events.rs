//! Everything that can happen to the supervisor, as values in one queue: one thread owns the
//! state, all others only tell.

use crate::child::ProgramId;
use crate::gateway::Gateway;
use crate::protocol::{Ask, Reply};
use runtime::wire::FromProgram;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A program said something.
    Program(ProgramId, u32, FromProgram),
    /// A program's process ended with this status.
    ProgramEnded(ProgramId, u32, i32),
    /// A process of a workload, by its name there, ended with this status; having
    /// used too much memory, if so.
    WorkloadEnded(u64, String, i32, Option<slice::MemoryUse>),
    /// A command asks.
    Asked(Ask, Command),
    /// A stopped instance has used up its grace.
    GraceOver(u64),
    /// A session's connection is closed.
    SessionClosed(u64),
    /// Stop everything (a signal, or the end of the process in front).
    Stop,
    /// Read the files again (SIGHUP).
    Reload,
}

/// Commands at once; more wait in the kernel's queue.
const COMMANDS_MAX: usize = 32;
/// A command may say nothing, or not read its answer, for so long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection of a command, with its room among [`COMMANDS_MAX`].
#[derive(Debug)]
pub struct Command {
    /// The connection.
    pub connection: UnixStream,
    _room: Room,
}

#[derive(Debug)]
struct Room(Arc<Mutex<Receiver<()>>>);

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
    }
}

impl Command {
    /// Answers from a thread of its own: whoever does not read holds up nobody. One that has gone
    /// away needs no answer.
    pub fn answer(self, reply: Reply) {
        let _ = crate::child::spawn_thread("answer", move || self.answer_here(&reply));
    }

    /// Answers, within bounds of time.
    pub fn answer_here(&self, reply: &Reply) {
        let _ = runtime::wire::send(&self.connection, reply, &[]);
    }
}

/// Accepts commands on the control socket and puts their questions into the queue.
///
/// # Errors
/// Those of `pthread_create(3)`.
pub fn listen(listener: UnixListener, events: Sender<Event>) -> io::Result<()> {
    let (enter, leave) = sync_channel(COMMANDS_MAX);
    let leave = Arc::new(Mutex::new(leave));
    crate::child::spawn_thread("control", move || {
        while enter.send(()).is_ok() {
            let room = Room(Arc::clone(&leave));
            let connection = match listener.accept() {
                Ok((connection, _)) => connection,
                // Out of descriptors: others have to end first.
                Err(error) => {
                    eprintln!("postern: the control socket: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let events = events.clone();
            // A command that connects and says nothing must not hold up the others.
            let _ = crate::child::spawn_thread("command", move || {
                let _ = connection.set_read_timeout(Some(COMMAND_TIMEOUT));
                let _ = connection.set_write_timeout(Some(COMMAND_TIMEOUT));
                if let Ok(Some((ask, _))) = runtime::wire::receive::<Ask>(&connection) {
                    let _ = connection.set_read_timeout(None);
                    let _ = events.send(Event::Asked(ask, Command { connection, _room: room }));
                }
            });
        }
    })
}

/// Waits for the end of a session's connection, and closes its gateway then.
///
/// # Errors
/// Those of `pthread_create(3)`.
pub fn watch_session(
    number: u64,
    gateway: Option<Gateway>,
    connection: UnixStream,
    events: Sender<Event>,
) -> io::Result<()> {
    crate::child::spawn_thread("session", move || {
        use std::io::Read;
        let mut byte = [0];
        let mut connection = connection;
        while matches!(connection.read(&mut byte), Ok(1..)) {}
        drop(gateway);
        let _ = events.send(Event::SessionClosed(number));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Larger than every socket buffer.
    const LARGE: usize = 64 << 20;

    #[test]
    fn a_command_that_does_not_read_holds_up_nobody_and_silent_ones_leave_room() {
        let path = std::env::temp_dir().join(format!("postern-events-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (events, queue) = channel();
        listen(UnixListener::bind(&path).expect("bound"), events).expect("listening");
        let ask = |path: &std::path::Path| {
            let connection = UnixStream::connect(path).expect("connected");
            runtime::wire::send(&connection, &Ask::Status, &[]).expect("sent");
            connection
        };
        let next = || match queue.recv().expect("an event") {
            Event::Asked(Ask::Status, command) => command,
            other => panic!("{other:?}"),
        };
        // More than may be there at once, one after the other.
        for _ in 0..COMMANDS_MAX + 1 {
            drop((ask(&path), next()));
        }
        let silent: Vec<UnixStream> =
            (1..COMMANDS_MAX).map(|_| UnixStream::connect(&path).expect("connected")).collect();
        let deaf = ask(&path);
        next().answer(Reply::Failed("x".repeat(LARGE)));
        drop(silent);
        let other = ask(&path);
        next().answer(Reply::Failed("heard".to_owned()));
        let (reply, _) = runtime::wire::receive::<Reply>(&other).expect("read").expect("a reply");
        assert!(matches!(reply, Reply::Failed(text) if text == "heard"));
        // The first one still gets all of its answer: whoever waited for it would have given up.
        let (reply, _) = runtime::wire::receive::<Reply>(&deaf).expect("read").expect("a reply");
        assert!(matches!(reply, Reply::Failed(text) if text.len() == LARGE));
        let _ = std::fs::remove_file(&path);
    }
}
