//! Responses of Kafka Connect's REST API.

use serde::Deserialize;

/// State of a connector or of a task.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub(crate) enum RunState {
    Running,
    /// Ended by an error; stays so until it is restarted.
    Failed,
    /// Paused by a user: it keeps its tasks, which do nothing.
    Paused,
    /// Stopped by a user: it has no tasks.
    Stopped,
    /// No worker has taken it yet.
    Unassigned,
    Restarting,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl RunState {
    /// As Connect writes it.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ConnectorStateInfo {
    /// The connector itself only distributes tasks; it moves no records.
    pub(crate) connector: InstanceState,
    #[serde(default)]
    pub(crate) tasks: Vec<TaskState>,
}

/// A connector or a task on a worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct InstanceState {
    pub(crate) state: RunState,
    /// The Java stack trace of a failure.
    #[serde(default)]
    pub(crate) trace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct TaskState {
    /// Counts from 0.
    pub(crate) id: u32,
    #[serde(flatten)]
    pub(crate) instance: InstanceState,
}

/// An error that Connect's validation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    pub(crate) key: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PluginInfo {
    pub(crate) class: String,
}

#[derive(Deserialize)]
pub(super) struct ConfigInfos {
    configs: Vec<ConfigInfo>,
}

#[derive(Deserialize)]
struct ConfigInfo {
    value: ConfigValueInfo,
}

#[derive(Deserialize)]
struct ConfigValueInfo {
    name: String,
    errors: Vec<String>,
}

impl ConfigInfos {
    pub(super) fn problems(self) -> Vec<ConfigProblem> {
        let values = self.configs.into_iter().map(|config| config.value);
        values
            .flat_map(|ConfigValueInfo { name, errors }| {
                errors.into_iter().map(move |message| ConfigProblem { key: name.clone(), message })
            })
            .collect()
    }
}
