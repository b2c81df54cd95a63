//! What topic and table hold of each instrument: little enough to keep for all of them at once.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, Serializer};

/// Some rows of one instrument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The lowest sequence, or end of a window in microseconds.
    pub first: i64,
    /// The highest.
    pub last: i64,
    /// The sum of their fingerprints, which no order changes; as text in JSON, whose numbers end at 53 bits for many.
    #[serde(serialize_with = "hexadecimal")]
    pub checksum: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn hexadecimal<S: Serializer>(checksum: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{checksum:016x}"))
}

impl Summary {
    fn add(&mut self, rank: i64, fingerprint: u64) {
        if self.count == 0 {
            (self.first, self.last) = (rank, rank);
        }
        self.count += 1;
        self.first = self.first.min(rank);
        self.last = self.last.max(rank);
        self.checksum = self.checksum.wrapping_add(fingerprint);
    }
}

#[derive(Debug, Default)]
struct Entry {
    partition: Option<i32>,
    topic: Summary,
    table: Summary,
}

/// An instrument of which topic and table do not hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Its name.
    pub instrument: String,
    /// Where its records are; `None` if there are none.
    pub partition: Option<i32>,
    /// In the topic.
    pub topic: Summary,
    /// In the table.
    pub table: Summary,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Rows of records behind the stated offsets.
    pub newer: u64,
    /// Rows of records that the topic does not keep any more.
    pub older: u64,
    /// Records whose rows retention may have deleted.
    pub deleted: u64,
}

/// Both sides, by instrument.
#[derive(Debug, Default)]
pub struct Tally {
    instruments: HashMap<String, Entry>,
    left_out: LeftOut,
    /// The topic has lost its oldest records to retention.
    trimmed: bool,
}

impl Tally {
    /// Nothing yet; `trimmed` topics say nothing about rows older than their first record.
    #[must_use]
    pub fn new(trimmed: bool) -> Self {
        Self { trimmed, ..Self::default() }
    }

    /// A record of the topic.
    pub fn record(&mut self, instrument: &str, partition: i32, (rank, fingerprint): (i64, u64)) {
        let entry = self.entry(instrument);
        entry.partition = Some(partition);
        entry.topic.add(rank, fingerprint);
    }

    /// A row of the table; all records come before the first row.
    pub fn row(&mut self, instrument: &str, (rank, fingerprint): (i64, u64)) {
        let trimmed = self.trimmed;
        let entry = self.entry(instrument);
        let known = entry.topic.count > 0;
        if known && rank > entry.topic.last {
            self.left_out.newer += 1;
        } else if known && trimmed && rank < entry.topic.first {
            self.left_out.older += 1;
        } else {
            entry.table.add(rank, fingerprint);
        }
    }

    /// A record whose row retention may have deleted.
    pub fn leave_out(&mut self) {
        self.left_out.deleted += 1;
    }

    fn entry(&mut self, instrument: &str) -> &mut Entry {
        // Two look-ups, but a name is copied only once.
        if !self.instruments.contains_key(instrument) {
            self.instruments.insert(instrument.to_owned(), Entry::default());
        }
        self.instruments.get_mut(instrument).expect("it has just been put there")
    }

    /// Forgets the rows, to take them in anew.
    pub fn forget_rows(&mut self) {
        self.left_out = LeftOut { deleted: self.left_out.deleted, ..LeftOut::default() };
        self.instruments.retain(|_, entry| entry.topic.count > 0);
        for entry in self.instruments.values_mut() {
            entry.table = Summary::default();
        }
    }

    /// Whether a row's instrument is not in the topic up to the stated offsets.
    #[must_use]
    pub fn has_strangers(&self) -> bool {
        self.instruments.values().any(|entry| entry.topic.count == 0)
    }

    /// Leaves out rows of instruments that are not in the topic up to the stated offsets but, being `newer`, behind them; and of those
    /// that a trimmed topic may have had.
    pub fn excuse(&mut self, newer: &HashSet<String>) {
        let (left_out, trimmed) = (&mut self.left_out, self.trimmed);
        self.instruments.retain(|instrument, entry| {
            let rows = if entry.topic.count == 0 { entry.table.count } else { 0 };
            match (rows, newer.contains(instrument)) {
                (1.., true) => left_out.newer += rows,
                (1.., false) if trimmed => left_out.older += rows,
                _ => return true,
            }
            false
        });
    }

    /// The instruments that differ, by name.
    #[must_use]
    pub fn mismatches(&self) -> Vec<Mismatch> {
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

    /// How many instruments there are.
    #[must_use]
    pub fn instruments(&self) -> usize {
        self.instruments.len()
    }

    /// Decoded records and compared rows.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let entries = self.instruments.values();
        entries.fold((0, 0), |(records, rows), entry| (records + entry.topic.count, rows + entry.table.count))
    }

    /// Rows that were not compared.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(records: &[(&str, i64)], rows: &[(&str, i64)], trimmed: bool) -> Tally {
        let mut tally = Tally::new(trimmed);
        for (instrument, rank) in records {
            tally.record(instrument, 3, (*rank, rank.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        for (instrument, rank) in rows {
            tally.row(instrument, (*rank, rank.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        tally
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter() {
        let tally = filled(&[("A", 1), ("A", 2), ("A", 3)], &[("A", 3), ("A", 1), ("A", 2)], false);
        assert_eq!((tally.mismatches(), tally.totals()), (vec![], (3, 3)));
    }

    #[test]
    fn a_missing_row_a_surplus_row_and_another_number_are_mismatches() {
        assert_eq!(filled(&[("A", 1), ("A", 2)], &[("A", 1)], false).mismatches().len(), 1);
        assert_eq!(
            filled(&[("A", 1), ("A", 3)], &[("A", 1), ("A", 2), ("A", 3)], false).mismatches().len(),
            1
        );
        assert_eq!(filled(&[("A", 1)], &[("A", 1), ("B", 1)], false).mismatches()[0].instrument, "B");
        let mut tally = Tally::new(false);
        tally.record("A", 0, (1, 10));
        tally.row("A", (1, 11));
        let mismatches = tally.mismatches();
        assert_eq!((mismatches[0].topic.count, mismatches[0].table.count), (1, 1));
    }

    #[test]
    fn a_row_of_a_record_behind_the_stated_offsets_is_left_out() {
        let mut tally = filled(&[("A", 1)], &[("A", 1), ("A", 2), ("B", 7)], false);
        assert!(tally.has_strangers());
        tally.excuse(&HashSet::from(["B".to_owned()]));
        assert_eq!(tally.mismatches(), []);
        assert_eq!(tally.left_out(), LeftOut { newer: 2, ..LeftOut::default() });
    }

    #[test]
    fn rows_older_than_a_trimmed_topic_are_left_out_and_those_of_a_whole_one_are_not() {
        let (records, rows) = ([("A", 5)], [("A", 4), ("A", 5), ("B", 1)]);
        let mut trimmed = filled(&records, &rows, true);
        trimmed.excuse(&HashSet::new());
        assert_eq!((trimmed.mismatches(), trimmed.left_out().older), (vec![], 2));
        let mut whole = filled(&records, &rows, false);
        whole.excuse(&HashSet::new());
        assert_eq!(whole.mismatches().len(), 2);
    }

    #[test]
    fn rows_can_be_taken_in_anew() {
        let mut tally = filled(&[("A", 1), ("A", 2)], &[("A", 1), ("B", 1)], false);
        tally.forget_rows();
        tally.row("A", (1, 0x9e37_79b9_7f4a_7c15));
        assert_eq!((tally.instruments(), tally.totals()), (1, (2, 1)));
    }
}
