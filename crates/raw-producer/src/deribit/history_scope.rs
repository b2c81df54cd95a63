//! Which parts of the exchange's history belong to the channels that are subscribed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::history::Query;
use crate::clock::ExchangeTime;

/// What history by currency can be asked for; there is no "any" there.
pub(crate) const CURRENCIES: [&str; 5] = ["BTC", "ETH", "USDC", "USDT", "EURR"];

/// A part of history that can be read by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HistoryScope {
    /// A currency and a kind, which may be `any`.
    Currency(String, String),
    /// One instrument.
    Instrument(String),
}

impl HistoryScope {
    /// The parts that the channels' trades are in.
    pub(crate) fn of_channels(channels: &[String]) -> Vec<Self> {
        let mut scopes = BTreeSet::new();
        let mut kinds_of_any = BTreeSet::new();
        for channel in channels {
            let parts: Vec<&str> = channel.split('.').collect();
            match parts.as_slice() {
                ["trades", kind, "any", _] => {
                    kinds_of_any.insert(*kind);
                    scopes.extend(CURRENCIES.map(|c| Self::Currency(c.to_owned(), (*kind).to_owned())));
                }
                ["trades", kind, currency, _] => {
                    scopes.insert(Self::Currency((*currency).to_owned(), (*kind).to_owned()));
                }
                ["trades", name, _] => {
                    scopes.insert(Self::Instrument((*name).to_owned()));
                }
                _ => {}
            }
        }
        // All kinds of all currencies: a fifth of the calls.
        if kinds_of_any.len() >= 5 || kinds_of_any.contains("any") {
            scopes.clear();
            scopes.extend(CURRENCIES.map(|c| Self::Currency(c.to_owned(), "any".to_owned())));
        }
        scopes.into_iter().collect()
    }

    /// The question for its trades between two times, both included.
    pub(crate) fn call(&self, times: RangeInclusive<ExchangeTime>) -> Query {
        match self.clone() {
            Self::Currency(currency, kind) => Query::Currency { currency, kind, times },
            Self::Instrument(name) => Query::Instrument { name, times },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(channels: &[&str]) -> Vec<HistoryScope> {
        HistoryScope::of_channels(&channels.iter().map(|&c| c.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn all_kinds_of_any_currency_are_one_call_a_currency() {
        let all = ["future", "option", "spot", "future_combo", "option_combo"];
        let channels: Vec<_> = all.iter().map(|kind| format!("trades.{kind}.any.100ms")).collect();
        let found = HistoryScope::of_channels(&channels);
        assert_eq!(found.len(), CURRENCIES.len());
        assert!(found.contains(&HistoryScope::Currency("EURR".into(), "any".into())));
    }

    #[test]
    fn a_narrower_choice_of_channels_is_a_narrower_choice_of_history() {
        assert_eq!(
            scopes(&["trades.option.BTC.raw", "trades.option.BTC.100ms", "trades.ETH-PERPETUAL.100ms"]),
            [
                HistoryScope::Currency("BTC".into(), "option".into()),
                HistoryScope::Instrument("ETH-PERPETUAL".into())
            ]
        );
        assert_eq!(scopes(&["trades.spot.any.100ms"]).len(), 5);
    }
}
