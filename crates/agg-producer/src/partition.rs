//! One assigned partition: rebuilt first, then live.

use std::convert::Infallible;
use std::sync::Arc;

use common::model::EventTime;

use crate::aggregator::{Aggregator, Closed, Offset, Placement, ReplayPoint, Trade};
use crate::checkpoint::Checkpoint;
use crate::watermark::{CompleteThrough, Pending};
use crate::weights::Weights;
use crate::window::TimeWindows;

/// What all partitions of a group have in common.
#[derive(Debug, Clone)]
pub struct Windowing {
    /// Where windows lie.
    pub windows: TimeWindows,
    /// The weights that go with them.
    pub weights: Arc<Weights>,
}

/// One partition's aggregation, from its assignment on.
///
/// Records below the committed offset only rebuild state. They meet the same stream time as they did the first time, so the
/// same ones are late and the same windows close; but nothing of that is published again.
#[derive(Debug)]
pub struct Partition {
    aggregator: Aggregator,
    rebuilding: Option<Rebuilding>,
    /// Windows that end at or before it are closed in silence.
    published_through: Option<EventTime>,
    watermarks: Pending,
}

/// What the records below the committed offset lead to.
#[derive(Debug, Clone, Copy)]
struct Rebuilding {
    committed: Offset,
    stream_time: Option<EventTime>,
}

impl Partition {
    /// A partition of which nothing has been processed yet; windows that end at or before `not_before` are not to be published.
    #[must_use]
    pub fn new(windowing: &Windowing, not_before: Option<EventTime>) -> Self {
        Self {
            aggregator: aggregator(windowing, None),
            rebuilding: None,
            published_through: not_before,
            watermarks: Pending::default(),
        }
    }

    /// A partition that was processed up to `committed`; its records are to be read from the checkpoint's replay offset on.
    #[must_use]
    pub fn resumed(windowing: &Windowing, committed: Offset, checkpoint: &Checkpoint) -> Self {
        let ReplayPoint { offset, stream_time } = checkpoint.replay;
        let rebuilding = Rebuilding { committed, stream_time: checkpoint.stream_time };
        Self {
            aggregator: aggregator(windowing, stream_time).meeting(checkpoint.jumps.clone()),
            rebuilding: (offset < committed).then_some(rebuilding),
            published_through: checkpoint.emitted_through,
            watermarks: Pending::default(),
        }
    }

    /// Takes note that everything below `position` has been read: where that is the committed offset, state is whole and the
    /// partition live; where it is a watermark's, stream time moves. Afterwards windows may be due.
    pub fn reached(&mut self, position: Offset) {
        if let Some(Rebuilding { stream_time, .. }) =
            self.rebuilding.take_if(|rebuilding| position >= rebuilding.committed)
        {
            stream_time.into_iter().for_each(|time| self.aggregator.resume_at(time));
            self.skip_published();
        }
        // A watermark meets the trades where it did the first time, or, if nothing came of it then, later.
        if self.rebuilding.is_none()
            && let Some(time) = self.watermarks.reached(position)
        {
            self.aggregator.watermark(time);
            self.skip_published();
        }
    }

    /// Takes note of a watermark; `position` is up to where everything has been read.
    pub fn watermark(&mut self, watermark: CompleteThrough, position: Offset) {
        self.watermarks.add(watermark);
        self.reached(position);
    }

    /// The committed offset, as long as state is being rebuilt from records below it.
    #[must_use]
    pub fn rebuilding_up_to(&self) -> Option<Offset> {
        self.rebuilding.map(|rebuilding| rebuilding.committed)
    }

    /// Adds the next trade; `None` if it only rebuilt state. Afterwards windows may be due.
    pub fn add(&mut self, trade: &Trade<'_>) -> Option<Placement> {
        self.reached(trade.offset);
        let placement = self.aggregator.add(trade);
        self.skip_published();
        self.rebuilding.is_none().then_some(placement)
    }

    /// Closes what was published before.
    fn skip_published(&mut self) {
        while self.aggregator.due().is_some_and(|end| Some(end) <= self.published_through) {
            self.aggregator.close_next(|_| Ok::<_, Infallible>(())).unwrap_or_else(|never| match never {});
        }
    }

    /// Whether [`Self::close_next`] has a window to close.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.rebuilding.is_none() && self.aggregator.due().is_some()
    }

    /// As [`Aggregator::close_next`].
    ///
    /// # Errors
    /// The first one of `emit`.
    pub fn close_next<E>(&mut self, emit: impl FnMut(Closed<'_>) -> Result<(), E>) -> Result<(), E> {
        self.aggregator.close_next(emit)
    }

    /// What to commit together with `position`, below which everything has been read; never while rebuilding.
    #[must_use]
    pub fn checkpoint(&self, position: Offset) -> Checkpoint {
        let stream_time = self.aggregator.stream_time();
        let nothing_to_rebuild = ReplayPoint { offset: position, stream_time };
        Checkpoint {
            stream_time,
            emitted_through: self.aggregator.emitted_through().max(self.published_through),
            replay: self.aggregator.replay_point().unwrap_or(nothing_to_rebuild),
            jumps: self.aggregator.jumps().to_vec(),
        }
    }

    /// The windows' state.
    #[must_use]
    pub const fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    /// The windows' state, to remember traces in.
    pub const fn aggregator_mut(&mut self) -> &mut Aggregator {
        &mut self.aggregator
    }
}

fn aggregator(windowing: &Windowing, stream_time: Option<EventTime>) -> Aggregator {
    Aggregator::new(windowing.windows, Arc::clone(&windowing.weights), stream_time)
}
