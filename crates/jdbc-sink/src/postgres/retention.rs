//! Deletes rows older than their retention, in transactions so small that other sessions do not wait.
//!
//! The same transaction stores the cutoff in `retention_cutoffs`: `verify` skips records whose rows may be gone. While `verify` compares,
//! nothing is deleted.

use std::time::Duration;

use common::Failure;
use common::config::{self, Invalid};
use serde::Deserialize;
use tokio_postgres::{Client, Error};

use super::connection::Database;
use super::errors::sql_message;
use super::metrics::TableMetrics;
use crate::table::{MOVING_AVERAGES, SqlValue, TRADES, Table};

/// From one run to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// Rows of one transaction, which locks them for some ten milliseconds.
const BATCH: i64 = 5000;
/// Between two batches, for other sessions.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows that are gone come back only if the connector reads its topic again, so a shorter retention is a typing error.
const SHORTEST: Duration = Duration::from_secs(3600);

/// The advisory lock on rows: exclusive to delete, shared to compare. The number is arbitrary: "retained" read as a number.
const ROWS_LOCK: i64 = 0x7265_7461_696e_6564;

const STORE_CUTOFF: &str = "INSERT INTO retention_cutoffs (table_name, cutoff) VALUES ($1, now() - make_interval(secs => $2)) \
     ON CONFLICT (table_name) DO UPDATE SET cutoff = greatest(retention_cutoffs.cutoff, EXCLUDED.cutoff)";

/// `[retention]`: a table without a value keeps its rows forever.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RetentionConfig {
    /// Of `trades`, by the time of the trade.
    pub(crate) trades: Option<config::Duration>,
    /// Of `moving_averages`, by the end of the window.
    pub(crate) moving_averages: Option<config::Duration>,
}

/// A table whose rows are deleted at a certain age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableRetention {
    pub(crate) table: &'static Table,
    pub(crate) age: Duration,
}

impl RetentionConfig {
    pub(crate) fn tables(&self) -> Vec<TableRetention> {
        let tables = [(&TRADES, self.trades), (&MOVING_AVERAGES, self.moving_averages)];
        tables.into_iter().filter_map(|(table, age)| Some(TableRetention { table, age: *age? })).collect()
    }

    pub(crate) fn check(&self) -> Vec<Invalid> {
        let short = self.tables().into_iter().filter(|retention| retention.age < SHORTEST);
        short
            .map(|TableRetention { table, age }| {
                Invalid::new(
                    format!("retention.{}", table.name),
                    config::Duration(age),
                    "an hour or more: deleted rows come back only if the connector reads its topic again",
                )
            })
            .collect()
    }
}

/// Prevents deletions while the client is connected; returns the cutoff so far in microseconds since 1970, 0 without one.
pub(crate) async fn lock_rows(client: &Client, table: &Table) -> Result<i64, Error> {
    client.execute("SELECT pg_advisory_lock_shared($1)", &[&ROWS_LOCK]).await?;
    let sql = "SELECT cutoff FROM retention_cutoffs WHERE table_name = $1";
    let Some(row) = client.query_opt(sql, &[&table.name]).await? else { return Ok(0) };
    let cutoff: SqlValue<'_> = row.try_get(0)?;
    Ok(cutoff.as_i64().unwrap_or_default())
}

pub(crate) struct RetentionJob {
    database: Database,
    tables: Vec<TableRetention>,
    metrics: TableMetrics,
}

impl RetentionJob {
    pub(crate) fn new(database: Database, tables: Vec<TableRetention>, metrics: TableMetrics) -> Self {
        for TableRetention { table, .. } in &tables {
            metrics.add_deleted(table.name, 0);
        }
        Self { database, tables, metrics }
    }

    /// Runs until it is dropped, which is safe at any time.
    pub(crate) async fn run(&self) {
        loop {
            if let Err(error) = self.delete_expired().await {
                tracing::warn!(%error, "retention delete failed; will retry");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn delete_expired(&self) -> Result<(), Failure> {
        if self.tables.is_empty() {
            return Ok(());
        }
        let mut client = self.database.connect().await?;
        for TableRetention { table, age } in &self.tables {
            loop {
                let deleted = delete_batch(&mut client, table, *age).await.map_err(|error| {
                    Failure::Other(anyhow::anyhow!("{}: {}", table.name, sql_message(&error)))
                })?;
                self.metrics.add_deleted(table.name, deleted);
                if deleted < BATCH.unsigned_abs() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

/// Deletes a batch of the oldest rows and returns their number; 0 while `verify` holds the lock.
async fn delete_batch(client: &mut Client, table: &Table, age: Duration) -> Result<u64, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL lock_timeout = '2s'").await?;
    let locked = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&ROWS_LOCK]).await?;
    if !locked.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    transaction.execute(STORE_CUTOFF, &[&table.name, &age.as_secs_f64()]).await?;
    let deleted = transaction.execute(&delete_statement(table), &[&table.name, &BATCH]).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// Uses the index on time, so that a batch costs the same in a table of any size.
fn delete_statement(table: &Table) -> String {
    let (name, time) = (table.name, table.time.name);
    format!(
        "DELETE FROM {name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {name} WHERE \"{time}\" < \
         (SELECT cutoff FROM retention_cutoffs WHERE table_name = $1) ORDER BY \"{time}\" LIMIT $2))"
    )
}
