//! The exchange over a real websocket.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

mod support;

use std::collections::BTreeSet;

use deribit_sim::market::{Filter, InstrumentKind, InstrumentKinds, MarketTime, MarketTrade};
use serde_json::{Value, json};
use support::{SimClient, simulator};

/// Collects the trades of a channel until `enough`.
async fn collect(client: &mut SimClient, channel: &str, enough: usize) -> Vec<Value> {
    let mut trades = Vec::new();
    while trades.len() < enough {
        let mut message = client.notification().await;
        assert_eq!(message["method"], "subscription");
        assert!(message.get("id").is_none());
        if message["params"]["channel"] == channel {
            let Value::Array(data) = message["params"]["data"].take() else { panic!("{message}") };
            assert!(!data.is_empty());
            trades.extend(data);
        }
    }
    trades
}

fn as_values<'a>(trades: impl Iterator<Item = &'a MarketTrade>) -> Vec<Value> {
    trades.map(|trade| serde_json::from_str(&trade.to_json()).unwrap()).collect()
}

fn time(trade: &Value) -> MarketTime {
    MarketTime(trade["timestamp"].as_u64().unwrap())
}

/// Collects trades for a while and compares them with the market.
async fn listen_and_compare(variables: &[(&str, &str)]) {
    let simulator = simulator(variables).await;
    let mut client = SimClient::connect(&simulator).await;
    let channel = "trades.future.any.100ms";
    let result = client.result("public/subscribe", json!({ "channels": [channel] })).await;
    assert_eq!(result, json!([channel]));
    let live = collect(&mut client, channel, 500).await;
    let filter = Filter { currency: None, kinds: InstrumentKinds::One(InstrumentKind::Future) };
    let market = simulator.market().trades(time(&live[0])..time(&live[live.len() - 1]).plus(1));
    let expected = as_values(market.iter().filter(|trade| filter.passes(trade.currency, trade.kind)));
    assert_eq!(live, expected);
    simulator.stop().await;
}

#[tokio::test]
async fn what_a_channel_sends_is_what_the_market_holds() {
    listen_and_compare(&[]).await;
}

#[tokio::test]
async fn it_is_so_at_another_speed_too() {
    let origin = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    listen_and_compare(&[("MARKET__SPEED", "20"), ("MARKET__ORIGIN", &origin), ("MARKET__RATE", "50")]).await;
}

#[tokio::test]
async fn bundles_hold_100_ms_and_seconds_hold_seconds_and_raw_holds_orders() {
    let simulator = simulator(&[("MARKET__RATE", "2000")]).await;
    let mut client = SimClient::connect(&simulator).await;
    let key =
        json!({ "grant_type": "client_credentials", "client_id": "simulated", "client_secret": "simulated" });
    let login = client.result("public/auth", key).await;
    assert_eq!(login["expires_in"], 900);
    let names = ["trades.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.agg2", "trades.BTC-PERPETUAL.raw"];
    client.result("public/subscribe", json!({ "channels": names })).await;
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        let message = client.notification().await;
        let channel = message["params"]["channel"].as_str().unwrap();
        let width = if channel.ends_with("100ms") {
            100
        } else if channel.ends_with("agg2") {
            1_000
        } else {
            1
        };
        let trades = message["params"]["data"].as_array().unwrap();
        let pieces: BTreeSet<_> = trades.iter().map(|trade| time(trade).0 / width).collect();
        assert_eq!(pieces.len(), 1, "{channel}");
        assert!(trades.iter().all(|trade| trade["instrument_name"] == "BTC-PERPETUAL"));
        seen.insert(channel.to_owned());
    }
    assert!(seen.contains(names[0]) && seen.contains(names[2]), "{seen:?}");
    simulator.stop().await;
}

#[tokio::test]
async fn a_request_for_a_raw_channel_without_login_fails_as_a_whole() {
    let simulator = simulator(&[("MARKET__INSTRUMENTS", "10")]).await;
    let mut client = SimClient::connect(&simulator).await;
    let channels = json!({ "channels": ["trades.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.raw"] });
    assert_eq!(client.error("public/subscribe", channels.clone()).await, 13778);
    assert_eq!(client.result("public/unsubscribe", channels.clone()).await, json!([]));

    let wrong =
        json!({ "grant_type": "client_credentials", "client_id": "simulated", "client_secret": "guess" });
    assert_eq!(client.error("public/auth", wrong).await, 13004);
    let key =
        json!({ "grant_type": "client_credentials", "client_id": "simulated", "client_secret": "simulated" });
    let login = client.result("public/auth", key).await;
    assert_eq!(client.result("public/subscribe", channels.clone()).await, channels["channels"]);

    let mut other = SimClient::connect(&simulator).await;
    let refresh = json!({ "grant_type": "refresh_token", "refresh_token": login["refresh_token"] });
    other.result("public/auth", refresh).await;
    assert_eq!(other.result("public/subscribe", channels.clone()).await, channels["channels"]);
    simulator.stop().await;
}

#[tokio::test]
async fn channels_that_there_are_not_are_left_out_without_an_error() {
    let simulator = simulator(&[]).await;
    let mut client = SimClient::connect(&simulator).await;
    let asked = json!([
        "trades.BTC-PERPETUAL.100ms",
        "trades.BTC-1JAN20.100ms",
        "trades.future.LTC.100ms",
        "x",
        "platform_state"
    ]);
    let accepted = client.result("public/subscribe", json!({ "channels": asked })).await;
    assert_eq!(accepted, json!(["trades.BTC-PERPETUAL.100ms", "platform_state"]));
    let many: Vec<_> = (0..501).map(|n| format!("trades.X{n}.100ms")).collect();
    assert_eq!(client.error("public/subscribe", json!({ "channels": many })).await, -32602);
    assert_eq!(client.error("public/subscribe", json!({ "channels": "all" })).await, -32602);
    simulator.stop().await;
}

#[tokio::test]
async fn replies_carry_their_times_and_the_id_as_it_was_given() {
    let simulator = simulator(&[]).await;
    let mut client = SimClient::connect(&simulator).await;
    client.send(r#"{"jsonrpc":"2.0","id":"text","method":"public/get_time"}"#.into()).await;
    let reply = client.next().await.unwrap();
    assert_eq!(reply["id"], "text");
    assert_eq!(reply["testnet"], true);
    let (came, went) = (reply["usIn"].as_u64().unwrap(), reply["usOut"].as_u64().unwrap());
    assert_eq!(reply["usDiff"].as_u64().unwrap(), went - came);
    assert!(reply["result"].as_u64().unwrap().abs_diff(came / 1_000) <= 1_000);
    simulator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_answered_by_code_and_the_connection_lives() {
    let simulator = simulator(&[]).await;
    let mut client = SimClient::connect(&simulator).await;
    for (text, code) in [
        ("{".to_owned(), -32700),
        ("[]".to_owned(), -32600),
        (r#"{"id":1}"#.to_owned(), -32600),
        (r#"{"id":1,"method":"public/buy"}"#.to_owned(), -32601),
        (r#"{"id":1,"method":"public/get_instruments"}"#.to_owned(), -32602),
        (r#"{"id":1,"method":"public/set_heartbeat","params":{"interval":9}}"#.to_owned(), -32602),
        (format!(r#"{{"id":1,"method":"public/test","params":{{"x":"{}"}}}}"#, "x".repeat(33_000)), -32600),
    ] {
        client.send(text).await;
        assert_eq!(client.next().await.unwrap()["error"]["code"], code);
    }
    assert!(client.result("public/test", json!({})).await["version"].is_string());
    assert!(
        client.result("public/hello", json!({ "client_name": "x", "client_version": "1" })).await["version"]
            .is_string()
    );
    simulator.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_test_requests_keeps_its_connection() {
    let simulator =
        simulator(&[("LIMITS__HEARTBEAT_INTERVAL", "1s"), ("LIMITS__HEARTBEAT_ANSWER", "60s")]).await;
    let mut client = SimClient::connect(&simulator).await;
    assert_eq!(client.result("public/set_heartbeat", json!({ "interval": 1 })).await, "ok");
    for _ in 0..2 {
        let heartbeat = client.notification().await;
        assert_eq!(
            (&heartbeat["method"], &heartbeat["params"]["type"]),
            (&json!("heartbeat"), &json!("heartbeat"))
        );
        assert_eq!(client.notification().await["params"]["type"], "test_request");
        client.result("public/test", json!({})).await;
    }
    simulator.stop().await;
}

#[tokio::test]
async fn an_unanswered_test_request_ends_the_connection_with_4000() {
    let simulator =
        simulator(&[("LIMITS__HEARTBEAT_INTERVAL", "1s"), ("LIMITS__HEARTBEAT_ANSWER", "300ms")]).await;
    let mut client = SimClient::connect(&simulator).await;
    client.result("public/set_heartbeat", json!({ "interval": 1 })).await;
    let end = loop {
        match client.next().await {
            Ok(message) => assert_eq!(message["method"], "heartbeat"),
            Err(end) => break end.unwrap(),
        }
    };
    assert_eq!(u16::from(end.code), 4000);
    simulator.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let simulator = simulator(&[("LIMITS__IDLE", "300ms")]).await;
    let mut client = SimClient::connect(&simulator).await;
    assert_eq!(u16::from(client.next().await.unwrap_err().unwrap().code), 4000);
    simulator.stop().await;
}

#[tokio::test]
async fn who_spends_all_credits_is_told_10028_and_the_session_ends() {
    let simulator = simulator(&[]).await;
    let mut client = SimClient::connect(&simulator).await;
    let mut answered = 0;
    let end = loop {
        let reply = client.call("public/get_time", json!({})).await;
        match reply["error"]["code"].as_i64() {
            None => answered += 1,
            Some(code) => break code,
        }
    };
    assert_eq!(end, 10028);
    assert!(answered >= 100, "{answered}");
    assert!(client.next().await.is_err());
    simulator.stop().await;
}

#[tokio::test]
async fn credits_can_be_lifted() {
    let simulator = simulator(&[("LIMITS__CREDITS", "false")]).await;
    let mut client = SimClient::connect(&simulator).await;
    for _ in 0..300 {
        client.result("public/get_time", json!({})).await;
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_cut_off() {
    let simulator = simulator(&[("MARKET__RATE", "50000"), ("LIMITS__SEND_BUFFER", "100000")]).await;
    let mut client = SimClient::connect(&simulator).await;
    client.result("public/subscribe", json!({ "channels": ["trades.any.any.100ms"] })).await;
    // A few megabytes fill the buffers of both sockets, then the simulator's own.
    let patience = std::time::Instant::now();
    while simulator.connections() > 0 {
        assert!(patience.elapsed() < support::TIMEOUT, "the slow reader is still there");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    simulator.stop().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_frees_the_port() {
    let simulator = simulator(&[]).await;
    let address = simulator.addr();
    let mut client = SimClient::connect(&simulator).await;
    client.result("public/test", json!({})).await;
    simulator.stop().await;
    assert_eq!(u16::from(client.next().await.unwrap_err().unwrap().code), 1001);
    std::net::TcpListener::bind(address).unwrap();
}
