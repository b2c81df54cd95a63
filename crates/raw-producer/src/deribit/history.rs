//! Questions to the exchange besides subscribing: its clock, and its history of trades.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::message::{self, ParsedTrade, Usual};
use crate::clock::ExchangeTime;

/// Trades in an answer, at most; the exchange's own limit.
pub const PAGE: usize = 1_000;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// What time is it?
    Time,
    /// The trades of a currency.
    Currency {
        /// One of [`super::history_scope::CURRENCIES`].
        currency: String,
        /// A kind, or `any`.
        kind: String,
        /// Both included.
        times: RangeInclusive<ExchangeTime>,
    },
    /// The trades of an instrument, by time.
    Instrument {
        /// Its name.
        name: String,
        /// Both included.
        times: RangeInclusive<ExchangeTime>,
    },
    /// The trades of an instrument, by number.
    Numbers {
        /// Its name.
        name: String,
        /// Both included.
        seqs: RangeInclusive<i64>,
    },
    /// Which instruments there are.
    Instruments {
        /// The currency.
        currency: String,
        /// Those that have expired instead of those that can be traded.
        expired: bool,
    },
}

impl Query {
    /// The request's text.
    #[must_use]
    pub fn request(&self, id: u64) -> String {
        let (method, params) = self.parts();
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    }

    fn parts(&self) -> (&'static str, Value) {
        match self {
            Self::Time => ("public/get_time", json!({})),
            Self::Currency { currency, kind, times } => (
                "public/get_last_trades_by_currency_and_time",
                json!({"currency": currency, "kind": kind, "start_timestamp": times.start(), "end_timestamp": times.end(),
                    "count": PAGE, "sorting": "asc"}),
            ),
            Self::Instrument { name, times } => (
                "public/get_last_trades_by_instrument_and_time",
                json!({"instrument_name": name, "start_timestamp": times.start(), "end_timestamp": times.end(),
                    "count": PAGE, "sorting": "asc"}),
            ),
            Self::Numbers { name, seqs } => (
                "public/get_last_trades_by_instrument",
                json!({"instrument_name": name, "start_seq": seqs.start(), "end_seq": seqs.end(), "count": PAGE, "sorting": "asc"}),
            ),
            Self::Instruments { currency, expired } => {
                ("public/get_instruments", json!({"currency": currency, "expired": expired}))
            }
        }
    }
}

/// An answer with trades.
#[derive(Debug)]
pub struct TradePage<'a> {
    /// In the exchange's order.
    pub trades: Vec<ParsedTrade<'a>>,
    /// Whether the question has more of an answer than this.
    pub has_more: bool,
}

/// Reads an answer with trades; `received_at` is our clock in microseconds.
///
/// # Errors
/// If it is no such answer.
pub fn page(result: &RawValue, received_at: i64) -> Result<TradePage<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Wire<T> {
        trades: T,
        has_more: Option<bool>,
    }
    let (trades, has_more) = if let Ok(usual) = serde_json::from_str::<Wire<Usual<'_>>>(result.get()) {
        (usual.trades.received(received_at), usual.has_more)
    } else {
        let Wire { trades, has_more } = serde_json::from_str::<Wire<&RawValue>>(result.get())?;
        (message::trades(trades, received_at)?, has_more)
    };
    let has_more = has_more.unwrap_or(false) || trades.len() >= PAGE;
    Ok(TradePage { trades, has_more })
}

/// The exchange's clock.
///
/// # Errors
/// If the answer is no number.
pub fn time(result: &RawValue) -> Result<ExchangeTime, serde_json::Error> {
    serde_json::from_str(result.get())
}

/// An instrument, as far as a backfill needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedInstrument {
    /// Its name.
    pub instrument_name: String,
    /// What sort it is.
    pub kind: String,
    /// Nothing was traded before.
    pub creation_timestamp: ExchangeTime,
    /// Nothing is traded after.
    pub expiration_timestamp: ExchangeTime,
}

/// The instruments in an answer; those that cannot be read are left out.
///
/// # Errors
/// If it is no list.
pub fn instruments(result: &RawValue) -> Result<Vec<ListedInstrument>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_str(result.get())?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_in_the_exchanges_words_oldest_trades_first() {
        let call = Query::Numbers { name: "BTC-PERPETUAL".into(), seqs: 5..=9 };
        let json: Value = serde_json::from_str(&call.request(7)).unwrap();
        assert_eq!(json["id"], 7);
        assert_eq!(json["method"], "public/get_last_trades_by_instrument");
        assert_eq!(json["params"]["start_seq"], 5);
        assert_eq!(json["params"]["sorting"], "asc");
    }

    #[test]
    fn an_unreadable_trade_in_history_is_known_by_its_number_if_that_can_be_read() {
        let text = r#"{"trades":[{"instrument_name":"A","trade_seq":7,"price":"much"},{"trade_seq":{}}],"has_more":false}"#;
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        let page = page(&raw, 0).unwrap();
        assert!(!page.has_more);
        let known: Vec<_> = page
            .trades
            .iter()
            .map(|trade| match trade {
                ParsedTrade::Trade(_) => None,
                ParsedTrade::No { number, .. } => number.clone(),
            })
            .collect();
        assert_eq!(known, [Some(("A".to_owned(), 7)), None]);
    }
}
