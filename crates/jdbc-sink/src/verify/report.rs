//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::summary::{LeftOut, Mismatch};
use crate::kafka::reader::Range;
use crate::record::Reason;

/// Of anything that may be many, as much is shown.
pub const SHOWN: usize = 10;

/// A record that has no row, by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why it has none.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fault {
    /// The record has no row.
    Missing {
        /// Where the record is.
        partition: i32,
        /// Where the record is.
        offset: i64,
    },
    /// The row has no record.
    Surplus,
    /// The topic holds the key more than once.
    Repeated {
        /// Where the later record is.
        partition: i32,
        /// Where the later record is.
        offset: i64,
    },
    /// A column is not what the record says.
    Differs {
        /// Where the record is.
        partition: i32,
        /// Where the record is.
        offset: i64,
        /// The first such column.
        column: &'static str,
        /// In the topic.
        topic: String,
        /// In the table.
        table: String,
    },
}

/// A row that is not as it ought to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The instrument.
    pub instrument: String,
    /// Sequence number, or end of the window in microseconds.
    pub key: i64,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A topic against its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairReport {
    /// The topic.
    pub topic: String,
    /// The table.
    pub table: &'static str,
    /// Nothing is missing, nothing differs.
    pub same: bool,
    /// What was compared.
    pub offsets: Vec<Range>,
    /// Instruments.
    pub instruments: usize,
    /// Decoded records.
    pub records: u64,
    /// Rows that were compared with them.
    pub rows: u64,
    /// Rows that were not.
    pub left_out: LeftOut,
    /// Records without a row, by reason.
    pub undecodable: BTreeMap<Reason, u64>,
    /// The first of them.
    pub first_undecodable: Vec<Unreadable>,
    /// How many of them are missing from the dead-letter topic.
    pub without_dead_letter: u64,
    /// The first of these.
    pub first_without_dead_letter: Vec<Unreadable>,
    /// How many instruments differ.
    pub instruments_that_differ: usize,
    /// The first of them.
    pub first_that_differ: Vec<Mismatch>,
    /// The first rows that are not as they ought to be.
    pub differences: Vec<Difference>,
}

/// Both pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Both are the same.
    pub same: bool,
    /// Each of them.
    pub pairs: Vec<PairReport>,
}

impl Report {
    /// Of these pairs.
    #[must_use]
    pub fn of(pairs: Vec<PairReport>) -> Self {
        Self { same: pairs.iter().all(|pair| pair.same), pairs }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        self.pairs.iter().map(PairReport::text).collect()
    }
}

impl PairReport {
    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} and table {}: {}: {} records, {} rows, {} instruments, every number compared bit for bit",
            self.topic,
            self.table,
            if self.same { "the same" } else { "NOT the same" },
            self.records,
            self.rows,
            self.instruments
        )];
        let LeftOut { newer, older, deleted } = self.left_out;
        if newer > 0 {
            lines.push(format!("left out: {newer} rows of records that came meanwhile"));
        }
        if older > 0 {
            lines.push(format!("left out: {older} rows older than what the topic keeps"));
        }
        if deleted > 0 {
            lines.push(format!("left out: {deleted} records whose rows retention has deleted, or may"));
        }
        for (reason, count) in &self.undecodable {
            lines.push(format!("{count} records without a row: {}", reason.name()));
        }
        lines.extend(self.first_undecodable.iter().map(|record| format!("  {record}")));
        if self.without_dead_letter > 0 {
            lines.push(format!("{} of them are not in the dead-letter topic:", self.without_dead_letter));
            lines.extend(self.first_without_dead_letter.iter().map(|record| format!("  {record}")));
        }
        if self.instruments_that_differ > 0 {
            lines.push(format!("{} instruments differ:", self.instruments_that_differ));
        }
        lines.extend(self.first_that_differ.iter().map(|found| {
            let Mismatch { instrument, topic, table, .. } = found;
            format!(
                "  {instrument}: topic {} from {} to {}, table {} from {} to {}{}",
                topic.count,
                topic.first,
                topic.last,
                table.count,
                table.first,
                table.last,
                if topic.checksum == table.checksum { "" } else { ", checksums differ" }
            )
        }));
        lines.extend(self.differences.iter().map(|difference| format!("  {difference}")));
        let mut text = String::new();
        for line in lines {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        text
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} offset {}: {}", self.partition, self.offset, self.detail)
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: ", self.instrument, self.key)?;
        match &self.fault {
            Fault::Missing { partition, offset } => {
                write!(f, "no row for the record in partition {partition} at offset {offset}")
            }
            Fault::Surplus => f.write_str("no record for the row"),
            Fault::Repeated { partition, offset } => {
                write!(f, "in the topic more than once, again in partition {partition} at offset {offset}")
            }
            Fault::Differs { partition, offset, column, topic, table } => {
                write!(f, "{column} is {table}, {topic} in partition {partition} at offset {offset}")
            }
        }
    }
}
