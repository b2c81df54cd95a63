//! A trade as the exchange publishes it.

use std::fmt;
use std::sync::Arc;

use super::family::{Currency, InstrumentKind};
use super::time::MarketTime;

/// One trade of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketTrade {
    /// The instrument's name, such as `BTC-PERPETUAL`.
    pub instrument_name: Arc<str>,
    /// The kind of the instrument.
    pub kind: InstrumentKind,
    /// The currency that channels and history select it by.
    pub currency: Currency,
    /// Counts up by one within the instrument, from 1.
    pub trade_seq: u64,
    /// Unique within the currency.
    pub trade_id: TradeId,
    /// Exchange time of the trade.
    pub timestamp: MarketTime,
    /// Whether the taker bought or sold.
    pub direction: Direction,
    /// How the price compares with the instrument's previous trade.
    pub tick_direction: TickDirection,
    /// In quote currency, on the instrument's price grid.
    pub price: f64,
    /// The mark price of the instrument, in quote currency.
    pub mark_price: f64,
    /// The index price of the coin, in quote currency.
    pub index_price: f64,
    /// Dollars for inverse futures, otherwise coins.
    pub amount: f64,
    /// The amount, in contracts.
    pub contracts: f64,
    /// Implied volatility in per cent, of options.
    pub iv: Option<f64>,
    /// Who was liquidated: `M` the maker, `T` the taker, `MT` both.
    pub liquidation: Option<&'static str>,
    /// Set if the trade was negotiated as a block.
    pub block: Option<Block>,
    /// Set if the trade is a leg of a combo's trade.
    pub combo: Option<ComboLeg>,
    /// The trades of the legs, if the trade is a combo's.
    pub legs: Vec<Self>,
    /// Numbers that the exchange sends and does not document.
    pub starbase: Option<Starbase>,
    /// Random bits that choose the notation of numbers and the order of keys.
    pub(crate) style: u64,
}

/// A trade's number in its currency, with the currency's or pair's prefix where the exchange has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradeId {
    /// Currency or pair; empty for BTC.
    pub prefix: &'static str,
    /// Increases with exchange time.
    pub number: u64,
}

impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.prefix.is_empty() {
            write!(f, "{}-", self.prefix)?;
        }
        write!(f, "{}", self.number)
    }
}

/// The side of the taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The taker bought the instrument.
    Buy,
    /// The taker sold the instrument.
    Sell,
}

impl Direction {
    /// The name in JSON: `buy` or `sell`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }

    pub(crate) const fn sign(self) -> f64 {
        match self {
            Self::Buy => 1.0,
            Self::Sell => -1.0,
        }
    }

    pub(crate) const fn reversed(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// How a price compares with the previous one; for equal prices, the direction of the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickDirection {
    /// The price is higher, or the trade is the first of its instrument.
    Plus = 0,
    /// The price is the same; the last change was a rise.
    ZeroPlus = 1,
    /// The price is lower.
    Minus = 2,
    /// The price is the same; the last change was a fall.
    ZeroMinus = 3,
}

impl TickDirection {
    /// The direction of `price` after `before`, whose own direction is `self`.
    pub(crate) fn after(self, before: f64, price: f64) -> Self {
        if price > before {
            Self::Plus
        } else if price < before {
            Self::Minus
        } else if matches!(self, Self::Plus | Self::ZeroPlus) {
            Self::ZeroPlus
        } else {
            Self::ZeroMinus
        }
    }
}

/// The block of a negotiated trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The number in `BLOCK-<number>`.
    pub number: u64,
    /// Legs of the block.
    pub leg_count: u32,
    /// Number of the request for quotes that it came from.
    pub rfq: Option<u64>,
}

/// Links a leg's trade to the combo's trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComboLeg {
    /// The combo's instrument name.
    pub combo_id: Arc<str>,
    /// The id of the combo's trade.
    pub trade_id: TradeId,
    /// Whether the id is written as a number instead of a string.
    pub as_number: bool,
}

/// Undocumented numbers of the exchange, above 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starbase {
    /// The field `starbase_match_id`.
    pub match_id: u64,
    /// The field `starbase_timestamp`, in nanoseconds.
    pub timestamp: u64,
}
