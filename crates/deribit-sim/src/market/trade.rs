//! A trade as the exchange publishes it.

use std::fmt;
use std::sync::Arc;

use super::family::{Currency, InstrumentKind};
use super::time::MarketTime;

/// One trade of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketTrade {
    /// The instrument's name.
    pub instrument_name: Arc<str>,
    /// Its kind.
    pub kind: InstrumentKind,
    /// The currency it is sorted by.
    pub currency: Currency,
    /// Counts up by one within the instrument, from 1.
    pub trade_seq: u64,
    /// Unique within the currency.
    pub trade_id: TradeId,
    /// When it happened.
    pub timestamp: MarketTime,
    /// The taker's side.
    pub direction: Direction,
    /// How the price compares with that of the instrument's trade before.
    pub tick_direction: TickDirection,
    /// On the instrument's grid.
    pub price: f64,
    /// What the instrument was worth.
    pub mark_price: f64,
    /// What the coin was worth.
    pub index_price: f64,
    /// Dollars for inverse futures, otherwise coins.
    pub amount: f64,
    /// The amount in contracts.
    pub contracts: f64,
    /// Implied volatility in per cent, of options.
    pub iv: Option<f64>,
    /// Who was liquidated: `M` the maker, `T` the taker, `MT` both.
    pub liquidation: Option<&'static str>,
    /// If it was negotiated as a block.
    pub block: Option<Block>,
    /// If it is one leg of a combo's trade.
    pub combo: Option<ComboLeg>,
    /// If it is a combo's trade: those of its legs.
    pub legs: Vec<Self>,
    /// Numbers that the exchange sends and does not document.
    pub starbase: Option<Starbase>,
    /// Decides how numbers are written and in which order keys come.
    pub(crate) style: u64,
}

/// A trade's number in its currency, with the currency's or pair's prefix where the exchange has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradeId {
    /// Empty for bitcoin.
    pub prefix: &'static str,
    /// Rises with time.
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

/// Which side took the other's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The taker bought.
    Buy,
    /// The taker sold.
    Sell,
}

impl Direction {
    /// `buy` or `sell`.
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

/// How a price compares with the one before; of equal prices, which way the last change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickDirection {
    /// Higher; also an instrument's first trade.
    Plus = 0,
    /// The same, after a rise.
    ZeroPlus = 1,
    /// Lower.
    Minus = 2,
    /// The same, after a fall.
    ZeroMinus = 3,
}

impl TickDirection {
    /// Of a price after another one whose own direction is known.
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

/// A negotiated trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Shown as `BLOCK-<number>`.
    pub number: u64,
    /// Legs of the block.
    pub leg_count: u32,
    /// Number of the request for quotes that it came from.
    pub rfq: Option<u64>,
}

/// What ties a leg's trade to the combo's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComboLeg {
    /// The combo's instrument name.
    pub combo_id: Arc<str>,
    /// The combo's trade.
    pub trade_id: TradeId,
    /// Whether the trade is shown as a number instead of a string.
    pub as_number: bool,
}

/// Numbers above 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starbase {
    /// `starbase_match_id`
    pub match_id: u64,
    /// `starbase_timestamp`, in nanoseconds.
    pub timestamp: u64,
}
