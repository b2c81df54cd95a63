//! History requests over HTTP and websocket.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

mod support;

use deribit_sim::Simulator;
use deribit_sim::market::{MarketTime, MarketTrade};
use serde_json::{Value, json};
use support::{SimClient, simulator};

const DAY: u64 = 86_400_000;

async fn get(simulator: &Simulator, path: &str) -> (u16, String) {
    let answer = common::http::client()
        .unwrap()
        .get(format!("http://{}{path}", simulator.addr()))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn result(simulator: &Simulator, call: &str) -> Value {
    let (status, text) = get(simulator, &format!("/api/v2/public/{call}")).await;
    assert_eq!(status, 200, "{text}");
    let mut reply: Value = serde_json::from_str(&text).unwrap();
    reply["result"].take()
}

fn numbers(page: &Value) -> Vec<u64> {
    page["trades"].as_array().unwrap().iter().map(|trade| trade["trade_seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn one_instrument_is_paged_by_sequence() {
    let simulator = simulator(&[]).await;
    let page = |query: &str| {
        let call = format!("get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&{query}");
        let simulator = &simulator;
        async move { result(simulator, &call).await }
    };
    let first = page("start_seq=1&count=1000&sorting=asc").await;
    assert_eq!(numbers(&first), (1..=1_000).collect::<Vec<_>>());
    assert_eq!(first["has_more"], true);
    let inner = page("start_seq=995&end_seq=1004&count=1000").await;
    assert_eq!(numbers(&inner), (995..=1_004).collect::<Vec<_>>());
    assert_eq!(inner["has_more"], false);
    assert_eq!(inner["trades"][5], first["trades"][999]);
    assert_eq!(numbers(&page("start_seq=5&end_seq=50&count=3&sorting=desc").await), [50, 49, 48]);
    let newest = numbers(&page("").await);
    assert_eq!(newest.len(), 10);
    assert!(newest.is_sorted_by(|a, b| *a == b + 1), "{newest:?}");
    let beyond = page(&format!("start_seq={}&sorting=asc", newest[0] + 1_000_000_000)).await;
    assert_eq!((numbers(&beyond), &beyond["has_more"]), (vec![], &json!(false)));
    simulator.stop().await;
}

#[tokio::test]
async fn one_instrument_is_found_by_time_further_back_than_a_day() {
    let simulator = simulator(&[]).await;
    let now = simulator.clock().now();
    let (start, end) = (now.minus(3 * DAY), now.minus(3 * DAY - 2_000));
    let call = format!(
        "get_last_trades_by_instrument_and_time?instrument_name=ETH-PERPETUAL&start_timestamp={}&end_timestamp={}&count=1000",
        start.0, end.0,
    );
    let page = result(&simulator, &call).await;
    let expected = simulator.market().trades(start..end.plus(1));
    let expected: Vec<_> =
        expected.iter().filter(|trade| &*trade.instrument_name == "ETH-PERPETUAL").collect();
    assert_eq!(numbers(&page), expected.iter().map(|trade| trade.trade_seq).collect::<Vec<_>>());
    simulator.stop().await;
}

#[tokio::test]
async fn a_currency_is_paged_by_time_for_a_day_back() {
    let simulator = simulator(&[("LIMITS__CREDITS", "false")]).await;
    let mut client = SimClient::connect(&simulator).await;
    let now = simulator.clock().now();
    let (start, end) = (now.minus(60_000), now.minus(30_000));
    let market = simulator.market().trades(start..end.plus(1));
    let bitcoin: Vec<Value> = market
        .iter()
        .filter(|trade| trade.currency.name() == "BTC")
        .map(|trade| serde_json::from_str(&trade.to_json()).unwrap())
        .collect();
    let ask = |start: MarketTime, sorting: &str, count: u64| json!({ "currency": "BTC", "kind": "any", "start_timestamp": start.0, "end_timestamp": end.0, "count": count, "sorting": sorting });
    let method = "public/get_last_trades_by_currency_and_time";
    let page = client.result(method, ask(start, "asc", 1000)).await;
    assert_eq!(page["trades"].as_array().unwrap()[..], bitcoin[..bitcoin.len().min(1_000)]);
    assert_eq!(page["has_more"], bitcoin.len() > 1_000);
    let last = client.result(method, ask(start, "desc", 7)).await;
    assert!(last["trades"].as_array().unwrap().iter().eq(bitcoin.iter().rev().take(7)));

    let too_old = client.result(method, ask(now.minus(DAY + 60_000), "asc", 10)).await;
    assert_eq!(too_old, json!({ "trades": [], "has_more": false }));
    let mut combos = ask(start, "asc", 1000);
    combos["kind"] = json!("combo");
    let combos = client.result(method, combos).await;
    assert!(combos["trades"].as_array().unwrap().iter().all(|trade| trade["legs"].is_array()));
    let mut any = ask(start, "asc", 10);
    any["currency"] = json!("any");
    assert_eq!(client.error(method, any).await, -32602);
    simulator.stop().await;
}

#[tokio::test]
async fn the_future_is_not_told() {
    let simulator = simulator(&[]).await;
    let now = simulator.clock().now();
    let call = format!(
        "get_last_trades_by_currency_and_time?currency=ETH&start_timestamp={}&end_timestamp={}",
        now.plus(DAY).0,
        now.plus(2 * DAY).0
    );
    assert_eq!(result(&simulator, &call).await["trades"], json!([]));
    simulator.stop().await;
}

#[tokio::test]
async fn instruments_are_listed_by_currency_kind_and_state() {
    let simulator = simulator(&[("MARKET__INSTRUMENTS", "400")]).await;
    let of = |query: &str| {
        let call = format!("get_instruments?{query}");
        let simulator = &simulator;
        async move { result(simulator, &call).await.as_array().unwrap().clone() }
    };
    assert_eq!(of("currency=any").await.len(), 400);
    let options = of("currency=BTC&kind=option").await;
    assert!(
        !options.is_empty() && options.iter().all(|one| one["kind"] == "option" && one["strike"].is_number())
    );
    let expired = of("currency=BTC&kind=option&expired=true").await;
    let now = simulator.clock().now().0;
    assert!(!expired.is_empty());
    assert!(
        expired
            .iter()
            .all(|one| one["is_active"] == false && one["expiration_timestamp"].as_u64().unwrap() <= now)
    );
    let (status, text) = get(&simulator, "/api/v2/public/get_instruments?currency=LTC").await;
    assert_eq!(status, 400, "{text}");
    simulator.stop().await;
}

#[tokio::test]
async fn unknown_instruments_and_page_sizes_are_errors() {
    let simulator = simulator(&[]).await;
    let mut client = SimClient::connect(&simulator).await;
    let method = "public/get_last_trades_by_instrument";
    assert_eq!(client.error(method, json!({ "instrument_name": "LTC-PERPETUAL" })).await, 13020);
    for count in [0, 1_001] {
        assert_eq!(
            client.error(method, json!({ "instrument_name": "BTC-PERPETUAL", "count": count })).await,
            -32602
        );
    }
    assert_eq!(
        client.error(method, json!({ "instrument_name": "BTC-PERPETUAL", "sorting": "up" })).await,
        -32602
    );
    simulator.stop().await;
}

#[tokio::test]
async fn a_call_can_be_posted() {
    let simulator = simulator(&[]).await;
    let body = r#"{"jsonrpc":"2.0","id":7,"method":"public/get_time"}"#;
    for path in ["/api/v2", "/api/v2/public/get_time"] {
        let url = format!("http://{}{path}", simulator.addr());
        let answer = common::http::client().unwrap().post(url).body(body).send().await.unwrap();
        let reply: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(reply["id"], 7);
        assert!(reply["result"].is_u64());
    }
    simulator.stop().await;
}

#[tokio::test]
async fn the_33rd_connection_of_an_address_is_refused_with_429() {
    let simulator = simulator(&[("LIMITS__CONNECTIONS_PER_IP", "3")]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = SimClient::connect(&simulator).await;
        client.result("public/test", json!({})).await;
        clients.push(client);
    }
    assert_eq!(get(&simulator, "/api/v2/public/get_time").await.0, 429);
    simulator.stop().await;
}

#[tokio::test]
async fn a_test_can_ask_for_all_trades_of_a_span() {
    let simulator = simulator(&[]).await;
    let now = simulator.clock().now();
    let (from, to) = (now.minus(7_000), now.minus(1_500));
    let (status, lines) = get(&simulator, &format!("/sim/trades?from={}&to={}", from.0, to.0)).await;
    assert_eq!(status, 200);
    let expected: Vec<_> =
        simulator.market().trades(from..to.plus(1)).iter().map(MarketTrade::to_json).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    simulator.stop().await;
}

#[tokio::test]
async fn a_simulator_that_is_started_again_stands_where_it_would_have_stood() {
    let call = "get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&start_seq=1000000&count=50";
    let first = simulator(&[("MARKET__SEED", "9")]).await;
    let before = result(&first, call).await;
    first.stop().await;
    let second = simulator(&[("MARKET__SEED", "9")]).await;
    assert_eq!(result(&second, call).await, before);
    second.stop().await;
}
