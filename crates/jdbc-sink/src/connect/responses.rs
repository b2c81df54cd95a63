//! What Kafka Connect's REST API says of connectors, tasks and configurations.

use serde::Deserialize;

/// Where a connector or a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// At work.
    Running,
    /// Ended by an error; stays so until it is restarted.
    Failed,
    /// Paused by somebody: keeps its tasks, does nothing.
    Paused,
    /// Stopped by somebody: has no tasks.
    Stopped,
    /// On no worker at the moment.
    Unassigned,
    /// Being restarted.
    Restarting,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Failed,
        Self::Paused,
        Self::Stopped,
        Self::Unassigned,
        Self::Restarting,
        Self::Unknown,
    ];

    /// As Connect writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Failed => "FAILED",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
            Self::Unassigned => "UNASSIGNED",
            Self::Restarting => "RESTARTING",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What Connect says of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The connector itself, which does no more than hand out tasks.
    pub connector: Instance,
    /// Those that move the records.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

/// A connector or a task on a worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    /// Where it stands.
    pub state: State,
    /// The Java stack trace of what ended it.
    #[serde(default)]
    pub trace: Option<String>,
}

/// A task of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// Counts from 0.
    pub id: u32,
    /// The rest.
    #[serde(flatten)]
    pub instance: Instance,
}

/// An error that Connect found in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The key.
    pub key: String,
    /// What is wrong with its value.
    pub message: String,
}

/// A plugin that Connect has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plugin {
    /// Its class.
    pub class: String,
}

#[derive(Deserialize)]
pub(super) struct Validation {
    configs: Vec<Validated>,
}

#[derive(Deserialize)]
struct Validated {
    value: ValidatedValue,
}

#[derive(Deserialize)]
struct ValidatedValue {
    name: String,
    errors: Vec<String>,
}

impl Validation {
    /// What is wrong, key by key.
    pub(super) fn complaints(self) -> Vec<Complaint> {
        let values = self.configs.into_iter().map(|config| config.value);
        values
            .flat_map(|ValidatedValue { name, errors }| {
                errors.into_iter().map(move |message| Complaint { key: name.clone(), message })
            })
            .collect()
    }
}
