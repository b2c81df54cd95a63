//! Finds what no restart can fix: a table that was changed by hand, or a record that Postgres rejects.
//!
//! The trace of a failed task names neither topic nor offset. So the connector's own upsert writes the records after its committed
//! offsets, in a transaction that is rolled back. The record that Postgres rejects is the one that ends the task at every restart.

use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use common::config::{KafkaConfig, SchemaRegistryConfig};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use serde::Serialize;
use tokio_postgres::{Client, Error, Statement, Transaction};

use super::failed_task::TaskFailure;
use crate::kafka::progress::CommittedOffsets;
use crate::kafka::reader::{OffsetRange, RangeReader};
use crate::postgres::connection::Database;
use crate::postgres::errors::{connection_error, is_rejection, rejected_column, sql_message};
use crate::postgres::schema_check;
use crate::record::{DecodedRecord, NoRowReason, RecordLocation, RecordOutcome, RowDecoder};
use crate::sink::Sink;

/// Offsets tried in each partition: more than a task reads at once and leaves uncommitted.
const MAX_OFFSETS: i64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(45);
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// A lock of another session is no rejection.
const SET_TIMEOUTS: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'";

/// What blocks a connector, however often it is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Blocker {
    /// The table differs from the migrations.
    Table { table: &'static str, detail: String },
    /// Postgres rejects a record; `column` if it names one.
    Record { topic: String, partition: i32, offset: i64, column: Option<String>, detail: String },
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table { table, detail } => write!(f, "table {table} was changed by hand: {detail}"),
            Self::Record { topic, partition, offset, column, detail } => {
                write!(
                    f,
                    "postgres rejects the record of {topic} in partition {partition} at offset {offset}"
                )?;
                match column {
                    Some(column) => write!(f, ", column {column}: {detail}"),
                    None => write!(f, ": {detail}"),
                }
            }
        }
    }
}

/// Looks for what blocks one sink. It runs seldom, so its Kafka clients, with threads and buffers, exist only during a run.
pub(crate) struct Diagnosis {
    sink: Sink,
    kafka: KafkaConfig,
    decoder: RowDecoder,
    database: Database,
}

impl Diagnosis {
    pub(crate) fn new(
        sink: Sink,
        kafka: &KafkaConfig,
        registry: &SchemaRegistryConfig,
        database: Database,
    ) -> Result<Self, Failure> {
        let decoder = RowDecoder::new(&sink, Registry::new(registry)?);
        Ok(Self { kafka: kafka.clone(), decoder, database, sink })
    }

    /// `None` if nothing was found, or if a server did not respond: then a restart may help.
    pub(crate) async fn find_blocker(&mut self, failure: &TaskFailure) -> Option<Blocker> {
        if !failure.may_be_record_or_table() {
            return None;
        }
        match tokio::time::timeout(TIMEOUT, Box::pin(self.run(failure))).await {
            Ok(Ok(blocker)) => blocker,
            Ok(Err(error)) => {
                let connector = self.sink.connector;
                tracing::debug!(connector, %error, "could not look up the failed record");
                None
            }
            Err(_) => None,
        }
    }

    async fn run(&mut self, failure: &TaskFailure) -> Result<Option<Blocker>, Failure> {
        let mut client = self.database.connect().await?;
        let table = self.sink.table;
        let changes =
            schema_check::changes(&client, table).await.map_err(|error| connection_error(&error))?;
        if !changes.is_empty() {
            return Ok(Some(Blocker::Table { table: table.name, detail: changes.join("; ") }));
        }
        let trial = TrialWrite::begin(&mut client, &self.sink).await;
        let mut trial = trial.map_err(|error| connection_error(&error))?;
        let topic = RangeReader::new(&self.kafka, self.sink.topic())?;
        let committed = CommittedOffsets::new(&self.kafka, &self.sink)?;
        for range in committed.uncommitted(&topic.ranges().await?).await? {
            let first = OffsetRange { to: range.to.min(range.from.saturating_add(MAX_OFFSETS)), ..range };
            let (decoder, trial) = (&mut self.decoder, &mut trial);
            let each = async |message: &BorrowedMessage<'_>| {
                if trial.rejected.is_some() {
                    return Ok(());
                }
                let location = RecordLocation::of(message);
                match decoder.decode_within(message.payload(), REGISTRY_TIMEOUT).await? {
                    RecordOutcome::Decoded(record) => {
                        trial.write(location, &record).await.map_err(|error| connection_error(&error))
                    }
                    RecordOutcome::Undecodable(undecodable) => {
                        trial.note_undecodable(location, undecodable.reason);
                        Ok(())
                    }
                }
            };
            topic.read(first, each).await?;
        }
        Ok(trial.conclude(failure))
    }
}

/// A transaction that is rolled back when it is dropped.
struct TrialWrite<'a> {
    sink: &'a Sink,
    transaction: Transaction<'a>,
    upsert: Statement,
    rejected: Option<Blocker>,
    /// The first record that Connect may decode by a schema of its own, with a null that the contract does not allow.
    malformed: Option<RecordLocation>,
}

impl<'a> TrialWrite<'a> {
    async fn begin(client: &'a mut Client, sink: &'a Sink) -> Result<Self, Error> {
        let transaction = client.transaction().await?;
        transaction.batch_execute(SET_TIMEOUTS).await?;
        let upsert = transaction.prepare(&sink.table.upsert()).await?;
        Ok(Self { sink, transaction, upsert, rejected: None, malformed: None })
    }

    /// Notes a rejection.
    ///
    /// # Errors
    /// Any other error.
    async fn write(&mut self, location: RecordLocation, record: &DecodedRecord) -> Result<(), Error> {
        match self.transaction.execute(&self.upsert, &record.row().params()).await {
            Ok(_) => Ok(()),
            Err(error) if is_rejection(&error) => {
                let column = rejected_column(&error, self.sink.table);
                self.rejected = Some(Blocker::record(location, column, sql_message(&error)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn note_undecodable(&mut self, location: RecordLocation, reason: NoRowReason) {
        if reason == NoRowReason::Malformed && self.malformed.is_none() {
            self.malformed = Some(location);
        }
    }

    fn conclude(self, failure: &TaskFailure) -> Option<Blocker> {
        let Self { rejected, malformed, .. } = self;
        rejected.or_else(|| {
            let column = failure.null_column()?;
            let detail =
                "null, which neither the table nor the contract allows; the record has a foreign schema";
            malformed.map(|location| Blocker::record(location, Some(column), detail.to_owned()))
        })
    }
}

impl Blocker {
    fn record(location: RecordLocation, column: Option<String>, detail: String) -> Self {
        let RecordLocation { topic, partition, offset } = location;
        Self::Record { topic, partition, offset, column, detail }
    }
}
