//! How the connectors are, and how far: what `status` tells.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::Failure;
use serde::Serialize;
use tokio::time::timeout;

use super::{Obstacle, Probe, Seen};
use crate::Config;
use crate::connect::api::ConnectApi;
use crate::kafka::progress::{Lag, Progress, lag};
use crate::kafka::reader::Reader;
use crate::sink::Pair;

/// Who asks wants an answer, also from servers that hang.
const LONGEST: Duration = Duration::from_secs(30);

/// One connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectorStatus {
    /// Its name.
    pub connector: &'static str,
    /// The topic that it reads.
    pub topic: String,
    /// The table that it writes.
    pub table: &'static str,
    /// Whether it and all its tasks run.
    pub running: bool,
    /// If not: its state and its tasks'.
    pub trouble: Option<String>,
    /// What ended it, if it has failed.
    pub cause: Option<String>,
    /// What no restart mends, if that was found to be the cause.
    pub obstacle: Option<Obstacle>,
    /// What waits for it; `None` if Kafka does not tell.
    pub lag: Option<Lag>,
    /// How many records its dead-letter topic holds; `None` if Kafka does not tell.
    pub dead_letters: Option<i64>,
    /// Why Kafka does not tell.
    pub kafka: Option<String>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// All run, and Kafka answers.
    pub well: bool,
    /// Each of them.
    pub connectors: Vec<ConnectorStatus>,
}

/// Asks Connect and Kafka, once.
///
/// # Errors
/// If the configuration is wrong; servers that do not answer are a part of the answer.
pub async fn status(config: &Config) -> Result<Status, Failure> {
    let api = ConnectApi::new(&config.connect.url)?;
    let mut connectors = Vec::new();
    for pair in Pair::all(&config.topics) {
        let seen = match api.status(pair.connector).await {
            Ok(status) => status.map_or(Seen::Missing, Seen::There),
            Err(_) => Seen::Nothing,
        };
        let asked = timeout(LONGEST, Box::pin(of_kafka(config, &pair))).await;
        let told = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {LONGEST:?}").into()));
        let obstacle = match seen.cause() {
            Some(failed) => Box::pin(Probe::new(config, pair.clone())?.look(&failed)).await,
            None => None,
        };
        connectors.push(ConnectorStatus { obstacle, ..ConnectorStatus::of(&pair, &seen, told) });
    }
    let well = connectors.iter().all(|found| found.running && found.kafka.is_none());
    Ok(Status { well, connectors })
}

/// Lag and dead letters.
async fn of_kafka(config: &Config, pair: &Pair) -> Result<(Lag, i64), Failure> {
    let (reader, progress) = (Reader::new(&config.kafka, &pair.topic)?, Progress::new(&config.kafka, pair)?);
    let lag = lag(&reader, &progress, now()).await?;
    let letters = Reader::new(&config.kafka, &pair.dead_letters())?.extent().await?;
    Ok((lag, letters.iter().map(|range| range.to - range.from).sum()))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl ConnectorStatus {
    fn of(pair: &Pair, seen: &Seen, kafka: Result<(Lag, i64), Failure>) -> Self {
        let trouble = seen.trouble();
        let (told, failure) = match kafka {
            Ok(told) => (Some(told), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        Self {
            connector: pair.connector,
            topic: pair.topic.clone(),
            table: pair.table.name,
            running: trouble.is_none(),
            trouble,
            cause: seen.cause().map(|cause| cause.to_string()),
            obstacle: None,
            lag: told.map(|(lag, _)| lag),
            dead_letters: told.map(|(_, letters)| letters),
            kafka: failure,
        }
    }
}

impl Status {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for found in &self.connectors {
            let state = found.trouble.as_deref().unwrap_or("RUNNING");
            let mut line = format!("{} ({} to {}): {state}", found.connector, found.topic, found.table);
            if let Some(obstacle) = &found.obstacle {
                line = format!("{line}: {obstacle}");
            } else if let Some(cause) = &found.cause {
                line = format!("{line}: {cause}");
            }
            if let Some(Lag { records, seconds }) = found.lag {
                line = format!("{line}; lag {records} records, {seconds} s");
            }
            if let Some(letters) = found.dead_letters {
                line = format!("{line}; {letters} dead letters");
            }
            if let Some(failure) = &found.kafka {
                line = format!("{line}; {failure}");
            }
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::responses::{self, Instance, State, Task};

    fn pair() -> Pair {
        let config: Config = common::config::load_from(None, []).unwrap();
        let [trades, _] = Pair::all(&config.topics);
        trades
    }

    fn status(of: ConnectorStatus) -> Status {
        Status { well: false, connectors: vec![of] }
    }

    #[test]
    fn a_failed_task_is_told_with_its_cause_and_what_waits() {
        let trace = Some("org.x.Outer: o\nCaused by: java.net.ConnectException: refused".to_owned());
        let task = Task { id: 0, instance: Instance { state: State::Failed, trace } };
        let connector = Instance { state: State::Running, trace: None };
        let seen = Seen::There(responses::Status { connector, tasks: vec![task] });
        let lag = Lag { records: 7, seconds: 3 };
        let status = status(ConnectorStatus::of(&pair(), &seen, Ok((lag, 2))));
        assert!(!status.connectors[0].running);
        assert_eq!(
            status.text(),
            "kstream-trades (deribit.trades to trades): RUNNING, task 0 FAILED: java.net.ConnectException: refused; \
             lag 7 records, 3 s; 2 dead letters\n"
        );
    }

    #[test]
    fn what_no_restart_mends_is_told_by_name_instead_of_the_cause() {
        let seen = Seen::Missing;
        let detail = "column iv is not there".to_owned();
        let obstacle = Some(Obstacle::Table { table: "trades", detail });
        let of = ConnectorStatus::of(&pair(), &seen, Ok((Lag::default(), 0)));
        let text = status(ConnectorStatus { obstacle, ..of }).text();
        assert!(text.contains("table trades was changed by hand: column iv is not there; lag 0"), "{text}");
    }

    #[test]
    fn servers_that_do_not_answer_are_a_part_of_the_answer() {
        let away = Err(anyhow::anyhow!("kafka: away").into());
        let status = status(ConnectorStatus::of(&pair(), &Seen::Nothing, away));
        assert_eq!((status.connectors[0].lag, status.connectors[0].dead_letters), (None, None));
        assert!(status.text().ends_with("kafka connect does not answer; kafka: away\n"), "{}", status.text());
    }
}
