//! What programs say of the generation that is being prepared.

use crate::child::ProgramId;
use std::collections::BTreeMap;

/// The answers to one `Prepare`. A program that was started again prepares the generation in force
/// too: its answer about that one says nothing of the next.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    generation: u64,
    of: BTreeMap<ProgramId, Result<(), String>>,
}

impl Prepared {
    /// Nobody has answered for this generation yet.
    pub(super) fn begin(&mut self, generation: u64) {
        *self = Prepared { generation, of: BTreeMap::new() };
    }

    /// An answer, of the running process.
    pub(super) fn said(&mut self, id: &ProgramId, generation: u64, error: Option<String>) {
        if generation == self.generation {
            self.of.insert(id.clone(), error.map_or(Ok(()), Err));
        }
    }

    /// The process ended, whatever it had said.
    pub(super) fn ended(&mut self, id: &ProgramId, why: String) {
        self.of.insert(id.clone(), Err(why));
    }

    /// What it said; none: nothing yet.
    pub(super) fn of(&self, id: &ProgramId) -> Option<&Result<(), String>> {
        self.of.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slice::Role;

    #[test]
    fn an_answer_counts_for_its_own_generation_only() {
        let id = ProgramId { role: Role::CloudRun, network: None };
        let mut prepared = Prepared::default();
        prepared.begin(3);
        prepared.said(&id, 2, None);
        assert_eq!(prepared.of(&id), None, "that was a program that was started again");
        prepared.said(&id, 3, Some("no".to_owned()));
        prepared.said(&id, 2, None);
        assert_eq!(prepared.of(&id), Some(&Err("no".to_owned())));
        prepared.begin(4);
        assert_eq!(prepared.of(&id), None);
    }
}
