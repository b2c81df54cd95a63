//! Reads history by time, oldest first, in several scopes at once: a state machine without I/O and without a clock.
//!
//! A page with more behind it may end within a millisecond, so the next page begins with that millisecond again. If one millisecond has more
//! trades than a page, the backfill misses the rest. The sequencer finds them missing by their numbers.

use std::ops::RangeInclusive;

use crate::clock::ExchangeTime;
use crate::deribit::history::Query;
use crate::deribit::history_scope::HistoryScope;

/// How far one scope was read.
#[derive(Debug)]
struct ScopeCursor {
    scope: HistoryScope,
    /// Everything before it was read.
    cursor: ExchangeTime,
    /// The start of the last requested page.
    page_from: ExchangeTime,
    in_flight: bool,
    done: bool,
}

/// A reading of history between two times, both included.
#[derive(Debug)]
pub(crate) struct TimeBackfill {
    /// Distinguishes backfills: a response may arrive when another backfill is running.
    pub(crate) number: u32,
    from: ExchangeTime,
    until: ExchangeTime,
    scopes: Vec<ScopeCursor>,
    /// Number of trades read.
    pub(crate) trades: u64,
}

impl TimeBackfill {
    pub(crate) fn new(scopes: &[HistoryScope], number: u32, times: RangeInclusive<ExchangeTime>) -> Self {
        let (from, until) = times.into_inner();
        let cursor = |scope: &HistoryScope| ScopeCursor {
            scope: scope.clone(),
            cursor: from,
            page_from: from,
            in_flight: false,
            done: false,
        };
        Self { number, from, until, scopes: scopes.iter().map(cursor).collect(), trades: 0 }
    }

    /// Continues after a lost connection, up to a later time. A scope that was read to its end goes back by `overlap`, because history may
    /// have lagged there.
    pub(crate) fn resume(&mut self, until: ExchangeTime, overlap: ExchangeTime) {
        for scope in &mut self.scopes {
            if scope.done {
                scope.cursor = self.from.max(self.until - overlap).min(scope.cursor);
                scope.page_from = scope.cursor;
                scope.done = false;
            }
            scope.in_flight = false;
        }
        self.until = until;
    }

    pub(crate) fn from(&self) -> ExchangeTime {
        self.from
    }

    pub(crate) fn until(&self) -> ExchangeTime {
        self.until
    }

    /// The next query, and the index of its scope. The scope furthest behind comes first: trades of the others are held until it catches up.
    pub(crate) fn next_query(&mut self) -> Option<(usize, Query)> {
        let until = self.until;
        let reached = self.reached();
        // Scopes that are ahead wait. This bounds the held trades to two pages for each scope.
        let (index, scope) = self
            .scopes
            .iter_mut()
            .enumerate()
            .filter(|(_, scope)| !scope.done && !scope.in_flight && scope.page_from <= reached)
            .min_by_key(|(_, scope)| scope.cursor)?;
        scope.in_flight = true;
        scope.page_from = scope.cursor;
        Some((index, scope.scope.query(scope.cursor..=until)))
    }

    /// A page of the scope has arrived: the number of its trades and the newest timestamp.
    pub(crate) fn on_page(
        &mut self,
        scope: usize,
        trades: usize,
        newest: Option<ExchangeTime>,
        has_more: bool,
    ) {
        let until = self.until;
        self.trades += trades as u64;
        let Some(scope) = self.scopes.get_mut(scope) else { return };
        scope.in_flight = false;
        match newest.filter(|_| has_more) {
            Some(newest) if newest > scope.cursor => scope.cursor = newest,
            Some(_) => scope.cursor += 1,
            None => scope.cursor = until + 1,
        }
        scope.done = scope.cursor > until;
    }

    /// The scope's page must be requested again.
    pub(crate) fn on_request_failed(&mut self, scope: usize) {
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.in_flight = false;
        }
    }

    /// Everything before this time was read, in all scopes.
    pub(crate) fn reached(&self) -> ExchangeTime {
        self.scopes.iter().map(|scope| scope.cursor).min().unwrap_or(self.until + 1)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.scopes.iter().all(|scope| scope.done)
    }

    /// The share of the time range that was read, from 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        let millis = |time: ExchangeTime| f64::from(u32::try_from(time.max(0)).unwrap_or(u32::MAX));
        if self.until <= self.from {
            return 1.0;
        }
        (millis(self.reached() - self.from) / millis(self.until - self.from)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(name: &str) -> HistoryScope {
        HistoryScope::Instrument(name.to_owned())
    }

    fn times(query: Option<(usize, Query)>) -> (usize, RangeInclusive<ExchangeTime>) {
        match query {
            Some((scope, Query::TradesByTime { times, .. })) => (scope, times),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_page_begins_with_the_millisecond_that_the_last_one_ended_with() {
        let mut backfill = TimeBackfill::new(&[scope("A")], 1, 100..=200);
        assert_eq!(times(backfill.next_query()), (0, 100..=200));
        assert!(backfill.next_query().is_none(), "one request at a time");
        backfill.on_page(0, 3, Some(150), true);
        assert_eq!((backfill.reached(), backfill.is_done()), (150, false));
        assert_eq!(times(backfill.next_query()), (0, 150..=200));
        backfill.on_page(0, 3, Some(150), true);
        let next = times(backfill.next_query());
        assert_eq!(next, (0, 151..=200), "a millisecond with more than a page is left behind");
        backfill.on_page(0, 1, Some(180), false);
        assert!(backfill.is_done());
        assert_eq!(backfill.reached(), 201);
        assert!(backfill.next_query().is_none());
    }

    #[test]
    fn the_slowest_scope_decides_how_far_history_was_read() {
        let mut backfill = TimeBackfill::new(&[scope("A"), scope("B")], 1, 0..=99);
        assert_eq!((times(backfill.next_query()).0, times(backfill.next_query()).0), (0, 1));
        backfill.on_page(0, 0, None, false);
        assert_eq!(backfill.reached(), 0);
        backfill.on_page(1, 9, Some(40), true);
        assert_eq!(backfill.reached(), 40);
        assert!((backfill.progress() - 40.0 / 99.0).abs() < 1e-9);
        backfill.on_request_failed(1);
        assert_eq!(times(backfill.next_query()), (1, 40..=99));
    }

    /// Even connections that last for one page only must move each scope on.
    #[test]
    fn after_a_lost_connection_each_scope_continues_where_it_was() {
        let mut backfill = TimeBackfill::new(&[scope("A"), scope("B")], 1, 0..=99);
        assert_eq!((times(backfill.next_query()).0, times(backfill.next_query()).0), (0, 1));
        backfill.on_page(1, 9, None, false);
        backfill.resume(199, 10);
        assert_eq!(times(backfill.next_query()), (0, 0..=199));
        assert!(backfill.next_query().is_none(), "the scope that is ahead waits");
        backfill.on_page(0, 9, Some(95), true);
        backfill.resume(299, 10);
        assert_eq!(backfill.reached(), 89, "history may have lagged at the end");
        let next = (times(backfill.next_query()), times(backfill.next_query()));
        assert_eq!(next, ((1, 89..=299), (0, 95..=299)));
    }

    #[test]
    fn an_empty_page_ends_a_scope() {
        let mut backfill = TimeBackfill::new(&[scope("A")], 1, 0..=99);
        backfill.next_query();
        backfill.on_page(0, 0, None, true);
        assert!(backfill.is_done());
    }
}
