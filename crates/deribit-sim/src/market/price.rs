//! What things are worth: one random path per coin, and everything else from it.

use super::family::Coin;
use super::listing::{Leg, Listing, Terms};
use super::noise::{Key, exp, wave};
use super::tick::decimal;
use super::time::MarketTime;
use super::universe::Side;

/// Octaves of the paths: waves of `2^8` ms (a quarter of a second), four times as long each, up to `2^34` ms (199 days).
const OCTAVES: [u32; 14] = [8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34];

/// Amplitude of the shortest octave for bitcoin; each next one is twice as high, as a random walk wants it.
///
/// Calibrated to the recorded index: 31 % a year, measured over 10 s and over 60 s.
const SHORTEST_AMPLITUDE: f64 = 2.2e-5;

const MILLIS_PER_YEAR: f64 = 31_557_600_000.0;

/// The paths of a market.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prices {
    key: Key,
}

/// What an instrument is worth at a time, unrounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worth {
    /// In the instrument's own unit.
    pub(crate) mark: f64,
    /// The coin in the instrument's quote currency.
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

    /// A coin in dollars.
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

    pub(crate) fn worth(&self, listing: &Listing, t: MarketTime) -> Worth {
        let family = listing.family;
        let index = self.dollars(family.coin, t) / family.quote_in_dollars;
        let years = listing.life.until.0.saturating_sub(t.0) as f64 / MILLIS_PER_YEAR;
        let spread = 0.7e-5 * index;
        match &listing.terms {
            Terms::Spot => Worth { mark: index, index, iv: None, half_spread: spread },
            // Up to 2 basis points around the index, over hours.
            Terms::Perpetual => {
                let basis = 2e-4 * wave(self.key.child(100 + family.coin.path().0), t.since_genesis(), 23);
                Worth { mark: index * (1.0 + basis), index, iv: None, half_spread: spread }
            }
            Terms::Future => {
                let carry =
                    0.05 + 0.01 * wave(self.key.child(200 + family.coin.path().0), t.since_genesis(), 26);
                Worth { mark: index * (1.0 + carry * years), index, iv: None, half_spread: 4.0 * spread }
            }
            Terms::Option { side, strike } => {
                let level = wave(self.key.child(300 + family.coin.path().0), t.since_genesis(), 27);
                let iv =
                    family.coin.restlessness() * (0.18 + 0.22 * years / (years + 0.05)) * (1.0 + 0.1 * level);
                let forward = index * (1.0 + 0.05 * years);
                let unit = if family.inverse { forward } else { 1.0 };
                let value = option(Quote { forward, strike: strike.price(), years, iv }, *side);
                let mark = value.dollars / unit;
                Worth { mark, index, iv: Some(value.iv), half_spread: 0.02 * mark + 5e-5 * forward / unit }
            }
            Terms::Combo { legs, .. } => self.combined(legs, index, t),
        }
    }

    fn combined(&self, legs: &[Leg; 2], index: f64, t: MarketTime) -> Worth {
        let (mut mark, mut half_spread) = (0.0, 0.0);
        for leg in legs {
            let worth = self.worth(&leg.listing, t);
            mark += if leg.bought { worth.mark } else { -worth.mark };
            half_spread += worth.half_spread / 2.0;
        }
        Worth { mark, index, iv: None, half_spread }
    }
}

/// What the price of an option is made of.
#[derive(Debug, Clone, Copy)]
struct Quote {
    forward: f64,
    strike: f64,
    years: f64,
    /// At the money, as a fraction.
    iv: f64,
}

#[derive(Debug, Clone, Copy)]
struct OptionValue {
    dollars: f64,
    /// With the smile, in per cent.
    iv: f64,
}

/// Bachelier's formula (prices move by a normal law, not a lognormal one): as good as Black's near the money, and
/// without a logarithm.
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

/// The normal law's probability below `x`: Abramowitz and Stegun 26.2.17.
fn normal_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail = density(x)
        * t
        * (0.319_381_53
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    if x < 0.0 { tail } else { 1.0 - tail }
}

impl Worth {
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
    fn an_option_is_worth_more_the_longer_it_lives_and_never_less_than_nothing() {
        let worth =
            |strike, years| option(Quote { forward: 63_000.0, strike, years, iv: 0.4 }, Side::Put).dollars;
        assert!(worth(60_000.0, 0.5) > worth(60_000.0, 0.1) && worth(60_000.0, 0.1) > 0.0);
        assert!(worth(20_000.0, 0.001) >= 0.0);
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
