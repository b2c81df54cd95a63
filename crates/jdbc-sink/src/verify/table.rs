//! The table's side of a comparison.

use std::collections::HashSet;
use std::pin::pin;

use common::Failure;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row as SqlRow};

use super::progress::ProgressLog;
use super::summary::Summary;
use super::topic::{PartitionOffset, TopicScanner};
use crate::postgres::errors::connection_error;
use crate::record::NoRowReason;
use crate::table::{Row, SqlValue};

/// The records of `topic` whose rows Postgres rejects.
pub(super) async fn rejected_records(
    database: &Client,
    topic: &str,
) -> Result<HashSet<PartitionOffset>, Error> {
    let sql = "SELECT partition, \"offset\" FROM dead_letters WHERE topic = $1 AND reason = $2";
    let rows = database.query(sql, &[&topic, &NoRowReason::RejectedByPostgres.name()]).await?;
    let location = |row: &SqlRow| Ok(PartitionOffset { partition: row.try_get(0)?, offset: row.try_get(1)? });
    rows.iter().map(location).collect()
}

/// Adds every row of the table since the cutoff to the summary.
pub(super) async fn scan(
    database: &Client,
    scanner: &TopicScanner,
    summary: &mut Summary,
) -> Result<(), Failure> {
    // A complete table has about as many rows as the topic has records.
    let label = format!("rows of {}", scanner.sink.table.name);
    let mut progress = ProgressLog::new(label, summary.records());
    let scanned = add_rows(database, scanner, summary, &mut progress).await;
    scanned.map_err(|error| connection_error(&error))
}

async fn add_rows(
    database: &Client,
    scanner: &TopicScanner,
    summary: &mut Summary,
    progress: &mut ProgressLog,
) -> Result<(), Error> {
    let table = scanner.sink.table;
    let (columns, name, time) = (table.column_list(), table.name, table.time.name);
    let sql = format!("SELECT {columns} FROM {name} WHERE \"{time}\" >= $1");
    let cutoff: &(dyn ToSql + Sync) = &SqlValue::Timestamp(scanner.cutoff);
    let mut rows = pin!(database.query_raw(&sql, [cutoff]).await?);
    while let Some(row) = rows.try_next().await? {
        let row = Row::from_sql(&row)?;
        progress.advance();
        summary.add_row(row.instrument(), row.sequence(table), row.fingerprint());
    }
    Ok(())
}
