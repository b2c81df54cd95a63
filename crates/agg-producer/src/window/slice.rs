//! The sums of one instrument over one slice.

/// What a trade contributes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// In the instrument's quote currency.
    pub price: f64,
    /// As the exchange counts it.
    pub amount: f64,
    /// `exp(-(slice_end - timestamp)/τ)`.
    pub weight: f64,
}

/// The trades of one instrument in one slice, at least one, summed in offset order.
///
/// Sums start at +0.0. Every product and every sum is rounded once, in the order in which it is written here; nothing is
/// fused, nothing reordered. Whoever does the same gets the same bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// Trades.
    pub trade_count: u64,
    /// Price of the first trade.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Price of the last trade.
    pub close: f64,
    /// Σ amount.
    pub volume: f64,
    /// Σ price·amount.
    pub turnover: f64,
    /// Σ price.
    pub price_sum: f64,
    /// Σ price·weight.
    pub ema_sum: f64,
    /// Σ weight.
    pub ema_weight: f64,
}

impl Slice {
    /// A slice whose first trade is `tick`.
    #[must_use]
    pub fn starting_with(tick: Tick) -> Self {
        let mut slice = Self {
            trade_count: 0,
            open: tick.price,
            high: tick.price,
            low: tick.price,
            close: tick.price,
            volume: 0.0,
            turnover: 0.0,
            price_sum: 0.0,
            ema_sum: 0.0,
            ema_weight: 0.0,
        };
        slice.add(tick);
        slice
    }

    /// Adds the next trade by offset.
    pub fn add(&mut self, tick: Tick) {
        self.trade_count += 1;
        self.high = higher(self.high, tick.price);
        self.low = lower(self.low, tick.price);
        self.close = tick.price;
        self.volume += tick.amount;
        self.turnover += tick.price * tick.amount;
        self.price_sum += tick.price;
        self.ema_sum += tick.price * tick.weight;
        self.ema_weight += tick.weight;
    }
}

/// `candidate` if it is above, else `so_far`: of a positive and a negative zero the earlier one stays.
pub(crate) fn higher(so_far: f64, candidate: f64) -> f64 {
    if candidate > so_far { candidate } else { so_far }
}

/// `candidate` if it is below, else `so_far`.
pub(crate) fn lower(so_far: f64, candidate: f64) -> f64 {
    if candidate < so_far { candidate } else { so_far }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(price: f64, amount: f64, weight: f64) -> Tick {
        Tick { price, amount, weight }
    }

    #[test]
    fn sums_run_in_the_order_of_arrival() {
        // 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit.
        let mut forth = Slice::starting_with(tick(0.1, 1.0, 1.0));
        forth.add(tick(0.2, 1.0, 1.0));
        forth.add(tick(0.3, 1.0, 1.0));
        assert_eq!(forth.price_sum.to_bits(), (0.1f64 + 0.2 + 0.3).to_bits());
        assert_ne!(forth.price_sum.to_bits(), (0.3f64 + 0.2 + 0.1).to_bits());
    }

    #[test]
    fn a_product_is_rounded_before_it_is_added() {
        let mut slice = Slice::starting_with(tick(0.1, 3.0, 1.0));
        slice.add(tick(0.1, -3.0, 1.0));
        assert_eq!(slice.turnover, 0.0);
        assert_ne!(
            0.1f64.mul_add(-3.0, 0.1 * 3.0),
            0.0,
            "a fused multiplication and addition keeps what rounding took"
        );
    }

    #[test]
    fn open_and_close_go_by_arrival_high_and_low_by_price() {
        let mut slice = Slice::starting_with(tick(5.0, 1.0, 1.0));
        for price in [9.0, 2.0, 4.0] {
            slice.add(tick(price, 1.0, 1.0));
        }
        assert_eq!((slice.open, slice.high, slice.low, slice.close), (5.0, 9.0, 2.0, 4.0));
        assert_eq!((slice.trade_count, slice.volume), (4, 4.0));
    }

    #[test]
    fn sums_start_at_positive_zero() {
        let slice = Slice::starting_with(tick(-0.0, -0.0, 1.0));
        assert_eq!(slice.volume.to_bits(), 0.0f64.to_bits());
        assert_eq!(slice.price_sum.to_bits(), 0.0f64.to_bits());
        assert_eq!(slice.open.to_bits(), (-0.0f64).to_bits());
    }
}
