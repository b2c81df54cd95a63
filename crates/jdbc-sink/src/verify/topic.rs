//! Both sides of a pair, read from one end to the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use common::Failure;
use futures_util::TryStreamExt as _;
use rdkafka::Message as _;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::progress::Ticker;
use super::report::{SHOWN, Unreadable};
use super::summary::Tally;
use crate::dead_letters::headers::Origin;
use crate::kafka::reader::{Range, Reader};
use crate::postgres::errors::said;
use crate::record::{Reason, Record, RowDecoder};
use crate::sink::Pair;
use crate::table::{Cell, Row};

/// No more dead letters are looked for, so that a topic of rubbish does not fill the memory.
const MOST_LETTERS: usize = 100_000;

/// What has no row.
#[derive(Debug, Default)]
pub(super) struct Undecodable {
    pub(super) by_reason: BTreeMap<Reason, u64>,
    pub(super) first: Vec<Unreadable>,
    /// Those that must be in the dead-letter topic, by partition and offset.
    expected: BTreeMap<(i32, i64), Unreadable>,
}

impl Undecodable {
    fn add(&mut self, found: Unreadable) {
        *self.by_reason.entry(found.reason).or_default() += 1;
        if self.first.len() < SHOWN {
            self.first.push(found.clone());
        }
        if self.expected.len() < MOST_LETTERS {
            self.expected.insert((found.partition, found.offset), found);
        }
    }
}

/// The topic's side.
pub(super) struct Topic {
    pub(super) pair: Pair,
    pub(super) reader: Reader,
    pub(super) letters: Reader,
    pub(super) decoder: RowDecoder,
    /// How long the registry is waited for.
    pub(super) deadline: Duration,
    /// Records that became dead letters as Postgres takes no such row, by partition and offset.
    pub(super) refused: HashSet<(i32, i64)>,
    /// Rows of an earlier time retention may have deleted; in microseconds since 1970.
    pub(super) cutoff: i64,
}

impl Topic {
    /// Takes in every record of `extent`; gives what has no row, and each partition's last offset with a record.
    pub(super) async fn read(
        &mut self,
        extent: &[Range],
        tally: &mut Tally,
    ) -> Result<(Undecodable, HashMap<i32, i64>), Failure> {
        let (mut undecodable, mut last) = (Undecodable::default(), HashMap::new());
        let about = extent.iter().map(|range| range.to - range.from).sum();
        let mut ticker = Ticker::new(format!("records of {}", self.pair.topic), Some(about));
        let table = self.pair.table;
        for range in extent {
            let (decoder, deadline, cutoff) = (&mut self.decoder, self.deadline, self.cutoff);
            let refused = &self.refused;
            self.reader
                .read(*range, async |message| {
                    let (partition, offset) = (message.partition(), message.offset());
                    last.insert(partition, offset);
                    ticker.tick();
                    if refused.contains(&(partition, offset)) {
                        let (reason, detail) =
                            (Reason::RefusedByPostgres, "postgres takes no such row".into());
                        undecodable.add(Unreadable { partition, offset, reason, detail });
                        return Ok(());
                    }
                    match decoder.decode_within(message.payload(), deadline).await? {
                        Ok(record) => {
                            let row = record.row();
                            if row.time(table) < cutoff {
                                tally.leave_out();
                                return Ok(());
                            }
                            tally.record(row.instrument(), partition, (row.rank(table), row.fingerprint()));
                        }
                        Err(why) => {
                            let (reason, detail) = (why.reason, why.detail);
                            undecodable.add(Unreadable { partition, offset, reason, detail });
                        }
                    }
                    Ok(())
                })
                .await?;
        }
        Ok((undecodable, last))
    }

    /// Hands out every record of the range that can be decoded and whose row is kept, with its offset.
    pub(super) async fn each(
        &mut self,
        range: Range,
        mut each: impl AsyncFnMut(i64, Record) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (decoder, deadline) = (&mut self.decoder, self.deadline);
        let (table, cutoff, refused) = (self.pair.table, self.cutoff, &self.refused);
        let read = async |message: &rdkafka::message::BorrowedMessage<'_>| {
            if let Ok(record) = decoder.decode_within(message.payload(), deadline).await?
                && record.row().time(table) >= cutoff
                && !refused.contains(&(message.partition(), message.offset()))
            {
                each(message.offset(), record).await?;
            }
            Ok(())
        };
        self.reader.read(range, read).await
    }

    /// The instruments of the records that have come behind `extent`.
    pub(super) async fn newer(&mut self, extent: &[Range]) -> Result<HashSet<String>, Failure> {
        let mut names = HashSet::new();
        for now in self.reader.extent().await? {
            let from =
                extent.iter().find(|range| range.partition == now.partition).map_or(now.from, |r| r.to);
            self.each(Range { from, ..now }, async |_, record| {
                names.insert(record.row().instrument().to_owned());
                Ok(())
            })
            .await?;
        }
        Ok(names)
    }

    /// The undecodable records that are not in the dead-letter topic.
    pub(super) async fn without_letter(&self, undecodable: &Undecodable) -> Result<Vec<Unreadable>, Failure> {
        let mut expected = undecodable.expected.clone();
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        for range in self.letters.extent().await? {
            self.letters
                .read(range, async |letter| {
                    let origin = Origin::of(letter).filter(|origin| origin.topic == self.pair.topic);
                    if let Some(origin) = origin {
                        expected.remove(&(origin.partition, origin.offset));
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(expected.into_values().collect())
    }
}

/// The records of `topic` that Postgres was found to take no row of.
pub(super) async fn refused(database: &Client, topic: &str) -> Result<HashSet<(i32, i64)>, Failure> {
    let sql = "SELECT partition, \"offset\" FROM dead_letters WHERE topic = $1 AND reason = $2";
    let rows = database.query(sql, &[&topic, &Reason::RefusedByPostgres.name()]).await;
    let rows = rows.map_err(|error| lost(&error))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(|error| lost(&error))
}

/// Takes in every row of the topic's table that is kept.
pub(super) async fn read_table(database: &Client, topic: &Topic, tally: &mut Tally) -> Result<(), Failure> {
    let table = topic.pair.table;
    let sql = format!("SELECT {} FROM {} WHERE \"{}\" >= $1", table.column_list(), table.name, table.time.0);
    let mut ticker = Ticker::new(format!("rows of {}", table.name), None);
    let cutoff: &(dyn ToSql + Sync) = &Cell::Time(topic.cutoff);
    let mut rows = pin!(database.query_raw(&sql, [cutoff]).await.map_err(|error| lost(&error))?);
    while let Some(row) = rows.try_next().await.map_err(|error| lost(&error))? {
        let row = Row::of(&row).map_err(|error| lost(&error))?;
        ticker.tick();
        tally.row(row.instrument(), (row.rank(table), row.fingerprint()));
    }
    Ok(())
}

/// The database did not do what it was asked.
pub(super) fn lost(error: &tokio_postgres::Error) -> Failure {
    Failure::Other(anyhow::anyhow!("postgres: {}", said(error)))
}
