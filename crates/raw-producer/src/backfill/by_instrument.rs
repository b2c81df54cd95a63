//! Reads history that is too old for queries by time, instrument by instrument.

use std::collections::{HashMap, HashSet, VecDeque};

use super::BackfillRequest;
use crate::clock::ExchangeTime;
use crate::deribit::history::{ListedInstrument, PAGE_SIZE, Query};
use crate::deribit::history_scope::HistoryScope;

/// Where the next page of an instrument begins.
#[derive(Debug, Clone, Copy)]
enum InstrumentCursor {
    /// At a number. If history has nothing by number, as for combos, the instrument is read by time, from `or_time` on.
    Sequence {
        first: i64,
        or_time: ExchangeTime,
    },
    Time(ExchangeTime),
}

/// A list of instruments that is requested.
#[derive(Debug, Clone)]
struct Listing {
    currency: String,
    expired: bool,
}

/// The last published trade of an instrument.
#[derive(Debug)]
pub(crate) struct KnownInstrument {
    pub(crate) name: String,
    pub(crate) last: i64,
    pub(crate) timestamp: ExchangeTime,
}

/// The instruments that are read, and how far.
#[derive(Debug, Default)]
pub(crate) struct InstrumentBackfill {
    /// The topic's start.
    start: ExchangeTime,
    /// Older trades are not missing.
    from: ExchangeTime,
    /// A time backfill reads what is newer.
    until: ExchangeTime,
    listings: VecDeque<Listing>,
    /// In flight.
    listing: Option<Listing>,
    wanted: VecDeque<(String, InstrumentCursor)>,
    in_flight: HashMap<String, InstrumentCursor>,
    /// Subscribed currencies and kinds.
    kinds: HashSet<(String, String)>,
    instruments_done: usize,
    pages: u64,
}

impl InstrumentBackfill {
    /// Reads the subscribed instruments `from..=until`, those that are `known` from their last trade on. `start` is the topic's.
    pub(crate) fn new(
        scopes: &[HistoryScope],
        known: Vec<KnownInstrument>,
        start: ExchangeTime,
        from: ExchangeTime,
        until: ExchangeTime,
    ) -> Self {
        let names: HashSet<&String> = known.iter().map(|known| &known.name).collect();
        let mut backfill = Self { start, from, until, ..Self::default() };
        for scope in scopes {
            match scope {
                HistoryScope::Currency { currency, kind } => {
                    backfill.kinds.insert((currency.clone(), kind.clone()));
                }
                HistoryScope::Instrument(name) if !names.contains(name) => {
                    backfill.wanted.push_back((name.clone(), InstrumentCursor::Time(start)));
                }
                HistoryScope::Instrument(_) => {}
            }
        }
        let currencies: HashSet<&String> = backfill.kinds.iter().map(|(currency, _)| currency).collect();
        for currency in currencies {
            let listing = |expired| Listing { currency: currency.clone(), expired };
            backfill.listings.extend([listing(true), listing(false)]);
        }
        let cursor = |known: KnownInstrument| {
            let cursor = InstrumentCursor::Sequence { first: known.last + 1, or_time: known.timestamp };
            (known.name, cursor)
        };
        backfill.wanted.extend(known.into_iter().map(cursor));
        backfill
    }

    /// A list of instruments has arrived, without those that are known.
    pub(crate) fn on_listing(&mut self, listed: Vec<ListedInstrument>) {
        let Some(Listing { currency, .. }) = self.listing.take() else { return };
        let Self { start, from, until, kinds, wanted, .. } = self;
        let subscribed = |one: &ListedInstrument| {
            kinds.iter().any(|(of, kind)| *of == currency && (kind == "any" || *kind == one.kind))
        };
        let found = listed.into_iter().filter(subscribed);
        let found = found.filter(|one| one.expiration_timestamp >= *from);
        let found = found.filter(|one| one.creation_timestamp < *until);
        wanted.extend(found.map(|one| {
            let first = one.creation_timestamp.max(*start).max(*from);
            (one.instrument_name, InstrumentCursor::Time(first))
        }));
    }

    pub(crate) fn until(&self) -> ExchangeTime {
        self.until
    }

    pub(crate) fn is_done(&self) -> bool {
        self.listings.is_empty()
            && self.listing.is_none()
            && self.wanted.is_empty()
            && self.in_flight.is_empty()
    }

    pub(crate) fn next_query(&mut self) -> Option<(Query, BackfillRequest)> {
        if self.listing.is_none()
            && let Some(listing) = self.listings.pop_front()
        {
            let Listing { currency, expired } = listing.clone();
            self.listing = Some(listing);
            return Some((Query::Instruments { currency, expired }, BackfillRequest::Listing));
        }
        let (instrument, cursor) = self.wanted.pop_front()?;
        self.in_flight.insert(instrument.clone(), cursor);
        let request = BackfillRequest::Instrument(instrument.clone());
        let query = match cursor {
            InstrumentCursor::Sequence { first, .. } => {
                Query::TradesBySequence { instrument, seqs: first..=first + i64::from(PAGE_SIZE) - 1 }
            }
            InstrumentCursor::Time(time) => Query::TradesByTime { instrument, times: time..=self.until },
        };
        Some((query, request))
    }

    /// A page of the instrument has arrived: the highest number and the newest timestamp.
    pub(crate) fn on_page(
        &mut self,
        name: &str,
        last: Option<i64>,
        newest: Option<ExchangeTime>,
        has_more: bool,
    ) {
        let Some(cursor) = self.in_flight.remove(name) else { return };
        let is_behind = newest.is_some_and(|newest| newest < self.until);
        let next = match (cursor, last, newest) {
            // A query by number is for one page, so only another query shows whether there is more.
            (InstrumentCursor::Sequence { .. }, Some(last), Some(newest)) if is_behind => {
                Some(InstrumentCursor::Sequence { first: last + 1, or_time: newest })
            }
            (InstrumentCursor::Sequence { or_time, .. }, None, _) => Some(InstrumentCursor::Time(or_time)),
            (InstrumentCursor::Time(_), Some(last), Some(newest)) if is_behind && has_more => {
                Some(InstrumentCursor::Sequence { first: last + 1, or_time: newest })
            }
            _ => None,
        };
        match next {
            Some(next) => self.wanted.push_front((name.to_owned(), next)),
            None => self.instruments_done += 1,
        }
        self.pages += 1;
    }

    /// The exchange does not know the instrument.
    pub(crate) fn give_up(&mut self, name: &str) {
        self.in_flight.remove(name);
        self.instruments_done += 1;
    }

    /// The page must be requested again.
    pub(crate) fn on_page_failed(&mut self, name: &str) {
        if let Some(cursor) = self.in_flight.remove(name) {
            self.wanted.push_back((name.to_owned(), cursor));
        }
    }

    /// The list of instruments must be requested again.
    pub(crate) fn on_listing_failed(&mut self) {
        self.listings.extend(self.listing.take());
    }

    /// A text for people, and the share of the known instruments that were read.
    pub(crate) fn progress(&self) -> (String, f64) {
        let all = self.instruments_done + self.wanted.len() + self.in_flight.len();
        let text = format!(
            "backfilling older than a day: {} of {all} instruments read, {} pages",
            self.instruments_done, self.pages
        );
        (text, if all == 0 { 0.0 } else { self.instruments_done as f64 / all as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, last: i64, timestamp: ExchangeTime) -> KnownInstrument {
        KnownInstrument { name: name.into(), last, timestamp }
    }

    #[test]
    fn progress_is_the_share_of_the_instruments_that_were_read_to_the_end() {
        let known = vec![known("A", 7, 5), known("B", 3, 6)];
        let mut backfill = InstrumentBackfill::new(&[], known, 0, 0, 100);
        assert_eq!(backfill.progress().1, 0.0);
        backfill.next_query();
        backfill.on_page("A", Some(9), Some(50), true);
        assert_eq!(backfill.progress().1, 0.0, "there is more of A");
        // Nothing more by number, and nothing more by time.
        for _ in 0..2 {
            backfill.next_query();
            backfill.on_page("A", None, None, false);
        }
        let (text, share) = backfill.progress();
        assert_eq!(text, "backfilling older than a day: 1 of 2 instruments read, 3 pages");
        assert!((share - 0.5).abs() < 1e-9);
    }

    #[test]
    fn of_a_listing_only_subscribed_kinds_are_read() {
        let scope = HistoryScope::Currency { currency: "BTC".into(), kind: "option".into() };
        let mut backfill = InstrumentBackfill::new(&[scope], Vec::new(), 0, 0, 100);
        let first = backfill.next_query();
        assert!(matches!(first, Some((Query::Instruments { .. }, BackfillRequest::Listing))));
        let listed = |name: &str, kind: &str| ListedInstrument {
            instrument_name: name.into(),
            kind: kind.into(),
            creation_timestamp: 0,
            expiration_timestamp: 200,
        };
        backfill.on_listing(vec![listed("BTC-PERPETUAL", "future"), listed("BTC-1JAN27-1-C", "option")]);
        let next: Vec<_> = std::iter::from_fn(|| backfill.next_query()).map(|(_, request)| request).collect();
        assert_eq!(next, [BackfillRequest::Listing, BackfillRequest::Instrument("BTC-1JAN27-1-C".into())]);
    }
}
