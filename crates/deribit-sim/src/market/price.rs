//! Prices: one random path for each coin; everything else follows from it.

use super::family::Coin;
use super::listing::{Leg, Listing, Terms};
use super::noise::{Key, exp, wave};
use super::tick::decimal;
use super::time::MarketTime;
use super::universe::Side;

/// Octaves of the paths: periods from `2^8` ms (a quarter of a second) to `2^34` ms (199 days), each four times as long as the one before.
const OCTAVES: [u32; 14] = [8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34];

/// Amplitude of the shortest octave for bitcoin. Each next octave doubles it, as in a random walk.
///
/// Calibrated to the recorded index: 31 % a year, measured over 10 s and over 60 s.
const SHORTEST_AMPLITUDE: f64 = 2.2e-5;

const MILLIS_PER_YEAR: f64 = 31_557_600_000.0;

/// The paths of a market.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prices {
    key: Key,
}

/// The value of an instrument at a time, unrounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Valuation {
    /// Mark price in the instrument's own unit.
    pub(crate) mark: f64,
    /// Index price in the instrument's quote currency.
    pub(crate) index: f64,
    /// Implied volatility in per cent, of options.
    pub(crate) iv: Option<f64>,
    /// Half the distance between bid and ask, in the unit of `mark`.
    pub(crate) half_spread: f64,
}

impl Prices {
    pub(crate) fn new(key: Key) -> Self {
        Self { key }
    }

    /// The price of a coin in dollars.
    pub(crate) fn dollars(&self, coin: Coin, t: MarketTime) -> f64 {
        let (path, middle) = coin.path();
        let key = self.key.child(path);
        let mut sum = 0.0;
        let mut amplitude = SHORTEST_AMPLITUDE;
        for period_bits in OCTAVES {
            sum += amplitude * wave(key, t.since_genesis(), period_bits);
            amplitude *= 2.0;
        }
        middle * exp(sum * coin.restlessness())
    }

    pub(crate) fn valuation(&self, listing: &Listing, t: MarketTime) -> Valuation {
        let family = listing.family;
        let index = self.dollars(family.coin, t) / family.quote_in_dollars;
        let years = listing.life.until.0.saturating_sub(t.0) as f64 / MILLIS_PER_YEAR;
        let spread = 0.7e-5 * index;
        match &listing.terms {
            Terms::Spot => Valuation { mark: index, index, iv: None, half_spread: spread },
            // Up to 2 basis points around the index, over hours.
            Terms::Perpetual => {
                let basis = 2e-4 * wave(self.key.child(100 + family.coin.path().0), t.since_genesis(), 23);
                Valuation { mark: index * (1.0 + basis), index, iv: None, half_spread: spread }
            }
            Terms::Future => {
                let carry =
                    0.05 + 0.01 * wave(self.key.child(200 + family.coin.path().0), t.since_genesis(), 26);
                Valuation { mark: index * (1.0 + carry * years), index, iv: None, half_spread: 4.0 * spread }
            }
            Terms::Option { side, strike } => {
                let level = wave(self.key.child(300 + family.coin.path().0), t.since_genesis(), 27);
                let iv =
                    family.coin.restlessness() * (0.18 + 0.22 * years / (years + 0.05)) * (1.0 + 0.1 * level);
                let forward = index * (1.0 + 0.05 * years);
                let unit = if family.inverse { forward } else { 1.0 };
                let value = option(Quote { forward, strike: strike.price(), years, iv }, *side);
                let mark = value.dollars / unit;
                Valuation {
                    mark,
                    index,
                    iv: Some(value.iv),
                    half_spread: 0.02 * mark + 5e-5 * forward / unit,
                }
            }
            Terms::Combo { legs, .. } => self.combined(legs, index, t),
        }
    }

    fn combined(&self, legs: &[Leg; 2], index: f64, t: MarketTime) -> Valuation {
        let (mut mark, mut half_spread) = (0.0, 0.0);
        for leg in legs {
            let valuation = self.valuation(&leg.listing, t);
            mark += if leg.bought { valuation.mark } else { -valuation.mark };
            half_spread += valuation.half_spread / 2.0;
        }
        Valuation { mark, index, iv: None, half_spread }
    }
}

/// The inputs of an option's price.
#[derive(Debug, Clone, Copy)]
struct Quote {
    forward: f64,
    strike: f64,
    years: f64,
    /// Implied volatility at the money, as a fraction.
    iv: f64,
}

#[derive(Debug, Clone, Copy)]
struct OptionValue {
    dollars: f64,
    /// Implied volatility with the smile, in per cent.
    iv: f64,
}

/// Bachelier's formula, which assumes normal instead of lognormal prices. Near the money it is as good as Black's, and it needs no logarithm.
fn option(quote: Quote, side: Side) -> OptionValue {
    let Quote { forward, strike, years, iv } = quote;
    let at_the_money = iv * years.max(1e-5).sqrt() * forward;
    let smile = 1.0 + 0.04 * ((forward - strike) / at_the_money).abs().min(5.0);
    let deviation = at_the_money * smile;
    let distance = (forward - strike) / deviation;
    let call = deviation * (distance * normal_below(distance) + density(distance));
    let value = match side {
        Side::Call => call,
        Side::Put => call - (forward - strike),
    };
    OptionValue { dollars: value.max(0.0), iv: 100.0 * iv * smile }
}

fn density(x: f64) -> f64 {
    0.398_942_280_401_432_7 * exp(-x * x / 2.0)
}

/// The normal distribution function: Abramowitz and Stegun 26.2.17.
fn normal_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail = density(x)
        * t
        * (0.319_381_53
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    if x < 0.0 { tail } else { 1.0 - tail }
}

impl Valuation {
    /// The mark price as the exchange writes it.
    pub(crate) fn mark_shown(&self, listing: &Listing) -> f64 {
        let places = match &listing.terms {
            Terms::Option { .. } => 8,
            Terms::Combo { .. } if self.mark.abs() < 1.0 => 8,
            _ if self.mark.abs() < 10.0 => 6,
            _ => 2,
        };
        decimal(self.mark, places)
    }

    /// The index price as the exchange writes it.
    pub(crate) fn index_shown(&self) -> f64 {
        decimal(self.index, if self.index < 10.0 { 4 } else { 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_less_put_is_forward_less_strike() {
        for strike in [60_000.0, 63_000.0, 66_000.0] {
            let quote = Quote { forward: 63_000.0, strike, years: 0.1, iv: 0.4 };
            let parity = option(quote, Side::Call).dollars - option(quote, Side::Put).dollars;
            assert!((parity - (63_000.0 - strike)).abs() < 1e-6, "{strike}: {parity}");
        }
    }

    #[test]
    fn an_options_value_grows_with_its_life_and_is_never_negative() {
        let valuation =
            |strike, years| option(Quote { forward: 63_000.0, strike, years, iv: 0.4 }, Side::Put).dollars;
        assert!(valuation(60_000.0, 0.5) > valuation(60_000.0, 0.1) && valuation(60_000.0, 0.1) > 0.0);
        assert!(valuation(20_000.0, 0.001) >= 0.0);
    }

    #[test]
    fn bitcoin_moves_as_much_as_the_recorded_index_did() {
        for seconds in [10_u64, 60, 3_600] {
            let mut squares = 0.0;
            let steps = 2_000_u64;
            for seed in 0..5 {
                let prices = Prices::new(Key::new(seed));
                let price = |n: u64| {
                    prices.dollars(Coin::Btc, MarketTime::GENESIS.plus(40_000_000_000 + n * seconds * 1_000))
                };
                squares += (0..steps).map(|n| (price(n + 1) / price(n) - 1.0).powi(2)).sum::<f64>() / 5.0;
            }
            let yearly = (squares / steps as f64 * 31_557_600.0 / seconds as f64).sqrt();
            assert!((0.2..0.45).contains(&yearly), "{yearly} a year, measured over {seconds} s");
        }
    }
}
