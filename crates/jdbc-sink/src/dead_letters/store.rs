//! Decisions, and how far a dead-letter topic was read, in Postgres: one transaction with the rows that are brought back.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Transaction};

use super::decision::Decision;
use crate::dead_letters::headers::Origin;
use crate::sink::Pair;

/// A letter that was decided before is not decided again, unless it is good only now.
const DECIDE: &str = "INSERT INTO dead_letters (topic, partition, \"offset\", reason, detail) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (topic, partition, \"offset\") DO UPDATE \
     SET reason = EXCLUDED.reason, detail = EXCLUDED.detail, decided_at = now() \
     WHERE dead_letters.reason <> 'brought_back'";

const MOVE_ON: &str = "INSERT INTO dead_letter_positions (topic, partition, next_offset) VALUES ($1, $2, $3) \
     ON CONFLICT (topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset";

/// How far a partition of a dead-letter topic is decided: the first offset that is not.
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) next: i64,
}

/// Where to go on, by partition.
pub(super) async fn positions(client: &Client, letters: &str) -> Result<BTreeMap<i32, i64>, Error> {
    let sql = "SELECT partition, next_offset FROM dead_letter_positions WHERE topic = $1";
    let rows = client.query(sql, &[&letters]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many letters were decided how, of a pair.
pub(super) async fn counts(client: &Client, pair: &Pair) -> Result<BTreeMap<String, i64>, Error> {
    let sql = "SELECT reason, count(*) FROM dead_letters WHERE topic IN ($1, $2) GROUP BY reason";
    let rows = client.query(sql, &[&pair.topic, &pair.dead_letters()]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// When the pair's table was last compared, in seconds since 1970, and whether it held what its topic holds.
pub(super) async fn verified(client: &Client, pair: &Pair) -> Result<Option<(i64, bool)>, Error> {
    let sql = "SELECT extract(epoch FROM finished_at)::bigint, same FROM verifications WHERE table_name = $1";
    let row = client.query_opt(sql, &[&pair.table.name]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Some of the letters that a registry or a table may take another time, those first that were judged longest ago.
pub(super) async fn undecided(client: &Client, pair: &Pair, most: i64) -> Result<Vec<Origin>, Error> {
    let sql = "SELECT topic, partition, \"offset\" FROM dead_letters WHERE topic = $1 AND reason IN ('unknown_schema', 'refused_by_postgres') \
         ORDER BY decided_at LIMIT $2";
    let rows = client.query(sql, &[&pair.topic, &most]).await?;
    let origin = |row: &Row| {
        Ok(Origin { topic: row.try_get(0)?, partition: row.try_get(1)?, offset: row.try_get(2)? })
    };
    rows.iter().map(origin).collect()
}

/// Writes decisions, their rows and the position, all or none of them.
pub(super) async fn write(
    client: &mut Client,
    pair: &Pair,
    (decisions, position): (&[Decision], Option<&Position>),
) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let (decide, upsert) =
        (transaction.prepare(DECIDE).await?, transaction.prepare(&pair.table.upsert()).await?);
    for decision in decisions {
        let Decision { origin, reason, detail, record } = decision;
        let values: [&(dyn ToSql + Sync); 5] =
            [&origin.topic, &origin.partition, &origin.offset, reason, detail];
        let is_new = transaction.execute(&decide, &values).await? > 0;
        if let Some(record) = record.as_ref().filter(|_| is_new) {
            let row = record.row();
            let cells: Vec<&(dyn ToSql + Sync)> = row.cells.iter().map(|cell| cell as _).collect();
            transaction.execute(&upsert, &cells).await?;
        }
    }
    if let Some(position) = position {
        move_on(&transaction, &pair.dead_letters(), position).await?;
    }
    transaction.commit().await
}

async fn move_on(transaction: &Transaction<'_>, letters: &str, position: &Position) -> Result<(), Error> {
    transaction.execute(MOVE_ON, &[&letters, &position.partition, &position.next]).await.map(drop)
}
