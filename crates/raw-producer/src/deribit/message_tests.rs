use super::*;

const TRADE: &str = r#"{"trade_seq":30289442,"trade_id":"48079269","timestamp":1590484512188,"tick_direction":2,"price":8950,
    "mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10}"#;

fn frame(trades: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"trades.future.any.100ms","data":[{trades}]}}}}"#
    )
}

fn bundle(text: &str) -> TradeBundle<'_> {
    match parse(text, 7) {
        Ok(Frame::Trades(bundle)) => bundle,
        other => panic!("not trades: {other:?}"),
    }
}

fn read(text: &str) -> Vec<Trade<'_>> {
    let readable = |trade| match trade {
        ParsedTrade::Readable(trade) => trade,
        no @ ParsedTrade::Unreadable { .. } => panic!("{no:?}"),
    };
    bundle(text).trades.into_iter().map(readable).collect()
}

/// The example with this field added or replaced.
fn with(field: &str, value: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(TRADE).unwrap();
    let mut fields: Vec<String> =
        json.as_object().unwrap().iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    fields.retain(|text| !text.starts_with(&format!("\"{field}\":")));
    fields.push(format!("\"{field}\":{value}"));
    frame(&format!("{{{}}}", fields.join(",")))
}

#[test]
fn a_notification_gives_its_trades_in_order_with_our_clock() {
    let text = frame(&format!("{TRADE},{TRADE}"));
    assert_eq!(bundle(&text).channel, "trades.future.any.100ms");
    let trades = read(&text);
    assert_eq!(trades.len(), 2);
    let trade = &trades[0];
    assert_eq!(
        (trade.instrument_name.as_ref(), trade.trade_seq, trade.received_at),
        ("BTC-PERPETUAL", 30_289_442, 7)
    );
    assert_eq!((trade.mark_price, trade.iv, trade.liquidation.as_deref()), (Some(8948.9), None, None));
}

#[test]
fn texts_are_borrowed_from_the_frame() {
    let text = frame(TRADE);
    let trades = read(&text);
    let trade = &trades[0];
    assert!(matches!(trade.instrument_name, Cow::Borrowed(_)) && matches!(trade.trade_id, Cow::Borrowed(_)));
}

#[test]
fn numbers_are_the_nearest_doubles_however_they_are_written() {
    for (written, value) in [
        ("8.0e-8", 8.0e-8),
        ("2.2e3", 2200.0),
        ("10", 10.0),
        ("0.0005", 0.0005),
        ("62999.5", 62_999.5),
        ("0.1", 0.1),
    ] {
        assert_eq!(read(&with("price", written))[0].price.to_bits(), f64::to_bits(value), "{written}");
    }
    // These come out one ulp off without serde_json's float_roundtrip.
    for written in ["51.24817837550540_4", "0.99849415123456789", "2.638344616030823e-256"] {
        let written = written.replace('_', "");
        let expected: f64 = written.parse().unwrap();
        assert_eq!(read(&with("price", &written))[0].price.to_bits(), expected.to_bits(), "{written}");
    }
}

/// Nearly every bundle has trades of combos; otherwise each would be parsed three times.
#[test]
fn a_whole_number_where_an_id_is_due_is_read_in_the_one_pass() {
    let combo = TRADE.replacen('{', r#"{"combo_trade_id":18446744073709551615,"#, 1);
    let text = frame(&combo);
    let bundle = parse_readable_trades(&text, 7).unwrap();
    let Some(ParsedTrade::Readable(trade)) = bundle.trades.first() else { panic!("{bundle:?}") };
    assert_eq!(trade.combo_trade_id.as_deref(), Some("18446744073709551615"));
    assert!(
        parse_readable_trades(&text.replace("51615", "516150"), 7).is_none(),
        "of more digits only a closer look is sure"
    );
}

#[test]
fn an_id_that_is_a_number_becomes_the_digits_that_were_written() {
    for (written, id) in [
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        (r#""ETH-15""#, "ETH-15"),
        (r#""a\"b""#, "a\"b"),
    ] {
        assert_eq!(read(&with("combo_trade_id", written))[0].combo_trade_id.as_deref(), Some(id));
    }
    assert_eq!(read(&with("combo_trade_id", "null"))[0].combo_trade_id, None);
}

#[test]
fn unknown_fields_are_ignored() {
    let text = with("starbase_match_id", "18446744073709551615");
    assert_eq!(read(&text).len(), 1);
    let text = with("legs", r#"[{"deep":{"er":[1,2,{"x":null}]}}]"#);
    assert_eq!(read(&text).len(), 1);
}

#[test]
fn an_unreadable_trade_does_not_affect_the_others_of_its_bundle() {
    let text = frame(&format!(r#"{TRADE},{{"trade_seq":"x"}},{TRADE}"#));
    let bundle = bundle(&text);
    assert_eq!(bundle.trades.len(), 3);
    let ParsedTrade::Unreadable { key: None, text, why } = &bundle.trades[1] else {
        panic!("{:?}", bundle.trades[1])
    };
    assert_eq!(*text, r#"{"trade_seq":"x"}"#);
    assert!(why.contains("invalid type"), "{why}");
}

#[test]
fn heartbeats_test_requests_and_responses_are_distinguished() {
    let beat =
        |kind: &str| format!(r#"{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}"#);
    assert!(matches!(parse(&beat("heartbeat"), 0), Ok(Frame::Heartbeat)));
    assert!(matches!(parse(&beat("test_request"), 0), Ok(Frame::TestRequest)));
    let answer = r#"{"jsonrpc":"2.0","id":3,"result":["a"],"usIn":1,"usOut":2,"usDiff":1,"testnet":false}"#;
    assert!(matches!(parse(answer, 0), Ok(Frame::Response { id: Some(3), outcome: Ok(_) })));
    let refused = r#"{"jsonrpc":"2.0","id":"4","error":{"code":13778,"message":"raw_subscriptions_not_available_for_unauthorized"}}"#;
    match parse(refused, 0) {
        Ok(Frame::Response { id: Some(4), outcome: Err(error) }) => {
            assert_eq!(error.class(), RpcErrorClass::Misconfigured);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_messages_are_no_errors() {
    for text in [
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"platform_state","data":{"price_index":"btc"}}}"#,
        r#"{"jsonrpc":"2.0","method":"news","params":{}}"#,
        r#"{"jsonrpc":"2.0"}"#,
    ] {
        assert!(matches!(parse(text, 0), Ok(Frame::Other)), "{text}");
    }
}

#[test]
fn invalid_json_is_an_error_and_never_a_panic() {
    for text in ["", "x", "[1,2", "{\"method\":5}", "{\"method\":\"heartbeat\",\"params\":3}", "\u{0}"] {
        assert!(parse(text, 0).is_err(), "{text}");
    }
}

#[test]
fn maintenance_is_distinguished_from_other_platform_news() {
    let text = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"platform_state","data":{"maintenance":true}}}"#;
    assert!(matches!(parse(text, 0), Ok(Frame::Maintenance)));
}

#[test]
fn retriable_errors_are_distinguished_from_mistakes() {
    let class = |code| RpcError { code, message: String::new() }.class();
    for code in [10_028, 10_040, 10_041, 10_047, 10_066, 11_056, 11_094, 13_028, 13_888, 424_242] {
        assert_eq!(class(code), RpcErrorClass::Retriable, "{code}");
    }
    assert_eq!(class(11_051), RpcErrorClass::Maintenance);
    for code in [13_778, 13_009, 13_004, 13_020, -32_601, -32_602, -32_600] {
        assert_eq!(class(code), RpcErrorClass::Misconfigured, "{code}");
    }
}

#[test]
fn both_ways_to_parse_have_the_same_result() {
    let mut fast = 0;
    for folder in ["tests/frames", "fuzz/corpus/frames"] {
        for file in std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap()
        {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            if let Some(bundle) = parse_readable_trades(&text, 1) {
                let general = parse_any(&text, 1).unwrap();
                assert_eq!(format!("{:?}", Frame::Trades(bundle)), format!("{general:?}"));
                fast += 1;
            }
        }
    }
    assert!(fast > 0);
}
