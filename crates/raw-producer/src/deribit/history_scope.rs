//! The parts of the exchange's history that correspond to the subscribed channels.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::history::Query;
use crate::clock::ExchangeTime;

/// The currencies that history can be queried by; it has no `any`.
pub(crate) const CURRENCIES: [&str; 5] = ["BTC", "ETH", "USDC", "USDT", "EURR"];

/// A part of history that one query by time covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HistoryScope {
    Currency {
        currency: String,
        /// An instrument kind, or `any`.
        kind: String,
    },
    Instrument(String),
}

impl HistoryScope {
    pub(crate) fn of_channels(channels: &[String]) -> Vec<Self> {
        let mut scopes = BTreeSet::new();
        let mut kinds_of_any = BTreeSet::new();
        for channel in channels {
            let parts: Vec<&str> = channel.split('.').collect();
            match parts.as_slice() {
                ["trades", kind, "any", _] => {
                    kinds_of_any.insert(*kind);
                    scopes.extend(CURRENCIES.map(|currency| Self::currency(currency, kind)));
                }
                ["trades", kind, currency, _] => {
                    scopes.insert(Self::currency(currency, kind));
                }
                ["trades", name, _] => {
                    scopes.insert(Self::Instrument((*name).to_owned()));
                }
                _ => {}
            }
        }
        // All kinds of all currencies take a fifth of the requests.
        if kinds_of_any.len() >= 5 || kinds_of_any.contains("any") {
            scopes.clear();
            scopes.extend(CURRENCIES.map(|currency| Self::currency(currency, "any")));
        }
        scopes.into_iter().collect()
    }

    fn currency(currency: &str, kind: &str) -> Self {
        Self::Currency { currency: currency.to_owned(), kind: kind.to_owned() }
    }

    pub(crate) fn query(&self, times: RangeInclusive<ExchangeTime>) -> Query {
        match self.clone() {
            Self::Currency { currency, kind } => Query::TradesOfCurrency { currency, kind, times },
            Self::Instrument(instrument) => Query::TradesByTime { instrument, times },
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
    fn all_kinds_of_any_currency_take_one_query_a_currency() {
        let all = ["future", "option", "spot", "future_combo", "option_combo"];
        let channels: Vec<_> = all.iter().map(|kind| format!("trades.{kind}.any.100ms")).collect();
        let found = HistoryScope::of_channels(&channels);
        assert_eq!(found.len(), CURRENCIES.len());
        assert!(found.contains(&HistoryScope::currency("EURR", "any")));
    }

    #[test]
    fn a_narrower_choice_of_channels_is_a_narrower_choice_of_history() {
        assert_eq!(
            scopes(&["trades.option.BTC.raw", "trades.option.BTC.100ms", "trades.ETH-PERPETUAL.100ms"]),
            [HistoryScope::currency("BTC", "option"), HistoryScope::Instrument("ETH-PERPETUAL".into())]
        );
        assert_eq!(scopes(&["trades.spot.any.100ms"]).len(), 5);
    }
}
