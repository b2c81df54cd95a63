//! Finds the rows that differ: a second, closer pass over the mismatched instruments.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use common::Failure;
use futures_util::TryStreamExt as _;
use rangemap::RangeInclusiveSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

use super::report::{Difference, DifferenceKind, SHOWN};
use super::summary::Mismatch;
use super::topic::TopicScanner;
use crate::kafka::reader::OffsetRange;
use crate::postgres::errors::connection_error;
use crate::record::DecodedRecord;
use crate::table::{Row, SqlValue, Table};

/// Rows of one query.
const BATCH: usize = 500;
/// More instruments would need more memory for their keys.
const MAX_INSTRUMENTS: usize = 5;

/// A record whose row is not read yet.
struct PendingRecord {
    partition: i32,
    offset: i64,
    record: DecodedRecord,
}

/// One mismatched instrument.
struct InstrumentComparison<'a> {
    database: &'a Client,
    table: &'static Table,
    mismatch: &'a Mismatch,
    cutoff: i64,
    /// The keys of its records so far: mostly neighbors, so few ranges.
    keys: RangeInclusiveSet<i64>,
    pending: Vec<PendingRecord>,
}

/// The first rows that differ.
pub(super) async fn find_differences(
    scanner: &mut TopicScanner,
    database: &Client,
    mismatches: &[Mismatch],
    ranges: &[OffsetRange],
) -> Result<Vec<Difference>, Failure> {
    let (table, cutoff, mut found) = (scanner.sink.table, scanner.cutoff, Vec::new());
    let mismatches = mismatches.iter().take(MAX_INSTRUMENTS);
    let partitions: BTreeSet<_> = mismatches.clone().filter_map(|mismatch| mismatch.partition).collect();
    let mut comparisons: BTreeMap<&str, InstrumentComparison<'_>> = mismatches
        .map(|mismatch| {
            let comparison = InstrumentComparison::new(database, table, mismatch, cutoff);
            (mismatch.instrument.as_str(), comparison)
        })
        .collect();
    for range in ranges.iter().filter(|range| partitions.contains(&range.partition)) {
        let compare = async |offset, record: DecodedRecord| {
            let Some(comparison) = comparisons.get_mut(record.row().instrument()) else { return Ok(()) };
            if found.len() < SHOWN {
                let pending = PendingRecord { partition: range.partition, offset, record };
                found.extend(comparison.add(pending).await.map_err(|error| connection_error(&error))?);
            }
            Ok(())
        };
        scanner.for_each(*range, compare).await?;
    }
    for comparison in comparisons.values_mut() {
        if found.len() < SHOWN {
            found.extend(comparison.compare().await.map_err(|error| connection_error(&error))?);
            found.extend(comparison.surplus().await.map_err(|error| connection_error(&error))?);
        }
    }
    found.truncate(SHOWN);
    Ok(found)
}

impl<'a> InstrumentComparison<'a> {
    fn new(database: &'a Client, table: &'static Table, mismatch: &'a Mismatch, cutoff: i64) -> Self {
        Self { database, table, mismatch, cutoff, keys: RangeInclusiveSet::new(), pending: Vec::new() }
    }

    /// Adds a record; compares once a batch is complete.
    async fn add(&mut self, pending: PendingRecord) -> Result<Vec<Difference>, Error> {
        let key = pending.record.row().sequence(self.table);
        if self.keys.contains(&key) {
            let (partition, offset) = (pending.partition, pending.offset);
            return Ok(vec![self.difference(key, DifferenceKind::Repeated { partition, offset })]);
        }
        self.keys.insert(key..=key);
        self.pending.push(pending);
        if self.pending.len() < BATCH { Ok(Vec::new()) } else { self.compare().await }
    }

    async fn compare(&mut self) -> Result<Vec<Difference>, Error> {
        let (table, records) = (self.table, std::mem::take(&mut self.pending));
        let keys: Vec<SqlValue<'_>> = records
            .iter()
            .filter_map(|pending| pending.record.row().values.get(table.sequence.index).map(to_owned))
            .collect();
        let (columns, name, key) = (table.column_list(), table.name, table.sequence.name);
        let sql = format!("SELECT {columns} FROM {name} WHERE instrument_name = $1 AND {key} = ANY($2)");
        let found = self.database.query(&sql, &[&self.mismatch.instrument, &keys]).await?;
        let rows: Result<Vec<_>, _> = found.iter().map(Row::from_sql).collect();
        let rows: BTreeMap<i64, Row<'_>> = rows?.into_iter().map(|row| (row.sequence(table), row)).collect();
        let differences = records.iter().filter_map(|pending| {
            let key = pending.record.row().sequence(table);
            Some(self.difference(key, compare_row(table, pending, rows.get(&key))?))
        });
        Ok(differences.take(SHOWN).collect())
    }

    /// Rows without a record, between the first and the last record of the instrument.
    async fn surplus(&self) -> Result<Vec<Difference>, Error> {
        let (name, key, time) = (self.table.name, self.table.sequence.name, self.table.time.name);
        let sql = format!(
            "SELECT {key} FROM {name} WHERE instrument_name = $1 AND \"{time}\" >= $2 ORDER BY {key}"
        );
        let params: [&(dyn ToSql + Sync); 2] = [&self.mismatch.instrument, &SqlValue::Timestamp(self.cutoff)];
        let (mut rows, mut surplus) = (pin!(self.database.query_raw(&sql, params).await?), Vec::new());
        let Mismatch { topic, table, .. } = self.mismatch;
        while let Some(row) = rows.try_next().await? {
            let key: SqlValue<'_> = row.try_get(0)?;
            let key = key.as_i64().unwrap_or_default();
            let compared = topic.count == 0 || (table.first..=topic.last).contains(&key);
            if compared && surplus.len() < SHOWN && !self.keys.contains(&key) {
                surplus.push(self.difference(key, DifferenceKind::Surplus));
            }
        }
        Ok(surplus)
    }

    fn difference(&self, key: i64, kind: DifferenceKind) -> Difference {
        Difference { instrument: self.mismatch.instrument.clone(), key, kind }
    }
}

/// `None` if the row matches the record.
fn compare_row(table: &Table, pending: &PendingRecord, row: Option<&Row<'_>>) -> Option<DifferenceKind> {
    let PendingRecord { partition, offset, record } = pending;
    let (partition, offset) = (*partition, *offset);
    let Some(row) = row else { return Some(DifferenceKind::Missing { partition, offset }) };
    let record = record.row();
    let values = table.columns.iter().zip(record.values.iter().zip(&row.values));
    let (column, (topic, table)) = values.into_iter().find(|(_, (topic, table))| topic != table)?;
    let (topic, table) = (topic.to_string(), table.to_string());
    Some(DifferenceKind::Differs { partition, offset, column, topic, table })
}

/// A key that borrows nothing: keys are integers or timestamps.
fn to_owned(key: &SqlValue<'_>) -> SqlValue<'static> {
    match key {
        SqlValue::Integer(number) => SqlValue::Integer(*number),
        SqlValue::Timestamp(micros) => SqlValue::Timestamp(*micros),
        _ => SqlValue::Null,
    }
}
