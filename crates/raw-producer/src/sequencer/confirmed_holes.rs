//! Sequence numbers that were given up: the exchange has no such trade, or it went to the dead-letter topic.

use serde::{Deserialize, Serialize};

/// The most ranges kept for an instrument. A trade of an older range counts as a duplicate if it arrives after all.
const MAX_RANGES: usize = 32;

/// The newest given-up ranges of an instrument, both ends included, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Holes(Vec<(i64, i64)>);

impl Holes {
    /// Adds a range after all others.
    pub(crate) fn add(&mut self, first: i64, last: i64) {
        match self.0.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.0.push((first, last)),
        }
        if self.0.len() > MAX_RANGES {
            self.0.remove(0);
        }
    }

    pub(crate) fn contains(&self, seq: i64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_are_one_and_only_the_newest_are_kept() {
        let mut holes = Holes::default();
        holes.add(3, 4);
        holes.add(5, 5);
        assert_eq!(holes, Holes(vec![(3, 5)]));
        for n in 0..100 {
            holes.add(10 * n + 10, 10 * n + 11);
        }
        assert_eq!(holes.0.len(), MAX_RANGES);
        assert!(holes.contains(1001) && !holes.contains(1002) && !holes.contains(4));
    }
}
