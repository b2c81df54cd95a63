//! Requests for the exchange's clock, instruments and history of trades, and their responses.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::message::{self, ParsedTrade};
use super::rpc::JsonRpcRequest;
use super::wire_trade::{deserialize_trades, set_received_at};
use crate::clock::ExchangeTime;

/// The most trades in a response; the exchange's own limit.
pub(crate) const PAGE_SIZE: u16 = 1_000;

/// What a request asks for. All ranges include both ends; trades come oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// The exchange's clock.
    Time,
    TradesOfCurrency {
        /// One of [`super::history_scope::CURRENCIES`].
        currency: String,
        /// An instrument kind, or `any`.
        kind: String,
        times: RangeInclusive<ExchangeTime>,
    },
    TradesByTime {
        instrument: String,
        times: RangeInclusive<ExchangeTime>,
    },
    TradesBySequence {
        instrument: String,
        seqs: RangeInclusive<i64>,
    },
    Instruments {
        currency: String,
        /// Expired instruments instead of active ones.
        expired: bool,
    },
}

impl Query {
    pub(crate) fn request(&self, id: u64) -> JsonRpcRequest {
        let (method, params) = match self {
            Self::Time => ("public/get_time", json!({})),
            Self::TradesOfCurrency { currency, kind, times } => (
                "public/get_last_trades_by_currency_and_time",
                json!({"currency": currency, "kind": kind, "start_timestamp": times.start(),
                    "end_timestamp": times.end(), "count": PAGE_SIZE, "sorting": "asc"}),
            ),
            Self::TradesByTime { instrument, times } => (
                "public/get_last_trades_by_instrument_and_time",
                json!({"instrument_name": instrument, "start_timestamp": times.start(),
                    "end_timestamp": times.end(), "count": PAGE_SIZE, "sorting": "asc"}),
            ),
            Self::TradesBySequence { instrument, seqs } => (
                "public/get_last_trades_by_instrument",
                json!({"instrument_name": instrument, "start_seq": seqs.start(), "end_seq": seqs.end(),
                    "count": PAGE_SIZE, "sorting": "asc"}),
            ),
            Self::Instruments { currency, expired } => {
                ("public/get_instruments", json!({"currency": currency, "expired": expired}))
            }
        };
        JsonRpcRequest { id, method, params }
    }
}

/// A response with trades.
#[derive(Debug)]
pub struct TradePage<'a> {
    /// Oldest first.
    pub trades: Vec<ParsedTrade<'a>>,
    /// Whether the query has more trades than these.
    pub has_more: bool,
}

/// Parses a response with trades; `received_at` is our clock in microseconds.
///
/// # Errors
/// The response is not a page of trades.
pub fn page(result: &RawValue, received_at: i64) -> Result<TradePage<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct ReadablePage<'a> {
        #[serde(borrow, deserialize_with = "deserialize_trades")]
        trades: Vec<ParsedTrade<'a>>,
        has_more: Option<bool>,
    }
    #[derive(Deserialize)]
    struct AnyPage<'a> {
        #[serde(borrow)]
        trades: &'a RawValue,
        has_more: Option<bool>,
    }
    let (trades, has_more) = match serde_json::from_str::<ReadablePage<'_>>(result.get()) {
        Ok(ReadablePage { mut trades, has_more }) => {
            set_received_at(&mut trades, received_at);
            (trades, has_more)
        }
        Err(_) => {
            let AnyPage { trades, has_more } = serde_json::from_str(result.get())?;
            (message::trades(trades, received_at)?, has_more)
        }
    };
    let has_more = has_more.unwrap_or(false) || trades.len() >= usize::from(PAGE_SIZE);
    Ok(TradePage { trades, has_more })
}

/// Parses the exchange's clock: milliseconds since 1970.
///
/// # Errors
/// The response is not a number.
pub fn time(result: &RawValue) -> Result<ExchangeTime, serde_json::Error> {
    serde_json::from_str(result.get())
}

/// The fields of an instrument that a backfill needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedInstrument {
    pub(crate) instrument_name: String,
    pub(crate) kind: String,
    /// It has no older trades.
    pub(crate) creation_timestamp: ExchangeTime,
    /// It has no newer trades.
    pub(crate) expiration_timestamp: ExchangeTime,
}

/// Parses a list of instruments; skips those that cannot be parsed.
///
/// # Errors
/// The response is not a list.
pub fn instruments(result: &RawValue) -> Result<Vec<ListedInstrument>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_str(result.get())?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::deribit::message::TradeKey;

    #[test]
    fn a_query_has_the_exchanges_field_names_and_asks_for_the_oldest_trades_first() {
        let query = Query::TradesBySequence { instrument: "BTC-PERPETUAL".into(), seqs: 5..=9 };
        let json: Value = serde_json::from_str(&query.request(7).text()).unwrap();
        assert_eq!(json["id"], 7);
        assert_eq!(json["method"], "public/get_last_trades_by_instrument");
        assert_eq!(json["params"]["start_seq"], 5);
        assert_eq!(json["params"]["sorting"], "asc");
    }

    #[test]
    fn an_unreadable_trade_in_history_keeps_its_number_if_that_can_be_parsed() {
        let text = r#"{"trades":[{"instrument_name":"A","trade_seq":7,"price":"much"},{"trade_seq":{}}],"has_more":false}"#;
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        let page = page(&raw, 0).unwrap();
        assert!(!page.has_more);
        let known: Vec<_> = page
            .trades
            .iter()
            .map(|trade| match trade {
                ParsedTrade::Readable(_) => None,
                ParsedTrade::Unreadable { key, .. } => key.clone(),
            })
            .collect();
        assert_eq!(known, [Some(TradeKey { instrument_name: "A".to_owned(), trade_seq: 7 }), None]);
    }
}
