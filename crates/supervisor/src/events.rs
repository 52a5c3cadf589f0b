//! Everything that can happen to the supervisor, as values in one queue: one thread owns the
//! state, all others only tell.

use crate::child::ProgramId;
use crate::gateway::Gateway;
use crate::protocol::Ask;
use runtime::wire::FromProgram;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Sender;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A program said something.
    Program(ProgramId, u32, FromProgram),
    /// A program's process ended with this status.
    ProgramEnded(ProgramId, u32, i32),
    /// A process of a workload, by its name there, ended with this status.
    WorkloadEnded(u64, String, i32),
    /// A command asks.
    Asked(Ask, UnixStream),
    /// A stopped instance has used up its grace.
    GraceOver(u64),
    /// A session's connection is closed.
    SessionClosed(u64),
    /// Stop everything (a signal, or the end of the process in front).
    Stop,
    /// Read the files again (SIGHUP).
    Reload,
}

/// Accepts commands on the control socket and puts their questions into the queue.
///
/// # Errors
/// Those of `pthread_create(3)`.
pub fn listen(listener: UnixListener, events: Sender<Event>) -> io::Result<()> {
    crate::child::spawn_thread("control", move || {
        for connection in listener.incoming() {
            let Ok(connection) = connection else { continue };
            let events = events.clone();
            // A command that connects and says nothing must not hold up the others.
            let _ = crate::child::spawn_thread("command", move || {
                let timeout = Some(std::time::Duration::from_secs(10));
                let _ = connection.set_read_timeout(timeout);
                if let Ok(Some((ask, _))) = runtime::wire::receive::<Ask>(&connection) {
                    let _ = connection.set_read_timeout(None);
                    let _ = events.send(Event::Asked(ask, connection));
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
