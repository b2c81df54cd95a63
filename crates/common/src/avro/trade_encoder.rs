//! Encodes trades by hand: the schema is fixed, and a general writer takes several times as long.
//!
//! A property test checks that the bytes equal those of [`Encoder`](super::codec::Encoder).

use super::codec::{MAGIC, SchemaId};
use crate::model::Trade;

/// Encodes trades with one schema id.
#[derive(Debug, Clone, Copy)]
pub struct TradeEncoder {
    id: SchemaId,
}

impl TradeEncoder {
    /// An encoder for [`TRADE`](super::schema::TRADE); `id` is its schema id.
    #[must_use]
    pub const fn new(id: SchemaId) -> Self {
        Self { id }
    }

    /// Replaces the content of `into` by the encoded trade.
    pub fn encode(self, trade: &Trade<'_>, into: &mut Vec<u8>) {
        begin(self.id, into);
        text(&trade.instrument_name, into);
        long(trade.trade_seq, into);
        text(&trade.trade_id, into);
        long(trade.timestamp, into);
        double(trade.price, into);
        double(trade.amount, into);
        double(trade.index_price, into);
        text(&trade.direction, into);
        long(trade.tick_direction.into(), into);
        long(trade.received_at, into);
        optional(trade.mark_price, double, into);
        optional(trade.contracts, double, into);
        optional(trade.iv, double, into);
        optional(trade.liquidation.as_deref(), text, into);
        optional(trade.block_trade_id.as_deref(), text, into);
        optional(trade.combo_id.as_deref(), text, into);
        optional(trade.combo_trade_id.as_deref(), text, into);
        optional(trade.block_trade_leg_count.map(i64::from), long, into);
        optional(trade.block_rfq_id, long, into);
    }
}

/// Writes the first five bytes of the wire format.
#[inline]
pub(super) fn begin(id: SchemaId, into: &mut Vec<u8>) {
    into.clear();
    into.push(MAGIC);
    into.extend_from_slice(&id.to_be_bytes());
}

/// Writes a zigzag varint.
#[inline]
pub(super) fn long(number: i64, into: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest > 0x7f {
        into.push(low(rest) | 0x80);
        rest >>= 7;
    }
    into.push(low(rest));
}

fn low(rest: u64) -> u8 {
    (rest & 0x7f).to_le_bytes()[0]
}

#[inline]
pub(super) fn double(number: f64, into: &mut Vec<u8>) {
    into.extend_from_slice(&number.to_le_bytes());
}

#[inline]
pub(super) fn text(text: &str, into: &mut Vec<u8>) {
    long(i64::try_from(text.len()).unwrap_or(i64::MAX), into);
    into.extend_from_slice(text.as_bytes());
}

/// Writes a union of null and another type, in this order.
fn optional<T>(value: Option<T>, write: impl FnOnce(T, &mut Vec<u8>), into: &mut Vec<u8>) {
    match value {
        None => long(0, into),
        Some(value) => {
            long(1, into);
            write(value, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;
    use crate::avro::codec::Encoder;
    use crate::avro::schema::TRADE;

    fn texts() -> impl Strategy<Value = Cow<'static, str>> {
        ".{0,200}".prop_map(Cow::Owned)
    }

    prop_compose! {
        fn trades()(
            (instrument_name, trade_id, direction) in (texts(), texts(), texts()),
            (trade_seq, timestamp, received_at, block_rfq_id) in any::<(i64, i64, i64, Option<i64>)>(),
            (price, amount, index_price) in any::<(f64, f64, f64)>(),
            (mark_price, contracts, iv) in any::<(Option<f64>, Option<f64>, Option<f64>)>(),
            (tick_direction, block_trade_leg_count) in any::<(i32, Option<i32>)>(),
            (liquidation, block_trade_id) in (of(texts()), of(texts())),
            (combo_id, combo_trade_id) in (of(texts()), of(texts())),
        ) -> Trade<'static> {
            Trade {
                instrument_name, trade_seq, trade_id, timestamp, price, amount, index_price, direction, tick_direction, received_at,
                mark_price, contracts, iv, liquidation, block_trade_id, combo_id, combo_trade_id, block_trade_leg_count, block_rfq_id,
            }
        }
    }

    proptest! {
        #[test]
        fn every_trade_is_written_as_the_general_writer_writes_it(trade in trades(), id: SchemaId) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            TradeEncoder::new(id).encode(&trade, &mut ours);
            Encoder::new(&TRADE, id).encode(&trade, &mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
