//! When a watermark counts: once the records below its offset have been read.

use common::model::EventTime;

use crate::store::aggregator::Offset;

/// All trades of a partition up to a time lie below an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkAt {
    /// The time.
    pub time: EventTime,
    /// The offset.
    pub offset: Offset,
}

/// Watermarks whose offset has not been reached.
///
/// The oldest and the newest will do: who reads far behind reaches the oldest one first, which a newer one must not replace for
/// ever; and what lies between says nothing that the newest does not say better.
#[derive(Debug, Default)]
pub struct Pending {
    oldest: Option<WatermarkAt>,
    newest: Option<WatermarkAt>,
}

impl Pending {
    /// Takes note of the next watermark.
    pub fn add(&mut self, watermark: WatermarkAt) {
        match self.oldest {
            None => self.oldest = Some(watermark),
            Some(_) => self.newest = Some(watermark),
        }
    }

    /// Takes out what counts now that everything below `position` has been read.
    pub fn reached(&mut self, position: Offset) -> Option<EventTime> {
        let mut reached = None;
        while let Some(WatermarkAt { time, .. }) =
            self.oldest.take_if(|watermark| watermark.offset <= position)
        {
            reached = reached.max(Some(time));
            self.oldest = self.newest.take();
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: EventTime, offset: i64) -> WatermarkAt {
        WatermarkAt { time, offset: Offset(offset) }
    }

    #[test]
    fn a_watermark_counts_once_and_not_before_its_offset() {
        let mut pending = Pending::default();
        pending.add(at(100, 5));
        assert_eq!(pending.reached(Offset(4)), None);
        assert_eq!(pending.reached(Offset(5)), Some(100));
        assert_eq!(pending.reached(Offset(6)), None);
    }

    #[test]
    fn who_reads_far_behind_is_told_of_the_oldest_first_and_then_of_the_newest() {
        let mut pending = Pending::default();
        (0..1_000).for_each(|second| pending.add(at(second * 1_000, second * 10)));
        assert_eq!(pending.reached(Offset(0)), Some(0));
        assert_eq!(pending.reached(Offset(5_000)), None);
        pending.add(at(1_000_000, 10_000));
        assert_eq!(pending.reached(Offset(9_990)), Some(999_000));
        assert_eq!(pending.reached(Offset(10_000)), Some(1_000_000));
    }

    #[test]
    fn of_several_that_are_reached_at_once_the_latest_time_counts() {
        let mut pending = Pending::default();
        pending.add(at(300, 1));
        pending.add(at(200, 2));
        assert_eq!(pending.reached(Offset(9)), Some(300));
    }
}
