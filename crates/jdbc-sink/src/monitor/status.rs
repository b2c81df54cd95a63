//! The command `status`: state, lag and dead letters of each connector.

use std::fmt::Write as _;
use std::time::Duration;

use common::Failure;
use common::clock::now_millis;
use common::config::{KafkaConfig, SchemaRegistryConfig};
use serde::Serialize;
use tokio::time::timeout;

use super::diagnosis::{Blocker, Diagnosis};
use super::restart_policy::Observation;
use crate::connect::api::ConnectApi;
use crate::kafka::progress::{CommittedOffsets, Lag, lag};
use crate::kafka::reader::RangeReader;
use crate::postgres::connection::Database;
use crate::postgres::connection::PostgresConfig;
use crate::sink::Sink;

/// The command also ends if Kafka hangs.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConnectorStatus {
    connector: &'static str,
    topic: String,
    table: &'static str,
    /// Whether the connector and all its tasks run.
    running: bool,
    /// Otherwise their states.
    problem: Option<String>,
    /// The exception of a failed task.
    cause: Option<String>,
    blocked_by: Option<Blocker>,
    /// `None` with a `kafka_error`.
    lag: Option<Lag>,
    /// Records in the dead-letter topic; `None` with a `kafka_error`.
    dead_letters: Option<i64>,
    kafka_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatusReport {
    /// Every connector runs, and Kafka responds.
    pub(crate) healthy: bool,
    connectors: Vec<ConnectorStatus>,
}

/// Lag and dead letters of one sink.
struct TopicStatus {
    lag: Lag,
    dead_letters: i64,
}

/// Asks Connect and Kafka once.
///
/// # Errors
/// If the configuration is wrong. An unavailable server is a part of the report.
pub(crate) async fn status(
    sinks: &[Sink],
    api: &ConnectApi,
    kafka: &KafkaConfig,
    registry: &SchemaRegistryConfig,
    postgres: &PostgresConfig,
) -> Result<StatusReport, Failure> {
    let mut connectors = Vec::new();
    for sink in sinks {
        let observation = match api.status(sink.connector).await {
            Ok(info) => info.map_or(Observation::Missing, Observation::Found),
            Err(_) => Observation::ConnectUnavailable,
        };
        let topic_status = timeout(KAFKA_TIMEOUT, Box::pin(topic_status(kafka, sink))).await;
        let topic_status = topic_status
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no response within {KAFKA_TIMEOUT:?}").into()));
        let blocked_by = match observation.failure() {
            Some(failure) => {
                let database = Database::new(postgres)?;
                let mut diagnosis = Diagnosis::new(sink.clone(), kafka, registry, database)?;
                Box::pin(diagnosis.find_blocker(&failure)).await
            }
            None => None,
        };
        connectors
            .push(ConnectorStatus { blocked_by, ..ConnectorStatus::new(sink, &observation, topic_status) });
    }
    let healthy = connectors.iter().all(|found| found.running && found.kafka_error.is_none());
    Ok(StatusReport { healthy, connectors })
}

async fn topic_status(kafka: &KafkaConfig, sink: &Sink) -> Result<TopicStatus, Failure> {
    let reader = RangeReader::new(kafka, sink.topic())?;
    let lag = lag(&reader, &CommittedOffsets::new(kafka, sink)?, now_millis()).await?;
    let dead_letters = RangeReader::new(kafka, &sink.dead_letter_topic())?.ranges().await?;
    Ok(TopicStatus { lag, dead_letters: dead_letters.iter().map(|range| range.to - range.from).sum() })
}

impl ConnectorStatus {
    fn new(sink: &Sink, observation: &Observation, topics: Result<TopicStatus, Failure>) -> Self {
        let problem = observation.problem();
        let (topics, kafka_error) = match topics {
            Ok(topics) => (Some(topics), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        Self {
            connector: sink.connector,
            topic: sink.topic().to_owned(),
            table: sink.table.name,
            running: problem.is_none(),
            problem,
            cause: observation.failure().map(|failure| failure.to_string()),
            blocked_by: None,
            lag: topics.as_ref().map(|topics| topics.lag),
            dead_letters: topics.map(|topics| topics.dead_letters),
            kafka_error,
        }
    }
}

impl StatusReport {
    /// One line for each connector.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for found in &self.connectors {
            let state = found.problem.as_deref().unwrap_or("RUNNING");
            let mut line = format!("{} ({} to {}): {state}", found.connector, found.topic, found.table);
            if let Some(blocker) = &found.blocked_by {
                line = format!("{line}: {blocker}");
            } else if let Some(cause) = &found.cause {
                line = format!("{line}: {cause}");
            }
            if let Some(Lag { records, seconds }) = found.lag {
                line = format!("{line}; lag {records} records, {seconds} s");
            }
            if let Some(dead_letters) = found.dead_letters {
                line = format!("{line}; {dead_letters} dead letters");
            }
            if let Some(error) = &found.kafka_error {
                line = format!("{line}; {error}");
            }
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::responses::{ConnectorStateInfo, InstanceState, RunState, TaskState};

    fn sink() -> Sink {
        let config: crate::Config = common::config::load_from(None, []).unwrap();
        let [trades, _] = Sink::all(&config.topics);
        trades
    }

    fn report(of: ConnectorStatus) -> StatusReport {
        StatusReport { healthy: false, connectors: vec![of] }
    }

    #[test]
    fn a_failed_task_is_shown_with_its_cause_and_the_lag() {
        let trace = Some("org.x.Outer: o\nCaused by: java.net.ConnectException: refused".to_owned());
        let task = TaskState { id: 0, instance: InstanceState { state: RunState::Failed, trace } };
        let connector = InstanceState { state: RunState::Running, trace: None };
        let observation = Observation::Found(ConnectorStateInfo { connector, tasks: vec![task] });
        let topics = TopicStatus { lag: Lag { records: 7, seconds: 3 }, dead_letters: 2 };
        let report = report(ConnectorStatus::new(&sink(), &observation, Ok(topics)));
        assert!(!report.connectors[0].running);
        assert_eq!(
            report.text(),
            "kstream-trades (deribit.trades to trades): RUNNING, task 0 FAILED: java.net.ConnectException: refused; \
             lag 7 records, 3 s; 2 dead letters\n"
        );
    }

    #[test]
    fn a_blocker_is_shown_instead_of_the_cause() {
        let detail = "column iv is missing".to_owned();
        let blocked_by = Some(Blocker::Table { table: "trades", detail });
        let topics = TopicStatus { lag: Lag::default(), dead_letters: 0 };
        let status = ConnectorStatus::new(&sink(), &Observation::Missing, Ok(topics));
        let text = report(ConnectorStatus { blocked_by, ..status }).text();
        assert!(text.contains("table trades was changed by hand: column iv is missing; lag 0"), "{text}");
    }

    #[test]
    fn an_unavailable_server_is_a_part_of_the_report() {
        let unavailable = Err(anyhow::anyhow!("kafka: unavailable").into());
        let status = ConnectorStatus::new(&sink(), &Observation::ConnectUnavailable, unavailable);
        assert_eq!((status.lag, status.dead_letters), (None, None));
        let text = report(status).text();
        assert!(text.ends_with("kafka connect does not answer; kafka: unavailable\n"), "{text}");
    }
}
