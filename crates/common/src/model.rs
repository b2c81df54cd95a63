//! The records of the Avro contract: the fields of `schemas/*.avsc`, in the same order.
//!
//! Times are integers in the unit of their field. Prices and amounts are the exchange's IEEE doubles.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch on the exchange's clock: *event time*.
pub type EventTime = i64;

/// One trade, as published to `deribit.trades`.
///
/// It borrows from the parsed frame where possible; [`Trade::into_owned`] copies. The default has empty texts and zeros.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trade<'a> {
    /// Record key, as in `BTC-PERPETUAL`.
    pub instrument_name: Cow<'a, str>,
    /// Counts up by one within the instrument.
    pub trade_seq: i64,
    /// Unique within the currency, digits as the exchange wrote them.
    pub trade_id: Cow<'a, str>,
    /// Event time in milliseconds; also the record's timestamp.
    pub timestamp: EventTime,
    /// Price in the instrument's quote currency.
    pub price: f64,
    /// USD for perpetuals and inverse futures, base coin for options and linear futures.
    pub amount: f64,
    /// Price of the underlying's index at the trade.
    pub index_price: f64,
    /// The taker's side: `buy` or `sell`.
    pub direction: Cow<'a, str>,
    /// 0 plus, 1 zero-plus, 2 minus, 3 zero-minus.
    pub tick_direction: i32,
    /// Local clock when the trade was received, in microseconds since the epoch.
    pub received_at: i64,
    /// Mark price; absent in very old trades.
    pub mark_price: Option<f64>,
    /// Amount in contracts; absent in old trades.
    pub contracts: Option<f64>,
    /// Implied volatility in percent, options only.
    pub iv: Option<f64>,
    /// `M`, `T` or `MT` where maker, taker or both were liquidated.
    pub liquidation: Option<Cow<'a, str>>,
    /// The block trade that this trade was part of.
    pub block_trade_id: Option<Cow<'a, str>>,
    /// The combo instrument through which this leg traded.
    pub combo_id: Option<Cow<'a, str>>,
    /// The id of the combo's trade.
    pub combo_trade_id: Option<Cow<'a, str>>,
    /// Number of legs of the block trade.
    pub block_trade_leg_count: Option<i32>,
    /// The request for quote that led to the block trade.
    pub block_rfq_id: Option<i64>,
}

impl Trade<'_> {
    /// The same trade with owned texts.
    #[must_use]
    pub fn into_owned(self) -> Trade<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        Trade {
            instrument_name: own(self.instrument_name),
            trade_id: own(self.trade_id),
            direction: own(self.direction),
            liquidation: self.liquidation.map(own),
            block_trade_id: self.block_trade_id.map(own),
            combo_id: self.combo_id.map(own),
            combo_trade_id: self.combo_trade_id.map(own),
            trade_seq: self.trade_seq,
            timestamp: self.timestamp,
            price: self.price,
            amount: self.amount,
            index_price: self.index_price,
            tick_direction: self.tick_direction,
            received_at: self.received_at,
            mark_price: self.mark_price,
            contracts: self.contracts,
            iv: self.iv,
            block_trade_leg_count: self.block_trade_leg_count,
            block_rfq_id: self.block_rfq_id,
        }
    }
}

/// One closed slice of an instrument, `[start, end)`, as published to `deribit.candles`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candle<'a> {
    /// Also the record key.
    pub instrument_name: Cow<'a, str>,
    /// First millisecond of the slice.
    pub start: EventTime,
    /// First millisecond after it; also the record's timestamp.
    pub end: EventTime,
    /// Trades in the slice, at least 1.
    pub trade_count: i64,
    /// First price in offset order.
    pub open: f64,
    /// Highest price, in quote currency.
    pub high: f64,
    /// Lowest price, in quote currency.
    pub low: f64,
    /// Last price in offset order.
    pub close: f64,
    /// Sum of the trades' amounts.
    pub volume: f64,
    /// Sum of the trades' price·amount.
    pub turnover: f64,
    /// Sum of the trades' prices.
    pub price_sum: f64,
    /// Sum of price·weight, with weight = exp(-(end - timestamp)/τ).
    pub ema_sum: f64,
    /// Sum of the trades' weights.
    pub ema_weight: f64,
}

/// The averages of one instrument over `[window_start, window_end)`, as published to `deribit.moving-averages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovingAverage<'a> {
    /// Also the record key.
    pub instrument_name: Cow<'a, str>,
    /// First millisecond of the window.
    pub window_start: EventTime,
    /// First millisecond after it; also the record's timestamp.
    pub window_end: EventTime,
    /// Trades in the window, at least 1.
    pub trade_count: i64,
    /// Mean price over trades (SMA).
    pub sma: f64,
    /// Mean price weighted by exp(-(`window_end` - timestamp)/τ) (EMA).
    pub ema: f64,
    /// Mean price weighted by amount (VWAP); the SMA if the volume is 0.
    pub vwap: f64,
    /// First price of the window.
    pub open: f64,
    /// Highest price, in quote currency.
    pub high: f64,
    /// Lowest price, in quote currency.
    pub low: f64,
    /// Last price of the window.
    pub close: f64,
    /// Sum of the trades' amounts.
    pub volume: f64,
}

/// Up to when a partition of `deribit.trades` is complete, as published to `deribit.trades.watermarks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The partition of `deribit.trades`.
    pub partition: i32,
    /// All trades up to this time are below `offset`, in milliseconds.
    pub complete_through: EventTime,
    /// The next offset in `deribit.trades`.
    pub offset: i64,
}
