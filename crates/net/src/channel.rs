//! The sending end of a channel: connections to another program over which accepted sockets are
//! handed, kept open, and opened anew when the other program restarts.

use crate::hand_over;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

/// Connections per channel: the other program's threads take them as they come, so a few more than
/// threads spread the load.
const LANES: usize = 4;
/// The waits between two attempts to connect to a program that is not there.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(250);

/// See [`hand_over`] why the reactor does not know it.
type Lane = std::os::unix::net::UnixStream;

/// A channel to one program, for one thread.
#[derive(Debug)]
pub struct Channel {
    path: PathBuf,
    /// A message must not be interrupted by another one: who sends holds the lane.
    lanes: [Mutex<Option<Lane>>; LANES],
    next: Cell<usize>,
}

impl Channel {
    /// The channel whose listener is bound at `path`. Nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Channel { path, lanes: Default::default(), next: Cell::new(0) }
    }

    async fn open(&self) -> io::Result<Lane> {
        UnixStream::connect(&self.path).await?.into_std()
    }

    /// Hands a socket over, and waits at most `patience` for a program that is restarting or busy.
    /// The caller may close its own copy afterwards.
    ///
    /// # Errors
    /// `TimedOut` when the program did not take it in time, else what the last attempt said.
    pub async fn hand_over(
        &self,
        head: &[u8],
        socket: BorrowedFd<'_>,
        patience: Duration,
    ) -> io::Result<()> {
        let until = Instant::now() + patience;
        let lane = self.next.get();
        self.next.set((lane + 1) % LANES);
        let attempts = async {
            let mut lane = self.lanes[lane].lock().await;
            let mut wait = RETRY_FIRST;
            loop {
                // Taken out: a message that is given up in the middle must not be continued by
                // another one.
                let kept = lane.take();
                let was_open = kept.is_some();
                let sent = match kept {
                    Some(open) => hand_over(&open, head, socket).await.map(|()| open),
                    None => match self.open().await {
                        Ok(open) => hand_over(&open, head, socket).await.map(|()| open),
                        Err(error) => Err(error),
                    },
                };
                match sent {
                    Ok(open) => {
                        *lane = Some(open);
                        return Ok(());
                    }
                    // The other end of an open lane is gone; its successor may be there.
                    Err(_) if was_open => {}
                    Err(error) => match error.kind() {
                        // Nobody listens, too many wait to be accepted, or who accepted is gone.
                        ErrorKind::NotFound
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::WouldBlock
                        | ErrorKind::BrokenPipe
                        | ErrorKind::ConnectionReset => {
                            if Instant::now() + wait >= until {
                                return Err(error);
                            }
                            sleep(wait).await;
                            wait = (wait * 2).min(RETRY_MAX);
                        }
                        _ => return Err(error),
                    },
                }
            }
        };
        timeout_at(until, attempts).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::take_over;
    use std::os::fd::AsFd;
    use tokio::net::UnixListener;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("net-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_restarted_program_is_found_again() {
        let path = path("restart");
        let channel = Channel::new(path.clone());
        let (socket, _far) = UnixStream::pair().expect("a pair");
        for round in 0..3u8 {
            // First nobody is there; the sender waits.
            let send = async {
                for _ in 0..2 * LANES {
                    channel.hand_over(&[round], socket.as_fd(), PATIENCE).await.expect("taken");
                }
            };
            let take = async {
                let _ = std::fs::remove_file(&path);
                let listener = UnixListener::bind(&path).expect("bound");
                let mut lanes = Vec::new();
                for _ in 0..LANES {
                    lanes.push(listener.accept().await.expect("accepted").0);
                }
                for lane in lanes.iter().chain(&lanes) {
                    let (head, _) = take_over(lane).await.expect("whole").expect("one more");
                    assert_eq!(head, [round]);
                }
            };
            tokio::join!(send, take);
        }
        let _ = std::fs::remove_file(&path);
    }

    #[tokio::test]
    async fn patience_has_an_end() {
        let channel = Channel::new(path("nobody"));
        let (socket, _far) = UnixStream::pair().expect("a pair");
        let patience = Duration::from_millis(20);
        let error = channel.hand_over(b"", socket.as_fd(), patience).await.expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::NotFound);

        let path = path("stuck");
        let _listener = UnixListener::bind(&path).expect("bound");
        let channel = Channel::new(path.clone());
        let head = [0; crate::HEAD_MAX];
        let error = loop {
            if let Err(error) = channel.hand_over(&head, socket.as_fd(), patience).await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut, "nobody takes what fills the channel");
        let _ = std::fs::remove_file(&path);
    }
}
