//! What an operator asks of this service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

use crate::connect::apply::Applied;
use crate::connect::responses::{State, Status};
use crate::dead_letters::BROUGHT_BACK;
use crate::kafka::progress::Lag;
use crate::record::Reason;

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

/// A connector and why it has dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeadLetterLabels {
    connector: &'static str,
    reason: String,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabels {
    table: &'static str,
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
    lag_records: Family<ConnectorLabels, Gauge>,
    lag_seconds: Family<ConnectorLabels, Gauge>,
    dead_letters: Family<DeadLetterLabels, Gauge>,
    requeued: Family<ConnectorLabels, Gauge>,
    refused: Family<ConnectorLabels, Gauge>,
    verified_at: Family<TableLabels, Gauge>,
    verified_same: Family<TableLabels, Gauge>,
    deleted: Family<TableLabels, Counter>,
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
            lag_records: metrics.family("lag_records", "Records that the connector has not brought yet"),
            lag_seconds: metrics.family("lag_seconds", "Age of the oldest of them, by the exchange's clock"),
            dead_letters: metrics.family("dead_letters", "Dead letters that stay, by reason"),
            requeued: metrics
                .family("dead_letters_brought_back", "Dead letters that were good and got their row"),
            refused: metrics
                .family("refused", "1 while a record, or the table, keeps the connector from going on"),
            verified_at: metrics
                .family("last_verify_timestamp_seconds", "When `verify` last compared a table, since 1970"),
            verified_same: metrics
                .family("last_verify_same", "1 if the table held what its topic holds then"),
            deleted: metrics
                .family("retention_deleted", "Rows deleted as they were older than they are kept"),
            tasks: Arc::default(),
        }
    }

    /// What waits for a connector.
    pub fn lag(&self, connector: &'static str, Lag { records, seconds }: Lag) {
        self.lag_records.get_or_create(&ConnectorLabels { connector }).set(records);
        self.lag_seconds.get_or_create(&ConnectorLabels { connector }).set(seconds);
    }

    /// How a connector's dead letters were decided, since the database was made.
    pub fn dead_letters(&self, connector: &'static str, by_reason: &BTreeMap<String, i64>) {
        let good = by_reason.get(BROUGHT_BACK).copied().unwrap_or_default();
        self.requeued.get_or_create(&ConnectorLabels { connector }).set(good);
        // What is decided anew leaves its reason.
        for reason in Reason::ALL {
            let labels = DeadLetterLabels { connector, reason: reason.name().into() };
            self.dead_letters.get_or_create(&labels).set(0);
        }
        for (reason, count) in by_reason.iter().filter(|(reason, _)| *reason != BROUGHT_BACK) {
            let labels = DeadLetterLabels { connector, reason: reason.clone() };
            self.dead_letters.get_or_create(&labels).set(*count);
        }
    }

    /// Whether a connector is kept from going on by something that no restart mends.
    pub fn refused(&self, connector: &'static str, refused: bool) {
        self.refused.get_or_create(&ConnectorLabels { connector }).set(i64::from(refused));
    }

    /// When a table was last compared, in seconds since 1970, and whether it held what its topic holds.
    pub fn verified(&self, table: &'static str, (at, same): (i64, bool)) {
        self.verified_at.get_or_create(&TableLabels { table }).set(at);
        self.verified_same.get_or_create(&TableLabels { table }).set(i64::from(same));
    }

    /// So many rows were deleted.
    pub fn deleted(&self, table: &'static str, rows: u64) {
        self.deleted.get_or_create(&TableLabels { table }).inc_by(rows);
    }

    /// Shows each counter at 0, for rates from the first restart on.
    pub fn expect(&self, connector: &'static str) {
        let labels = ConnectorLabels { connector };
        drop((self.restarts.get_or_create(&labels), self.applied.get_or_create(&labels)));
        self.refused(connector, false);
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
    use crate::connect::responses::{Instance, Task};

    fn instance(state: State) -> Instance {
        Instance { state, trace: None }
    }

    #[test]
    fn dead_letters_that_stay_are_told_from_those_that_were_brought_back() {
        let metrics = Metrics::new("jdbc_sink");
        let sink = SinkMetrics::new(&metrics);
        sink.lag("a", Lag { records: 7, seconds: 2 });
        sink.dead_letters("a", &BTreeMap::from([("brought_back".into(), 5), ("malformed".into(), 2)]));
        sink.verified("trades", (1_700_000_000, true));
        sink.deleted("trades", 5);
        let text = metrics.render();
        for line in [
            "jdbc_sink_last_verify_timestamp_seconds{table=\"trades\"} 1700000000",
            "jdbc_sink_last_verify_same{table=\"trades\"} 1",
            "jdbc_sink_retention_deleted_total{table=\"trades\"} 5",
            "jdbc_sink_lag_records{connector=\"a\"} 7",
            "jdbc_sink_lag_seconds{connector=\"a\"} 2",
            "jdbc_sink_dead_letters{connector=\"a\",reason=\"malformed\"} 2",
            "jdbc_sink_dead_letters_brought_back{connector=\"a\"} 5",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("reason=\"brought_back\""), "{text}");
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
