//! The JSON of a trade, with the exchange's fields and number notation.
//!
//! The text depends on the trade alone, so history and live feed show the same bytes. As at the exchange, the order of keys and the notation
//! of numbers vary between trades: whole numbers with or without `.0`, some numbers as `2.2e3` or `8.0e-8`.

use std::fmt::Write as _;

use super::trade::MarketTrade;

type Field = fn(&MarketTrade, &mut String);

const FIELDS: [Field; 12] = [
    |trade, out| integer(out, "trade_seq", trade.trade_seq),
    |trade, out| text(out, "trade_id", trade.trade_id),
    |trade, out| integer(out, "timestamp", trade.timestamp.0),
    |trade, out| integer(out, "tick_direction", trade.tick_direction as u64),
    |trade, out| number(out, "price", trade.price, trade.style),
    |trade, out| number(out, "mark_price", trade.mark_price, trade.style >> 5),
    |trade, out| text(out, "instrument_name", &trade.instrument_name),
    |trade, out| number(out, "index_price", trade.index_price, trade.style >> 10),
    |trade, out| text(out, "direction", trade.direction.name()),
    |trade, out| number(out, "contracts", trade.contracts, trade.style >> 15),
    |trade, out| number(out, "amount", trade.amount, trade.style >> 20),
    optional,
];

impl MarketTrade {
    /// Appends the trade as a JSON object.
    pub fn write_json(&self, out: &mut String) {
        out.push('{');
        let start = usize::from(self.style.to_le_bytes()[7]) % FIELDS.len();
        for field in FIELDS.iter().cycle().skip(start).take(FIELDS.len()) {
            field(self, out);
        }
        // Each field ends with a comma, and some fields are always present.
        out.pop();
        out.push('}');
    }

    /// The trade as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(400);
        self.write_json(&mut out);
        out
    }
}

/// Fields that only some trades have.
fn optional(trade: &MarketTrade, out: &mut String) {
    if let Some(iv) = trade.iv {
        number(out, "iv", iv, trade.style >> 25);
    }
    if let Some(liquidation) = trade.liquidation {
        text(out, "liquidation", liquidation);
    }
    if let Some(block) = trade.block {
        text(out, "block_trade_id", format_args!("BLOCK-{}", block.number));
        integer(out, "block_trade_leg_count", u64::from(block.leg_count));
        if let Some(rfq) = block.rfq {
            integer(out, "block_rfq_id", rfq);
        }
    }
    if let Some(combo) = &trade.combo {
        text(out, "combo_id", &combo.combo_id);
        if combo.as_number {
            integer(out, "combo_trade_id", combo.trade_id.number);
        } else {
            text(out, "combo_trade_id", combo.trade_id);
        }
    }
    if !trade.legs.is_empty() {
        out.push_str("\"legs\":[");
        for leg in &trade.legs {
            leg.write_json(out);
            out.push(',');
        }
        out.pop();
        out.push_str("],");
    }
    if let Some(starbase) = trade.starbase {
        integer(out, "starbase_match_id", starbase.match_id);
        integer(out, "starbase_timestamp", starbase.timestamp);
    }
}

fn integer(out: &mut String, key: &str, value: u64) {
    write!(out, "\"{key}\":{value},").expect("writing to a string cannot fail");
}

/// Writes a text that needs no escaping, as no text of a trade does.
fn text(out: &mut String, key: &str, value: impl std::fmt::Display) {
    write!(out, "\"{key}\":\"{value}\",").expect("writing to a string cannot fail");
}

/// Of 32 numbers two are written without the `.0`, one with an exponent.
fn number(out: &mut String, key: &str, value: f64, style: u64) {
    write!(out, "\"{key}\":").expect("writing to a string cannot fail");
    match style & 31 {
        0 => exponent(out, value),
        1 | 2 => write!(out, "{value}"),
        _ => write!(out, "{value:?}"),
    }
    .expect("writing to a string cannot fail");
    out.push(',');
}

/// Writes `6.3e4` or `8.0e-8`: the mantissa always has a decimal point.
fn exponent(out: &mut String, value: f64) -> std::fmt::Result {
    let start = out.len();
    write!(out, "{value:e}")?;
    let written = out.get(start..).unwrap_or_default();
    if let Some(mantissa) = written.find('e').filter(|_| !written.contains('.')) {
        out.insert_str(start + mantissa, ".0");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_means_the_same_in_each_notation() {
        for value in [63_000.0, 63_064.71, 8e-8, 0.0, -12.5, 2200.0, 0.0005, 1e-7, 893_090.0] {
            for style in 0..4 {
                let mut out = String::new();
                number(&mut out, "n", value, style);
                let text = out.strip_prefix("\"n\":").and_then(|rest| rest.strip_suffix(',')).unwrap();
                assert_eq!(serde_json::from_str::<f64>(text).unwrap(), value, "{text}");
            }
        }
        let mut out = String::new();
        exponent(&mut out, 8e-8).unwrap();
        assert_eq!(out, "8.0e-8");
        out.clear();
        exponent(&mut out, 2200.0).unwrap();
        assert_eq!(out, "2.2e3");
    }
}
