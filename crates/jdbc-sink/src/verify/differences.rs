//! Which rows differ, of instruments that are known to: a second, closer look.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use common::Failure;
use futures_util::TryStreamExt as _;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::ranges::Ranges;
use super::report::{Difference, Fault, SHOWN};
use super::summary::Mismatch;
use super::topic::{Topic, lost};
use crate::kafka::reader::Range;
use crate::record::Record;
use crate::table::{Cell, Row, Table};

/// So many rows are asked for at once.
const BATCH: usize = 500;
/// So many instruments are looked at: their keys are kept meanwhile.
const INSTRUMENTS: usize = 5;

/// A record that is to be compared.
struct Waiting {
    partition: i32,
    offset: i64,
    record: Record,
}

/// One instrument of which topic and table do not hold the same.
struct Inspection<'a> {
    database: &'a Client,
    table: &'static Table,
    of: &'a Mismatch,
    cutoff: i64,
    keys: Ranges,
    waiting: Vec<Waiting>,
}

/// The first rows that are not as they ought to be.
pub(super) async fn differences(
    topic: &mut Topic,
    database: &Client,
    (mismatches, extent): (&[Mismatch], &[Range]),
) -> Result<Vec<Difference>, Failure> {
    let (table, cutoff, mut found) = (topic.pair.table, topic.cutoff, Vec::new());
    let looked_at = mismatches.iter().take(INSTRUMENTS);
    let partitions: BTreeSet<_> = looked_at.clone().filter_map(|mismatch| mismatch.partition).collect();
    let mut inspections: BTreeMap<&str, Inspection<'_>> = looked_at
        .map(|of| (of.instrument.as_str(), Inspection::new(database, table, (of, cutoff))))
        .collect();
    for range in extent.iter().filter(|range| partitions.contains(&range.partition)) {
        let compare = async |offset, record: Record| {
            let Some(inspection) = inspections.get_mut(record.row().instrument()) else { return Ok(()) };
            if found.len() < SHOWN {
                found.extend(inspection.take(Waiting { partition: range.partition, offset, record }).await?);
            }
            Ok(())
        };
        topic.each(*range, compare).await?;
    }
    for inspection in inspections.values_mut() {
        if found.len() < SHOWN {
            found.extend(inspection.compare().await?);
            found.extend(inspection.surplus().await?);
        }
    }
    found.truncate(SHOWN);
    Ok(found)
}

impl<'a> Inspection<'a> {
    fn new(database: &'a Client, table: &'static Table, (of, cutoff): (&'a Mismatch, i64)) -> Self {
        Self { database, table, of, cutoff, keys: Ranges::default(), waiting: Vec::new() }
    }

    /// Takes in a record, and compares when enough of them have come together.
    async fn take(&mut self, waiting: Waiting) -> Result<Vec<Difference>, Failure> {
        let key = waiting.record.row().rank(self.table);
        if !self.keys.insert(key) {
            let (partition, offset) = (waiting.partition, waiting.offset);
            return Ok(vec![self.difference(key, Fault::Repeated { partition, offset })]);
        }
        self.waiting.push(waiting);
        if self.waiting.len() < BATCH { Ok(Vec::new()) } else { self.compare().await }
    }

    async fn compare(&mut self) -> Result<Vec<Difference>, Failure> {
        let (table, waiting) = (self.table, std::mem::take(&mut self.waiting));
        let (column, at) = table.rising;
        let keys: Vec<Cell<'_>> =
            waiting.iter().filter_map(|waiting| waiting.record.row().cells.get(at).map(owned)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE instrument_name = $1 AND {column} = ANY($2)",
            table.column_list(),
            table.name
        );
        let found = self.database.query(&sql, &[&self.of.instrument, &keys]).await;
        let found = found.map_err(|error| lost(&error))?;
        let rows: Result<Vec<_>, _> = found.iter().map(Row::of).collect();
        let rows: BTreeMap<i64, Row<'_>> =
            rows.map_err(|error| lost(&error))?.into_iter().map(|row| (row.rank(table), row)).collect();
        let faults = waiting.iter().filter_map(|waiting| {
            let record = waiting.record.row();
            let key = record.rank(table);
            Some(self.difference(key, fault(table, (waiting, &record), rows.get(&key))?))
        });
        Ok(faults.take(SHOWN).collect())
    }

    /// Rows between the first and the last record that no record stands behind.
    async fn surplus(&self) -> Result<Vec<Difference>, Failure> {
        let column = self.table.rising.0;
        let sql = format!(
            "SELECT {column} FROM {} WHERE instrument_name = $1 AND \"{}\" >= $2 ORDER BY {column}",
            self.table.name, self.table.time.0
        );
        let of: [&(dyn ToSql + Sync); 2] = [&self.of.instrument, &Cell::Time(self.cutoff)];
        let rows = self.database.query_raw(&sql, of).await.map_err(|error| lost(&error))?;
        let (mut rows, mut surplus) = (pin!(rows), Vec::new());
        let known = self.of.topic.count > 0;
        while let Some(row) = rows.try_next().await.map_err(|error| lost(&error))? {
            let key: Cell<'_> = row.try_get(0).map_err(|error| lost(&error))?;
            let key = key.rank().unwrap_or_default();
            let compared = !known || (self.of.table.first..=self.of.topic.last).contains(&key);
            if compared && surplus.len() < SHOWN && !self.keys.contains(key) {
                surplus.push(self.difference(key, Fault::Surplus));
            }
        }
        Ok(surplus)
    }

    fn difference(&self, key: i64, fault: Fault) -> Difference {
        Difference { instrument: self.of.instrument.clone(), key, fault }
    }
}

/// What is wrong with a record's row, if anything.
fn fault(table: &Table, (at, record): (&Waiting, &Row<'_>), row: Option<&Row<'_>>) -> Option<Fault> {
    let (partition, offset) = (at.partition, at.offset);
    let Some(row) = row else { return Some(Fault::Missing { partition, offset }) };
    let cells = table.columns.iter().zip(record.cells.iter().zip(&row.cells));
    let (column, (topic, table)) = cells.into_iter().find(|(_, (topic, table))| topic != table)?;
    let (topic, table) = (topic.to_string(), table.to_string());
    Some(Fault::Differs { partition, offset, column, topic, table })
}

/// A key by itself: numbers and times borrow nothing.
fn owned(cell: &Cell<'_>) -> Cell<'static> {
    match cell {
        Cell::Whole(number) => Cell::Whole(*number),
        Cell::Time(micros) => Cell::Time(*micros),
        _ => Cell::Null,
    }
}
