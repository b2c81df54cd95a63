//! Grids of prices and amounts.

/// The decimal numbers `n · step / 10^places`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TickGrid {
    step: f64,
    scale: f64,
}

impl TickGrid {
    pub(crate) const fn new(step: u32, places: usize) -> Self {
        // `as`, because `From` is not const.
        Self { step: step as f64, scale: power(places) }
    }

    /// The number of the grid nearest to `value`. It is the double that its decimal text stands for: a division of two whole numbers is rounded
    /// once.
    pub(crate) fn nearest(self, value: f64) -> f64 {
        (value * self.scale / self.step).round() * self.step / self.scale
    }

    /// The number of the grid that is `steps` above `value`, which is on the grid.
    pub(crate) fn above(self, value: f64, steps: f64) -> f64 {
        ((value * self.scale / self.step).round() + steps) * self.step / self.scale
    }

    /// The distance between neighbouring numbers.
    pub(crate) fn size(self) -> f64 {
        self.step / self.scale
    }
}

const fn power(places: usize) -> f64 {
    let mut power = 1.0;
    let mut left = places;
    while left > 0 {
        power *= 10.0;
        left -= 1;
    }
    power
}

/// Rounds `value` to that many decimal places.
pub(crate) fn decimal(value: f64, places: usize) -> f64 {
    let scale = power(places);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_a_grid_are_the_doubles_that_their_text_stands_for() {
        let tick = TickGrid::new(5, 4);
        for n in 0..2_000_u32 {
            let on_grid = tick.nearest(f64::from(n) * 0.0005 + 1e-5);
            assert_eq!(on_grid.to_string().parse::<f64>().unwrap(), on_grid);
            assert!(on_grid.to_string().len() <= 6, "{on_grid}");
        }
        assert_eq!(TickGrid::new(5, 1).nearest(63_064.71), 63_064.5);
        assert_eq!(TickGrid::new(25, 1).above(63_065.0, -2.0), 63_060.0);
        assert_eq!(TickGrid::new(10, 0).nearest(77.0), 80.0);
        assert_eq!(decimal(0.002_298_871, 8), 0.002_298_87);
    }
}
