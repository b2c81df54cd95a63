//! Trades as the exchange writes them.

use std::borrow::Cow;

use common::model::Trade;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{ParsedTrade, TradeKey};

/// Initial capacity of a list of trades.
const TYPICAL_BUNDLE: usize = 32;

/// Sets our time of reception, in microseconds since 1970.
pub(super) fn set_received_at(trades: &mut [ParsedTrade<'_>], received_at: i64) {
    for trade in trades {
        if let ParsedTrade::Readable(trade) = trade {
            trade.received_at = received_at;
        }
    }
}

/// Parses a list of trades in one pass; fails if one of them is unreadable. Trades are large, so each is built in its final place.
pub(super) fn deserialize_trades<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ParsedTrade<'de>>, D::Error> {
    struct TradeListVisitor;
    impl<'de> serde::de::Visitor<'de> for TradeListVisitor {
        type Value = Vec<ParsedTrade<'de>>;

        fn expecting(&self, into: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            into.write_str("a list of trades")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            // JSON does not tell a list's length in advance, and growing the list moves the trades.
            let mut trades = Vec::with_capacity(TYPICAL_BUNDLE);
            while let Some(trade) = list.next_element::<WireTrade<'de, WireId<'de>>>()? {
                trades.push(ParsedTrade::Readable(trade.into_trade(0)));
            }
            Ok(trades)
        }
    }
    deserializer.deserialize_seq(TradeListVisitor)
}

/// Parses each trade separately: the slow way, for a list with an unreadable trade or with an id that [`WireId`] cannot reproduce.
pub(super) fn parse_one_by_one(
    data: &RawValue,
    received_at: i64,
) -> Result<Vec<ParsedTrade<'_>>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_str(data.get())?;
    let mut trades = Vec::with_capacity(items.len());
    for item in items {
        let text = item.get();
        trades.push(match serde_json::from_str::<WireTrade<'_, Digits<'_>>>(text) {
            Ok(trade) => ParsedTrade::Readable(trade.into_trade(received_at)),
            Err(error) => {
                let key = serde_json::from_str::<TradeKey>(text).ok();
                ParsedTrade::Unreadable { key, text, why: error.to_string() }
            }
        });
    }
    Ok(trades)
}

/// A trade in JSON; `I` is the type of its ids.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a, I: Deserialize<'de>"))]
struct WireTrade<'a, I> {
    #[serde(borrow)]
    instrument_name: Cow<'a, str>,
    trade_seq: i64,
    trade_id: I,
    timestamp: i64,
    price: f64,
    amount: f64,
    index_price: f64,
    #[serde(borrow)]
    direction: Cow<'a, str>,
    tick_direction: i32,
    mark_price: Option<f64>,
    contracts: Option<f64>,
    iv: Option<f64>,
    liquidation: Option<I>,
    block_trade_id: Option<I>,
    combo_id: Option<I>,
    combo_trade_id: Option<I>,
    block_trade_leg_count: Option<i32>,
    block_rfq_id: Option<i64>,
}

impl<'a, I: Into<Cow<'a, str>>> WireTrade<'a, I> {
    fn into_trade(self, received_at: i64) -> Trade<'a> {
        Trade {
            instrument_name: self.instrument_name,
            trade_seq: self.trade_seq,
            trade_id: self.trade_id.into(),
            timestamp: self.timestamp,
            price: self.price,
            amount: self.amount,
            index_price: self.index_price,
            direction: self.direction,
            tick_direction: self.tick_direction,
            received_at,
            mark_price: self.mark_price,
            contracts: self.contracts,
            iv: self.iv,
            liquidation: self.liquidation.map(Into::into),
            block_trade_id: self.block_trade_id.map(Into::into),
            combo_id: self.combo_id.map(Into::into),
            combo_trade_id: self.combo_trade_id.map(Into::into),
            block_trade_leg_count: self.block_trade_leg_count,
            block_rfq_id: self.block_rfq_id,
        }
    }
}

/// An id: text, or a whole number of 64 bits. Such a number has one way to be written, so its digits can be reproduced. The exchange writes
/// some ids as numbers; those of combos appear in nearly every bundle.
struct WireId<'a>(Cow<'a, str>);

impl<'a> From<WireId<'a>> for Cow<'a, str> {
    fn from(id: WireId<'a>) -> Self {
        id.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireId<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl<'de> serde::de::Visitor<'de> for TextOrNumber {
            type Value = Cow<'de, str>;

            fn expecting(&self, into: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                into.write_str("text or a whole number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Cow::Owned(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber).map(Self)
    }
}

/// An id: text, or any number with exactly the digits that the exchange wrote.
struct Digits<'a>(Cow<'a, str>);

impl<'a> From<Digits<'a>> for Cow<'a, str> {
    fn from(digits: Digits<'a>) -> Self {
        digits.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Digits<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let quoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match quoted {
            Some(plain) if !plain.contains('\\') => Ok(Self(Cow::Borrowed(plain))),
            Some(_) => serde_json::from_str::<String>(raw)
                .map(|text| Self(Cow::Owned(text)))
                .map_err(serde::de::Error::custom),
            None if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                Ok(Self(Cow::Borrowed(raw)))
            }
            None => Err(serde::de::Error::custom(format!("invalid value {raw}; expected text or a number"))),
        }
    }
}
