//! Reads a sink's dead letters as they come, and requeues those that decode.

use std::time::{Duration, Instant};

use common::Failure;
use common::avro::registry::Registry;
use common::clock::now_millis;
use common::config::{KafkaConfig, SchemaRegistryConfig};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use tokio_postgres::{Client, Error};

use super::decision::DeadLetterDecision;
use super::headers::origin;
use super::metrics::DeadLetterMetrics;
use super::store::{self, Position};
use crate::kafka::progress::{CommittedOffsets, lag};
use crate::kafka::reader::{OffsetRange, RangeReader};
use crate::postgres::connection::Database;
use crate::postgres::errors::{connection_error, is_rejection, rejected_column, sql_message};
use crate::record::{RecordLocation, RowDecoder};
use crate::sink::Sink;

/// Letters of one transaction: while the registry is unavailable, Connect sends whole topics here. Connect's producer leaves no gaps, so
/// offsets count letters.
const BATCH: i64 = 500;
/// How long one letter waits for the registry before all of them do.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// From one retry of unresolved letters to the next.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Processes the dead letters of one sink, and shows its lag.
pub(crate) struct DeadLetterProcessor {
    sink: Sink,
    topic: RangeReader,
    dead_letters: RangeReader,
    committed: CommittedOffsets,
    decoder: RowDecoder,
    database: Database,
    client: Option<Client>,
    metrics: DeadLetterMetrics,
    retried_at: Option<Instant>,
    /// The error of the last poll.
    problem: Option<String>,
}

impl DeadLetterProcessor {
    /// Sends no request yet.
    pub(crate) fn new(
        sink: Sink,
        kafka: &KafkaConfig,
        registry: &SchemaRegistryConfig,
        database: Database,
        metrics: DeadLetterMetrics,
    ) -> Result<Self, Failure> {
        Ok(Self {
            topic: RangeReader::new(kafka, sink.topic())?,
            dead_letters: RangeReader::new(kafka, &sink.dead_letter_topic())?,
            committed: CommittedOffsets::new(kafka, &sink)?,
            decoder: RowDecoder::new(&sink, Registry::new(registry)?),
            database,
            client: None,
            metrics,
            retried_at: None,
            problem: None,
            sink,
        })
    }

    /// Runs until it is dropped, which is safe at any time: an uncommitted transaction has no effect.
    pub(crate) async fn run(&mut self, interval: Duration) {
        loop {
            let polled = self.poll().await;
            self.log_problem(polled.err().map(|failure| failure.to_string()));
            tokio::time::sleep(interval).await;
        }
    }

    fn log_problem(&mut self, problem: Option<String>) {
        let connector = self.sink.connector;
        match (&self.problem, &problem) {
            (None, Some(error)) => {
                tracing::warn!(connector, error, "cannot process lag and dead letters; retrying");
            }
            (Some(_), None) => tracing::info!(connector, "processing of lag and dead letters resumed"),
            _ => {}
        }
        self.problem = problem;
    }

    /// Processes what has come since the last poll.
    async fn poll(&mut self) -> Result<(), Failure> {
        let lag = lag(&self.topic, &self.committed, now_millis()).await?;
        self.metrics.show_lag(self.sink.connector, lag);
        let topic = self.sink.dead_letter_topic();
        let positions = store::positions(self.client().await?, &topic).await;
        let positions = positions.map_err(|error| self.disconnect(&error))?;
        for range in self.dead_letters.ranges().await? {
            let from = positions.get(&range.partition).map_or(range.from, |next| range.from.max(*next));
            self.process(OffsetRange { from, ..range }).await?;
        }
        if self.retried_at.is_none_or(|at| at.elapsed() >= RETRY_INTERVAL) {
            self.retry_unresolved().await?;
            self.retried_at = Some(Instant::now());
        }
        self.show().await
    }

    async fn show(&mut self) -> Result<(), Failure> {
        let sink = self.sink.clone();
        let counts = store::counts(self.client().await?, &sink).await;
        let counts = counts.map_err(|error| self.disconnect(&error))?;
        self.metrics.show_dead_letters(sink.connector, &counts);
        let last = store::last_verification(self.client().await?, &sink).await;
        if let Some(last) = last.map_err(|error| self.disconnect(&error))? {
            self.metrics.show_verification(sink.table.name, &last);
        }
        Ok(())
    }

    /// The registry may know a schema now that it did not know before, and the table may accept a row again. So the records are read once
    /// more where they came from.
    async fn retry_unresolved(&mut self) -> Result<(), Failure> {
        let sink = self.sink.clone();
        let unresolved = store::unresolved(self.client().await?, &sink, BATCH).await;
        for location in unresolved.map_err(|error| self.disconnect(&error))? {
            let RecordLocation { partition, offset, .. } = location;
            let range = OffsetRange { partition, from: offset, to: offset + 1 };
            let (decoder, mut decision) = (&mut self.decoder, None);
            let decide = async |record: &BorrowedMessage<'_>| {
                let outcome = decoder.decode_within(record.payload(), REGISTRY_TIMEOUT).await?;
                decision = Some(DeadLetterDecision::of_origin(location.clone(), outcome));
                Ok(())
            };
            self.topic.read(range, decide).await?;
            if let Some(decision) = decision {
                let decision = self.write_one(decision, None).await?;
                // Any other result was logged when the letter came.
                if decision.is_requeued() {
                    log_decision(&sink, &decision);
                }
            }
        }
        Ok(())
    }

    async fn client(&mut self) -> Result<&mut Client, Failure> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.database.connect().await?,
        };
        Ok(self.client.insert(client))
    }

    /// The next poll opens a new connection.
    fn disconnect(&mut self, error: &Error) -> Failure {
        self.client = None;
        connection_error(error)
    }

    async fn process(&mut self, mut range: OffsetRange) -> Result<(), Failure> {
        while range.from < range.to {
            let batch = OffsetRange { to: range.to.min(range.from.saturating_add(BATCH)), ..range };
            let decisions = self.decide(batch).await?;
            self.write(decisions, batch).await?;
            range.from = batch.to;
        }
        Ok(())
    }

    async fn decide(&mut self, batch: OffsetRange) -> Result<Vec<DeadLetterDecision>, Failure> {
        let (decoder, topic) = (&mut self.decoder, self.sink.topic());
        let mut decisions = Vec::new();
        let decide = async |letter: &BorrowedMessage<'_>| {
            let outcome = decoder.decode_within(letter.payload(), REGISTRY_TIMEOUT).await?;
            let location = RecordLocation::of(letter);
            decisions.push(DeadLetterDecision::new(location, origin(letter), topic, outcome));
            Ok(())
        };
        self.dead_letters.read(batch, decide).await?;
        Ok(decisions)
    }

    /// Writes all decisions in one transaction; if Postgres rejects one of them, each in its own.
    async fn write(&mut self, decisions: Vec<DeadLetterDecision>, batch: OffsetRange) -> Result<(), Failure> {
        let (sink, partition) = (self.sink.clone(), batch.partition);
        let end = Position { partition, next: batch.to };
        let written = store::write(self.client().await?, &sink, &decisions, Some(&end)).await;
        match written {
            Ok(()) => decisions.iter().for_each(|decision| log_decision(&sink, decision)),
            Err(error) if is_rejection(&error) => {
                // The position moves only after the last of them: a restart in between repeats them all.
                let begin = Position { partition, next: batch.from };
                for decision in decisions {
                    let decision = self.write_one(decision, Some(&begin)).await?;
                    log_decision(&sink, &decision);
                }
                let written = store::write(self.client().await?, &sink, &[], Some(&end)).await;
                written.map_err(|error| self.disconnect(&error))?;
            }
            Err(error) => return Err(self.disconnect(&error)),
        }
        Ok(())
    }

    /// Returns the decision as it was written: a rejected record is not requeued.
    async fn write_one(
        &mut self,
        decision: DeadLetterDecision,
        position: Option<&Position>,
    ) -> Result<DeadLetterDecision, Failure> {
        let sink = self.sink.clone();
        let one = std::slice::from_ref(&decision);
        match store::write(self.client().await?, &sink, one, position).await {
            Ok(()) => Ok(decision),
            Err(error) if is_rejection(&error) && decision.record.is_some() => {
                let detail = match rejected_column(&error, sink.table) {
                    Some(column) => format!("{}, column {column}", sql_message(&error)),
                    None => sql_message(&error),
                };
                let decision = decision.rejected(detail);
                let one = std::slice::from_ref(&decision);
                let written = store::write(self.client().await?, &sink, one, position).await;
                written.map_err(|error| self.disconnect(&error))?;
                Ok(decision)
            }
            Err(error) => Err(self.disconnect(&error)),
        }
    }
}

fn log_decision(sink: &Sink, decision: &DeadLetterDecision) {
    let (connector, DeadLetterDecision { location, reason, detail, .. }) = (sink.connector, decision);
    let RecordLocation { topic, partition, offset } = location;
    if decision.is_requeued() {
        tracing::info!(connector, topic, partition, offset, "dead letter requeued");
    } else {
        tracing::error!(connector, topic, partition, offset, reason, detail, "dead letter kept");
    }
}
