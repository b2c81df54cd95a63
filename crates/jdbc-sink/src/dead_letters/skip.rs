//! The command `skip`: a record that Postgres rejects becomes a dead letter, and the connector continues after it.
//!
//! Every record before it gets its row first. The command may be repeated wherever it ended: rows are upserts, and two letters of one
//! record count as one.

use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use common::config::{KafkaConfig, SchemaRegistryConfig, Service};
use common::kafka::client::{Role, config};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::decision::DeadLetterDecision;
use super::headers::headers;
use super::store;
use crate::connect::api::ConnectApi;
use crate::connect::responses::RunState;
use crate::kafka::kafka_error;
use crate::kafka::progress::CommittedOffsets;
use crate::kafka::reader::{OffsetRange, RangeReader};
use crate::postgres::connection::Database;
use crate::postgres::errors::{connection_error, is_rejection, sql_message};
use crate::record::{RecordLocation, RecordOutcome, RowDecoder};
use crate::sink::Sink;

/// For each step of a server.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Skips the record at `location`. The connector runs again afterwards, also after an error.
///
/// # Errors
/// If there is no such record, if the connector is already after it, if Postgres accepts it or rejects a record before it, or if a server
/// does not respond.
pub(crate) async fn skip(
    location: &RecordLocation,
    sinks: &[Sink],
    api: &ConnectApi,
    kafka: &KafkaConfig,
    registry: &SchemaRegistryConfig,
    database: &Database,
) -> Result<(), Failure> {
    let sink = sinks.iter().find(|sink| sink.topic() == location.topic);
    let sink = sink.ok_or_else(|| error(format!("no connector reads topic {}", location.topic)))?;
    let mut job = SkipJob {
        sink,
        location,
        api,
        kafka,
        topic: RangeReader::new(kafka, sink.topic())?,
        decoder: RowDecoder::new(sink, Registry::new(registry)?),
    };
    let record = job.read_record().await?;
    api.stop(sink.connector).await?;
    let skipped = job.run(&record, database).await;
    api.resume(sink.connector).await?;
    skipped
}

struct SkipJob<'a> {
    sink: &'a Sink,
    location: &'a RecordLocation,
    api: &'a ConnectApi,
    kafka: &'a KafkaConfig,
    topic: RangeReader,
    decoder: RowDecoder,
}

impl SkipJob<'_> {
    async fn read_record(&self) -> Result<OwnedMessage, Failure> {
        let RecordLocation { partition, offset, .. } = *self.location;
        let mut found = None;
        let ranges = self.topic.ranges().await?;
        if ranges.iter().any(|all| all.partition == partition && (all.from..all.to).contains(&offset)) {
            let each = async |message: &BorrowedMessage<'_>| {
                found = Some(message.detach());
                Ok(())
            };
            let only = OffsetRange { partition, from: offset, to: offset.saturating_add(1) };
            self.topic.read(only, each).await?;
        }
        found.ok_or_else(|| error("there is no committed record at this offset".into()))
    }

    /// Runs while the connector is stopped.
    async fn run(&mut self, record: &OwnedMessage, database: &Database) -> Result<(), Failure> {
        self.wait_until_stopped().await?;
        let RecordLocation { topic, partition, offset } = self.location;
        let before = self.unwritten_range().await?;
        let client = database.connect().await?;
        self.write_rows(&client, before).await?;
        let outcome = self.decoder.decode_within(record.payload(), TIMEOUT).await?;
        self.write_decision(client, outcome).await?;
        self.write_dead_letter(record).await?;
        let next = offset.saturating_add(1);
        Ok(self.api.set_offset(self.sink.connector, topic, *partition, next).await?)
    }

    async fn wait_until_stopped(&self) -> Result<(), Failure> {
        let (connector, deadline) = (self.sink.connector, Instant::now() + TIMEOUT);
        loop {
            let info = self.api.status(connector).await?;
            if info.is_some_and(|info| info.connector.state == RunState::Stopped && info.tasks.is_empty()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(error(format!("{connector} does not stop")));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The offsets before the record that the connector has not committed.
    async fn unwritten_range(&self) -> Result<OffsetRange, Failure> {
        let RecordLocation { partition, offset, .. } = *self.location;
        let all = OffsetRange { partition, from: 0, to: i64::MAX };
        let uncommitted = CommittedOffsets::new(self.kafka, self.sink)?.uncommitted(&[all]).await?;
        let from = uncommitted.first().map_or(0, |range| range.from);
        if from > offset {
            let connector = self.sink.connector;
            return Err(error(format!("{connector} is already after this record, at offset {from}")));
        }
        let ranges = self.topic.ranges().await?;
        let first = ranges.iter().find(|range| range.partition == partition).map_or(0, |range| range.from);
        Ok(OffsetRange { partition, from: from.max(first), to: offset })
    }

    /// If only its offset were moved, Connect would never write these records.
    async fn write_rows(&mut self, client: &Client, before: OffsetRange) -> Result<(), Failure> {
        let upsert = client.prepare(&self.sink.table.upsert()).await;
        let (upsert, decoder) = (upsert.map_err(|error| connection_error(&error))?, &mut self.decoder);
        let each = async |message: &BorrowedMessage<'_>| {
            // Connect converts a whole batch before it writes any of it. So an undecodable record is a dead letter already.
            let RecordOutcome::Decoded(record) = decoder.decode_within(message.payload(), TIMEOUT).await?
            else {
                return Ok(());
            };
            let written = client.execute(&upsert, &record.row().params()).await;
            written.map(drop).map_err(|cause| {
                let (offset, cause) = (message.offset(), sql_message(&cause));
                error(format!("a record before it, at offset {offset}: {cause}"))
            })
        };
        self.topic.read(before, each).await
    }

    /// Stores the decision that the processor will make about the letter. A record that Postgres accepts is not skipped.
    async fn write_decision(&self, mut client: Client, outcome: RecordOutcome) -> Result<(), Failure> {
        let mut decision = DeadLetterDecision::of_origin(self.location.clone(), outcome);
        if decision.record.is_some() {
            let one = std::slice::from_ref(&decision);
            decision = match store::write(&mut client, self.sink, one, None).await {
                Ok(()) => return Err(error("postgres accepts this record: it has its row now".into())),
                Err(error) if is_rejection(&error) => decision.rejected(sql_message(&error)),
                Err(error) => return Err(connection_error(&error)),
            };
        }
        let written = store::write(&mut client, self.sink, &[decision], None).await;
        written.map_err(|error| connection_error(&error))
    }

    async fn write_dead_letter(&self, record: &OwnedMessage) -> Result<(), Failure> {
        let producer: FutureProducer = config(self.kafka, Service::JdbcSink.name(), &Role::Producer)
            .create()
            .map_err(|error| kafka_error("client settings", error))?;
        let (topic, step) = (self.sink.dead_letter_topic(), "writing the dead letter");
        let message = "postgres rejects it; skipped by hand";
        let mut letter = FutureRecord::<[u8], [u8]>::to(&topic).headers(headers(
            self.location,
            self.sink.connector,
            message,
        ));
        (letter.key, letter.payload) = (record.key(), record.payload());
        letter.timestamp = record.timestamp().to_millis();
        match timeout(TIMEOUT, producer.send(letter, TIMEOUT)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(kafka_error(step, error)),
            Err(_) => Err(kafka_error(step, format!("no response within {TIMEOUT:?}"))),
        }
    }
}

fn error(message: String) -> Failure {
    Failure::Other(anyhow::anyhow!(message))
}
