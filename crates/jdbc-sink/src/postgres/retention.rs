//! Rows that are older than they are to be kept are deleted, in transactions so small that nobody waits for them.
//!
//! How far it has come stands in the same transaction (`retention_cutoffs`): `verify` leaves those records out whose rows may be gone, and
//! while it compares, nothing is deleted.

use std::time::Duration;

use common::Failure;
use tokio_postgres::{Client, Error};

use super::connection::Database;
use super::errors::said;
use crate::metrics::SinkMetrics;
use crate::table::{Cell, Table};

/// From one sweep to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// So many rows go at once: locked for some ten milliseconds.
const BATCH: i64 = 5000;
/// Between two batches, for everybody else.
const PAUSE: Duration = Duration::from_millis(100);

/// Who holds this advisory lock has the rows for itself, or together with others if shared. The number is any: "retained" read as one.
const TURN: i64 = 0x7265_7461_696e_6564;

const REMEMBER: &str = "INSERT INTO retention_cutoffs (table_name, cutoff) VALUES ($1, now() - make_interval(secs => $2)) \
     ON CONFLICT (table_name) DO UPDATE SET cutoff = greatest(retention_cutoffs.cutoff, EXCLUDED.cutoff)";

/// Lets no row be deleted as long as the client is connected; gives how far they have been, in microseconds since 1970, 0 if nowhere.
///
/// # Errors
/// If the database does not answer.
pub async fn hold(client: &Client, table: &Table) -> Result<i64, Error> {
    client.execute("SELECT pg_advisory_lock_shared($1)", &[&TURN]).await?;
    let sql = "SELECT cutoff FROM retention_cutoffs WHERE table_name = $1";
    let Some(row) = client.query_opt(sql, &[&table.name]).await? else { return Ok(0) };
    let cutoff: Cell<'_> = row.try_get(0)?;
    Ok(cutoff.rank().unwrap_or_default())
}

/// What deletes rows.
pub struct Sweeper {
    database: Database,
    kept: Vec<(&'static Table, Duration)>,
    metrics: SinkMetrics,
}

impl Sweeper {
    /// Deletes rows of each table that are older than the time beside it.
    #[must_use]
    pub fn new(database: Database, kept: Vec<(&'static Table, Duration)>, metrics: SinkMetrics) -> Self {
        for (table, _) in &kept {
            metrics.deleted(table.name, 0);
        }
        Self { database, kept, metrics }
    }

    /// Sweeps until it is dropped, which it may be at any time.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "rows past their retention stay for now");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn sweep(&self) -> Result<(), Failure> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut client = self.database.connect().await?;
        for (table, kept) in &self.kept {
            loop {
                let deleted = delete(&mut client, table, *kept).await;
                let deleted = deleted
                    .map_err(|error| Failure::Other(anyhow::anyhow!("{}: {}", table.name, said(&error))))?;
                self.metrics.deleted(table.name, deleted);
                if deleted < BATCH.unsigned_abs() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

/// Deletes a batch of the oldest rows, and says how many; none while somebody holds them.
async fn delete(client: &mut Client, table: &Table, kept: Duration) -> Result<u64, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL lock_timeout = '2s'").await?;
    let turn = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&TURN]).await?;
    if !turn.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    transaction.execute(REMEMBER, &[&table.name, &kept.as_secs_f64()]).await?;
    let deleted = transaction.execute(&delete_statement(table), &[&table.name, &BATCH]).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// By the index on time, so that a batch costs the same in a table of any size.
fn delete_statement(Table { name, time: (time, _), .. }: &Table) -> String {
    format!(
        "DELETE FROM {name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {name} WHERE \"{time}\" < \
         (SELECT cutoff FROM retention_cutoffs WHERE table_name = $1) ORDER BY \"{time}\" LIMIT $2))"
    )
}
