//! The targets whose health routing policies ask for, each once.

use slice::dns::HealthCheckedTarget;
use std::collections::HashMap;

/// Targets by position.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    all: Vec<HealthCheckedTarget>,
    index: HashMap<HealthCheckedTarget, u32>,
}

impl Targets {
    /// The target's position.
    pub(crate) fn add(&mut self, target: &HealthCheckedTarget) -> u32 {
        if let Some(known) = self.index.get(target) {
            return *known;
        }
        let position = self.all.len() as u32;
        self.all.push(target.clone());
        self.index.insert(target.clone(), position);
        position
    }

    pub(crate) fn into_all(self) -> Vec<HealthCheckedTarget> {
        self.all
    }
}
