//! Finds what no restart mends: a table that was changed by hand, or the record that Postgres refuses.
//!
//! A failed task's trace names neither topic nor offset. So the records behind the connector's commit are written by the connector's own
//! upsert, in a transaction that is rolled back: the one that is refused is the one that ends the task at every restart.

use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use common::config::KafkaConfig;
use rdkafka::Message as _;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement, Transaction};

use super::failed_task::Failed;
use crate::Config;
use crate::dead_letters::headers::Origin;
use crate::kafka::progress::Progress;
use crate::kafka::reader::{Range, Reader};
use crate::postgres::connection::Database;
use crate::postgres::errors::{column, is_refusal, said};
use crate::postgres::schema_check;
use crate::record::{Reason, Record, RowDecoder};
use crate::sink::Pair;

/// Of each partition so many offsets are tried: more than a task takes at once and leaves uncommitted.
const TRIED: i64 = 10_000;
/// Nothing that was not found within this time is looked for any longer.
const WITHIN: Duration = Duration::from_secs(45);
const REGISTRY_WITHIN: Duration = Duration::from_secs(5);
/// Somebody else's lock is no refusal.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'";

/// What keeps a connector from going on, whatever is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Obstacle {
    /// The table is not as the migrations made it.
    Table {
        /// Its name.
        table: &'static str,
        /// In words.
        detail: String,
    },
    /// Postgres refuses a record.
    Record {
        /// The record's topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// The column, if Postgres tells.
        column: Option<String>,
        /// Postgres's words.
        detail: String,
    },
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table { table, detail } => write!(f, "table {table} was changed by hand: {detail}"),
            Self::Record { topic, partition, offset, column, detail } => {
                write!(
                    f,
                    "postgres refuses the record of {topic} in partition {partition} at offset {offset}"
                )?;
                match column {
                    Some(column) => write!(f, ", column {column}: {detail}"),
                    None => write!(f, ": {detail}"),
                }
            }
        }
    }
}

/// What looks for it. Seldom: its Kafka clients, with their threads and buffers, are there for a look only.
pub struct Probe {
    pair: Pair,
    kafka: KafkaConfig,
    decoder: RowDecoder,
    database: Database,
}

impl Probe {
    /// Of one pair; asks nothing yet.
    ///
    /// # Errors
    /// If a password's file cannot be read.
    pub fn new(config: &Config, pair: Pair) -> Result<Self, Failure> {
        Ok(Self {
            kafka: config.kafka.clone(),
            decoder: RowDecoder::new(&pair, Registry::new(&config.schema_registry)?),
            database: Database::new(&config.postgres)?,
            pair,
        })
    }

    /// What keeps a connector that failed so from going on; `None` if nothing was found, or somebody who must be asked is away: then a
    /// restart is worth trying.
    pub async fn look(&mut self, failed: &Failed) -> Option<Obstacle> {
        if !failed.blames_content() {
            return None;
        }
        let looked = tokio::time::timeout(WITHIN, Box::pin(self.find(failed))).await;
        match looked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(connector = self.pair.connector, %error, "what it failed at could not be looked for");
                None
            }
            Err(_) => None,
        }
    }

    async fn find(&mut self, failed: &Failed) -> Result<Option<Obstacle>, Failure> {
        let mut client = self.database.connect().await?;
        let table = self.pair.table;
        let changes = schema_check::changes(&client, table).await.map_err(|error| lost(&error))?;
        if !changes.is_empty() {
            return Ok(Some(Obstacle::Table { table: table.name, detail: changes.join("; ") }));
        }
        let mut attempt = Attempt::begin(&mut client, &self.pair).await.map_err(|error| lost(&error))?;
        let topic = Reader::new(&self.kafka, &self.pair.topic)?;
        let progress = Progress::new(&self.kafka, &self.pair)?;
        for waiting in progress.waiting(&topic.extent().await?).await? {
            let first = Range { to: waiting.to.min(waiting.from.saturating_add(TRIED)), ..waiting };
            let decoder = &mut self.decoder;
            let attempt = &mut attempt;
            let each = async |message: &rdkafka::message::BorrowedMessage<'_>| {
                if attempt.refused.is_some() {
                    return Ok(());
                }
                let place = Origin {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    offset: message.offset(),
                };
                match decoder.decode_within(message.payload(), REGISTRY_WITHIN).await? {
                    Ok(record) => attempt.write(place, &record).await.map_err(|error| lost(&error)),
                    Err(why) => {
                        attempt.suspect(place, why.reason);
                        Ok(())
                    }
                }
            };
            topic.read(first, each).await?;
        }
        Ok(attempt.conclude(failed))
    }
}

/// Rows written to be rolled back.
struct Attempt<'a> {
    pair: &'a Pair,
    transaction: Transaction<'a>,
    upsert: Statement,
    refused: Option<Obstacle>,
    /// The first record that Kafka Connect may read otherwise than we do: by its own schema, with a null where the contract has none.
    suspect: Option<Origin>,
}

impl<'a> Attempt<'a> {
    async fn begin(client: &'a mut Client, pair: &'a Pair) -> Result<Self, Error> {
        let transaction = client.transaction().await?;
        transaction.batch_execute(PATIENCE).await?;
        let upsert = transaction.prepare(&pair.table.upsert()).await?;
        Ok(Self { pair, transaction, upsert, refused: None, suspect: None })
    }

    /// Takes note of a refusal; any other error is none.
    async fn write(&mut self, at: Origin, record: &Record) -> Result<(), Error> {
        let row = record.row();
        let cells: Vec<&(dyn ToSql + Sync)> = row.cells.iter().map(|cell| cell as _).collect();
        match self.transaction.execute(&self.upsert, &cells).await {
            Ok(_) => Ok(()),
            Err(error) if is_refusal(&error) => {
                self.refused = Some(obstacle(at, column(&error, self.pair.table.columns), said(&error)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn suspect(&mut self, at: Origin, reason: Reason) {
        if reason == Reason::Malformed && self.suspect.is_none() {
            self.suspect = Some(at);
        }
    }

    fn conclude(self, failed: &Failed) -> Option<Obstacle> {
        let Self { refused, suspect, .. } = self;
        refused.or_else(|| {
            let column = failed.null_column()?;
            let detail =
                "null, which neither the table nor the contract allows; its schema is another's".to_owned();
            suspect.map(|at| obstacle(at, Some(column), detail))
        })
    }
}

fn obstacle(Origin { topic, partition, offset }: Origin, column: Option<String>, detail: String) -> Obstacle {
    Obstacle::Record { topic, partition, offset, column, detail }
}

fn lost(error: &Error) -> Failure {
    Failure::Other(anyhow::anyhow!("postgres: {}", said(error)))
}
