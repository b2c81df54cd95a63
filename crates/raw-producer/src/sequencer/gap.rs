//! What an instrument's trades wait for, and how history is asked about it.

use std::collections::BTreeMap;

use super::{IncomingTrade, Limits, Millis};

/// The trades of an instrument that cannot be published yet, and why.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    pub(super) trades: BTreeMap<i64, IncomingTrade<T>>,
    /// The highest sequence number known to exist, with its time; its trade may have been dropped for lack of room.
    pub(super) horizon: (i64, Millis),
    /// The lowest one, likewise.
    pub(super) lowest: (i64, Millis),
    /// The lowest one whose trade was dropped or let go, and may have come again since.
    pub(super) dropped: Option<(i64, Millis)>,
    /// Up to when history had been read before anything of it waited.
    pub(super) read_through: Millis,
    /// While nothing was ever published: the lowest number that a scan of history has shown, with its time.
    pub(super) base: Option<(i64, Millis)>,
    /// Set while the trade that comes next is missing, and is not to be expected from a running scan.
    pub(super) gap: Option<Gap>,
}

impl<T> Buffer<T> {
    /// For the trade `seen`, the first of it that waits.
    pub(super) fn new(seen: (i64, Millis), read_through: Millis) -> Self {
        Self {
            trades: BTreeMap::new(),
            horizon: seen,
            lowest: seen,
            dropped: None,
            read_through,
            base: None,
            gap: None,
        }
    }

    pub(super) fn saw(&mut self, seq: i64, timestamp: Millis) {
        if seq < self.lowest.0 {
            self.lowest = (seq, timestamp);
        }
        if seq > self.horizon.0 {
            self.horizon = (seq, timestamp);
        }
    }

    /// That trade exists and is not here.
    pub(super) fn dropped(&mut self, seq: i64, timestamp: Millis) {
        if self.dropped.is_none_or(|(lowest, _)| seq < lowest) {
            self.dropped = Some((seq, timestamp));
        }
    }

    /// Lets go of every trade; that they exist is remembered.
    pub(super) fn drop_buffered(&mut self) {
        if let Some((seq, trade)) = self.trades.pop_first() {
            self.dropped(seq, trade.timestamp);
        }
        self.trades.clear();
    }

    /// The lowest number from `next` on that is known to exist, with its time.
    pub(super) fn nearest(&self, next: i64) -> Option<(i64, Millis)> {
        let held = self.trades.range(next..).next().map(|(seq, trade)| (*seq, trade.timestamp));
        let seen = [held, self.dropped, Some(self.horizon)].into_iter().flatten();
        seen.filter(|(seq, _)| *seq >= next).min_by_key(|(seq, _)| *seq)
    }

    /// Likewise, if the trade of the number `next` is missing; without a `next`, none is known to come first.
    pub(super) fn first_known_after_gap(&self, next: Option<i64>) -> Option<(i64, Millis)> {
        let here = next.is_some_and(|next| self.trades.contains_key(&next));
        self.nearest(next.unwrap_or(i64::MIN)).filter(|_| !here)
    }

    /// The time of the oldest trade that is here.
    pub(super) fn oldest(&self) -> Option<Millis> {
        self.trades.values().map(|trade| trade.timestamp).min()
    }
}

/// A gap, and what asking about it has shown.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) since: Millis,
    /// The number that was asked for last, and since when. Questions without effect are counted for each anew.
    about: Option<i64>,
    about_since: Millis,
    asked: u32,
    in_flight: bool,
    not_before: Millis,
    /// History had nothing from the first number up to the second, though it had a later trade; and when it said so first.
    absent: Option<(i64, i64, Millis)>,
}

/// What an answer about a gap means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GapStatus {
    /// Ask again, later.
    Pending,
    /// There is no trade up to this number.
    ConfirmedHole(i64),
    /// Nothing can be had, for as long as is waited at all.
    Unrecoverable,
}

/// Asking by sequence number so many times without effect, time is tried as well: not everything can be had by number.
const BY_NUMBER_FIRST: u32 = 2;
/// Between two questions about the same gap without an answer that helps.
const PAUSE: Millis = 300;
const LONGEST_PAUSE: Millis = 5_000;
/// So many answers, at least, before a loss is a loss.
const ASKED_AT_LEAST: u32 = 10;

impl Gap {
    pub(super) fn new(since: Millis, now: Millis) -> Self {
        Self {
            since,
            about: None,
            about_since: now,
            asked: 0,
            in_flight: false,
            not_before: now,
            absent: None,
        }
    }

    /// Whether to ask for `next` now, and if so, whether by time instead of by number.
    pub(super) fn ask(&mut self, next: i64, now: Millis) -> Option<bool> {
        if self.in_flight || now < self.not_before {
            return None;
        }
        if self.about != Some(next) {
            (self.about, self.about_since, self.asked) = (Some(next), now, 0);
        }
        self.in_flight = true;
        Some(self.asked >= BY_NUMBER_FIRST && self.asked % 2 == 1)
    }

    /// The question was not answered.
    pub(super) fn failed(&mut self, now: Millis) {
        self.in_flight = false;
        self.not_before = now + PAUSE;
    }

    /// The answer did not have `next`; `later` is the lowest number behind it that it had.
    pub(super) fn answered(
        &mut self,
        next: i64,
        later: Option<i64>,
        (now, limits): (Millis, &Limits),
    ) -> GapStatus {
        self.in_flight = false;
        let Some(later) = later else {
            if self.about != Some(next) {
                // It had what it was asked for.
                self.not_before = now;
                return GapStatus::Pending;
            }
            self.asked += 1;
            self.not_before = now + (PAUSE * i64::from(self.asked)).min(LONGEST_PAUSE);
            let over = now - self.about_since >= limits.patience && self.asked >= ASKED_AT_LEAST;
            return if over { GapStatus::Unrecoverable } else { GapStatus::Pending };
        };
        match self.absent {
            Some((first, last, at)) if first == next => {
                if now - at >= limits.confirm_after {
                    return GapStatus::ConfirmedHole(last.min(later - 1));
                }
                self.absent = Some((first, last.min(later - 1), at));
                self.not_before = at + limits.confirm_after;
            }
            _ => {
                self.absent = Some((next, later - 1, now));
                self.not_before = now + limits.confirm_after;
            }
        }
        GapStatus::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { hold_max: 5_000, max_buffered: 10, max_ahead: 0, confirm_after: 1_000, patience: 300_000 };

    #[test]
    fn a_gap_that_is_filled_page_by_page_is_never_given_up_however_long_that_takes() {
        let mut gap = Gap::new(0, 0);
        for page in 0..1_000 {
            let now = page * 1_000;
            assert_eq!(gap.ask(page, now), Some(false), "at once, and by number");
            assert_eq!(gap.answered(page + 1, None, (now, &LIMITS)), GapStatus::Pending);
        }
    }

    #[test]
    fn a_gap_of_which_history_says_nothing_is_given_up_in_the_end() {
        let mut gap = Gap::new(0, 0);
        let lost = (0..1_000).map(|second| second * 1_000).find(|now| {
            gap.ask(7, *now).is_some() && gap.answered(7, None, (*now, &LIMITS)) == GapStatus::Unrecoverable
        });
        assert!(lost.is_some_and(|at| (LIMITS.patience..LIMITS.patience + 10_000).contains(&at)), "{lost:?}");
    }
}
