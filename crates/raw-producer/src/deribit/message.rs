//! Frames from the exchange as types. They borrow from the frame's text where possible.
//!
//! Nothing that the exchange sends stops the producer. Unknown fields are ignored. An unreadable trade does not affect the other trades of
//! its frame.

use std::borrow::Cow;

use common::model::Trade;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire_trade::{deserialize_trades, parse_one_by_one, set_received_at};

/// The channel that announces maintenance.
pub const PLATFORM_STATE: &str = "platform_state";

/// One frame.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Trades of a channel.
    Trades(TradeBundle<'a>),
    /// Maintenance begins or ends.
    Maintenance,
    /// The exchange is alive; it expects no answer.
    Heartbeat,
    /// A heartbeat that must be answered, or the exchange closes the connection.
    TestRequest,
    /// The response to a request.
    Response {
        /// The request's id; `None` if the exchange could not read it.
        id: Option<u64>,
        /// The `result` member, or the error.
        outcome: Result<&'a RawValue, RpcError>,
    },
    /// A message that does not concern trades, perhaps of a kind that is newer than this program.
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

/// One trade of a list.
#[expect(clippy::large_enum_variant, reason = "nearly all trades are readable")]
#[derive(Debug)]
pub enum ParsedTrade<'a> {
    /// All fields were parsed.
    Readable(Trade<'a>),
    /// A required field is missing or malformed.
    Unreadable {
        /// `None` if these fields could not be parsed either.
        key: Option<TradeKey>,
        /// The trade's JSON.
        text: &'a str,
        /// The parser's error.
        why: String,
    },
}

/// The fields that identify a trade.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TradeKey {
    /// Instrument names are unique at the exchange.
    pub instrument_name: String,
    /// Numbers of an instrument go up by one.
    pub trade_seq: i64,
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// The exchange's error code. It is stable; the text is not.
    pub code: i64,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// What an error response means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RpcErrorClass {
    /// The same request may succeed later.
    Retriable,
    /// The request cannot succeed with this configuration.
    Misconfigured,
    /// The exchange is in maintenance: it may return no trades for a while.
    Maintenance,
}

impl RpcError {
    /// Unknown codes count as retriable.
    pub(crate) fn class(&self) -> RpcErrorClass {
        match self.code {
            13_778 | 13_009 | 13_004 | 13_020 | -32_602..=-32_600 => RpcErrorClass::Misconfigured,
            11_051 => RpcErrorClass::Maintenance,
            _ => RpcErrorClass::Retriable,
        }
    }
}

/// Parses a text frame; `received_at` is our clock in microseconds since 1970.
///
/// # Errors
/// The frame is not JSON, or not JSON-RPC.
pub fn parse(text: &str, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
    match parse_readable_trades(text, received_at) {
        Some(bundle) => Ok(Frame::Trades(bundle)),
        None => parse_any(text, received_at),
    }
}

/// Parses what nearly every frame is, in one pass: trades, all of them readable. `None`: [`parse_any`] must decide.
fn parse_readable_trades(text: &str, received_at: i64) -> Option<TradeBundle<'_>> {
    #[derive(Deserialize)]
    struct TradesNotification<'a> {
        #[serde(borrow)]
        method: Cow<'a, str>,
        #[serde(borrow)]
        params: TradesParams<'a>,
    }
    #[derive(Deserialize)]
    struct TradesParams<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow, deserialize_with = "deserialize_trades")]
        data: Vec<ParsedTrade<'a>>,
    }
    if !is_notification(text) {
        return None;
    }
    let TradesNotification { method, params } = serde_json::from_str(text).ok()?;
    let TradesParams { channel, data: mut trades } = params;
    let is_trades = method == "subscription" && channel.starts_with("trades.");
    is_trades.then(|| {
        set_received_at(&mut trades, received_at);
        TradeBundle { channel, trades }
    })
}

/// Whether a frame is a notification, judged by its first bytes. A connection passes notifications on without parsing them; it parses all
/// other frames.
pub(crate) fn is_notification(text: &str) -> bool {
    let head = text.as_bytes().get(..64).unwrap_or(text.as_bytes());
    head.windows(14).any(|window| window == b"\"subscription\"")
}

fn parse_any(text: &str, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
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
    struct HeartbeatParams<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    let params: HeartbeatParams<'_> = serde_json::from_str(params.get())?;
    Ok(if params.kind == "test_request" { Frame::TestRequest } else { Frame::Heartbeat })
}

/// Other changes of the platform, such as a locked index, do not concern trades.
fn platform_state(data: &RawValue) -> Result<Frame<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct PlatformState {
        maintenance: Option<bool>,
    }
    let state: PlatformState = serde_json::from_str(data.get())?;
    Ok(if state.maintenance.is_some() { Frame::Maintenance } else { Frame::Other })
}

fn notification(params: &RawValue, received_at: i64) -> Result<Frame<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct NotificationParams<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let NotificationParams { channel, data } = serde_json::from_str(params.get())?;
    if channel == PLATFORM_STATE {
        return platform_state(data);
    }
    if !channel.starts_with("trades.") {
        return Ok(Frame::Other);
    }
    Ok(Frame::Trades(TradeBundle { channel, trades: trades(data, received_at)? }))
}

/// Parses a list of trades, as notifications and history contain it.
///
/// # Errors
/// The value is not a list.
pub(crate) fn trades(data: &RawValue, received_at: i64) -> Result<Vec<ParsedTrade<'_>>, serde_json::Error> {
    match deserialize_trades(&mut serde_json::Deserializer::from_str(data.get())) {
        Ok(mut trades) => {
            set_received_at(&mut trades, received_at);
            Ok(trades)
        }
        Err(_) => parse_one_by_one(data, received_at),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
