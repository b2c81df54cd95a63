use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::avro::schema::{CANDLE, MOVING_AVERAGE, TRADE, WATERMARK};
use crate::model::{Candle, MovingAverage, Trade, Watermark};

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    "\\PC{0,20}".prop_map(Cow::Owned)
}

fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite())
}

prop_compose! {
    fn trade()(
        (instrument_name, trade_id, direction) in (text(), text(), text()),
        (trade_seq, timestamp, received_at, tick_direction) in any::<(i64, i64, i64, i32)>(),
        (price, amount, index_price) in (finite(), finite(), finite()),
        (mark_price, contracts, iv) in (proptest::option::of(finite()), proptest::option::of(finite()), proptest::option::of(finite())),
        (liquidation, block_trade_id) in (proptest::option::of(text()), proptest::option::of(text())),
        (combo_id, combo_trade_id) in (proptest::option::of(text()), proptest::option::of(text())),
        (block_trade_leg_count, block_rfq_id) in any::<(Option<i32>, Option<i64>)>(),
    ) -> Trade<'static> {
        Trade {
            instrument_name, trade_seq, trade_id, timestamp, price, amount, index_price, direction, tick_direction, received_at,
            mark_price, contracts, iv, liquidation, block_trade_id, combo_id, combo_trade_id, block_trade_leg_count, block_rfq_id,
        }
    }
}

fn example() -> Trade<'static> {
    Trade {
        instrument_name: "BTC-PERPETUAL".into(),
        trade_seq: 9_007_199_254_740_993,
        trade_id: "440369272".into(),
        timestamp: 1_786_911_707_538,
        price: 62_999.5,
        amount: 2.2e3,
        index_price: 8.0e-8,
        direction: "buy".into(),
        tick_direction: 3,
        received_at: 1_786_911_707_538_001,
        mark_price: Some(0.0005),
        contracts: None,
        iv: None,
        liquidation: Some("MT".into()),
        block_trade_id: None,
        combo_id: None,
        combo_trade_id: None,
        block_trade_leg_count: Some(2),
        block_rfq_id: None,
    }
}

fn wire(record: &impl Serialize, contract: &'static Contract) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(contract, 7).encode(record, &mut bytes).unwrap();
    bytes
}

fn decoder<T: DeserializeOwned>(contract: &'static Contract) -> Decoder<T> {
    let mut decoder = Decoder::new(contract);
    decoder.learn(7, contract.schema.clone());
    decoder
}

proptest! {
    #[test]
    fn every_trade_comes_back_bit_for_bit(trade in trade()) {
        let back: Trade<'static> = decoder(&TRADE).decode(&wire(&trade, &TRADE)).unwrap();
        prop_assert_eq!(format!("{:?}", back.price.to_bits()), format!("{:?}", trade.price.to_bits()));
        prop_assert_eq!(back, trade);
    }

    /// With a damaged byte or a cut anywhere, the fast and the general decoder agree.
    #[test]
    fn what_is_read_the_fast_way_is_what_apache_avro_reads(
        trade in trade(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), damage in 0..4u8,
    ) {
        let mut wire = wire(&trade, &TRADE);
        match damage {
            0 => {}
            1 => *at.get_mut(&mut wire[5..]) = byte,
            2 => wire.truncate(5 + at.index(wire.len() - 4)),
            _ => wire.insert(5 + at.index(wire.len() - 4), byte),
        }
        let decoder: Decoder<Trade<'static>> = decoder(&TRADE);
        let (fast, slow) = (decoder.decode_part(&wire, |trade| trade), decoder.decode(&wire));
        // Compared as bits: a damaged double may be NaN.
        prop_assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
        let longs = [trade.trade_seq, trade.timestamp, trade.received_at, trade.block_rfq_id.unwrap_or_default()];
        if damage == 0 && longs.iter().all(|long| (-(1 << 62)..1 << 62).contains(long)) {
            prop_assert_eq!(trade_decoder::decode(&wire[5..]), Some(trade), "and it does not leave it to the slow way");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let wire = [&[0, 0, 0, 0, 7], bytes.as_slice()].concat();
        let _: Result<Trade<'static>, _> = decoder(&TRADE).decode(&wire);
        let _ = trade_decoder::decode(&bytes);
    }

    #[test]
    fn a_record_cut_short_is_malformed(cut in 5_usize..100) {
        let bytes = wire(&example(), &TRADE);
        prop_assume!(cut < bytes.len());
        let end = decoder::<Trade<'static>>(&TRADE).decode(&bytes[..cut]);
        prop_assert!(matches!(end, Err(DecodeError::Malformed(_))), "{end:?}");
    }
}

#[test]
fn candles_and_averages_come_back_as_they_were() {
    let candle = Candle {
        instrument_name: "ETH-PERPETUAL".into(),
        start: 10_000,
        end: 20_000,
        trade_count: 3,
        open: 1.5,
        high: 2.5,
        low: -0.0,
        close: 2.0,
        volume: 7.0,
        turnover: 9.25,
        price_sum: 6.0,
        ema_sum: 5.5,
        ema_weight: 2.75,
    };
    let back: Candle<'static> = decoder(&CANDLE).decode(&wire(&candle, &CANDLE)).unwrap();
    assert_eq!(back, candle);
    let average = MovingAverage {
        instrument_name: "ETH-PERPETUAL".into(),
        window_start: 0,
        window_end: 300_000,
        trade_count: 3,
        sma: 2.0,
        ema: 2.125,
        vwap: 1.75,
        open: 1.5,
        high: 2.5,
        low: 1.0,
        close: 2.0,
        volume: 7.0,
    };
    let back: MovingAverage<'static> =
        decoder(&MOVING_AVERAGE).decode(&wire(&average, &MOVING_AVERAGE)).unwrap();
    assert_eq!(back, average);
    let watermark = Watermark { partition: 5, complete_through: 1_786_911_707_538, offset: 12 };
    let back: Watermark = decoder(&WATERMARK).decode(&wire(&watermark, &WATERMARK)).unwrap();
    assert_eq!(back, watermark);
}

#[test]
fn the_rust_types_have_the_contracts_fields_in_the_contracts_order() {
    use apache_avro::Schema;
    let fields = |contract: &Contract| match &contract.schema {
        Schema::Record(record) => record.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>(),
        other => panic!("not a record: {other:?}"),
    };
    let keys = |json: serde_json::Value| json.to_string();
    let shown = keys(serde_json::to_value(example()).unwrap());
    for name in fields(&TRADE) {
        assert!(shown.contains(&format!("\"{name}\":")), "{name} in {shown}");
    }
    // The Avro serializer rejects a struct whose fields differ from the schema's in number or order. The round trips above show the other
    // direction.
    assert_eq!(fields(&TRADE).len(), 19);
    assert_eq!(fields(&CANDLE).len(), 13);
    assert_eq!(fields(&MOVING_AVERAGE).len(), 12);
    assert_eq!(fields(&WATERMARK).len(), 3);
}

#[test]
fn an_unknown_schema_id_is_a_question_and_not_a_verdict() {
    let bytes = wire(&example(), &TRADE);
    let end = Decoder::<Trade<'static>>::new(&TRADE).decode(&bytes);
    assert_eq!(end, Err(DecodeError::UnknownSchema(7)));
}

#[test]
fn what_is_not_in_the_wire_format_says_why() {
    let decoder = decoder::<Trade<'static>>(&TRADE);
    assert_eq!(
        decoder.decode(b"{\"a\":1}").unwrap_err().to_string(),
        "not in the wire format: begins with 0x7b instead of 0x00"
    );
    assert_eq!(decoder.decode(&[0, 1]).unwrap_err().to_string(), "not in the wire format: only 2 bytes");
    let mut long = wire(&example(), &TRADE);
    long.push(1);
    assert_eq!(decoder.decode(&long).unwrap_err().to_string(), "does not decode: 1 bytes are left over");
}

#[test]
fn optional_fields_may_be_added_and_dropped() {
    let mut json: serde_json::Value = serde_json::from_str(TRADE.text).unwrap();
    let fields = json["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "block_rfq_id");
    fields.push(
        serde_json::json!({"name": "new_at_the_exchange", "type": ["null", "string"], "default": null}),
    );
    let foreign = Schema::parse(&json).unwrap();

    let mut value = apache_avro::to_value(example()).unwrap().resolve(&TRADE.schema).unwrap();
    if let apache_avro::types::Value::Record(fields) = &mut value {
        fields.retain(|(name, _)| name != "block_rfq_id");
        let new = apache_avro::types::Value::Union(1, Box::new("x".into()));
        fields.push(("new_at_the_exchange".into(), new));
    }
    let datum = GenericDatumWriter::builder(&foreign).build().unwrap().write_value_to_vec(value).unwrap();
    let bytes = [&[0, 0, 0, 0, 9], datum.as_slice()].concat();

    let mut decoder = decoder::<Trade<'static>>(&TRADE);
    decoder.learn(9, foreign);
    assert_eq!(decoder.decode(&bytes).unwrap(), example());
}
