//! A digest of topic and table for each instrument, small enough to keep for all instruments at once.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, Serializer};

/// The rows of one instrument on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Digest {
    pub(super) count: u64,
    /// The lowest sequence number, or end of a window in microseconds since 1970.
    pub(super) first: i64,
    pub(super) last: i64,
    /// The sum of the fingerprints, so that order does not matter. A string in JSON, where many parsers keep only 53 bits of a number.
    #[serde(serialize_with = "hexadecimal")]
    pub(super) checksum: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn hexadecimal<S: Serializer>(checksum: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{checksum:016x}"))
}

impl Digest {
    fn add(&mut self, sequence: i64, fingerprint: u64) {
        if self.count == 0 {
            (self.first, self.last) = (sequence, sequence);
        }
        self.count += 1;
        self.first = self.first.min(sequence);
        self.last = self.last.max(sequence);
        self.checksum = self.checksum.wrapping_add(fingerprint);
    }
}

#[derive(Debug, Default)]
struct InstrumentSummary {
    /// `None` without a record.
    partition: Option<i32>,
    topic: Digest,
    table: Digest,
}

/// An instrument whose two sides differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Mismatch {
    pub(super) instrument: String,
    /// `None` without a record.
    pub(super) partition: Option<i32>,
    pub(super) topic: Digest,
    pub(super) table: Digest,
}

/// Rows and records that are not compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Skipped {
    /// Rows of records after the compared offsets.
    pub(super) newer: u64,
    /// Rows of records that the topic no longer keeps.
    pub(super) older: u64,
    /// Records whose rows retention may have deleted.
    pub(super) deleted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Summary {
    instruments: HashMap<String, InstrumentSummary>,
    skipped: Skipped,
    /// The topic has lost its oldest records to retention.
    trimmed: bool,
}

impl Summary {
    /// A `trimmed` topic proves nothing about rows older than its first record.
    pub(super) fn new(trimmed: bool) -> Self {
        Self { trimmed, ..Self::default() }
    }

    pub(super) fn add_record(&mut self, instrument: &str, partition: i32, sequence: i64, fingerprint: u64) {
        let entry = self.entry(instrument);
        entry.partition = Some(partition);
        entry.topic.add(sequence, fingerprint);
    }

    /// All records must be added before the first row.
    pub(super) fn add_row(&mut self, instrument: &str, sequence: i64, fingerprint: u64) {
        let trimmed = self.trimmed;
        let entry = self.entry(instrument);
        let known = entry.topic.count > 0;
        if known && sequence > entry.topic.last {
            self.skipped.newer += 1;
        } else if known && trimmed && sequence < entry.topic.first {
            self.skipped.older += 1;
        } else {
            entry.table.add(sequence, fingerprint);
        }
    }

    /// Counts a record whose row retention may have deleted.
    pub(super) fn skip_deleted(&mut self) {
        self.skipped.deleted += 1;
    }

    fn entry(&mut self, instrument: &str) -> &mut InstrumentSummary {
        // Two lookups, but a name is copied only once.
        if !self.instruments.contains_key(instrument) {
            self.instruments.insert(instrument.to_owned(), InstrumentSummary::default());
        }
        self.instruments.get_mut(instrument).expect("it was inserted above")
    }

    /// Removes all rows, so that the table can be read again.
    pub(super) fn reset_rows(&mut self) {
        self.skipped = Skipped { deleted: self.skipped.deleted, ..Skipped::default() };
        self.instruments.retain(|_, entry| entry.topic.count > 0);
        for entry in self.instruments.values_mut() {
            entry.table = Digest::default();
        }
    }

    /// Whether a row has an instrument without a record in the compared offsets.
    pub(super) fn has_unknown_instruments(&self) -> bool {
        self.instruments.values().any(|entry| entry.topic.count == 0)
    }

    /// Skips the rows of instruments without a record in the compared offsets, if the instrument is `newer` or the topic trimmed.
    pub(super) fn skip_unknown_instruments(&mut self, newer: &HashSet<String>) {
        let (skipped, trimmed) = (&mut self.skipped, self.trimmed);
        self.instruments.retain(|instrument, entry| {
            let rows = if entry.topic.count == 0 { entry.table.count } else { 0 };
            match (rows, newer.contains(instrument)) {
                (1.., true) => skipped.newer += rows,
                (1.., false) if trimmed => skipped.older += rows,
                _ => return true,
            }
            false
        });
    }

    /// Sorted by instrument.
    pub(super) fn mismatches(&self) -> Vec<Mismatch> {
        let differing = self.instruments.iter().filter(|(_, entry)| entry.topic != entry.table);
        let mut all: Vec<_> = differing
            .map(|(instrument, entry)| Mismatch {
                instrument: instrument.clone(),
                partition: entry.partition,
                topic: entry.topic,
                table: entry.table,
            })
            .collect();
        all.sort_by(|one, other| one.instrument.cmp(&other.instrument));
        all
    }

    pub(super) fn instruments(&self) -> usize {
        self.instruments.len()
    }

    /// The compared records.
    pub(super) fn records(&self) -> u64 {
        self.instruments.values().map(|entry| entry.topic.count).sum()
    }

    /// The compared rows.
    pub(super) fn rows(&self) -> u64 {
        self.instruments.values().map(|entry| entry.table.count).sum()
    }

    pub(super) fn skipped(&self) -> Skipped {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(sequence: i64) -> u64 {
        sequence.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn filled(records: &[(&str, i64)], rows: &[(&str, i64)], trimmed: bool) -> Summary {
        let mut summary = Summary::new(trimmed);
        for (instrument, sequence) in records {
            summary.add_record(instrument, 3, *sequence, fingerprint(*sequence));
        }
        for (instrument, sequence) in rows {
            summary.add_row(instrument, *sequence, fingerprint(*sequence));
        }
        summary
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter() {
        let summary = filled(&[("A", 1), ("A", 2), ("A", 3)], &[("A", 3), ("A", 1), ("A", 2)], false);
        assert_eq!((summary.mismatches(), summary.records(), summary.rows()), (vec![], 3, 3));
    }

    #[test]
    fn a_missing_row_a_surplus_row_and_another_number_are_mismatches() {
        assert_eq!(filled(&[("A", 1), ("A", 2)], &[("A", 1)], false).mismatches().len(), 1);
        assert_eq!(
            filled(&[("A", 1), ("A", 3)], &[("A", 1), ("A", 2), ("A", 3)], false).mismatches().len(),
            1
        );
        assert_eq!(filled(&[("A", 1)], &[("A", 1), ("B", 1)], false).mismatches()[0].instrument, "B");
        let mut summary = Summary::new(false);
        summary.add_record("A", 0, 1, 10);
        summary.add_row("A", 1, 11);
        let mismatches = summary.mismatches();
        assert_eq!((mismatches[0].topic.count, mismatches[0].table.count), (1, 1));
    }

    #[test]
    fn rows_of_records_after_the_compared_offsets_are_skipped() {
        let mut summary = filled(&[("A", 1)], &[("A", 1), ("A", 2), ("B", 7)], false);
        assert!(summary.has_unknown_instruments());
        summary.skip_unknown_instruments(&HashSet::from(["B".to_owned()]));
        assert_eq!(summary.mismatches(), []);
        assert_eq!(summary.skipped(), Skipped { newer: 2, ..Skipped::default() });
    }

    #[test]
    fn rows_older_than_a_trimmed_topic_are_skipped_and_those_of_a_complete_one_are_not() {
        let (records, rows) = ([("A", 5)], [("A", 4), ("A", 5), ("B", 1)]);
        let mut trimmed = filled(&records, &rows, true);
        trimmed.skip_unknown_instruments(&HashSet::new());
        assert_eq!((trimmed.mismatches(), trimmed.skipped().older), (vec![], 2));
        let mut complete = filled(&records, &rows, false);
        complete.skip_unknown_instruments(&HashSet::new());
        assert_eq!(complete.mismatches().len(), 2);
    }

    #[test]
    fn rows_can_be_added_again_after_a_reset() {
        let mut summary = filled(&[("A", 1), ("A", 2)], &[("A", 1), ("B", 1)], false);
        summary.reset_rows();
        summary.add_row("A", 1, fingerprint(1));
        assert_eq!((summary.instruments(), summary.records(), summary.rows()), (1, 2, 1));
    }
}
