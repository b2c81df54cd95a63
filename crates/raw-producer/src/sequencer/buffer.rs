//! The trades of one instrument that cannot be published yet.

use std::collections::BTreeMap;

use super::gap::Gap;
use super::{IncomingTrade, KnownTrade};
use crate::clock::ExchangeTime;

/// Held trades, and what is known of missing ones.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    pub(super) trades: BTreeMap<i64, IncomingTrade<T>>,
    /// The highest number that is known to exist. Its trade may have been dropped.
    pub(super) highest: KnownTrade,
    /// The lowest number that was ever seen here. Its trade may have been dropped.
    pub(super) lowest: KnownTrade,
    /// The lowest number whose trade was dropped; the trade may have come again since.
    pub(super) dropped: Option<KnownTrade>,
    /// History had been read up to this time before anything was held here.
    pub(super) read_through: ExchangeTime,
    /// The lowest number that history has shown, while nothing of the instrument is published.
    pub(super) lowest_in_history: Option<KnownTrade>,
    /// Set while the next trade is missing and the running backfill will not bring it.
    pub(super) gap: Option<Gap>,
}

impl<T> Buffer<T> {
    /// An empty buffer that knows of one trade.
    pub(super) fn new(seen: KnownTrade, read_through: ExchangeTime) -> Self {
        Self {
            trades: BTreeMap::new(),
            highest: seen,
            lowest: seen,
            dropped: None,
            read_through,
            lowest_in_history: None,
            gap: None,
        }
    }

    pub(super) fn saw(&mut self, seen: KnownTrade) {
        if seen.seq < self.lowest.seq {
            self.lowest = seen;
        }
        if seen.seq > self.highest.seq {
            self.highest = seen;
        }
    }

    /// Notes that a trade exists and is not held.
    pub(super) fn note_dropped(&mut self, trade: KnownTrade) {
        if self.dropped.is_none_or(|lowest| trade.seq < lowest.seq) {
            self.dropped = Some(trade);
        }
    }

    /// Drops every held trade and remembers that they exist.
    pub(super) fn drop_buffered(&mut self) {
        if let Some((seq, trade)) = self.trades.pop_first() {
            self.note_dropped(KnownTrade { seq, timestamp: trade.timestamp });
        }
        self.trades.clear();
    }

    /// The trade with the lowest number at or after `next` that is known to exist.
    fn nearest(&self, next: i64) -> Option<KnownTrade> {
        let held = self.trades.range(next..).next();
        let held = held.map(|(seq, trade)| KnownTrade { seq: *seq, timestamp: trade.timestamp });
        let known = [held, self.dropped, Some(self.highest)].into_iter().flatten();
        known.filter(|trade| trade.seq >= next).min_by_key(|trade| trade.seq)
    }

    /// As [`Self::nearest`], if the trade `next` is missing. It proves that `next` existed. Without `next`, any trade proves a gap.
    pub(super) fn first_known_after_gap(&self, next: Option<i64>) -> Option<KnownTrade> {
        let held = next.is_some_and(|next| self.trades.contains_key(&next));
        self.nearest(next.unwrap_or(i64::MIN)).filter(|_| !held)
    }

    /// The lowest timestamp of the held trades.
    pub(super) fn oldest(&self) -> Option<ExchangeTime> {
        self.trades.values().map(|trade| trade.timestamp).min()
    }
}
