//! The live feed: one task makes the trades, all connections share them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::clock::Clock;
use crate::market::{Cursor, Market, MarketTime, MarketTrade};
use crate::metrics::Meters;
use crate::protocol::Interval;

/// The length of a bundle.
const BUNDLE: u64 = 100;
/// The length of an `agg2` bundle.
const SECOND: u64 = 1_000;
/// How often `raw` trades are looked for.
const RAW: u64 = 10;

/// Batches that a connection may be behind before it counts as a slow reader.
const BACKLOG: usize = 4_096;

/// Trades of one interval.
pub(crate) type Batch = Arc<[Arc<Published>]>;

/// A trade, and its JSON, which is written once for all.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) trade: MarketTrade,
    pub(crate) json: String,
}

/// Where connections get the trades from.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    raw: Sender<Batch>,
    bundles: Sender<Batch>,
    seconds: Sender<Batch>,
    /// Milliseconds: trades before have been sent.
    sent_until: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new(now: MarketTime) -> Self {
        let sender = || broadcast::channel(BACKLOG).0;
        Self { raw: sender(), bundles: sender(), seconds: sender(), sent_until: Arc::new(now.0.into()) }
    }

    /// Trades before this time have been sent.
    pub(crate) fn sent_until(&self) -> MarketTime {
        MarketTime(self.sent_until.load(Ordering::Acquire))
    }

    /// The batches from now on: every trade that is not older than this call is in them.
    pub(crate) fn listen(&self, interval: Interval) -> Receiver<Batch> {
        self.sender(interval).subscribe()
    }

    fn sender(&self, interval: Interval) -> &Sender<Batch> {
        match interval {
            Interval::Raw => &self.raw,
            Interval::Bundle => &self.bundles,
            Interval::Second => &self.seconds,
        }
    }

    fn wanted(&self, interval: Interval) -> bool {
        self.sender(interval).receiver_count() > 0
    }

    /// Sends the trades as time passes, for ever. Nothing is made while nobody listens.
    pub(crate) async fn run(self, market: Arc<Market>, clock: Clock, meters: Meters) {
        let mut stage = Stage { at: floor(clock.now(), SECOND), market, feed: self, meters, under_way: None };
        loop {
            let step = if stage.feed.wanted(Interval::Raw) { RAW } else { BUNDLE };
            tokio::time::sleep(clock.until(floor(stage.at, step).plus(step))).await;
            stage.advance(floor(clock.now(), step));
            stage.feed.sent_until.store(stage.at.0, Ordering::Release);
        }
    }
}

fn floor(time: MarketTime, step: u64) -> MarketTime {
    MarketTime(time.0 / step * step)
}

/// The feed at a moment.
struct Stage {
    market: Arc<Market>,
    feed: Feed,
    meters: Meters,
    /// Trades before this time have been sent, or were not wanted.
    at: MarketTime,
    under_way: Option<UnderWay>,
}

/// What there is while somebody listens.
struct UnderWay {
    cursor: Cursor,
    bundle: Vec<Arc<Published>>,
    second: Vec<Arc<Published>>,
}

impl Stage {
    /// Sends what happened up to `to`.
    fn advance(&mut self, to: MarketTime) {
        if self.listeners() == 0 {
            self.under_way = None;
            self.at = self.at.max(to);
        }
        while self.at < to {
            let next = floor(self.at, BUNDLE).plus(BUNDLE).min(to);
            self.step(next);
            self.at = next;
        }
    }

    fn listeners(&self) -> usize {
        [Interval::Raw, Interval::Bundle, Interval::Second]
            .iter()
            .filter(|interval| self.feed.wanted(**interval))
            .count()
    }

    /// A step that does not go beyond the end of a bundle.
    fn step(&mut self, to: MarketTime) {
        let start = || UnderWay {
            cursor: Cursor::new(&self.market, self.at),
            bundle: Vec::new(),
            second: Vec::new(),
        };
        let under_way = self.under_way.get_or_insert_with(start);
        let trades = under_way.cursor.advance(&self.market, to);
        self.meters.trades.inc_by(trades.len() as u64);
        let trades: Vec<_> = trades.into_iter().map(|trade| Arc::new(Published::of(trade))).collect();
        under_way.bundle.extend_from_slice(&trades);
        under_way.second.extend_from_slice(&trades);
        send(&self.feed.raw, trades);
        if to == floor(to, BUNDLE) {
            send(&self.feed.bundles, std::mem::take(&mut under_way.bundle));
        }
        if to == floor(to, SECOND) {
            send(&self.feed.seconds, std::mem::take(&mut under_way.second));
        }
    }
}

impl Published {
    fn of(trade: MarketTrade) -> Self {
        let json = trade.to_json();
        Self { trade, json }
    }
}

fn send(sender: &Sender<Batch>, trades: Vec<Arc<Published>>) {
    if !trades.is_empty() {
        // An error says that nobody listens, which may be.
        sender.send(trades.into()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Options;

    const START: MarketTime = MarketTime(1_786_911_707_000);

    fn stage() -> Stage {
        let market = Arc::new(Market::new(Options { seed: 1, instruments: 100, rate: 500.0 }));
        let meters = Meters::new(&common::metrics::Metrics::new("test"));
        Stage { market, feed: Feed::new(START), meters, at: START, under_way: None }
    }

    /// Everything that has been sent, batch by batch.
    fn received(receiver: &mut Receiver<Batch>) -> Vec<Vec<MarketTrade>> {
        let batches = std::iter::from_fn(|| receiver.try_recv().ok());
        batches.map(|batch| batch.iter().map(|published| published.trade.clone()).collect()).collect()
    }

    #[test]
    fn however_unevenly_time_passes_each_interval_carries_the_whole_market() {
        let mut stage = stage();
        let intervals = [Interval::Raw, Interval::Bundle, Interval::Second];
        let mut receivers = intervals.map(|interval| stage.feed.listen(interval));
        for to in [10, 20, 90, 100, 1_430, 1_900, 2_000] {
            stage.advance(START.plus(to));
        }
        let market = stage.market.trades(START..START.plus(2_000));
        for receiver in &mut receivers {
            assert_eq!(received(receiver).concat(), market);
        }
    }

    #[test]
    fn a_bundle_holds_the_trades_of_its_100_ms_and_no_others() {
        let mut stage = stage();
        let mut bundles = stage.feed.listen(Interval::Bundle);
        stage.advance(START.plus(3_000));
        for bundle in received(&mut bundles) {
            let number = bundle[0].timestamp.0 / BUNDLE;
            assert!(bundle.iter().all(|trade| trade.timestamp.0 / BUNDLE == number));
        }
    }

    #[test]
    fn who_comes_when_nobody_listened_misses_nothing_from_then_on() {
        let mut stage = stage();
        stage.advance(START.plus(700));
        let mut bundles = stage.feed.listen(Interval::Bundle);
        stage.advance(START.plus(900));
        assert_eq!(received(&mut bundles).concat(), stage.market.trades(START.plus(700)..START.plus(900)));
    }
}
