//! Frames from the exchange as types: borrowed from the frame's text wherever possible.
//!
//! Nothing that the exchange sends stops the producer: fields that are not known are passed over, and of a frame in which one trade cannot be
//! read, the others are.

use std::borrow::Cow;

use common::model::Trade;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The channel that tells of maintenance.
pub const PLATFORM_STATE: &str = "platform_state";

/// Room for so many trades is made at first.
const BUNDLE: usize = 32;

/// One frame.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Trades of a channel.
    Trades(TradeBundle<'a>),
    /// Maintenance begins, or is over.
    Maintenance,
    /// The exchange is alive.
    Heartbeat,
    /// The exchange wants to hear that we are.
    TestRequest,
    /// The answer to a request of ours.
    Response {
        /// The request's number; `None` if the exchange did not say.
        id: Option<u64>,
        /// `result`, or the error.
        outcome: Result<&'a RawValue, RpcError>,
    },
    /// Something that is no business of ours, such as a notification of a kind that did not exist when this was written.
    Other,
}

/// The trades of one notification.
#[derive(Debug)]
pub struct TradeBundle<'a> {
    /// The channel's name.
    pub channel: Cow<'a, str>,
    /// In the exchange's order.
    pub trades: Vec<ParsedTrade<'a>>,
}

/// A trade, if it could be read.
#[expect(clippy::large_enum_variant, reason = "nearly all of them can")]
#[derive(Debug)]
pub enum ParsedTrade<'a> {
    /// It could.
    Trade(Trade<'a>),
    /// It could not.
    No {
        /// Its instrument and number, if at least these could be read.
        number: Option<(String, i64)>,
        /// What it looks like.
        text: &'a str,
        /// What is wrong with it.
        why: String,
    },
}

/// An error that the exchange answered with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// What tells errors apart; the text may change.
    pub code: i64,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// What is to be done about an error of the exchange's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcErrorClass {
    /// The same request will do, later.
    Retry,
    /// Only another configuration will do.
    Reconfigure,
    /// The exchange is in maintenance: it may have no answers and no trades for a while.
    Wait,
}

impl RpcError {
    /// What is to be done about it; an error that is not known is taken to pass.
    #[must_use]
    pub fn remedy(&self) -> RpcErrorClass {
        match self.code {
            13_778 | 13_009 | 13_004 | 13_020 | -32_602..=-32_600 => RpcErrorClass::Reconfigure,
            11_051 => RpcErrorClass::Wait,
            _ => RpcErrorClass::Retry,
        }
    }
}

/// Parses a text frame; `received_at` is our clock in microseconds.
///
/// # Errors
/// If the frame is not JSON, or not JSON-RPC.
pub fn parse(text: &str, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
    match usual(text, received_at) {
        Some(bundle) => Ok(Frame::Trades(bundle)),
        None => any(text, received_at),
    }
}

/// What nearly every frame is, in one pass: trades, all of them readable, with text or a whole number where text is due. `None`: it is to be
/// looked at closely.
fn usual(text: &str, received_at: i64) -> Option<TradeBundle<'_>> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(borrow)]
        method: Cow<'a, str>,
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        data: Usual<'a>,
    }
    if !is_notification(text) {
        return None;
    }
    let Notification { method, params } = serde_json::from_str(text).ok()?;
    let known = method == "subscription" && params.channel.starts_with("trades.");
    known.then(|| TradeBundle { channel: params.channel, trades: params.data.received(received_at) })
}

/// Whether a frame is a notification, by its first bytes: parsing it is for whoever it is meant for. One that hides it is parsed.
#[must_use]
pub fn is_notification(text: &str) -> bool {
    let head = text.as_bytes().get(..64).unwrap_or(text.as_bytes());
    head.windows(14).any(|window| window == b"\"subscription\"")
}

fn any(text: &str, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    Ok(match (envelope.method.as_deref(), envelope.params) {
        (Some("subscription"), Some(params)) => notification(params, received_at)?,
        (Some("heartbeat"), Some(params)) => heartbeat(params)?,
        (Some(_), _) => Frame::Other,
        (None, _) => {
            let id = envelope.id.and_then(|id| id.get().trim_matches('"').parse().ok());
            match (envelope.error, envelope.result) {
                (Some(error), _) => Frame::Response { id, outcome: Err(error) },
                (None, Some(result)) => Frame::Response { id, outcome: Ok(result) },
                (None, None) => Frame::Other,
            }
        }
    })
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

fn heartbeat(params: &RawValue) -> Result<Frame<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Heartbeat<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    let beat: Heartbeat<'_> = serde_json::from_str(params.get())?;
    Ok(if beat.kind == "test_request" { Frame::TestRequest } else { Frame::Heartbeat })
}

/// Other news of the platform, such as an index that is locked, change nothing for trades.
fn platform_state(data: &RawValue) -> Result<Frame<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct News {
        maintenance: Option<bool>,
    }
    let news: News = serde_json::from_str(data.get())?;
    Ok(if news.maintenance.is_some() { Frame::Maintenance } else { Frame::Other })
}

fn notification(params: &RawValue, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let Notification { channel, data } = serde_json::from_str(params.get())?;
    if channel == PLATFORM_STATE {
        return platform_state(data);
    }
    if !channel.starts_with("trades.") {
        return Ok(Frame::Other);
    }
    Ok(Frame::Trades(TradeBundle { channel, trades: trades(data, received_at)? }))
}

/// A list of trades, as notifications and history have it.
///
/// # Errors
/// If it is no list.
pub fn trades(data: &RawValue, received_at: i64) -> Result<Vec<ParsedTrade<'_>>, serde_json::Error> {
    match serde_json::from_str::<Usual<'_>>(data.get()) {
        Ok(trades) => Ok(trades.received(received_at)),
        Err(_) => read_one_by_one(data, received_at),
    }
}

/// Trades of which each can be read, with text or a whole number where text is due; built where they are to stay, as they are large.
pub(super) struct Usual<'a>(Vec<ParsedTrade<'a>>);

impl<'a> Usual<'a> {
    pub(super) fn received(mut self, at: i64) -> Vec<ParsedTrade<'a>> {
        for readable in &mut self.0 {
            if let ParsedTrade::Trade(trade) = readable {
                trade.received_at = at;
            }
        }
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Usual<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> serde::de::Visitor<'de> for List {
            type Value = Vec<ParsedTrade<'de>>;

            fn expecting(&self, into: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                into.write_str("a list of trades")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                // A bundle's length is not known before its end, and trades are large to be moved time and again.
                let mut trades = Vec::with_capacity(BUNDLE);
                while let Some(trade) = list.next_element::<WireTrade<'de, WireId<'de>>>()? {
                    trades.push(ParsedTrade::Trade(trade.into_trade(0)));
                }
                Ok(trades)
            }
        }
        deserializer.deserialize_seq(List).map(Self)
    }
}

/// The slow way, once one trade of a list has turned out to be unreadable, or to have a number where text is due that is not what it looks
/// like once it has been read.
fn read_one_by_one(data: &RawValue, received_at: i64) -> Result<Vec<ParsedTrade<'_>>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Number {
        instrument_name: String,
        trade_seq: i64,
    }
    let items: Vec<&RawValue> = serde_json::from_str(data.get())?;
    let mut trades = Vec::with_capacity(items.len());
    for item in items {
        let text = item.get();
        trades.push(match serde_json::from_str::<WireTrade<'_, Digits<'_>>>(text) {
            Ok(trade) => ParsedTrade::Trade(trade.into_trade(received_at)),
            Err(error) => {
                let number = serde_json::from_str::<Number>(text).ok();
                let number = number.map(|found| (found.instrument_name, found.trade_seq));
                ParsedTrade::No { number, text, why: error.to_string() }
            }
        });
    }
    Ok(trades)
}

/// A trade as the exchange writes it; `I` is what its ids are read as.
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

/// Text, borrowed where it has no escapes, or a whole number of 64 bits: its digits are those that the exchange wrote, as JSON has one way
/// to write it. The exchange does so with some ids, and of combos in nearly every bundle.
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

/// Text, or a number where text is due: then the very digits that the exchange wrote, however many.
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
            None => Err(serde::de::Error::custom(format!("got {raw}, takes text or a number"))),
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
