//! The states of a producer network's connections, on disk.

use names::NetworkId;
use slice::ConnectionState;
use slice::psc::{ConnectionHistory, history_file};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file of one network.
pub(crate) struct History {
    network: NetworkId,
    path: PathBuf,
}

impl History {
    pub(crate) fn new(state_dir: &Path, network: &NetworkId) -> Self {
        History { network: network.clone(), path: state_dir.join(history_file(network)) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored last; empty if nothing was.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what this program wrote for this network.
    pub(crate) fn load(&self) -> io::Result<Vec<ConnectionState>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let stored: ConnectionHistory = serde_json::from_slice(&text)?;
        if stored.network != self.network {
            let message = format!("the history is that of {}", stored.network);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(stored.connections)
    }

    /// Replaces what is stored, as a whole or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn store(&self, connections: &[ConnectionState]) -> io::Result<()> {
        let connections = connections.to_vec();
        let stored = ConnectionHistory { network: self.network.clone(), connections };
        let aside = self.path.with_extension("tmp");
        let replaced = write(&aside, &serde_json::to_vec_pretty(&stored)?)
            .and_then(|()| std::fs::rename(&aside, &self.path));
        if replaced.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
        replaced
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use names::{Reason, SelfLink};
    use slice::psc::ConnectionStatus;

    #[test]
    fn what_is_stored_is_loaded_and_anything_else_refused() {
        let dir = std::env::temp_dir().join(format!("psc-history-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let history = History::new(&dir, &NetworkId::new("p", "n"));
        assert_eq!(history.load().expect("no file, no history"), []);
        let state = ConnectionState {
            service_attachment: SelfLink::regional("p", "r", "serviceAttachments", "s"),
            endpoint: SelfLink::regional("q", "r", "forwardingRules", "e"),
            psc_connection_id: u64::MAX,
            status: ConnectionStatus::NeedsAttention,
            reason: Some(Reason::PscNatSubnetExhausted),
            detail: "…".to_owned(),
            nat_ips: Vec::new(),
            consumer_project: "q".to_owned(),
            consumer_network: None,
            propagated_from: None,
            history: Vec::new(),
        };
        history.store(std::slice::from_ref(&state)).expect("stored");
        history.store(std::slice::from_ref(&state)).expect("stored again");
        assert_eq!(history.load().expect("loaded"), [state]);

        let other = History { network: NetworkId::new("p", "other"), path: history.path.clone() };
        assert!(other.load().is_err(), "another network's");
        std::fs::write(&history.path, b"{\"network\":\"p/n\"").expect("written");
        assert!(history.load().is_err(), "cut off");
        // Nothing can be put in place of a folder; what was written aside does not stay.
        std::fs::remove_file(&history.path).expect("removed");
        std::fs::create_dir_all(history.path.join("x")).expect("a folder");
        assert!(history.store(&[]).is_err());
        assert!(!history.path.with_extension("tmp").exists());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
