//! The trades of the simulated exchange, by its own account.

use anyhow::Context as _;
use common::model::Trade;
use serde_json::{Map, Value};

use crate::Servers;

/// A trade's fields by name.
pub type Fields = Map<String, Value>;

/// Every trade of the exchange from `from` to `to`, both in milliseconds and included.
pub async fn trades(servers: &Servers, from: i64, to: i64) -> anyhow::Result<Vec<Fields>> {
    let url = servers.url("DERIBIT_SIM_PORT", &format!("/sim/trades?from={from}&to={to}"))?;
    let text = crate::get(url).await?.error_for_status()?.text().await?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// A trade of the exchange in the contract's form: the contract's fields only, ids as text, no nulls.
#[must_use]
pub fn contract_fields(mut exchange: Fields) -> Fields {
    const IDS: [&str; 4] = ["trade_id", "block_trade_id", "combo_id", "combo_trade_id"];
    let known = fields(&Trade::default());
    exchange.retain(|name, value| known.contains_key(name) && !value.is_null());
    for id in IDS {
        if let Some(value) = exchange.get_mut(id).filter(|value| value.is_number()) {
            *value = Value::String(value.to_string());
        }
    }
    exchange.into_iter().map(|(name, value)| (name, comparable(value))).collect()
}

/// A trade of the topic in the same form; `received_at` is ours, not the exchange's.
#[must_use]
pub fn topic_fields(trade: &Trade<'_>) -> Fields {
    row_fields(fields(trade))
}

/// A row of the table in the same form, its columns by name and its time in milliseconds.
#[must_use]
pub fn row_fields(mut row: Fields) -> Fields {
    row.retain(|name, value| !value.is_null() && name != "received_at");
    row.into_iter().map(|(name, value)| (name, comparable(value))).collect()
}

/// Numbers by the bits of their double, so that `10` equals `10.0` and nothing else does.
fn comparable(value: Value) -> Value {
    match value.as_f64() {
        Some(number) => Value::String(format!("{:016x} {number}", number.to_bits())),
        None => value,
    }
}

fn fields(trade: &Trade<'_>) -> Fields {
    match serde_json::to_value(trade) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("a trade serializes to an object: {other:?}"),
    }
}
