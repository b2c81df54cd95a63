//! The averages of one instrument over one window, merged from its slices.

use crate::window::slice::{Slice, higher, lower};

/// What is published for an instrument and a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// Trades, at least one.
    pub trade_count: u64,
    /// Mean price. This and the other means are brought into `low..=high`.
    pub sma: f64,
    /// Mean price, weighted by `exp(-(window_end - timestamp)/τ)`.
    pub ema: f64,
    /// Mean price, weighted by amount; the sma where the volume is 0.
    pub vwap: f64,
    /// First price of the first slice that holds a trade.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price of the last slice that holds a trade.
    pub close: f64,
    /// Σ amount.
    pub volume: f64,
}

impl Average {
    /// Merges slices in time order, each with the factor for its EMA sums, `exp(-(window_end - slice_end)/τ)`.
    ///
    /// Sums start at +0.0 and are formed anew for each window: taking a slice out of a running sum again would leave its
    /// rounding errors behind. `None` without slices.
    pub fn over<'a>(slices: impl IntoIterator<Item = (&'a Slice, f64)>) -> Option<Self> {
        let mut slices = slices.into_iter().peekable();
        let mut merged = *slices.peek()?.0;
        (merged.trade_count, merged.price_sum) = (0, 0.0);
        (merged.volume, merged.turnover) = (0.0, 0.0);
        (merged.ema_sum, merged.ema_weight) = (0.0, 0.0);
        for (slice, factor) in slices {
            merged.trade_count += slice.trade_count;
            merged.high = higher(merged.high, slice.high);
            merged.low = lower(merged.low, slice.low);
            merged.close = slice.close;
            merged.volume += slice.volume;
            merged.turnover += slice.turnover;
            merged.price_sum += slice.price_sum;
            merged.ema_sum += slice.ema_sum * factor;
            merged.ema_weight += slice.ema_weight * factor;
        }
        Some(Self::of_sums(&merged))
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody trades 2^53 times in a window")]
    fn of_sums(sums: &Slice) -> Self {
        let sma = sums.price_sum / sums.trade_count as f64;
        let vwap = if sums.volume == 0.0 { sma } else { sums.turnover / sums.volume };
        // Rounding alone can put a mean past its prices, and readers take an average above the high for a bug.
        let within_prices = |mean: f64| higher(lower(mean, sums.high), sums.low);
        Self {
            trade_count: sums.trade_count,
            sma: within_prices(sma),
            ema: within_prices(sums.ema_sum / sums.ema_weight),
            vwap: within_prices(vwap),
            open: sums.open,
            high: sums.high,
            low: sums.low,
            close: sums.close,
            volume: sums.volume,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::slice::Tick;

    fn slice(prices: &[f64]) -> Slice {
        let tick = |&price: &f64| Tick { price, amount: 2.0, weight: 1.0 };
        let mut slice = Slice::starting_with(tick(&prices[0]));
        prices[1..].iter().for_each(|price| slice.add(tick(price)));
        slice
    }

    #[test]
    fn averages_of_a_constant_price_are_that_price() {
        let (a, b) = (slice(&[4.0, 4.0]), slice(&[4.0]));
        let average = Average::over([(&a, 0.5), (&b, 1.0)]).unwrap();
        assert_eq!((average.sma, average.ema, average.vwap), (4.0, 4.0, 4.0));
        assert_eq!((average.trade_count, average.volume), (3, 6.0));
    }

    #[test]
    fn the_ema_leans_to_the_newer_slice_and_the_others_do_not() {
        let (old, new) = (slice(&[10.0]), slice(&[20.0]));
        let average = Average::over([(&old, 0.25), (&new, 1.0)]).unwrap();
        assert_eq!((average.sma, average.ema, average.vwap), (15.0, 18.0, 15.0));
        assert_eq!((average.open, average.high, average.low, average.close), (10.0, 20.0, 10.0, 20.0));
    }

    #[test]
    fn without_volume_the_vwap_is_the_sma() {
        let free = Slice::starting_with(Tick { price: 3.0, amount: 0.0, weight: 1.0 });
        assert_eq!(Average::over([(&free, 1.0)]).unwrap().vwap, 3.0);
    }

    #[test]
    fn rounding_does_not_put_a_mean_past_the_prices() {
        // 255 · 0.7 / 0.7 is 255.00000000000003 in doubles.
        let one = Slice::starting_with(Tick { price: 255.0, amount: 0.7, weight: 0.3 });
        assert_ne!(one.turnover / one.volume, 255.0);
        let average = Average::over([(&one, 1.0)]).unwrap();
        assert_eq!((average.sma, average.ema, average.vwap), (255.0, 255.0, 255.0));
    }

    #[test]
    fn no_slices_no_average() {
        assert_eq!(Average::over([]), None);
    }
}
