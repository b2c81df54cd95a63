//! The partitions that a consumer has been given.

use std::time::{Duration, Instant};

use common::model::Trade;
use rdkafka::message::OwnedMessage;

use crate::aggregator::{self, Offset, Placement};
use crate::checkpoint::Checkpoint;
use crate::metrics::Standing;
use crate::partition::Partition;
use crate::publish::Aside;
use crate::restore::Start;
use crate::watermark::CompleteThrough;

/// One assigned partition.
pub(super) enum Slot {
    /// Paused; where it begins has still to be found out.
    Starting {
        /// Since when.
        since: Instant,
    },
    /// Its records flow.
    Running(Box<Running>),
}

impl Slot {
    pub(super) fn starting() -> Self {
        Self::Starting { since: Instant::now() }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Starting { .. } => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Starting { .. } => None,
        }
    }
}

/// A partition whose records flow.
pub(super) struct Running {
    pub(super) partition: Partition,
    /// Records that enter no window and go into the next transaction as they came.
    pub(super) asides: Vec<(OwnedMessage, Aside)>,
    /// Paused until then, as the registry was away.
    pub(super) paused_until: Option<Instant>,
    /// Everything below it has been processed.
    position: Offset,
    committed: Offset,
    /// The record with which state begins to be rebuilt, as long as it has not come.
    first: Option<Offset>,
    /// Assigned then, and not live yet.
    restoring_since: Option<Instant>,
}

/// What a record is to the partition that it came from.
pub(super) enum Meeting {
    /// The next one.
    Next,
    /// Processed already, or to be read again later.
    Again,
    /// It came although another one was to be the first: state rebuilt from here on would not be whole.
    InsteadOf(Offset),
}

/// What a trade did to its partition.
pub(super) enum Added {
    /// It rebuilt state.
    Restored,
    /// As the aggregator says.
    Placed(Placement),
}

impl Running {
    pub(super) fn new(start: Start, since: Instant) -> Self {
        let first = start.partition.rebuilding_up_to().map(|_| start.from);
        Self {
            partition: start.partition,
            asides: Vec::new(),
            paused_until: None,
            position: start.from,
            committed: start.committed,
            first,
            restoring_since: Some(since),
        }
    }

    /// What a record is to this partition.
    pub(super) fn meet(&mut self, offset: Offset) -> Meeting {
        if self.paused_until.is_some() || offset < self.position {
            return Meeting::Again;
        }
        match self.first.take() {
            Some(first) if first != offset => Meeting::InsteadOf(first),
            _ => Meeting::Next,
        }
    }

    pub(super) fn add(&mut self, offset: Offset, trade: &Trade<'_>) -> Added {
        let Trade { timestamp, price, amount, .. } = *trade;
        let instrument = trade.instrument_name.as_ref();
        let added = self.partition.add(&aggregator::Trade { offset, instrument, timestamp, price, amount });
        added.map_or(Added::Restored, Added::Placed)
    }

    /// Everything below `position` has been processed, or is no record but a transaction's marker.
    pub(super) fn advance_to(&mut self, position: Offset) {
        if self.paused_until.is_none() && self.position < position {
            self.position = position;
            self.partition.reached(position);
        }
    }

    /// Takes note of a watermark; tells whether a window is due then.
    pub(super) fn watermark(&mut self, watermark: CompleteThrough) -> bool {
        self.partition.watermark(watermark, self.position);
        self.partition.is_due()
    }

    pub(super) fn is_live(&self) -> bool {
        self.partition.rebuilding_up_to().is_none()
    }

    /// How long it took to become live, once.
    pub(super) fn live_after(&mut self) -> Option<Duration> {
        if !self.is_live() {
            return None;
        }
        self.restoring_since.take().map(|since| since.elapsed())
    }

    /// Whether there is something to publish or to commit.
    pub(super) fn has_news(&self) -> bool {
        let moved = self.position != self.committed;
        self.is_live() && (moved || !self.asides.is_empty() || self.partition.is_due())
    }

    /// What to commit: how far it was processed, and how to go on from there.
    pub(super) fn checkpoint(&self) -> (Offset, Checkpoint) {
        (self.position, self.partition.checkpoint(self.position))
    }

    pub(super) fn position(&self) -> Offset {
        self.position
    }

    /// The checkpoint has been committed.
    pub(super) fn committed(&mut self) {
        self.committed = self.position;
        self.asides.clear();
    }

    /// Records still to be read before it is live.
    pub(super) fn to_restore(&self) -> i64 {
        self.partition.rebuilding_up_to().map_or(0, |until| until.0 - self.position.0)
    }

    /// As of `now`, in milliseconds since the epoch.
    pub(super) fn standing(&self, now: i64) -> Standing {
        let aggregator = self.partition.aggregator();
        let behind = aggregator.stream_time().map(|time| now.saturating_sub(time).max(0).unsigned_abs());
        Standing {
            behind: behind.map(Duration::from_millis),
            open_slices: aggregator.open_slices(),
            instruments: aggregator.instruments(),
        }
    }
}
