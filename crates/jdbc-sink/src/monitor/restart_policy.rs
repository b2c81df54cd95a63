//! What is to be done about one connector: states in, actions out, without I/O or clock.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::backoff::Backoff;

use super::failed_task::Failed;
use crate::connect::responses::{Instance, State, Status};

/// Between two attempts to bring a connector back.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);

/// A restarted task is RUNNING for some seconds before it fails again: only one that stays so has been brought back.
const PROVEN: Duration = Duration::from_secs(60);

/// What was found when a connector was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Connect did not answer.
    Nothing,
    /// Connect has no such connector.
    Missing,
    /// It is there, but these keys of its configuration are not as they ought to be.
    Changed(Vec<String>),
    /// This.
    There(Status),
}

impl Seen {
    /// Why the connector does not work; `None` if it and every task of it run.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("kafka connect does not answer".into()),
            Self::Missing => Some("missing".into()),
            Self::Changed(keys) => Some(format!("changed by hand: {}", keys.join(", "))),
            Self::There(status) if status.tasks.is_empty() => {
                Some(format!("{}, no task", state_of(&status.connector)))
            }
            Self::There(status) if instances(status).all(|instance| instance.state == State::Running) => None,
            Self::There(status) => Some(summary(status)),
        }
    }

    /// What ended it, if it has failed.
    #[must_use]
    pub fn cause(&self) -> Option<Failed> {
        let Self::There(status) = self else { return None };
        let failed = instances(status).find(|instance| instance.state == State::Failed)?;
        Some(Failed::of(failed.trace.as_deref().unwrap_or("no trace")))
    }

    /// Whether Connect is about to get the connector to work by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::There(status) = self else { return false };
        instances(status)
            .all(|instance| matches!(instance.state, State::Running | State::Unassigned | State::Restarting))
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::There(status) if instances(status).any(|instance| instance.state == State::Failed))
    }
}

fn instances(status: &Status) -> impl Iterator<Item = &Instance> {
    std::iter::once(&status.connector).chain(status.tasks.iter().map(|task| &task.instance))
}

fn state_of(instance: &Instance) -> &'static str {
    instance.state.name()
}

fn summary(status: &Status) -> String {
    let mut text = state_of(&status.connector).to_owned();
    for task in &status.tasks {
        write!(text, ", task {} {}", task.id, state_of(&task.instance))
            .expect("writing to a string cannot fail");
    }
    text
}

/// What would bring a connector back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make it anew.
    Make,
    /// Restart what failed of it.
    Restart,
}

/// What follows from a look at a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It is not as it was at the last look that saw anything: worth a line in the log.
    pub changed: bool,
    /// What to do now.
    pub action: Option<Action>,
}

/// The story of one connector.
#[derive(Debug)]
pub struct Track {
    last: Option<Seen>,
    well_since: Option<Instant>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Default for Track {
    fn default() -> Self {
        Self { last: None, well_since: None, backoff: Backoff::new(SHORTEST, LONGEST), not_before: None }
    }
}

impl Track {
    /// Takes in what was seen at `now`, and says what follows.
    ///
    /// Attempts keep a growing distance until the connector has been well for a while. Paused and stopped connectors are somebody's
    /// intention and left alone; unassigned and restarting ones are Connect's own business.
    pub fn observe(&mut self, seen: Seen, now: Instant) -> Verdict {
        if seen == Seen::Nothing {
            self.well_since = None;
            return Verdict { changed: false, action: None };
        }
        if seen.trouble().is_some() {
            self.well_since = None;
        } else if now.duration_since(*self.well_since.get_or_insert(now)) >= PROVEN {
            self.backoff.reset();
            self.not_before = None;
        }
        let wanted = match &seen {
            Seen::Missing | Seen::Changed(_) => Some(Action::Make),
            failed if failed.has_failed() => Some(Action::Restart),
            _ => None,
        };
        let due = self.not_before.is_none_or(|at| now >= at);
        let action = wanted.filter(|_| due);
        if action.is_some() {
            self.not_before = Some(now + self.backoff.next_delay());
        }
        let changed = self.last.as_ref().is_none_or(|last| !is_same(last, &seen));
        self.last = Some(seen);
        Verdict { changed, action }
    }
}

/// Whether two looks saw the same, whatever the wording of the errors.
fn is_same(one: &Seen, other: &Seen) -> bool {
    one.trouble() == other.trouble()
}

#[cfg(test)]
#[path = "restart_policy_tests.rs"]
mod tests;
