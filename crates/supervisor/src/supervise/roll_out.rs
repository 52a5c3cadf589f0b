//! `postern reload` is answered when what it changed serves: a new Cloud Run revision has to start
//! first, and the one before serves until then (cloud-run 3.2).

use super::Supervisor;
use crate::events::Command;
use crate::protocol::Reply;
use names::SelfLink;
use slice::ConditionState;
use std::time::{Duration, Instant};

/// A reload is in force by then at the latest, whatever still starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who waits for revisions to start.
pub(super) struct Waiting {
    command: Command,
    generation: u64,
    /// What the reload itself has to say.
    text: String,
    /// Services whose newest revision was being tried when the generation was committed.
    services: Vec<SelfLink>,
    until: Instant,
}

impl Supervisor {
    /// Answers a reload now, or when nothing of it is being tried any more.
    pub(super) fn answer_when_rolled_out(&mut self, command: Command, text: String) {
        let tried = self.services.iter().filter(|state| state.reconciling);
        let services: Vec<SelfLink> = tried.map(|state| state.service.clone()).collect();
        let generation = self.generation;
        if services.is_empty() {
            command.answer(Reply::Done { generation, text });
            return;
        }
        let until = Instant::now() + PATIENCE;
        self.waiting.push(Waiting { command, generation, text, services, until });
    }

    /// When the patience of somebody who waits is over.
    pub(super) fn next_roll_out(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Answers those who have waited enough.
    pub(super) fn rolled_out(&mut self) {
        let now = Instant::now();
        let services = &self.services;
        let of = |waiting: &Waiting| {
            let waits_for = waiting.services.clone();
            services.iter().filter(move |state| waits_for.contains(&state.service))
        };
        let done = self.waiting.extract_if(.., |waiting| {
            waiting.until <= now || !of(waiting).any(|state| state.reconciling)
        });
        for waiting in done {
            let mut lines: Vec<String> = Vec::from_iter(Some(waiting.text.clone()));
            lines.retain(|line| !line.is_empty());
            for state in of(&waiting) {
                let newest = state.revisions.last();
                let failed = newest.filter(|one| one.ready == ConditionState::ConditionFailed);
                if let Some(failed) = failed {
                    lines.push(format!("{}: {}", state.service, failed.message));
                } else if state.reconciling {
                    lines.push(format!("{}: {}", state.service, state.text));
                }
            }
            let (generation, text) = (waiting.generation, lines.join("\n"));
            waiting.command.answer(Reply::Done { generation, text });
        }
    }
}
