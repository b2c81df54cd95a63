//! Reading history by time, oldest first, over several parts of it at once: a state machine without I/O or clock.
//!
//! A page that has more behind it ends within a millisecond, so the next one begins with that millisecond once more. Should one
//! millisecond hold more than a page, the rest of it is missed here, and found missing by its numbers.

use crate::clock::Millis;
use crate::deribit::history::Query;
use crate::deribit::history_scope::HistoryScope;

/// One part of history.
#[derive(Debug)]
struct ScopeCursor {
    scope: HistoryScope,
    /// Everything before it has been read.
    cursor: Millis,
    /// Where the last page began.
    page_from: Millis,
    in_flight: bool,
    done: bool,
}

/// A reading of history between two times, both included.
#[derive(Debug)]
pub(crate) struct TimeBackfill {
    /// Which of several it is: an answer may come when another has begun.
    pub(crate) number: u32,
    from: Millis,
    until: Millis,
    parts: Vec<ScopeCursor>,
    /// Trades read.
    pub(crate) trades: u64,
}

impl TimeBackfill {
    /// A reading that has not begun.
    pub(crate) fn new(scopes: &[HistoryScope], number: u32, (from, until): (Millis, Millis)) -> Self {
        let part = |scope: &HistoryScope| ScopeCursor {
            scope: scope.clone(),
            cursor: from,
            page_from: from,
            in_flight: false,
            done: false,
        };
        Self { number, from, until, parts: scopes.iter().map(part).collect(), trades: 0 }
    }

    /// Goes on after a lost connection, up to a later time: each part from where it was. A part that had been read to its end goes back by
    /// `overlap`, because history may have lagged there.
    pub(crate) fn resume(&mut self, until: Millis, overlap: Millis) {
        for part in &mut self.parts {
            if part.done {
                part.cursor = self.from.max(self.until - overlap).min(part.cursor);
                part.page_from = part.cursor;
                part.done = false;
            }
            part.in_flight = false;
        }
        self.until = until;
    }

    /// The times that it is between.
    pub(crate) fn times(&self) -> (Millis, Millis) {
        (self.from, self.until)
    }

    /// The next question, and the part that its answer is for. The part that is furthest behind comes first: what was read of the
    /// others waits for it in memory.
    pub(crate) fn next_call(&mut self) -> Option<(usize, Query)> {
        let until = self.until;
        let reached = self.reached();
        // Parts that have run ahead wait, so that what waits in memory is bounded by two pages for each part.
        let (at, part) = self
            .parts
            .iter_mut()
            .enumerate()
            .filter(|(_, part)| !part.done && !part.in_flight && part.page_from <= reached)
            .min_by_key(|(_, part)| part.cursor)?;
        part.in_flight = true;
        part.page_from = part.cursor;
        Some((at, part.scope.call(part.cursor..=until)))
    }

    /// A part's question was answered: with so many trades, the newest of that time, and perhaps more behind them.
    pub(crate) fn answered(
        &mut self,
        part: usize,
        (trades, newest): (usize, Option<Millis>),
        has_more: bool,
    ) {
        let until = self.until;
        self.trades += trades as u64;
        let Some(part) = self.parts.get_mut(part) else { return };
        part.in_flight = false;
        match newest.filter(|_| has_more) {
            Some(newest) if newest > part.cursor => part.cursor = newest,
            Some(_) => part.cursor += 1,
            None => part.cursor = until + 1,
        }
        part.done = part.cursor > until;
    }

    /// A part's question was not answered.
    pub(crate) fn failed(&mut self, part: usize) {
        if let Some(part) = self.parts.get_mut(part) {
            part.in_flight = false;
        }
    }

    /// Everything before this time has been read.
    pub(crate) fn reached(&self) -> Millis {
        self.parts.iter().map(|part| part.cursor).min().unwrap_or(self.until + 1)
    }

    /// Whether everything has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.done)
    }

    /// How much of the time between has been read, from 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        let part = |millis: Millis| f64::from(u32::try_from(millis.max(0)).unwrap_or(u32::MAX));
        if self.until <= self.from {
            return 1.0;
        }
        (part(self.reached() - self.from) / part(self.until - self.from)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(name: &str) -> HistoryScope {
        HistoryScope::Instrument(name.to_owned())
    }

    fn times(call: Option<(usize, Query)>) -> (usize, (Millis, Millis)) {
        match call {
            Some((part, Query::Instrument { times, .. })) => (part, times.into_inner()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_page_begins_with_the_millisecond_that_the_last_one_ended_with() {
        let mut scan = TimeBackfill::new(&[scope("A")], 1, (100, 200));
        assert_eq!(times(scan.next_call()), (0, (100, 200)));
        assert!(scan.next_call().is_none(), "one question at a time");
        scan.answered(0, (3, Some(150)), true);
        assert_eq!((scan.reached(), scan.is_done()), (150, false));
        assert_eq!(times(scan.next_call()), (0, (150, 200)));
        scan.answered(0, (3, Some(150)), true);
        assert_eq!(
            times(scan.next_call()),
            (0, (151, 200)),
            "a millisecond of more than a page is left behind"
        );
        scan.answered(0, (1, Some(180)), false);
        assert!(scan.is_done());
        assert_eq!(scan.reached(), 201);
        assert!(scan.next_call().is_none());
    }

    #[test]
    fn what_has_been_read_is_what_the_slowest_part_has_read() {
        let mut scan = TimeBackfill::new(&[scope("A"), scope("B")], 1, (0, 99));
        assert_eq!((times(scan.next_call()).0, times(scan.next_call()).0), (0, 1));
        scan.answered(0, (0, None), false);
        assert_eq!(scan.reached(), 0);
        scan.answered(1, (9, Some(40)), true);
        assert_eq!(scan.reached(), 40);
        assert!((scan.progress() - 40.0 / 99.0).abs() < 1e-9);
        scan.failed(1);
        assert_eq!(times(scan.next_call()), (1, (40, 99)));
    }

    /// Where connections last for a page only, each part moves on all the same.
    #[test]
    fn after_a_lost_connection_each_part_goes_on_from_where_it_was() {
        let mut scan = TimeBackfill::new(&[scope("A"), scope("B")], 1, (0, 99));
        assert_eq!((times(scan.next_call()).0, times(scan.next_call()).0), (0, 1));
        scan.answered(1, (9, None), false);
        scan.resume(199, 10);
        assert_eq!(times(scan.next_call()), (0, (0, 199)));
        assert!(scan.next_call().is_none(), "the one that is ahead waits");
        scan.answered(0, (9, Some(95)), true);
        scan.resume(299, 10);
        assert_eq!(scan.reached(), 89, "history may have lagged at the end");
        assert_eq!((times(scan.next_call()), times(scan.next_call())), ((1, (89, 299)), (0, (95, 299))));
    }

    #[test]
    fn an_empty_answer_ends_a_part() {
        let mut scan = TimeBackfill::new(&[scope("A")], 1, (0, 99));
        scan.next_call();
        scan.answered(0, (0, None), true);
        assert!(scan.is_done());
    }
}
