//! The schemas of the contract, from `schemas/*.avsc`.

use std::sync::LazyLock;

use apache_avro::Schema;

/// One record type of the contract.
#[derive(Debug)]
pub struct Contract {
    /// The text of the `.avsc` file, as it is registered.
    pub text: &'static str,
    /// The schema, parsed from `text`.
    pub schema: Schema,
}

impl Contract {
    fn parse(text: &'static str) -> Self {
        let schema =
            Schema::parse_str(text).expect("schemas/*.avsc are compiled in and a test parses each of them");
        Self { text, schema }
    }
}

/// `deribit.Trade`: values of the trades topic.
pub static TRADE: LazyLock<Contract> =
    LazyLock::new(|| Contract::parse(include_str!("../../schemas/trade.avsc")));

/// `deribit.Candle`: values of the candles topic.
pub static CANDLE: LazyLock<Contract> =
    LazyLock::new(|| Contract::parse(include_str!("../../schemas/candle.avsc")));

/// `deribit.MovingAverage`: values of the averages topic.
pub static MOVING_AVERAGE: LazyLock<Contract> =
    LazyLock::new(|| Contract::parse(include_str!("../../schemas/moving_average.avsc")));

/// `deribit.Watermark`: values of the watermarks topic.
pub static WATERMARK: LazyLock<Contract> =
    LazyLock::new(|| Contract::parse(include_str!("../../schemas/watermark.avsc")));

/// The registry subject of `topic`'s values.
#[must_use]
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}
