//! What an operator asks of this service.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

use crate::connect::api::{State, Status};
use crate::connect::apply::Applied;

/// A connector of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectorLabels {
    connector: &'static str,
}

/// A connector and a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectorStateLabels {
    connector: &'static str,
    state: &'static str,
}

/// A task and a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct TaskStateLabels {
    connector: &'static str,
    task: u32,
    state: &'static str,
}

/// Tables, connectors, tasks.
#[derive(Debug, Clone)]
pub struct SinkMetrics {
    /// 1 once the tables are up to date.
    pub tables_ready: Gauge,
    /// 1 while Connect answers.
    pub connect_up: Gauge,
    connector_state: Family<ConnectorStateLabels, Gauge>,
    task_state: Family<TaskStateLabels, Gauge>,
    restarts: Family<ConnectorLabels, Counter>,
    applied: Family<ConnectorLabels, Counter>,
    /// Tasks that are shown, so that those that are gone can be taken away.
    tasks: Arc<Mutex<BTreeSet<(&'static str, u32)>>>,
}

impl SinkMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            tables_ready: metrics.gauge("tables_ready", "1 once the tables are up to date"),
            connect_up: metrics.gauge("connect_up", "1 while Kafka Connect answers"),
            connector_state: metrics.family("connector_state", "1 for the state that a connector is in"),
            task_state: metrics.family("task_state", "1 for the state that a task is in"),
            restarts: metrics.family("restarts", "Restarts of a connector's failed parts"),
            applied: metrics.family("connector_applied", "Times that a connector was made or changed"),
            tasks: Arc::default(),
        }
    }

    /// Shows each counter at 0, for rates from the first restart on.
    pub fn expect(&self, connector: &'static str) {
        let labels = ConnectorLabels { connector };
        drop((self.restarts.get_or_create(&labels), self.applied.get_or_create(&labels)));
        self.show(connector, None);
    }

    /// What failed of a connector was restarted.
    pub fn restarted(&self, connector: &'static str) {
        self.restarts.get_or_create(&ConnectorLabels { connector }).inc();
    }

    /// A connector was held against what it ought to be; only a difference counts.
    pub fn applied(&self, connector: &'static str, applied: &Applied) {
        if *applied != Applied::Unchanged {
            self.applied.get_or_create(&ConnectorLabels { connector }).inc();
        }
    }

    /// The connector's state and its tasks'; with `None` it is in no state and has no tasks.
    pub fn show(&self, connector: &'static str, status: Option<&Status>) {
        for state in State::ALL {
            let labels = ConnectorStateLabels { connector, state: state.name() };
            let is = status.is_some_and(|status| status.connector.state == state);
            self.connector_state.get_or_create(&labels).set(i64::from(is));
        }
        let tasks = status.map_or(&[][..], |status| &status.tasks);
        for (task, state) in tasks.iter().flat_map(|task| State::ALL.map(|state| (task, state))) {
            let labels = TaskStateLabels { connector, task: task.id, state: state.name() };
            self.task_state.get_or_create(&labels).set(i64::from(task.instance.state == state));
        }
        let now: BTreeSet<_> = tasks.iter().map(|task| (connector, task.id)).collect();
        let mut shown = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, task) in shown.iter().filter(|key| key.0 == connector && !now.contains(key)) {
            for state in State::ALL {
                self.task_state.remove(&TaskStateLabels { connector, task: *task, state: state.name() });
            }
        }
        shown.retain(|(of, _)| *of != connector);
        shown.extend(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::api::{Instance, Task};

    fn instance(state: State) -> Instance {
        Instance { state, trace: None }
    }

    #[test]
    fn each_connector_and_task_is_in_one_state_and_a_task_that_is_gone_in_none() {
        let metrics = Metrics::new("jdbc_sink");
        let sink = SinkMetrics::new(&metrics);
        sink.expect("a");
        assert!(metrics.render().contains("jdbc_sink_restarts_total{connector=\"a\"} 0"));
        assert!(metrics.render().contains("jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 0"));
        let tasks = vec![Task { id: 0, instance: instance(State::Failed) }];
        sink.show("a", Some(&Status { connector: instance(State::Running), tasks }));
        let text = metrics.render();
        assert!(text.contains("jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 1"), "{text}");
        assert!(
            text.contains("jdbc_sink_task_state{connector=\"a\",task=\"0\",state=\"FAILED\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("jdbc_sink_task_state{connector=\"a\",task=\"0\",state=\"RUNNING\"} 0"),
            "{text}"
        );
        sink.show("a", None);
        let text = metrics.render();
        assert!(text.contains("jdbc_sink_connector_state{connector=\"a\",state=\"RUNNING\"} 0"), "{text}");
        assert!(!text.contains("jdbc_sink_task_state{"), "{text}");
    }
}
