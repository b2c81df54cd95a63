//! Reads a trade that was written by the contract's own schema, without a detour and without copying its texts.
//!
//! apache-avro is what decoding means: whatever is unusual here, down to the way in which a number is written, is left to it. A property
//! test holds that what is read here is what apache-avro reads.
//!
//! Each trade passes here, so it is compiled into whoever calls it, and as fast as the caller.

use std::borrow::Cow;

use crate::model::Trade;

/// The trade in `datum`, all of it; `None` where apache-avro is to judge.
#[must_use]
#[inline]
pub fn decode(datum: &[u8]) -> Option<Trade<'_>> {
    let mut rest = Rest(datum);
    // In the schema's order, which is that of evaluation.
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

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// Seven bits a byte, least first, the sign in the lowest; so that no bit is lost, ten bytes are left to apache-avro.
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

    /// A union of null and something, in this order.
    #[inline]
    fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.long()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}
