//! A set of numbers that are mostly neighbours: sequence numbers.

use std::collections::BTreeMap;

/// Ranges by their first number, none of which touch.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds a number; `false` if it was there.
    pub(super) fn insert(&mut self, number: i64) -> bool {
        let before = self.0.range(..=number).next_back().map(|(from, to)| (*from, *to));
        if before.is_some_and(|(_, to)| to >= number) {
            return false;
        }
        let mut range = (number, number);
        if let Some((from, to)) = before
            && to == number.saturating_sub(1)
        {
            range.0 = from;
        }
        if let Some(to) = self.0.remove(&number.saturating_add(1)) {
            range.1 = to;
        }
        self.0.insert(range.0, range.1);
        true
    }

    /// Whether the number was added.
    #[must_use]
    pub(super) fn contains(&self, number: i64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, to)| *to >= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range_in_whatever_order_they_come() {
        let mut ranges = Ranges::default();
        for number in [5, 1, 3, 2, 4, 9] {
            assert!(ranges.insert(number));
        }
        assert_eq!(ranges.0, BTreeMap::from([(1, 5), (9, 9)]));
        assert!(!ranges.insert(3));
        assert!(ranges.contains(1) && ranges.contains(5) && ranges.contains(9));
        assert!(!ranges.contains(0) && !ranges.contains(6) && !ranges.contains(10));
    }
}
