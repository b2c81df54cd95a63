//! Parses a notification of 100 trades, compared with plain `serde_json` into owned strings, and encodes the trades. Only ratios count.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark may")]

use std::time::Instant;

use common::avro::codec::{Decoder, Encoder};
use common::avro::schema::TRADE;
use common::avro::trade_encoder::TradeEncoder;
use common::model::Trade;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use raw_producer::deribit::message::{Frame, ParsedTrade, parse};
use serde::Deserialize;

const TRADES: usize = 100;

/// The largest acceptable ratio of our time to that of a plain program.
const GOAL: f64 = 0.85;

fn main() {
    divan::main();
    let text = notification();
    // Alternating runs see the same machine, and the median ignores disturbances.
    let mut ratios: Vec<f64> = (0..301).map(|_| time(|| ours(&text)) / time(|| plain(&text))).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    println!(
        "parsing a notification of {TRADES} trades / serde_json into owned strings: {ratio:.2}, goal <= {GOAL}"
    );
}

/// Seconds for 20 rounds.
fn time(work: impl Fn() -> usize) -> f64 {
    let begun = Instant::now();
    for _ in 0..20 {
        black_box(work());
    }
    begun.elapsed().as_secs_f64()
}

fn notification() -> String {
    let trade = |n: usize| {
        format!(
            r#"{{"timestamp":1786911707538,"price":{}.5,"amount":120.0,"direction":"sell","index_price":63064.71,"trade_seq":{n},
            "instrument_name":"BTC-PERPETUAL","trade_id":"440369{n:03}","tick_direction":3,"mark_price":63063.92,"contracts":12.0}}"#,
            63_000 + n
        )
    };
    let trades: Vec<_> = (0..TRADES).map(trade).collect();
    let head =
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.future.any.100ms","data":["#;
    format!("{head}{}]}}}}", trades.join(","))
}

/// The contract's fields, as a plain program would parse them.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only the parser uses them")]
struct Owned {
    timestamp: i64,
    price: f64,
    amount: f64,
    direction: String,
    index_price: f64,
    trade_seq: i64,
    instrument_name: String,
    trade_id: String,
    tick_direction: i32,
    mark_price: Option<f64>,
    contracts: Option<f64>,
    iv: Option<f64>,
    liquidation: Option<String>,
    block_trade_id: Option<String>,
    combo_id: Option<String>,
    combo_trade_id: Option<String>,
    block_trade_leg_count: Option<i32>,
    block_rfq_id: Option<i64>,
}

#[derive(Deserialize)]
struct OwnedParams {
    channel: String,
    data: Vec<Owned>,
}

#[derive(Deserialize)]
struct OwnedFrame {
    params: OwnedParams,
}

#[divan::bench]
fn parse_plain_owned(bencher: Bencher<'_, '_>) {
    let text = notification();
    bencher.counter(ItemsCount::new(TRADES)).bench(|| plain(black_box(&text)));
}

fn plain(text: &str) -> usize {
    let frame: OwnedFrame = serde_json::from_str(black_box(text)).unwrap();
    black_box(&frame.params.channel);
    frame.params.data.len()
}

#[divan::bench]
fn parse_ours(bencher: Bencher<'_, '_>) {
    let text = notification();
    bencher.counter(ItemsCount::new(TRADES)).bench(|| ours(black_box(&text)));
}

fn ours(text: &str) -> usize {
    match parse(black_box(text), 1) {
        Ok(Frame::Trades(bundle)) => bundle.trades.len(),
        other => panic!("{other:?}"),
    }
}

fn trades(text: &str) -> Vec<Trade<'_>> {
    match parse(text, 1) {
        Ok(Frame::Trades(bundle)) => {
            let readable = |trade| match trade {
                ParsedTrade::Readable(trade) => Some(trade),
                ParsedTrade::Unreadable { .. } => None,
            };
            bundle.trades.into_iter().filter_map(readable).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[divan::bench]
fn encode_ours(bencher: Bencher<'_, '_>) {
    let text = notification();
    let (trades, encoder, mut bytes) = (trades(&text), TradeEncoder::new(1), Vec::new());
    bencher.counter(ItemsCount::new(TRADES)).bench_local(|| {
        for trade in &trades {
            encoder.encode(black_box(trade), &mut bytes);
        }
        bytes.len()
    });
}

#[divan::bench]
fn encode_general(bencher: Bencher<'_, '_>) {
    let text = notification();
    let (trades, encoder, mut bytes) = (trades(&text), Encoder::new(&TRADE, 1), Vec::new());
    bencher.counter(ItemsCount::new(TRADES)).bench_local(|| {
        for trade in &trades {
            encoder.encode(black_box(trade), &mut bytes).unwrap();
        }
        bytes.len()
    });
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let text = notification();
    let (encoder, mut decoder) = (Encoder::new(&TRADE, 1), Decoder::<Trade<'static>>::new(&TRADE));
    decoder.learn(1, TRADE.schema.clone());
    let encode = |trade: &Trade<'_>| {
        let mut bytes = Vec::new();
        encoder.encode(trade, &mut bytes).unwrap();
        bytes
    };
    let values: Vec<_> = trades(&text).iter().map(encode).collect();
    bencher.counter(ItemsCount::new(TRADES)).bench(|| {
        values.iter().map(|value| decoder.decode(black_box(value)).unwrap().trade_seq).sum::<i64>()
    });
}
