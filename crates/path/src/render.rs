//! An explanation for people: one line per hop, then why and what to change.

use crate::trace::{Explanation, Reachability, State};
use std::fmt;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.question)?;
        writeln!(f)?;
        let shown =
            self.steps.iter().filter(|step| !matches!(step.state, State::Drop | State::Forward));
        let width = shown.clone().map(|step| step.state.code().len()).max().unwrap_or_default();
        for (number, step) in shown.enumerate() {
            let mark = if step.refusal.is_some() { "✗" } else { " " };
            let state = step.state.code();
            writeln!(f, "{mark}{:>3}  {state:<width$}  {}", number + 1, step.description)?;
            let indent = width + 8;
            // What lies behind a hop that passed is in --json.
            if step.refusal.is_some() || step.state == State::RunApiProxy {
                for line in &step.details {
                    writeln!(f, "{:indent$}{line}", "")?;
                }
            }
            for near in &step.near_misses {
                writeln!(f, "{:indent$}near miss: {near}", "")?;
            }
        }
        writeln!(f)?;
        let answer = &self.answer;
        match self.result {
            Reachability::Reachable => writeln!(f, "REACHABLE: {}", answer.seen)?,
            Reachability::Unreachable => writeln!(f, "UNREACHABLE: {}", answer.seen)?,
            Reachability::Undetermined => writeln!(f, "UNDETERMINED: {}", answer.seen)?,
        }
        if let Some(reason) = answer.reason {
            let why = answer.why.as_deref().unwrap_or_else(|| reason.summary());
            writeln!(f, "  why: {reason}: {why}")?;
        }
        if let Some(fix) = &answer.fix {
            writeln!(f, "  fix: {fix}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}
