//! The partitions that a consumer has been given.

use std::time::{Duration, Instant};

use rdkafka::message::OwnedMessage;

use crate::metrics::PartitionStats;
use crate::records::decode::DecodedTrade;
use crate::records::encode::SideOutput;
use crate::restore::Start;
use crate::store::aggregator::{self, Offset, Placement};
use crate::store::checkpoint::Checkpoint;
use crate::store::partition::Partition;
use crate::store::watermark::WatermarkAt;

/// So long candles may take to become readable before it is asked whether they exist: what hides them is a transaction, and those end.
pub(super) const DOUBT: Duration = Duration::from_secs(15);

/// One assigned partition.
pub(super) enum Task {
    /// Paused.
    StartingTask(Box<StartingTask>),
    /// Its records flow.
    RunningTask(Box<RunningTask>),
}

/// A partition that is paused until it can begin.
pub(super) struct StartingTask {
    /// Since when.
    pub(super) since: Instant,
    /// Where it begins, and with what, as soon as that is known.
    pub(super) start: Option<Start>,
    /// Candles are read.
    pub(super) recalling: bool,
    /// How often it could not be sought.
    pub(super) refused: u32,
    /// When it last came a step further.
    pub(super) progress_at: Instant,
    /// When candles that do not come are looked into.
    pub(super) next_doubt: Instant,
}

impl StartingTask {
    /// Whether it only has to be sought.
    pub(super) fn is_whole(&self) -> bool {
        self.start.is_some() && !self.recalling
    }

    /// Candles that have still to come.
    pub(super) fn missing(&self) -> u64 {
        self.start.as_ref().and_then(|start| start.partition.missing()).map_or(0, |(candles, _)| candles)
    }
}

impl Task {
    pub(super) fn new_starting() -> Self {
        let since = Instant::now();
        Self::StartingTask(Box::new(StartingTask {
            since,
            start: None,
            recalling: false,
            refused: 0,
            progress_at: since,
            next_doubt: since + DOUBT,
        }))
    }

    pub(super) fn running(&self) -> Option<&RunningTask> {
        match self {
            Self::RunningTask(running) => Some(running),
            Self::StartingTask(_) => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut RunningTask> {
        match self {
            Self::RunningTask(running) => Some(running),
            Self::StartingTask(_) => None,
        }
    }

    pub(super) fn starting(&self) -> Option<&StartingTask> {
        match self {
            Self::StartingTask(starting) => Some(starting),
            Self::RunningTask(_) => None,
        }
    }

    pub(super) fn starting_mut(&mut self) -> Option<&mut StartingTask> {
        match self {
            Self::StartingTask(starting) => Some(starting),
            Self::RunningTask(_) => None,
        }
    }

    /// Records still to be read before it is live, as far as is known.
    pub(super) fn to_restore(&self) -> u64 {
        match self {
            Self::StartingTask(starting) => starting.missing(),
            Self::RunningTask(running) => running.to_restore(),
        }
    }
}

/// A partition whose records flow.
pub(super) struct RunningTask {
    pub(super) partition: Partition,
    /// Records that enter no window and go into the next transaction as they came.
    pub(super) asides: Vec<(OwnedMessage, SideOutput)>,
    /// Paused until then, as the registry was away.
    pub(super) paused_until: Option<Instant>,
    /// Everything below it has been processed.
    position: Offset,
    committed: Offset,
    /// The record with which state begins to be rebuilt, as long as it has not come.
    first: Option<Offset>,
    /// As long as it is not live.
    restoring: Option<Restoring>,
}

/// State that is rebuilt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restoring {
    /// When the partition was assigned.
    pub(super) since: Instant,
    /// Candles that it was put together from.
    pub(super) candles: u64,
    /// Offsets of the records that it is rebuilt from.
    pub(super) records: i64,
}

/// What a record is to the partition that it came from.
pub(super) enum Delivery {
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

impl RunningTask {
    pub(super) fn new(start: Start, since: Instant) -> Self {
        let first = start.partition.rebuilding_up_to().map(|_| start.from);
        Self {
            partition: start.partition,
            asides: Vec::new(),
            paused_until: None,
            position: start.from,
            committed: start.committed,
            first,
            restoring: Some(Restoring {
                since,
                candles: start.candles,
                records: start.committed.0 - start.from.0,
            }),
        }
    }

    /// What a record is to this partition.
    pub(super) fn on_record(&mut self, offset: Offset) -> Delivery {
        if self.paused_until.is_some() || offset < self.position {
            return Delivery::Again;
        }
        match self.first.take() {
            Some(first) if first != offset => Delivery::InsteadOf(first),
            _ => Delivery::Next,
        }
    }

    pub(super) fn add(&mut self, offset: Offset, trade: &DecodedTrade<'_>) -> Added {
        let DecodedTrade { timestamp, price, amount, .. } = *trade;
        let instrument = trade.instrument.as_ref();
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
    pub(super) fn watermark(&mut self, watermark: WatermarkAt) -> bool {
        self.partition.watermark(watermark, self.position);
        self.partition.is_due()
    }

    pub(super) fn is_live(&self) -> bool {
        self.partition.rebuilding_up_to().is_none()
    }

    /// What it took to become live, once.
    pub(super) fn restored(&mut self) -> Option<Restoring> {
        if !self.is_live() {
            return None;
        }
        self.restoring.take()
    }

    /// Whether a transaction that waited would hold no more of it: a window is due, or it has none.
    pub(super) fn is_due_or_idle(&self) -> bool {
        self.partition.is_due() || self.partition.aggregator().instruments() == 0
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
    fn to_restore(&self) -> u64 {
        let until = self.partition.rebuilding_up_to();
        until.and_then(|until| u64::try_from(until.0 - self.position.0).ok()).unwrap_or(0)
    }

    /// As of `now`, in milliseconds since the epoch.
    pub(super) fn stats(&self, now: i64) -> PartitionStats {
        let aggregator = self.partition.aggregator();
        let behind = aggregator.stream_time().map(|time| now.saturating_sub(time).max(0).unsigned_abs());
        PartitionStats {
            behind: behind.map(Duration::from_millis),
            open_slices: aggregator.open_slices(),
            instruments: aggregator.instruments(),
        }
    }
}
