//! The end of a listener, or of the whole program, as a value that connections can wait for.

use tokio::sync::watch;

/// Resolves once the listener that accepted a connection is removed, or the program stops:
/// finish what is in flight, then end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

/// The other side of a [`Drain`]. Dropping it drains, so that no path can forget.
#[derive(Debug)]
pub struct Drainer(watch::Sender<bool>);

impl Drainer {
    /// A pair.
    pub fn new() -> (Drainer, Drain) {
        let (sender, receiver) = watch::channel(false);
        (Drainer(sender), Drain(receiver))
    }

    /// Tells every holder of the [`Drain`].
    pub fn drain(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Waits for the end.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the sender is gone, which is the end as well.
        let _ = receiver.wait_for(|draining| *draining).await;
    }

    /// Has the end come?
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
