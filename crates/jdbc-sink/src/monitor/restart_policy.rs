//! Decides when a connector is restarted or recreated: observations in, actions out, without I/O or clock.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::backoff::Backoff;

use super::failed_task::TaskFailure;
use crate::connect::responses::{ConnectorStateInfo, InstanceState, RunState};

/// Between two attempts to restore a connector.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A restarted task is RUNNING for some seconds before it fails again. Only after this time is it restored, and the backoff starts over.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The result of polling one connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    ConnectUnavailable,
    /// Connect has no such connector.
    Missing,
    /// These keys of its configuration differ from the template.
    Changed(Vec<String>),
    Found(ConnectorStateInfo),
}

impl Observation {
    /// Why the connector does not work; `None` if the connector and all its tasks run.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::ConnectUnavailable => Some("kafka connect does not answer".into()),
            Self::Missing => Some("missing".into()),
            Self::Changed(keys) => Some(format!("changed by hand: {}", keys.join(", "))),
            Self::Found(info) if info.tasks.is_empty() => {
                Some(format!("{}, no task", info.connector.state.name()))
            }
            Self::Found(info) if instances(info).all(|instance| instance.state == RunState::Running) => None,
            Self::Found(info) => Some(states(info)),
        }
    }

    /// The cause of the failure, if the connector or a task has failed.
    pub(crate) fn failure(&self) -> Option<TaskFailure> {
        let Self::Found(info) = self else { return None };
        let failed = instances(info).find(|instance| instance.state == RunState::Failed)?;
        Some(TaskFailure::from_trace(failed.trace.as_deref().unwrap_or("no trace")))
    }

    /// Whether Connect itself is about to start the connector.
    pub(crate) fn is_starting(&self) -> bool {
        let starting = [RunState::Running, RunState::Unassigned, RunState::Restarting];
        matches!(self, Self::Found(info) if instances(info).all(|instance| starting.contains(&instance.state)))
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Found(info) if instances(info).any(|instance| instance.state == RunState::Failed))
    }
}

fn instances(info: &ConnectorStateInfo) -> impl Iterator<Item = &InstanceState> {
    std::iter::once(&info.connector).chain(info.tasks.iter().map(|task| &task.instance))
}

fn states(info: &ConnectorStateInfo) -> String {
    let mut text = info.connector.state.name().to_owned();
    for task in &info.tasks {
        write!(text, ", task {} {}", task.id, task.instance.state.name())
            .expect("writing to a string cannot fail");
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartAction {
    /// Create the connector, or correct its configuration.
    Apply,
    /// Restart the connector and its tasks where they have failed.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestartDecision {
    /// The problem differs from the last one: worth a log message.
    pub(crate) changed: bool,
    pub(crate) action: Option<RestartAction>,
}

/// The history of one connector.
#[derive(Debug)]
pub(crate) struct RestartPolicy {
    last: Option<Observation>,
    healthy_since: Option<Instant>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            last: None,
            healthy_since: None,
            backoff: Backoff::new(MIN_BACKOFF, MAX_BACKOFF),
            not_before: None,
        }
    }
}

impl RestartPolicy {
    /// Decides what follows from an observation at `now`.
    ///
    /// The delay between attempts grows until the connector has been healthy for a while. A user intends a paused or stopped connector;
    /// Connect itself takes care of an unassigned or restarting one. The policy leaves all of these alone.
    pub(crate) fn observe(&mut self, observation: Observation, now: Instant) -> RestartDecision {
        if observation == Observation::ConnectUnavailable {
            self.healthy_since = None;
            return RestartDecision { changed: false, action: None };
        }
        if observation.problem().is_some() {
            self.healthy_since = None;
        } else if now.duration_since(*self.healthy_since.get_or_insert(now)) >= HEALTHY_AFTER {
            self.backoff.reset();
            self.not_before = None;
        }
        let needed = match &observation {
            Observation::Missing | Observation::Changed(_) => Some(RestartAction::Apply),
            failed if failed.has_failed() => Some(RestartAction::Restart),
            _ => None,
        };
        let due = self.not_before.is_none_or(|at| now >= at);
        let action = needed.filter(|_| due);
        if action.is_some() {
            self.not_before = Some(now + self.backoff.next_delay());
        }
        // The text of an error may differ from poll to poll; the problem does not.
        let changed = self.last.as_ref().is_none_or(|last| last.problem() != observation.problem());
        self.last = Some(observation);
        RestartDecision { changed, action }
    }
}

#[cfg(test)]
#[path = "restart_policy_tests.rs"]
mod tests;
