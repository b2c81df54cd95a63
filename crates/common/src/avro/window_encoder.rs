//! Encodes candles and averages by hand, for speed, as trades are.
//!
//! A property test checks that the bytes equal those of [`Encoder`](super::codec::Encoder).

use super::codec::SchemaId;
use super::trade_encoder::{begin, double, long, text};
use crate::model::{Candle, MovingAverage};

/// Replaces the content of `into` by the encoded candle; `id` is its schema id.
pub fn candle(id: SchemaId, candle: &Candle<'_>, into: &mut Vec<u8>) {
    let Candle { instrument_name, start, end, trade_count, open, high, low, close, .. } = candle;
    let Candle { volume, turnover, price_sum, ema_sum, ema_weight, .. } = candle;
    begin(id, into);
    text(instrument_name, into);
    [start, end, trade_count].into_iter().for_each(|number| long(*number, into));
    let doubles = [open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight];
    doubles.into_iter().for_each(|number| double(*number, into));
}

/// Replaces the content of `into` by the encoded average; `id` is its schema id.
pub fn average(id: SchemaId, average: &MovingAverage<'_>, into: &mut Vec<u8>) {
    let MovingAverage { instrument_name, window_start, window_end, trade_count, .. } = average;
    let MovingAverage { sma, ema, vwap, open, high, low, close, volume, .. } = average;
    begin(id, into);
    text(instrument_name, into);
    [window_start, window_end, trade_count].into_iter().for_each(|number| long(*number, into));
    let doubles = [sma, ema, vwap, open, high, low, close, volume];
    doubles.into_iter().for_each(|number| double(*number, into));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::avro::codec::Encoder;
    use crate::avro::schema::{CANDLE, MOVING_AVERAGE};

    proptest! {
        #[test]
        fn every_candle_and_average_is_written_as_the_general_writer_writes_it(
            id: SchemaId,
            name in ".{0,200}",
            longs: [i64; 3],
            doubles: [f64; 9],
        ) {
            let ([a, b, c], [d, e, f, g, h, i, j, k, l]) = (longs, doubles);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let record = Candle {
                instrument_name: name.as_str().into(), start: a, end: b, trade_count: c, open: d, high: e, low: f, close: g,
                volume: h, turnover: i, price_sum: j, ema_sum: k, ema_weight: l,
            };
            candle(id, &record, &mut ours);
            Encoder::new(&CANDLE, id).encode(&record, &mut theirs).unwrap();
            prop_assert_eq!(&ours, &theirs);
            let record = MovingAverage {
                instrument_name: name.as_str().into(), window_start: a, window_end: b, trade_count: c, sma: d, ema: e, vwap: f,
                open: g, high: h, low: i, close: j, volume: k,
            };
            average(id, &record, &mut ours);
            Encoder::new(&MOVING_AVERAGE, id).encode(&record, &mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
