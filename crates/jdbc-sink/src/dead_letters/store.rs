//! Stores decisions, requeued rows and the position in the dead-letter topic in one transaction of Postgres.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Transaction};

use super::decision::DeadLetterDecision;
use crate::record::RecordLocation;
use crate::sink::Sink;

/// A requeued letter stays requeued; any other decision may change.
const STORE_DECISION: &str = "INSERT INTO dead_letters (topic, partition, \"offset\", reason, detail) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (topic, partition, \"offset\") DO UPDATE \
     SET reason = EXCLUDED.reason, detail = EXCLUDED.detail, decided_at = now() \
     WHERE dead_letters.reason <> 'brought_back'";

const STORE_POSITION: &str = "INSERT INTO dead_letter_positions (topic, partition, next_offset) VALUES ($1, $2, $3) \
     ON CONFLICT (topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset";

/// The first offset of a partition of the dead-letter topic that is not decided.
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) next: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastVerification {
    /// In seconds since 1970.
    pub(super) finished_at: i64,
    /// Whether the table matched its topic.
    pub(super) success: bool,
}

/// The next offset of each partition.
pub(super) async fn positions(client: &Client, dead_letter_topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
    let sql = "SELECT partition, next_offset FROM dead_letter_positions WHERE topic = $1";
    let rows = client.query(sql, &[&dead_letter_topic]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The sink's dead letters by reason.
pub(super) async fn counts(client: &Client, sink: &Sink) -> Result<BTreeMap<String, i64>, Error> {
    let sql = "SELECT reason, count(*) FROM dead_letters WHERE topic IN ($1, $2) GROUP BY reason";
    let rows = client.query(sql, &[&sink.topic(), &sink.dead_letter_topic()]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The last result of `verify`, if there is any.
pub(super) async fn last_verification(
    client: &Client,
    sink: &Sink,
) -> Result<Option<LastVerification>, Error> {
    let sql = "SELECT extract(epoch FROM finished_at)::bigint, same FROM verifications WHERE table_name = $1";
    let row = client.query_opt(sql, &[&sink.table.name]).await?;
    row.map(|row| Ok(LastVerification { finished_at: row.try_get(0)?, success: row.try_get(1)? })).transpose()
}

/// The letters whose reason may have gone since: the registry may know the schema now, or the table accept the row. Those decided longest
/// ago come first.
pub(super) async fn unresolved(
    client: &Client,
    sink: &Sink,
    limit: i64,
) -> Result<Vec<RecordLocation>, Error> {
    let sql = "SELECT topic, partition, \"offset\" FROM dead_letters WHERE topic = $1 AND reason IN ('unknown_schema', 'refused_by_postgres') \
         ORDER BY decided_at LIMIT $2";
    let rows = client.query(sql, &[&sink.topic(), &limit]).await?;
    let location = |row: &Row| {
        Ok(RecordLocation { topic: row.try_get(0)?, partition: row.try_get(1)?, offset: row.try_get(2)? })
    };
    rows.iter().map(location).collect()
}

/// Writes decisions, their rows and the position, all or none of them.
pub(super) async fn write(
    client: &mut Client,
    sink: &Sink,
    decisions: &[DeadLetterDecision],
    position: Option<&Position>,
) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let store_decision = transaction.prepare(STORE_DECISION).await?;
    let upsert = transaction.prepare(&sink.table.upsert()).await?;
    for decision in decisions {
        let DeadLetterDecision { location, reason, detail, record } = decision;
        let values: [&(dyn ToSql + Sync); 5] =
            [&location.topic, &location.partition, &location.offset, reason, detail];
        let is_new = transaction.execute(&store_decision, &values).await? > 0;
        if let Some(record) = record.as_ref().filter(|_| is_new) {
            transaction.execute(&upsert, &record.row().params()).await?;
        }
    }
    if let Some(position) = position {
        store_position(&transaction, &sink.dead_letter_topic(), position).await?;
    }
    transaction.commit().await
}

async fn store_position(
    transaction: &Transaction<'_>,
    dead_letter_topic: &str,
    position: &Position,
) -> Result<(), Error> {
    let values: [&(dyn ToSql + Sync); 3] = [&dead_letter_topic, &position.partition, &position.next];
    transaction.execute(STORE_POSITION, &values).await.map(drop)
}
