//! Metrics of connectors and tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use strum::VariantArray as _;

use crate::connect::responses::{ConnectorStateInfo, RunState};
use crate::labels::ConnectorLabel;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectorStateLabels {
    connector: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskStateLabels {
    connector: &'static str,
    task: u32,
    state: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct MonitorMetrics {
    connector_state: Family<ConnectorStateLabels, Gauge>,
    task_state: Family<TaskStateLabels, Gauge>,
    restarts: Family<ConnectorLabel, Counter>,
    blocked: Family<ConnectorLabel, Gauge>,
    /// The tasks with a metric, so that the metric of a removed task can be removed.
    shown_tasks: Arc<Mutex<BTreeMap<&'static str, BTreeSet<u32>>>>,
}

impl MonitorMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            connector_state: metrics.family("connector_state", "1 for the current state of a connector"),
            task_state: metrics.family("task_state", "1 for the current state of a task"),
            restarts: metrics.family("restarts", "Restarts of a failed connector or of its failed tasks"),
            blocked: metrics
                .family("connector_blocked", "1 while a record or the table blocks the connector"),
            shown_tasks: Arc::default(),
        }
    }

    /// Shows the counter at 0, so that the first restart already has a rate.
    pub(crate) fn register(&self, connector: &'static str) {
        drop(self.restarts.get_or_create(&ConnectorLabel { connector }));
        self.set_blocked(connector, false);
        self.show_state(connector, None);
    }

    pub(crate) fn count_restart(&self, connector: &'static str) {
        self.restarts.get_or_create(&ConnectorLabel { connector }).inc();
    }

    pub(crate) fn set_blocked(&self, connector: &'static str, blocked: bool) {
        self.blocked.get_or_create(&ConnectorLabel { connector }).set(i64::from(blocked));
    }

    /// Without `info`, the connector is in no state and has no tasks.
    pub(crate) fn show_state(&self, connector: &'static str, info: Option<&ConnectorStateInfo>) {
        for state in RunState::VARIANTS {
            let labels = ConnectorStateLabels { connector, state: state.name() };
            let is_current = info.is_some_and(|info| info.connector.state == *state);
            self.connector_state.get_or_create(&labels).set(i64::from(is_current));
        }
        let tasks = info.map_or(&[][..], |info| &info.tasks);
        for task in tasks {
            for state in RunState::VARIANTS {
                let labels = TaskStateLabels { connector, task: task.id, state: state.name() };
                self.task_state.get_or_create(&labels).set(i64::from(task.instance.state == *state));
            }
        }
        let current: BTreeSet<_> = tasks.iter().map(|task| task.id).collect();
        let mut shown = self.shown_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.insert(connector, current.clone()).unwrap_or_default();
        for task in before.difference(&current) {
            for state in RunState::VARIANTS {
                self.task_state.remove(&TaskStateLabels { connector, task: *task, state: state.name() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::responses::{InstanceState, TaskState};

    fn instance(state: RunState) -> InstanceState {
        InstanceState { state, trace: None }
    }

    #[test]
    fn each_connector_and_task_has_one_state_and_a_removed_task_has_none() {
        let registry = Metrics::new("jdbc_sink");
        let metrics = MonitorMetrics::new(&registry);
        metrics.register("a");
        assert!(registry.render().contains("jdbc_sink_restarts_total{connector=\"a\"} 0"));
        assert!(registry.render().contains("jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 0"));
        let tasks = vec![TaskState { id: 0, instance: instance(RunState::Failed) }];
        let info = ConnectorStateInfo { connector: instance(RunState::Running), tasks };
        metrics.show_state("a", Some(&info));
        let text = registry.render();
        for line in [
            "jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 1",
            "jdbc_sink_task_state{connector=\"a\",task=\"0\",state=\"FAILED\"} 1",
            "jdbc_sink_task_state{connector=\"a\",task=\"0\",state=\"RUNNING\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        metrics.show_state("a", None);
        let text = registry.render();
        assert!(text.contains("jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 0"), "{text}");
        assert!(!text.contains("jdbc_sink_task_state{"), "{text}");
    }
}
