//! A gap in an instrument's numbers: when to request it, and what the answers mean.

use super::{Limits, SearchBy};
use crate::clock::{ExchangeTime, Millis};

/// After this many fruitless requests by number, every other request is by time: history does not find every trade by number.
const BY_SEQUENCE_FIRST: u32 = 2;
/// Pause after the first fruitless answer; it grows with each further one.
const RETRY_PAUSE: Millis = 300;
const RETRY_PAUSE_MAX: Millis = 5_000;
/// Minimum number of answers before a trade is counted as lost.
const MIN_ANSWERS_BEFORE_LOSS: u32 = 10;

/// Numbers that an answer showed to be absent.
#[derive(Debug, Clone, Copy)]
struct AbsentRange {
    first: i64,
    last: i64,
    /// When an answer showed it first.
    seen_at: ExchangeTime,
}

/// A gap, and what requests for it have shown.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) since: ExchangeTime,
    /// The number that was requested last. Fruitless requests are counted for each number separately.
    requested: Option<i64>,
    requested_since: ExchangeTime,
    fruitless: u32,
    in_flight: bool,
    not_before: ExchangeTime,
    /// Set once history returned a later trade but not this one.
    absent: Option<AbsentRange>,
}

/// What is known about a gap after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GapStatus {
    /// Request it again later.
    Pending,
    /// The exchange has no trades up to this number.
    ConfirmedHole(i64),
    /// History did not answer anything useful for [`Limits::give_up_after`].
    Unrecoverable,
}

impl Gap {
    pub(super) fn new(now: ExchangeTime) -> Self {
        Self {
            since: now,
            requested: None,
            requested_since: now,
            fruitless: 0,
            in_flight: false,
            not_before: now,
            absent: None,
        }
    }

    /// How to request `next`, if a request is due. The caller sends it.
    pub(super) fn request(&mut self, next: i64, now: ExchangeTime) -> Option<SearchBy> {
        if self.in_flight || now < self.not_before {
            return None;
        }
        if self.requested != Some(next) {
            (self.requested, self.requested_since, self.fruitless) = (Some(next), now, 0);
        }
        self.in_flight = true;
        let by_time = self.fruitless >= BY_SEQUENCE_FIRST && self.fruitless % 2 == 1;
        Some(if by_time { SearchBy::Time } else { SearchBy::Sequence })
    }

    /// The request failed, or its answer says nothing about the gap.
    pub(super) fn on_request_failed(&mut self, now: ExchangeTime) {
        self.in_flight = false;
        self.not_before = now + RETRY_PAUSE;
    }

    /// The answer did not contain `next`. `later` is the lowest number after `next` that it contained.
    pub(super) fn on_response(
        &mut self,
        next: i64,
        later: Option<i64>,
        now: ExchangeTime,
        limits: &Limits,
    ) -> GapStatus {
        self.in_flight = false;
        let Some(later) = later else { return self.on_fruitless_response(next, now, limits) };
        match self.absent {
            Some(absent) if absent.first == next => {
                let last = absent.last.min(later - 1);
                if now - absent.seen_at >= limits.confirm_after {
                    return GapStatus::ConfirmedHole(last);
                }
                self.absent = Some(AbsentRange { last, ..absent });
                self.not_before = absent.seen_at + limits.confirm_after;
            }
            _ => {
                self.absent = Some(AbsentRange { first: next, last: later - 1, seen_at: now });
                self.not_before = now + limits.confirm_after;
            }
        }
        GapStatus::Pending
    }

    fn on_fruitless_response(&mut self, next: i64, now: ExchangeTime, limits: &Limits) -> GapStatus {
        if self.requested != Some(next) {
            // The answer contained what was requested, and the gap has moved on since.
            self.not_before = now;
            return GapStatus::Pending;
        }
        self.fruitless += 1;
        self.not_before = now + (RETRY_PAUSE * i64::from(self.fruitless)).min(RETRY_PAUSE_MAX);
        let waited = now - self.requested_since;
        if waited >= limits.give_up_after && self.fruitless >= MIN_ANSWERS_BEFORE_LOSS {
            GapStatus::Unrecoverable
        } else {
            GapStatus::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        hold_max: 5_000,
        max_buffered: 10,
        max_ahead: 0,
        confirm_after: 1_000,
        give_up_after: 300_000,
    };

    #[test]
    fn a_gap_that_is_filled_page_by_page_is_never_given_up() {
        let mut gap = Gap::new(0);
        for page in 0..1_000 {
            let now = page * 1_000;
            assert_eq!(gap.request(page, now), Some(SearchBy::Sequence), "at once, and by number");
            assert_eq!(gap.on_response(page + 1, None, now, &LIMITS), GapStatus::Pending);
        }
    }

    #[test]
    fn a_gap_of_which_history_returns_nothing_is_given_up_in_the_end() {
        let mut gap = Gap::new(0);
        let lost = (0..1_000).map(|second| second * 1_000).find(|now| {
            gap.request(7, *now).is_some()
                && gap.on_response(7, None, *now, &LIMITS) == GapStatus::Unrecoverable
        });
        let expected = LIMITS.give_up_after..LIMITS.give_up_after + 10_000;
        assert!(lost.is_some_and(|at| expected.contains(&at)), "{lost:?}");
    }
}
