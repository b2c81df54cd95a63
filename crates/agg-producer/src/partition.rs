//! One assigned partition: rebuilt first, then live.

use std::convert::Infallible;
use std::sync::Arc;

use common::model::EventTime;

use crate::aggregator::{Aggregator, Closed, Offset, Placement, ReplayPoint, Trade};
use crate::checkpoint::Checkpoint;
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
}

#[derive(Debug, Clone, Copy)]
struct Rebuilding {
    committed: Offset,
    emitted_through: Option<EventTime>,
}

impl Partition {
    /// A partition of which nothing has been processed yet.
    #[must_use]
    pub fn new(windowing: &Windowing) -> Self {
        Self { aggregator: aggregator(windowing, None), rebuilding: None }
    }

    /// A partition that was processed up to `committed`; its records are to be read from the checkpoint's replay offset on.
    #[must_use]
    pub fn resumed(windowing: &Windowing, committed: Offset, checkpoint: &Checkpoint) -> Self {
        let ReplayPoint { offset, stream_time } = checkpoint.replay;
        let rebuilding = Rebuilding { committed, emitted_through: checkpoint.emitted_through };
        Self {
            aggregator: aggregator(windowing, stream_time),
            rebuilding: (offset < committed).then_some(rebuilding),
        }
    }

    /// Takes note that everything below `position` has been read: where that is the committed offset, state is whole and the
    /// partition live.
    pub fn reached(&mut self, position: Offset) {
        if self.rebuilding.is_some_and(|rebuilding| position >= rebuilding.committed) {
            self.rebuilding = None;
        }
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
        let Some(Rebuilding { emitted_through, .. }) = self.rebuilding else { return Some(placement) };
        while self.aggregator.due().is_some_and(|end| Some(end) <= emitted_through) {
            self.aggregator.close_next(|_| Ok::<_, Infallible>(())).unwrap_or_else(|never| match never {});
        }
        None
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
            emitted_through: self.aggregator.emitted_through(),
            replay: self.aggregator.replay_point().unwrap_or(nothing_to_rebuild),
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
