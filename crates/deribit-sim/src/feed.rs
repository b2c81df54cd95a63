//! The live feed: one task generates the trades, and all connections share them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::clock::Clock;
use crate::market::{Cursor, Market, MarketTime, MarketTrade};
use crate::metrics::Metrics;
use crate::protocol::Interval;

/// Milliseconds of a `100ms` batch.
const BUNDLE: u64 = 100;
/// Milliseconds of an `agg2` batch.
const SECOND: u64 = 1_000;
/// Milliseconds between two `raw` batches.
const RAW: u64 = 10;

/// Batches that a connection may fall behind before it is disconnected as a slow consumer.
const BACKLOG: usize = 4_096;

/// The trades of one interval, shared by all connections.
pub(crate) type FeedBatch = Arc<[Arc<FeedTrade>]>;

/// A trade with its JSON, which is written once for all connections.
#[derive(Debug)]
pub(crate) struct FeedTrade {
    pub(crate) trade: MarketTrade,
    pub(crate) json: String,
}

/// The channels that distribute trades to the connections.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    raw: Sender<FeedBatch>,
    bundles: Sender<FeedBatch>,
    seconds: Sender<FeedBatch>,
    /// Milliseconds since 1970: all earlier trades have been sent.
    sent_until: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new(now: MarketTime) -> Self {
        let sender = || broadcast::channel(BACKLOG).0;
        Self { raw: sender(), bundles: sender(), seconds: sender(), sent_until: Arc::new(now.0.into()) }
    }

    /// All earlier trades have been sent.
    pub(crate) fn sent_until(&self) -> MarketTime {
        MarketTime(self.sent_until.load(Ordering::Acquire))
    }

    /// The batches from now on. They hold every trade that is not older than this call.
    pub(crate) fn listen(&self, interval: Interval) -> Receiver<FeedBatch> {
        self.sender(interval).subscribe()
    }

    fn sender(&self, interval: Interval) -> &Sender<FeedBatch> {
        match interval {
            Interval::Raw => &self.raw,
            Interval::Bundle => &self.bundles,
            Interval::Second => &self.seconds,
        }
    }

    fn wanted(&self, interval: Interval) -> bool {
        self.sender(interval).receiver_count() > 0
    }

    /// Sends the trades as time passes, forever. Without subscribers no trades are generated.
    pub(crate) async fn run(self, market: Arc<Market>, clock: Clock, metrics: Metrics) {
        let mut stage =
            FeedState { at: floor(clock.now(), SECOND), market, feed: self, metrics, under_way: None };
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

/// The state of the feed task.
struct FeedState {
    market: Arc<Market>,
    feed: Feed,
    metrics: Metrics,
    /// All earlier trades have been sent, or had no subscriber.
    at: MarketTime,
    under_way: Option<ActiveFeed>,
}

/// State that exists while there are subscribers.
struct ActiveFeed {
    cursor: Cursor,
    bundle: Vec<Arc<FeedTrade>>,
    second: Vec<Arc<FeedTrade>>,
}

impl FeedState {
    /// Sends the trades up to `to`, excluded.
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

    /// Sends the trades up to `to`, which is at most the end of a `100ms` batch.
    fn step(&mut self, to: MarketTime) {
        let start = || ActiveFeed {
            cursor: Cursor::new(&self.market, self.at),
            bundle: Vec::new(),
            second: Vec::new(),
        };
        let under_way = self.under_way.get_or_insert_with(start);
        let trades = under_way.cursor.advance(&self.market, to);
        self.metrics.trades.inc_by(trades.len() as u64);
        let trades: Vec<_> = trades.into_iter().map(|trade| Arc::new(FeedTrade::of(trade))).collect();
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

impl FeedTrade {
    fn of(trade: MarketTrade) -> Self {
        let json = trade.to_json();
        Self { trade, json }
    }
}

fn send(sender: &Sender<FeedBatch>, trades: Vec<Arc<FeedTrade>>) {
    if !trades.is_empty() {
        // An error means that there are no subscribers, which is allowed.
        sender.send(trades.into()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Options;

    const START: MarketTime = MarketTime(1_786_911_707_000);

    fn stage() -> FeedState {
        let market = Arc::new(Market::new(Options { seed: 1, instruments: 100, rate: 500.0 }));
        let metrics = Metrics::new(&common::metrics::Metrics::new("test"));
        FeedState { market, feed: Feed::new(START), metrics, at: START, under_way: None }
    }

    /// Every batch that has been sent.
    fn received(receiver: &mut Receiver<FeedBatch>) -> Vec<Vec<MarketTrade>> {
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
