//! The result of `verify`, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::summary::{Mismatch, Skipped};
use crate::kafka::reader::OffsetRange;
use crate::record::NoRowReason;

/// Entries shown of each list.
pub(super) const SHOWN: usize = 10;

/// A record without a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UndecodableRecord {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) reason: NoRowReason,
    pub(super) detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum DifferenceKind {
    /// The record has no row.
    Missing { partition: i32, offset: i64 },
    /// The row has no record.
    Surplus,
    /// The topic holds the key more than once; the location is that of the later record.
    Repeated { partition: i32, offset: i64 },
    /// `column` is the first one whose values differ.
    Differs { partition: i32, offset: i64, column: &'static str, topic: String, table: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) instrument: String,
    /// Sequence number, or end of the window in microseconds since 1970.
    pub(super) key: i64,
    #[serde(flatten)]
    pub(super) kind: DifferenceKind,
}

/// One topic and its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SinkReport {
    pub(super) topic: String,
    pub(super) table: &'static str,
    #[serde(rename = "match")]
    pub(super) matches: bool,
    /// The compared offsets.
    pub(super) offsets: Vec<OffsetRange>,
    pub(super) instruments: usize,
    /// Compared records.
    pub(super) records: u64,
    /// Compared rows.
    pub(super) rows: u64,
    pub(super) skipped: Skipped,
    /// Records without a row.
    pub(super) undecodable: BTreeMap<NoRowReason, u64>,
    pub(super) first_undecodable: Vec<UndecodableRecord>,
    /// Records without a row that are not in the dead-letter topic either.
    pub(super) missing_dead_letters: usize,
    pub(super) first_missing_dead_letters: Vec<UndecodableRecord>,
    pub(super) mismatched_instruments: usize,
    pub(super) first_mismatches: Vec<Mismatch>,
    /// The first rows that differ.
    pub(super) differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VerifyReport {
    #[serde(rename = "match")]
    pub(crate) matches: bool,
    sinks: Vec<SinkReport>,
}

impl VerifyReport {
    pub(super) fn new(sinks: Vec<SinkReport>) -> Self {
        Self { matches: sinks.iter().all(|sink| sink.matches), sinks }
    }

    pub(crate) fn text(&self) -> String {
        self.sinks.iter().map(SinkReport::text).collect()
    }
}

impl SinkReport {
    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} and table {} {}: {} records, {} rows, {} instruments, every value compared bit for bit",
            self.topic,
            self.table,
            if self.matches { "match" } else { "DO NOT match" },
            self.records,
            self.rows,
            self.instruments
        )];
        let Skipped { newer, older, deleted } = self.skipped;
        if newer > 0 {
            lines.push(format!("skipped: {newer} rows of records that came during the comparison"));
        }
        if older > 0 {
            lines.push(format!("skipped: {older} rows older than the first record of the topic"));
        }
        if deleted > 0 {
            lines.push(format!("skipped: {deleted} records old enough for retention to delete their rows"));
        }
        for (reason, count) in &self.undecodable {
            lines.push(format!("{count} records without a row: {}", reason.name()));
        }
        lines.extend(self.first_undecodable.iter().map(|record| format!("  {record}")));
        if self.missing_dead_letters > 0 {
            lines.push(format!("{} of them are not in the dead-letter topic:", self.missing_dead_letters));
            lines.extend(self.first_missing_dead_letters.iter().map(|record| format!("  {record}")));
        }
        if self.mismatched_instruments > 0 {
            lines.push(format!("{} instruments differ:", self.mismatched_instruments));
        }
        lines.extend(self.first_mismatches.iter().map(|mismatch| format!("  {mismatch}")));
        lines.extend(self.differences.iter().map(|difference| format!("  {difference}")));
        let mut text = String::new();
        for line in lines {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        text
    }
}

impl std::fmt::Display for UndecodableRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} offset {}: {}", self.partition, self.offset, self.detail)
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { instrument, topic, table, .. } = self;
        write!(
            f,
            "{instrument}: topic {} from {} to {}, table {} from {} to {}",
            topic.count, topic.first, topic.last, table.count, table.first, table.last
        )?;
        f.write_str(if topic.checksum == table.checksum { "" } else { ", checksums differ" })
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: ", self.instrument, self.key)?;
        match &self.kind {
            DifferenceKind::Missing { partition, offset } => {
                write!(f, "no row for the record in partition {partition} at offset {offset}")
            }
            DifferenceKind::Surplus => f.write_str("no record for the row"),
            DifferenceKind::Repeated { partition, offset } => {
                write!(f, "in the topic more than once, again in partition {partition} at offset {offset}")
            }
            DifferenceKind::Differs { partition, offset, column, topic, table } => {
                write!(f, "{column} is {table}, but {topic} in partition {partition} at offset {offset}")
            }
        }
    }
}
