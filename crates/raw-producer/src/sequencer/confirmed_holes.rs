//! Sequence numbers that were given up: the exchange has no such trade, or it was dead-lettered.

use serde::{Deserialize, Serialize};

/// Ranges kept for an instrument, at most: an older one, should its trade turn up, is a duplicate like any other.
const KEPT: usize = 32;

/// The newest ranges of an instrument, each with both ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Holes(Vec<(i64, i64)>);

impl Holes {
    /// Adds a range behind all others.
    pub(crate) fn add(&mut self, first: i64, last: i64) {
        match self.0.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.0.push((first, last)),
        }
        if self.0.len() > KEPT {
            self.0.remove(0);
        }
    }

    /// Whether that number was given up.
    pub(crate) fn contains(&self, seq: i64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// Whether there are none.
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
        assert_eq!(holes.0.len(), KEPT);
        assert!(holes.contains(1001) && !holes.contains(1002) && !holes.contains(4));
    }
}
