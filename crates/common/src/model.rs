//! The domain's records as the Avro contract has them: `schemas/*.avsc`, field for field and in the same order.
//!
//! Times are integers in the unit that their field says; prices and amounts are the exchange's IEEE doubles.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch on the exchange's clock: *event time*.
pub type EventTime = i64;

/// One trade, as published to `deribit.trades`.
///
/// Borrows from the frame it was parsed from where it can; [`Trade::into_owned`] cuts the loan. By default its texts are empty and its numbers 0.
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
    /// Our clock when the trade came in, microseconds since the epoch.
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
    /// The combo's own trade.
    pub combo_trade_id: Option<Cow<'a, str>>,
    /// Legs of the block trade.
    pub block_trade_leg_count: Option<i32>,
    /// The request for quote that led to the block trade.
    pub block_rfq_id: Option<i64>,
}

impl Trade<'_> {
    /// The same trade with every text its own.
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
    /// Record key.
    pub instrument_name: Cow<'a, str>,
    /// First millisecond of the slice.
    pub start: EventTime,
    /// First millisecond after it; also the record's timestamp.
    pub end: EventTime,
    /// Trades in the slice, at least 1.
    pub trade_count: i64,
    /// First price in offset order.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price in offset order.
    pub close: f64,
    /// Σ amount.
    pub volume: f64,
    /// Σ price·amount.
    pub turnover: f64,
    /// Σ price.
    pub price_sum: f64,
    /// Σ price·weight with weight = exp(-(end - timestamp)/τ).
    pub ema_sum: f64,
    /// Σ weight.
    pub ema_weight: f64,
}

/// The averages of one instrument over `[window_start, window_end)`, as published to `deribit.moving-averages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MovingAverage<'a> {
    /// Record key.
    pub instrument_name: Cow<'a, str>,
    /// First millisecond of the window.
    pub window_start: EventTime,
    /// First millisecond after it; also the record's timestamp.
    pub window_end: EventTime,
    /// Trades in the window, at least 1.
    pub trade_count: i64,
    /// Mean price.
    pub sma: f64,
    /// Mean price weighted by exp(-(`window_end` - timestamp)/τ).
    pub ema: f64,
    /// Mean price weighted by amount; the sma where the volume is 0.
    pub vwap: f64,
    /// First price of the window.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price of the window.
    pub close: f64,
    /// Σ amount.
    pub volume: f64,
}

/// How far a partition of `deribit.trades` is complete, as published to `deribit.trades.watermarks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The partition.
    pub partition: i32,
    /// All its trades up to this time lie below `offset`.
    pub complete_through: EventTime,
    /// In `deribit.trades`.
    pub offset: i64,
}
