//! When a transaction begins and when it is committed. Each number was found by measurement.

use std::time::{Duration, Instant};

/// About the most records in a transaction.
pub const BATCH_MAX: usize = 10_000;

/// The writer's times.
#[derive(Debug, Clone)]
pub(super) struct Pacing {
    /// Transactions begin at most this often, unless one is full. A record that comes later than this begins one at once.
    min_transaction_interval: Duration,
    /// A transaction stays open until no record has come for this long. The exchange's bundle comes in several frames. A frame that misses
    /// the transaction of the first waits for its commit, and then for the broker.
    idle_gap: Duration,
    /// A transaction without such a gap stays open for this long: as long as the exchange collects a bundle.
    max_transaction_open: Duration,
    /// Records that come meanwhile are taken together this often. Waking up for each trade costs both threads more than the trade.
    poll_interval: Duration,
    /// Other records wait this long for a trade to share a transaction with: as long as the exchange collects a bundle. A transaction of
    /// their own would delay the trades that come meanwhile.
    linger: Duration,
    /// Watermarks are written this long after the commit that allows them, if no trade comes. The exchange has just sent what it had. With
    /// the next trades, they would delay these: a transaction must be told of each partition first.
    watermark_delay: Duration,
    /// Without records, the producer is served this often.
    idle_poll: Duration,
}

/// What decides when an open transaction is committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacedTransaction {
    pub(super) begun: Instant,
    /// When the next transaction may begin.
    pub(super) next_begin: Instant,
    pub(super) last_record: Instant,
    pub(super) records: usize,
}

/// When an open transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextCommit {
    /// Now, even if more records wait.
    Now,
    /// At this time, unless more records come until then.
    At(Instant),
}

impl Pacing {
    pub(super) fn measured() -> Self {
        Self {
            min_transaction_interval: Duration::from_millis(20),
            idle_gap: Duration::from_millis(2),
            max_transaction_open: Duration::from_millis(100),
            poll_interval: Duration::from_millis(1),
            linger: Duration::from_millis(100),
            watermark_delay: Duration::from_millis(5),
            idle_poll: Duration::from_secs(1),
        }
    }

    pub(super) fn next_commit(&self, open: &PacedTransaction, now: Instant) -> NextCommit {
        let open_for = now.saturating_duration_since(open.begun);
        if open.records >= BATCH_MAX || open_for >= self.max_transaction_open {
            return NextCommit::Now;
        }
        NextCommit::At(open.next_begin.max(open.last_record + self.idle_gap))
    }

    /// The earliest begin of the transaction after one that began at `begun`.
    pub(super) fn next_begin(&self, begun: Instant) -> Instant {
        begun + self.min_transaction_interval
    }

    /// How long to wait for the first record of a transaction.
    pub(super) fn idle_wait(&self, has_watermarks: bool) -> Duration {
        if has_watermarks { self.watermark_delay } else { self.idle_poll }
    }

    /// How long a record that is no trade waits for one.
    pub(super) fn linger(&self) -> Duration {
        self.linger
    }

    /// How long to wait in an open transaction before taking more records.
    pub(super) fn poll_wait(&self, until: Instant, now: Instant) -> Duration {
        until.saturating_duration_since(now).min(self.poll_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_committed_when_full_too_old_or_after_a_gap() {
        let pacing = Pacing::measured();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        // Times in milliseconds after the begin: earliest next begin, last record, records, now; and the commit.
        for (next_begin, last_record, records, now, expected) in [
            // The last transaction began just before: this one collects for the rest of the interval.
            (20, 0, 1, 0, NextCommit::At(at(20))),
            // The last one is long ago: a gap is enough.
            (0, 0, 1, 0, NextCommit::At(at(2))),
            (0, 7, 30, 8, NextCommit::At(at(9))),
            // Records come without a gap.
            (0, 99, 900, 99, NextCommit::At(at(101))),
            (0, 100, 900, 100, NextCommit::Now),
            (0, 30, BATCH_MAX - 1, 30, NextCommit::At(at(32))),
            (0, 30, BATCH_MAX, 30, NextCommit::Now),
            // Time has passed without records.
            (0, 3, 1, 50, NextCommit::At(at(5))),
        ] {
            let (next_begin, last_record) = (at(next_begin), at(last_record));
            let open = PacedTransaction { begun, next_begin, last_record, records };
            assert_eq!(pacing.next_commit(&open, at(now)), expected, "{open:?} at {now} ms");
        }
    }

    #[test]
    fn the_wait_for_records_ends_with_the_commit_or_the_poll_interval() {
        let (pacing, now) = (Pacing::measured(), Instant::now());
        assert_eq!(pacing.poll_wait(now, now + Duration::from_millis(3)), Duration::ZERO);
        assert_eq!(pacing.poll_wait(now + Duration::from_micros(300), now), Duration::from_micros(300));
        assert_eq!(pacing.poll_wait(now + Duration::from_millis(20), now), Duration::from_millis(1));
    }
}
