//! The trade sequence of one place: its own trades merged with those it gets as a leg of combos.
//!
//! Each source is a stream of [`Arrivals`]; a trade's *rank* is its number in the merged sequence since the market
//! opened. Within a millisecond the sources follow one another in order of their streams.

use super::arrivals::{ArrivalSpan, Arrivals};

/// A perpetual or a future is a leg of at most eight combos.
pub(crate) const MAX_SOURCES: usize = 12;

/// One of the streams that a place takes its trades from.
#[derive(Debug, Clone)]
pub(crate) struct TapeSource {
    /// The place that the stream belongs to: this place, or a combo of which this place is a leg.
    pub(crate) stream: usize,
    /// 0 for its own stream; otherwise the number of the leg.
    pub(crate) leg: u8,
    pub(crate) arrivals: Arrivals,
}

/// The merged sequence of a place.
#[derive(Debug, Clone)]
pub(crate) struct TradeTape {
    sources: Vec<TapeSource>,
    top_level: u32,
    /// Mean number of trades in a span of the top level.
    per_block: f64,
}

/// A millisecond in which the place has trades.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    /// Time in milliseconds since genesis.
    pub(crate) time: u64,
    /// Rank of its first trade.
    pub(crate) first: u64,
    counts: [u64; MAX_SOURCES],
}

impl Leaf {
    /// The rank after its last trade.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.counts.iter().sum::<u64>()
    }
}

/// The stream and position that a trade comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TradeOrigin<'a> {
    pub(crate) source: &'a TapeSource,
    /// Time in milliseconds since genesis.
    pub(crate) time: u64,
    /// Number of trades of the same stream before it in its millisecond.
    pub(crate) ordinal: u64,
}

impl TradeTape {
    /// The sources must be in order of their streams, at most [`MAX_SOURCES`].
    pub(crate) fn new(sources: Vec<TapeSource>) -> Self {
        debug_assert!(sources.len() <= MAX_SOURCES && sources.is_sorted_by_key(|source| source.stream));
        let top_level = sources.iter().map(|source| source.arrivals.root_level()).max().unwrap_or(0);
        let per_block = sources.iter().map(|source| source.arrivals.per_span(top_level)).sum();
        Self { sources, top_level, per_block }
    }

    /// Number of trades before `time`, in milliseconds since genesis; also the rank of the first trade at or after it.
    pub(crate) fn before(&self, time: u64) -> u64 {
        self.sources.iter().map(|source| source.arrivals.before(time)).sum()
    }

    /// The rank of a trade of `stream` at `time`; `ordinal` counts the stream's earlier trades in that millisecond.
    pub(crate) fn rank(&self, stream: usize, time: u64, ordinal: u64) -> u64 {
        let before = self.sources.iter().map(|source| match source.stream.cmp(&stream) {
            std::cmp::Ordering::Less => source.arrivals.before(time + 1),
            std::cmp::Ordering::Equal => source.arrivals.before(time) + ordinal,
            std::cmp::Ordering::Greater => source.arrivals.before(time),
        });
        before.sum()
    }

    /// The millisecond of the trade of that rank.
    pub(crate) fn leaf(&self, rank: u64) -> Leaf {
        let mut spans = self.top(rank);
        let mut first: u64 = spans.iter().map(|span| span.before).sum();
        for _ in 0..self.top_level {
            let mut lefts = [0; MAX_SOURCES];
            for ((left, span), source) in lefts.iter_mut().zip(&spans).zip(&self.sources) {
                *left = source.arrivals.left(*span);
            }
            let middle = first + lefts.iter().sum::<u64>();
            let in_second = rank >= middle;
            if in_second {
                first = middle;
            }
            for (span, left) in spans.iter_mut().zip(lefts).take(self.sources.len()) {
                *span = span.half(left, in_second);
            }
        }
        let time = spans.first().map_or(0, |span| span.index);
        Leaf { time, first, counts: spans.map(|span| span.count) }
    }

    /// The origin of a trade. Its rank must lie in that millisecond.
    pub(crate) fn origin(&self, leaf: &Leaf, rank: u64) -> TradeOrigin<'_> {
        let mut ordinal = rank - leaf.first;
        let mut found = None;
        for (source, count) in self.sources.iter().zip(leaf.counts) {
            if ordinal < count {
                found = Some(source);
                break;
            }
            ordinal -= count;
        }
        TradeOrigin { source: found.expect("the rank lies in the leaf"), time: leaf.time, ordinal }
    }

    /// The top-level spans that hold the rank, one for each source.
    fn top(&self, rank: u64) -> [ArrivalSpan; MAX_SOURCES] {
        let before = |block: u64| -> u64 {
            self.sources.iter().map(|source| source.arrivals.span(self.top_level, block).before).sum()
        };
        // Counts follow the rates within one trade for each source, so the guess is wrong by two blocks at most.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; a wrong guess costs steps only"
        )]
        let mut low = (rank as f64 / self.per_block) as u64;
        while low > 0 && before(low) > rank {
            low -= 1;
        }
        while before(low + 1) <= rank {
            low += 1;
        }
        let mut spans = [ArrivalSpan::EMPTY; MAX_SOURCES];
        for (span, source) in spans.iter_mut().zip(&self.sources) {
            *span = source.arrivals.span(self.top_level, low);
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::Key;
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn tape(seed: u64, rates: &[f64]) -> TradeTape {
        let source = |(stream, rate): (usize, &f64)| TapeSource {
            stream,
            leg: 0,
            arrivals: Arrivals::new(Key::new(seed).child(stream as u64), *rate),
        };
        TradeTape::new(rates.iter().enumerate().map(source).collect())
    }

    proptest! {
        #[test]
        fn counting_to_a_trade_and_finding_a_trade_by_its_number_agree(
            seed in any::<u64>(), rank in 0_u64..5_000_000, fast in 0.5_f64..200.0, slow in 1e-6_f64..0.5,
        ) {
            let tape = tape(seed, &[fast, slow, slow / 7.0]);
            let leaf = tape.leaf(rank);
            prop_assert!(leaf.first <= rank && rank < leaf.end());
            prop_assert_eq!(tape.before(leaf.time), leaf.first);
            prop_assert_eq!(tape.before(leaf.time + 1), leaf.end());
            let origin = tape.origin(&leaf, rank);
            prop_assert_eq!(tape.rank(origin.source.stream, origin.time, origin.ordinal), rank);
        }

        #[test]
        fn the_count_never_falls_and_the_parts_of_a_span_add_up(
            seed in any::<u64>(), from in 0_u64..100_000_000_000, cut in 0_u64..10_000_000, rest in 0_u64..10_000_000,
        ) {
            let tape = tape(seed, &[3.0, 0.2]);
            let (a, b, c) = (tape.before(from), tape.before(from + cut), tape.before(from + cut + rest));
            prop_assert!(a <= b && b <= c);
        }
    }

    #[test]
    fn the_mean_rate_is_the_one_asked_for_fast_or_slow() {
        for rate in [0.0001, 0.02, 0.6, 40.0, 5_000.0] {
            let seconds = 400_000_000_u64;
            let trades = tape(1, &[rate]).before(seconds * 1_000);
            let expected = rate * seconds as f64;
            assert!((trades as f64 / expected - 1.0).abs() < 0.05, "{trades} instead of {expected}");
        }
    }

    #[test]
    fn no_stream_exceeds_255_trades_in_a_millisecond() {
        let tape = tape(2, &[100_000.0]);
        let mut rank = tape.before(10_000_000);
        let mut most = 0;
        for _ in 0..2_000 {
            let leaf = tape.leaf(rank);
            most = most.max(leaf.end() - leaf.first);
            rank = leaf.end();
        }
        assert!((200..=255).contains(&most), "{most}");
    }
}
