//! When trades happen: a multiplicative cascade that answers for any moment without its past.
//!
//! Time is divided into root blocks of 70 minutes, longer for slow streams. The number of trades in a block, and in all blocks before it,
//! has a closed form. Within a block the number is split between two halves, down to single milliseconds. The shares are hashes of
//! (stream, level, position). So the number of trades before an instant costs about 22 hashes, at any instant. Uneven shares at every scale
//! make realistic bursts: see [`SHAPES`] for their calibration.

use super::noise::Key;

/// A root block is `2^22` to `2^34` ms (199 days) long and holds about [`ROOT_TRADES`] trades: a count in closed form has no bursts, so it
/// must not decide about single trades.
const ROOT_LEVELS: std::ops::RangeInclusive<u32> = 22..=34;
const ROOT_TRADES: f64 = 32.0;

/// The most trades of a stream in one millisecond, so that trade ids can be composed of (time, stream, position in the millisecond). The
/// busiest recorded millisecond has 90.
pub(crate) const MAX_PER_MS: u64 = 255;

/// How unevenly the trades of a span fall on its halves.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Probability, in 1/32768, that all of them fall on one half.
    lump: u64,
    /// Otherwise the first half's share is uniform within `1/2 ± width/2`; in 1/2^24.
    width: u64,
}

impl Shape {
    /// A share `p` of the given variance, as `4 Var p`: 0 is an even split, 1 is all or nothing.
    const fn of(unevenness: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "constants between 0 and 2^24"
        )]
        if unevenness > 1.0 / 3.0 {
            Self { lump: ((unevenness - 1.0 / 3.0) * 1.5 * 32_768.0) as u64, width: 1 << 24 }
        } else {
            // A narrow uniform share has 4 Var p = width²/3.
            let mut width = 1.0;
            let mut step = 0.5;
            while step > 1e-7 {
                if width * width / 3.0 > unevenness {
                    width -= step;
                } else {
                    width += step;
                }
                step /= 2.0;
            }
            Self { lump: 0, width: (width * (1_u64 << 24) as f64) as u64 }
        }
    }
}

/// Shapes by the level of the span (length `2^level` ms) for a stream of [`REFERENCE_RATE`].
///
/// Calibrated on four hours of BTC-PERPETUAL (9,147 trades): the second factorial moment of the counts in windows of 1 ms,
/// 10 ms, 100 ms, 1 s, 10 s, 60 s and 600 s over the squared mean is 7655, 989, 150, 22.6, 4.7, 2.4 and 1.27 there; the
/// ratio from one scale to the next is what the levels between them must contribute.
const SHAPES: [Shape; 29] = [
    Shape::of(0.97),
    Shape::of(0.97), // 1 ms | 1 ms
    Shape::of(0.87),
    Shape::of(0.86),
    Shape::of(0.82), // 8 ms | 8 ms
    Shape::of(0.78),
    Shape::of(0.78),
    Shape::of(0.78), // 64 ms | 64 ms
    Shape::of(0.78),
    Shape::of(0.78),
    Shape::of(0.78),
    Shape::of(0.68), // 1 s | 1 s
    Shape::of(0.64),
    Shape::of(0.62),
    Shape::of(0.37), // 8 s | 8 s
    Shape::of(0.32),
    Shape::of(0.32),
    Shape::of(0.25), // 65 s | 65 s
    Shape::of(0.25),
    Shape::of(0.25),
    Shape::of(0.13), // 9 min | 9 min
    Shape::of(0.09),
    Shape::of(0.09), // 35 min | 35 min
    Shape::of(0.08),
    Shape::of(0.08),
    Shape::of(0.06),
    Shape::of(0.06),
    Shape::of(0.05),
    Shape::of(0.05),
];

/// The shape of levels beyond the table.
const LONGEST: Shape = Shape::of(0.05);

/// Trades per second of the recorded perpetual that [`SHAPES`] was calibrated on.
const REFERENCE_RATE: f64 = 0.647;

/// The arrivals of one stream: an instrument's own trades since the market opened.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    key: Key,
    /// A root block is `2^root` ms long.
    root: u32,
    /// Trades per root block: whole ones, and the rest in 1/2^32.
    whole: u64,
    rest: u64,
    /// Offset of the rest in its cycle, so that slow streams do not all trade in the same block.
    phase: u64,
    /// Levels by which the shapes are shifted: a stream of twice the reference rate bursts like the reference on a clock of twice the speed.
    shift: i32,
}

/// A span of `2^level` milliseconds and the trades in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArrivalSpan {
    /// Length as a power of two; 0 is a millisecond.
    pub(crate) level: u32,
    /// The span begins at `index << level`.
    pub(crate) index: u64,
    /// Trades of the stream before the span.
    pub(crate) before: u64,
    /// Trades of the stream within the span.
    pub(crate) count: u64,
}

impl ArrivalSpan {
    pub(crate) const EMPTY: Self = Self { level: 0, index: 0, before: 0, count: 0 };

    /// One half of the span, when `left` trades fall on the first half.
    pub(crate) fn half(self, left: u64, second: bool) -> Self {
        let (level, index) = (self.level - 1, self.index * 2 + u64::from(second));
        if second {
            return Self { level, index, before: self.before + left, count: self.count - left };
        }
        Self { level, index, before: self.before, count: left }
    }
}

impl Arrivals {
    /// A stream of `rate` trades a second, above 0.
    pub(crate) fn new(key: Key, rate: f64) -> Self {
        let per_block = |root: u32| rate / 1000.0 * (1_u64 << root) as f64;
        let root =
            ROOT_LEVELS.clone().find(|&root| per_block(root) >= ROOT_TRADES).unwrap_or(*ROOT_LEVELS.end());
        let trades = per_block(root).min((MAX_PER_MS << root) as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, below 2^42")]
        let whole = trades as u64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction times 2^32")]
        let rest = ((trades - whole as f64) * (1_u64 << 32) as f64) as u64;
        Self {
            key,
            root,
            whole,
            rest,
            phase: key.at(u64::MAX) >> 32,
            shift: octaves_above(rate, REFERENCE_RATE),
        }
    }

    /// The level of this stream's root blocks.
    pub(crate) fn root_level(&self) -> u32 {
        self.root
    }

    /// The span at that position. `level` is at least the level of the root blocks.
    pub(crate) fn span(&self, level: u32, index: u64) -> ArrivalSpan {
        let blocks = level - self.root;
        let before = self.before_block(index << blocks);
        ArrivalSpan { level, index, before, count: self.before_block((index + 1) << blocks) - before }
    }

    /// Mean number of trades in a span. `level` is at least the level of the root blocks.
    pub(crate) fn per_span(&self, level: u32) -> f64 {
        (self.whole as f64 + self.rest as f64 / (1_u64 << 32) as f64) * (1_u64 << (level - self.root)) as f64
    }

    fn before_block(&self, block: u64) -> u64 {
        block * self.whole + ((block * self.rest + self.phase) >> 32)
    }

    /// Number of trades before the instant `t`, in milliseconds since genesis.
    pub(crate) fn before(&self, t: u64) -> u64 {
        let mut span = self.span(self.root, t >> self.root);
        while span.level > 0 && span.count > 0 {
            let in_second = (t >> (span.level - 1)) & 1 == 1;
            span = span.half(self.left(span), in_second);
        }
        span.before
    }

    /// Number of trades in the first half of a span that is longer than a millisecond.
    pub(crate) fn left(&self, span: ArrivalSpan) -> u64 {
        if span.count == 0 {
            return 0;
        }
        if span.level > self.root {
            return self.span(span.level - 1, span.index * 2).count;
        }
        let bits = self.key.at((span.index << 6) | u64::from(span.level));
        let shape = self.shape(span.level);
        let left = if (bits >> 49) < shape.lump {
            ((bits >> 48) & 1) * span.count
        } else {
            let (chance, rounding) = ((bits >> 24) & 0xff_ffff, bits & 0xff_ffff);
            let share = ((1 << 24) - shape.width) / 2 + ((chance * shape.width) >> 24);
            // Counts fit: a root block holds 2^30 trades, or ROOT_TRADES where it is longer.
            (span.count * share + rounding) >> 24
        };
        let room = MAX_PER_MS << (span.level - 1);
        left.clamp(span.count.saturating_sub(room), room.min(span.count))
    }

    fn shape(&self, level: u32) -> Shape {
        let place = (level.cast_signed() + self.shift).max(0).unsigned_abs() as usize;
        SHAPES.get(place).copied().unwrap_or(LONGEST)
    }
}

/// How often `reference` must be doubled to reach `rate`, rounded; negative if it is above `rate`.
fn octaves_above(rate: f64, reference: f64) -> i32 {
    let mut octaves = 0;
    let mut ratio = rate / reference;
    while ratio > std::f64::consts::SQRT_2 {
        ratio /= 2.0;
        octaves += 1;
    }
    while ratio < std::f64::consts::FRAC_1_SQRT_2 && octaves > -40 {
        ratio *= 2.0;
        octaves -= 1;
    }
    octaves
}
