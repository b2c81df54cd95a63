//! Decodes a trade that was written with the contract's own schema, without intermediate values and without copying texts.
//!
//! apache-avro defines the result: every unusual encoding is left to it. A property test checks that both decode alike.
//!
//! Every trade passes here, so the functions are inlined into their callers.

use std::borrow::Cow;

use crate::model::Trade;

/// The trade in `datum`; `None` if apache-avro must decide.
#[must_use]
#[inline]
pub fn decode(datum: &[u8]) -> Option<Trade<'_>> {
    let mut rest = Rest(datum);
    // In the order of the schema: Rust evaluates fields in the order written.
    let trade = Trade {
        instrument_name: rest.text()?,
        trade_seq: rest.long()?,
        trade_id: rest.text()?,
        timestamp: rest.long()?,
        price: rest.double()?,
        amount: rest.double()?,
        index_price: rest.double()?,
        direction: rest.text()?,
        tick_direction: rest.int()?,
        received_at: rest.long()?,
        mark_price: rest.nullable(Rest::double)?,
        contracts: rest.nullable(Rest::double)?,
        iv: rest.nullable(Rest::double)?,
        liquidation: rest.nullable(Rest::text)?,
        block_trade_id: rest.nullable(Rest::text)?,
        combo_id: rest.nullable(Rest::text)?,
        combo_trade_id: rest.nullable(Rest::text)?,
        block_trade_leg_count: rest.nullable(Rest::int)?,
        block_rfq_id: rest.nullable(Rest::long)?,
    };
    rest.0.is_empty().then_some(trade)
}

/// The unread rest of the datum.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// A zigzag varint. Ten-byte encodings are left to apache-avro, so that no bit is lost.
    #[inline]
    fn long(&mut self) -> Option<i64> {
        let mut bits = 0_u64;
        for shift in (0..63).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        None
    }

    #[inline]
    fn int(&mut self) -> Option<i32> {
        self.long()?.try_into().ok()
    }

    #[inline]
    fn double(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    #[inline]
    fn text(&mut self) -> Option<Cow<'a, str>> {
        let length = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }

    /// A union of null and another type, in this order.
    #[inline]
    fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.long()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}
