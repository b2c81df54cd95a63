//! Reading what is older than history by time reaches: instrument by instrument.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::clock::Millis;
use crate::deribit::history::{ListedInstrument, PAGE, Query};
use crate::deribit::history_scope::HistoryScope;
use crate::deribit::requests::RequestKind;

/// What is asked about an instrument.
#[derive(Debug, Clone, Copy)]
enum InstrumentCursor {
    /// Trades from that number on, and if there are none by number, as combos have them, from that time on.
    Number(i64, Millis),
    /// Trades from that time on.
    Time(Millis),
}

/// The instruments that are read, and how far.
#[derive(Debug, Default)]
pub(crate) struct InstrumentBackfill {
    start: Millis,
    from: Millis,
    until: Millis,
    listings: VecDeque<(String, bool)>,
    listing: Option<(String, bool)>,
    wanted: VecDeque<(String, InstrumentCursor)>,
    asked: HashMap<String, InstrumentCursor>,
    /// Currencies and kinds that are subscribed to.
    kinds: HashSet<(String, String)>,
    done: usize,
    pages: u64,
}

impl InstrumentBackfill {
    /// For the topic's start, the time from which something may be missing, and the time up to which it is read so, from which history has it by time.
    pub(crate) fn new(scopes: &[HistoryScope], (start, from, until): (Millis, Millis, Millis)) -> Self {
        let mut deep = Self { start, from, until, ..Self::default() };
        deep.kinds = scopes
            .iter()
            .filter_map(|scope| match scope {
                HistoryScope::Currency(currency, kind) => Some((currency.clone(), kind.clone())),
                HistoryScope::Instrument(_) => None,
            })
            .collect();
        let currencies: HashSet<&String> = deep.kinds.iter().map(|(currency, _)| currency).collect();
        for currency in currencies {
            deep.listings.extend([(currency.clone(), true), (currency.clone(), false)]);
        }
        for scope in scopes {
            if let HistoryScope::Instrument(name) = scope {
                deep.wanted.push_back((name.clone(), InstrumentCursor::Time(start)));
            }
        }
        deep
    }

    /// Instruments with their last number.
    pub(crate) fn know(&mut self, known: Vec<(String, i64, Millis)>) {
        let names: HashSet<&String> = known.iter().map(|(name, ..)| name).collect();
        self.wanted.retain(|(name, _)| !names.contains(name));
        self.wanted.extend(
            known
                .into_iter()
                .map(|(name, last, timestamp)| (name, InstrumentCursor::Number(last + 1, timestamp))),
        );
    }

    /// Instruments of which nothing is known.
    pub(crate) fn listed(&mut self, listed: Vec<ListedInstrument>) {
        let Some((currency, _)) = self.listing.take() else { return };
        let Self { start, from, until, kinds, wanted, .. } = self;
        let subscribed = |one: &ListedInstrument| {
            kinds.iter().any(|(of, kind)| *of == currency && (kind == "any" || *kind == one.kind))
        };
        let found = listed.into_iter().filter(subscribed);
        let found = found.filter(|one| one.expiration_timestamp >= *from);
        let found = found.filter(|one| one.creation_timestamp < *until);
        wanted.extend(found.map(|one| {
            (one.instrument_name, InstrumentCursor::Time(one.creation_timestamp.max(*start).max(*from)))
        }));
    }

    pub(crate) fn until(&self) -> Millis {
        self.until
    }

    pub(crate) fn is_done(&self) -> bool {
        self.listings.is_empty() && self.listing.is_none() && self.wanted.is_empty() && self.asked.is_empty()
    }

    pub(crate) fn next_call(&mut self) -> Option<(Query, RequestKind)> {
        if self.listing.is_none()
            && let Some((currency, expired)) = self.listings.pop_front()
        {
            self.listing = Some((currency.clone(), expired));
            return Some((Query::Instruments { currency, expired }, RequestKind::Listing));
        }
        let (name, from) = self.wanted.pop_front()?;
        self.asked.insert(name.clone(), from);
        let call = match from {
            InstrumentCursor::Number(first, _) => {
                let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
                Query::Numbers { name: name.clone(), seqs: first..=first + page - 1 }
            }
            InstrumentCursor::Time(time) => {
                Query::Instrument { name: name.clone(), times: time..=self.until }
            }
        };
        Some((call, RequestKind::InstrumentBackfill(name)))
    }

    /// An instrument's page, up to that number and time.
    pub(crate) fn answered(
        &mut self,
        name: &str,
        (last, newest): (Option<i64>, Option<Millis>),
        has_more: bool,
    ) {
        let Some(from) = self.asked.remove(name) else { return };
        let behind = newest.is_some_and(|newest| newest < self.until);
        let next = match (from, last, newest) {
            // A question by number is for one page; there is no telling what is behind it but by asking.
            (InstrumentCursor::Number(..), Some(last), Some(newest)) if behind => {
                Some(InstrumentCursor::Number(last + 1, newest))
            }
            (InstrumentCursor::Number(_, time), None, _) => Some(InstrumentCursor::Time(time)),
            (InstrumentCursor::Time(_), Some(last), Some(newest)) if behind && has_more => {
                Some(InstrumentCursor::Number(last + 1, newest))
            }
            _ => None,
        };
        match next {
            Some(next) => self.wanted.push_front((name.to_owned(), next)),
            None => self.done += 1,
        }
        self.pages += 1;
    }

    /// Nothing can be had of the instrument.
    pub(crate) fn done(&mut self, name: &str) {
        self.asked.remove(name);
        self.done += 1;
    }

    pub(crate) fn failed(&mut self, name: &str) {
        if let Some(from) = self.asked.remove(name) {
            self.wanted.push_back((name.to_owned(), from));
        }
    }

    pub(crate) fn failed_listing(&mut self) {
        self.listings.extend(self.listing.take());
    }

    /// What is done, and its share of the whole as far as the instruments are known.
    pub(crate) fn progress(&self) -> (String, f64) {
        let all = self.done + self.wanted.len() + self.asked.len();
        let what = format!(
            "backfilling older than a day: {} of {all} instruments read, {} pages",
            self.done, self.pages
        );
        (what, if all == 0 { 0.0 } else { self.done as f64 / all as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_share_of_the_instruments_that_are_read_to_the_end() {
        let mut deep = InstrumentBackfill::new(&[], (0, 0, 100));
        assert_eq!(deep.progress().1, 0.0);
        deep.know(vec![("A".into(), 7, 5), ("B".into(), 3, 6)]);
        deep.next_call();
        deep.answered("A", (Some(9), Some(50)), true);
        assert_eq!(deep.progress().1, 0.0, "there is more of A");
        // Nothing more by number, and nothing more by time.
        for _ in 0..2 {
            deep.next_call();
            deep.answered("A", (None, None), false);
        }
        let (what, part) = deep.progress();
        assert_eq!(what, "backfilling older than a day: 1 of 2 instruments read, 3 pages");
        assert!((part - 0.5).abs() < 1e-9);
    }

    #[test]
    fn of_a_listing_only_the_kinds_are_read_that_are_subscribed_to() {
        let mut deep =
            InstrumentBackfill::new(&[HistoryScope::Currency("BTC".into(), "option".into())], (0, 0, 100));
        assert!(matches!(deep.next_call(), Some((Query::Instruments { .. }, RequestKind::Listing))));
        let listed = |name: &str, kind: &str| ListedInstrument {
            instrument_name: name.into(),
            kind: kind.into(),
            creation_timestamp: 0,
            expiration_timestamp: 200,
        };
        deep.listed(vec![listed("BTC-PERPETUAL", "future"), listed("BTC-1JAN27-1-C", "option")]);
        let asked: Vec<_> = std::iter::from_fn(|| deep.next_call()).map(|(_, purpose)| purpose).collect();
        assert_eq!(asked, [RequestKind::Listing, RequestKind::InstrumentBackfill("BTC-1JAN27-1-C".into())]);
    }
}
