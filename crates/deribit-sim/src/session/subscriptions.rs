//! The channels of a connection, and the notifications that a batch of trades makes for them.

use std::collections::BTreeMap;

use crate::feed::FeedTrade;
use crate::market::Filter;
use crate::protocol::{Channel, Interval, notification};

/// One notification of a channel.
#[derive(Debug)]
pub(super) struct ChannelNotification {
    pub(super) trades: u64,
    pub(super) text: String,
}

/// The channels that a connection is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Keyed by the name as the client wrote it.
    channels: BTreeMap<String, Channel>,
    /// The same channels by instrument: interval and channel name.
    instruments: BTreeMap<String, Vec<(Interval, String)>>,
    groups: Vec<(Interval, Filter, String)>,
}

impl Subscriptions {
    /// Adds a channel; a second time changes nothing.
    pub(super) fn add(&mut self, name: &str, channel: Channel) {
        if self.channels.contains_key(name) {
            return;
        }
        match &channel {
            Channel::Instrument(instrument, interval) => {
                self.instruments.entry(instrument.clone()).or_default().push((*interval, name.to_owned()));
            }
            Channel::Group(filter, interval) => self.groups.push((*interval, *filter, name.to_owned())),
            Channel::PlatformState => {}
        }
        self.channels.insert(name.to_owned(), channel);
    }

    /// Removes a channel; `false` if there is none of that name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        match self.channels.remove(name) {
            Some(Channel::Instrument(instrument, _)) => {
                if let Some(channels) = self.instruments.get_mut(&instrument) {
                    channels.retain(|(_, other)| other != name);
                }
            }
            Some(Channel::Group(..)) => self.groups.retain(|(_, _, other)| other != name),
            Some(Channel::PlatformState) => {}
            None => return false,
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the client subscribed to notifications about maintenance.
    pub(super) fn wants_maintenance_news(&self) -> bool {
        self.channels.values().any(|channel| *channel == Channel::PlatformState)
    }

    /// Whether any channel has that interval.
    pub(super) fn wants(&self, interval: Interval) -> bool {
        self.channels.values().any(|channel| channel.interval() == Some(interval))
    }

    /// The notifications for a batch: one for each channel that has trades in it.
    pub(super) fn notifications<'a>(
        &self,
        interval: Interval,
        batch: impl IntoIterator<Item = &'a FeedTrade>,
    ) -> Vec<ChannelNotification> {
        let mut data: BTreeMap<&str, (u64, String)> = BTreeMap::new();
        for published in batch {
            for channel in self.channels_of(interval, published) {
                let (trades, data) = data.entry(channel).or_default();
                data.push(if *trades == 0 { '[' } else { ',' });
                data.push_str(&published.json);
                *trades += 1;
            }
        }
        let close = |(channel, (trades, mut data)): (&str, (u64, String))| {
            data.push(']');
            ChannelNotification { trades, text: notification(channel, &data) }
        };
        data.into_iter().map(close).collect()
    }

    /// The names of the channels that publish the trade.
    fn channels_of(&self, interval: Interval, published: &FeedTrade) -> impl Iterator<Item = &str> {
        let trade = &published.trade;
        let own = self.instruments.get(&*trade.instrument_name).into_iter().flatten();
        let own = own.filter(move |(other, _)| *other == interval).map(|(_, name)| name.as_str());
        let groups = self.groups.iter().filter(move |(other, filter, _)| {
            *other == interval && filter.passes(trade.currency, trade.kind)
        });
        own.chain(groups.map(|(_, _, name)| name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Market, MarketTime, Options};

    fn published() -> Vec<FeedTrade> {
        let market = Market::new(Options { seed: 1, instruments: 100, rate: 1_000.0 });
        let start = MarketTime(1_786_911_707_000);
        let trades = market.trades(start..start.plus(500)).into_iter();
        trades.map(|trade| FeedTrade { json: trade.to_json(), trade }).collect()
    }

    fn subscribed(names: &[&str]) -> Subscriptions {
        let mut subscriptions = Subscriptions::default();
        for name in names {
            subscriptions.add(name, Channel::of(name).unwrap());
        }
        subscriptions
    }

    /// Per channel the sequence numbers and names of the trades in its notification.
    fn routed(subscriptions: &Subscriptions, batch: &[FeedTrade]) -> Vec<(String, Vec<(String, u64)>)> {
        let read = |notification: &ChannelNotification| {
            let read: serde_json::Value = serde_json::from_str(&notification.text).unwrap();
            let data = read["params"]["data"].as_array().unwrap();
            assert_eq!(notification.trades, data.len() as u64);
            let trades = data.iter().map(|trade| {
                (trade["instrument_name"].as_str().unwrap().to_owned(), trade["trade_seq"].as_u64().unwrap())
            });
            (read["params"]["channel"].as_str().unwrap().to_owned(), trades.collect())
        };
        subscriptions.notifications(Interval::Bundle, batch).iter().map(read).collect()
    }

    #[test]
    fn a_trade_is_in_all_its_channels_and_in_no_other() {
        let batch = published();
        let names = ["trades.BTC-PERPETUAL.100ms", "trades.any.BTC.100ms", "trades.spot.any.100ms"];
        let routed = routed(&subscribed(&names), &batch);
        let expected = |passes: &dyn Fn(&FeedTrade) -> bool| -> Vec<(String, u64)> {
            let trades = batch.iter().filter(|published| passes(published)).map(|published| &published.trade);
            trades.map(|trade| (trade.instrument_name.to_string(), trade.trade_seq)).collect()
        };
        assert_eq!(routed[0], (names[0].into(), expected(&|p| &*p.trade.instrument_name == "BTC-PERPETUAL")));
        assert_eq!(routed[1], (names[1].into(), expected(&|p| p.trade.currency.name() == "BTC")));
        assert_eq!(routed[2], (names[2].into(), expected(&|p| p.trade.kind.name() == "spot")));
    }

    #[test]
    fn a_channel_of_another_interval_or_one_given_up_gets_nothing() {
        let batch = published();
        let mut subscriptions =
            subscribed(&["trades.any.any.raw", "trades.any.any.100ms", "trades.BTC-PERPETUAL.100ms"]);
        assert!(subscriptions.wants(Interval::Raw));
        assert!(
            subscriptions.remove("trades.BTC-PERPETUAL.100ms")
                && !subscriptions.remove("trades.BTC-PERPETUAL.100ms")
        );
        assert_eq!(routed(&subscriptions, &batch).len(), 1);
        assert!(subscriptions.remove("trades.any.any.100ms"));
        assert!(routed(&subscriptions, &batch).is_empty() && !subscriptions.wants(Interval::Bundle));
    }
}
