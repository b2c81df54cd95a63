//! One assigned partition: rebuilt first, from candles and trades, then live.

use std::ops::RangeInclusive;
use std::sync::Arc;

use common::model::{Candle, EventTime};

use crate::store::aggregator::{Aggregator, Closed, Offset, Placement, ReplayPoint, Trade};
use crate::store::checkpoint::Checkpoint;
use crate::store::closed_slices::ClosedSlices;
use crate::store::watermark::{Pending, WatermarkAt};
use crate::window::slice::Slice;
use crate::window::time_windows::TimeWindows;
use crate::window::weights::Weights;

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
/// Closed slices are put back from their candles. Records below the committed offset only rebuild the others: they meet the same stream
/// time as they did the first time, so the same ones are late; but nothing of that is published again.
#[derive(Debug)]
pub struct Partition {
    aggregator: Aggregator,
    missing: Missing,
    rebuilding: Option<Rebuilding>,
    /// Windows that end at or before it are closed in silence.
    published_through: Option<EventTime>,
    watermarks: Pending,
}

/// Candles that have not been put back yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    /// Of slices with these ends.
    ends: RangeInclusive<EventTime>,
    count: u64,
}

/// A candle that no slice can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotRestore {
    /// One of two.
    #[error("there are two candles of {instrument} that end at {end}")]
    Twice {
        /// Of what.
        instrument: String,
        /// Of the slice.
        end: EventTime,
    },
    /// One more than were committed.
    #[error(
        "there are more candles than were committed: that of {instrument} that ends at {end} is too many"
    )]
    Surplus {
        /// Of what.
        instrument: String,
        /// Of the slice.
        end: EventTime,
    },
    /// Written by somebody else, or with other settings.
    #[error(
        "the candle of {instrument} from {start} to {end} with trade_count = {trade_count} is of no slice"
    )]
    NoSlice {
        /// Of what.
        instrument: String,
        /// Of the slice.
        start: EventTime,
        /// Of the slice.
        end: EventTime,
        /// As it says.
        trade_count: i64,
    },
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
        let silent_through = not_before.map(|end| windowing.windows.newest_ended(end));
        Self {
            aggregator: aggregator(windowing, None).beside(ClosedSlices::between(silent_through, None)),
            missing: Missing { ends: 0..=0, count: 0 },
            rebuilding: None,
            published_through: not_before,
            watermarks: Pending::default(),
        }
    }

    /// A partition that was processed up to `committed`: its candles are to be put back first, and then its records to be read from the
    /// checkpoint's replay offset on.
    #[must_use]
    pub fn resumed(windowing: &Windowing, committed: Offset, checkpoint: &Checkpoint) -> Self {
        let Checkpoint { silent_through, emitted_through, candles, .. } = *checkpoint;
        let ReplayPoint { offset, stream_time } = checkpoint.replay;
        let rebuilding = Rebuilding { committed, stream_time: checkpoint.stream_time };
        let ended = |end: EventTime| windowing.windows.newest_ended(end);
        let sealed = ClosedSlices::between(silent_through.map(ended), emitted_through.map(ended));
        let ends = emitted_through.map_or(0..=0, |through| {
            let first = windowing.windows.first_of_window(ended(through).plus(1));
            let behind_silence = silent_through.map_or(first, |end| first.max(ended(end).plus(1)));
            windowing.windows.slice(behind_silence).end..=through
        });
        Self {
            aggregator: aggregator(windowing, stream_time).meeting(checkpoint.jumps.clone()).beside(sealed),
            missing: Missing { ends, count: candles },
            rebuilding: (offset < committed).then_some(rebuilding),
            published_through: checkpoint.emitted_through,
            watermarks: Pending::default(),
        }
    }

    /// How many candles have still to be put back, and from which slice's end on they are; `None` if all are there.
    #[must_use]
    pub fn missing(&self) -> Option<(u64, EventTime)> {
        let Missing { ends, count } = &self.missing;
        (*count > 0).then_some((*count, *ends.start()))
    }

    /// Puts a candle back. Those of slices that no later window needs, or that have not closed, are passed over.
    ///
    /// # Errors
    /// [`CannotRestore`]: going on would give wrong numbers.
    pub fn restore_candle(&mut self, candle: &Candle<'_>) -> Result<(), CannotRestore> {
        let Candle { instrument_name: name, start, end, trade_count, .. } = candle;
        if !self.missing.ends.contains(end) {
            return Ok(());
        }
        let windows = self.aggregator.windows();
        let index = windows.slice_at(*start);
        let span = windows.slice(index);
        let Some(slice) = slice(candle).filter(|_| (span.start, span.end) == (*start, *end)) else {
            let (instrument, start, end, trade_count) = (name.to_string(), *start, *end, *trade_count);
            return Err(CannotRestore::NoSlice { instrument, start, end, trade_count });
        };
        if !self.aggregator.restore_candle(name, index, slice) {
            return Err(CannotRestore::Twice { instrument: name.to_string(), end: *end });
        }
        let left = self.missing.count.checked_sub(1);
        self.missing.count =
            left.ok_or_else(|| CannotRestore::Surplus { instrument: name.to_string(), end: *end })?;
        Ok(())
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
    pub fn watermark(&mut self, watermark: WatermarkAt, position: Offset) {
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
            self.aggregator.close_next_silently();
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
        let sealed = self.aggregator.sealed();
        Checkpoint {
            stream_time,
            emitted_through: self.aggregator.emitted_through().max(self.published_through),
            candles: sealed.candles(),
            silent_through: sealed.silent_through().map(|slice| self.aggregator.windows().slice(slice).end),
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

fn slice(candle: &Candle<'_>) -> Option<Slice> {
    let Candle {
        trade_count, open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight, ..
    } = *candle;
    let trade_count = u64::try_from(trade_count).ok().filter(|trades| *trades > 0)?;
    Some(Slice { trade_count, open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight })
}

fn aggregator(windowing: &Windowing, stream_time: Option<EventTime>) -> Aggregator {
    Aggregator::new(windowing.windows, Arc::clone(&windowing.weights), stream_time)
}
