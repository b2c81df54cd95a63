//! The effects of injected faults on a client.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deribit_sim::Simulator;
use deribit_sim::faults::FaultKind;
use deribit_sim::market::MarketTime;
use serde_json::{Value, json};
use support::SimClient;
use tokio_tungstenite::connect_async;

const CHANNEL: &str = "trades.any.any.100ms";

/// Starts an exchange with one fault in its plan.
async fn simulator(fault: &str) -> Simulator {
    let file = std::env::temp_dir().join(format!(
        "faults-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, format!("seed = 1\n[[fault]]\n{fault}\n")).unwrap();
    let started = support::simulator(&[("FAULTS__FILE", file.to_str().unwrap())]).await;
    std::fs::remove_file(&file).unwrap();
    started
}

async fn subscribed(simulator: &Simulator) -> SimClient {
    let mut client = SimClient::connect(simulator).await;
    client.result("public/subscribe", json!({ "channels": [CHANNEL, "platform_state"] })).await;
    client
}

type SequenceNumbers = BTreeMap<String, Vec<u64>>;

fn numbers(trades: &[Value], into: &mut SequenceNumbers) {
    for trade in trades {
        let name = trade["instrument_name"].as_str().unwrap().to_owned();
        into.entry(name).or_default().push(trade["trade_seq"].as_u64().unwrap());
    }
}

/// The sequence numbers in `count` notifications, by instrument.
async fn heard(client: &mut SimClient, notifications: usize) -> SequenceNumbers {
    let mut all = SequenceNumbers::new();
    for _ in 0..notifications {
        let mut notification = client.notification().await;
        let Value::Array(trades) = notification["params"]["data"].take() else { panic!("{notification}") };
        numbers(&trades, &mut all);
    }
    all
}

fn steps(numbers: &SequenceNumbers) -> BTreeSet<i64> {
    let step = |pair: &[u64]| i64::try_from(pair[1]).unwrap() - i64::try_from(pair[0]).unwrap();
    numbers.values().flat_map(|of| of.windows(2).map(step)).collect()
}

#[tokio::test]
async fn dropped_and_thinned_notifications_leave_gaps() {
    for kind in ["drop", "thin"] {
        let simulator = simulator(&format!("kind = \"{kind}\"\none_in = 3")).await;
        let heard = heard(&mut subscribed(&simulator).await, 20).await;
        assert!(steps(&heard).iter().all(|step| *step >= 1) && steps(&heard).len() > 1, "{kind}: {heard:?}");
        assert!(simulator.faults().values().all(|times| *times > 0));
        simulator.stop().await;
    }
}

#[tokio::test]
async fn duplicates_and_notifications_out_of_order_go_back_and_lose_nothing() {
    for kind in ["duplicate", "reorder"] {
        let simulator = simulator(&format!("kind = \"{kind}\"\none_in = 3\ntimes = 5")).await;
        let mut client = subscribed(&simulator).await;
        let mut all = heard(&mut client, 10).await;
        while simulator.faults()[&FaultKind::ALL.into_iter().find(|k| k.name() == kind).unwrap()] < 5 {
            for (name, more) in heard(&mut client, 1).await {
                all.entry(name).or_default().extend(more);
            }
        }
        for (name, more) in heard(&mut client, 3).await {
            all.entry(name).or_default().extend(more);
        }
        assert!(steps(&all).iter().any(|step| *step < 1), "{kind}");
        for of in all.values() {
            let once: BTreeSet<_> = of.iter().collect();
            let (first, last) = (**once.first().unwrap(), **once.last().unwrap());
            assert_eq!(once.len() as u64, last - first + 1, "{kind}");
        }
        simulator.stop().await;
    }
}

#[tokio::test]
async fn a_cut_or_rate_limited_client_may_reconnect() {
    let simulator = simulator("kind = \"cut\"\none_in = 2\ntimes = 1").await;
    let mut client = subscribed(&simulator).await;
    while client.next().await.is_ok() {}
    heard(&mut subscribed(&simulator).await, 1).await;
    simulator.stop().await;

    let simulator = self::simulator("kind = \"rate-limit\"\none_in = 1\ntimes = 1").await;
    let mut client = SimClient::connect(&simulator).await;
    assert_eq!(client.error("public/get_time", json!({})).await, 10028);
    assert!(client.next().await.is_err());
    SimClient::connect(&simulator).await.result("public/get_time", json!({})).await;
    simulator.stop().await;
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_is_not_closed() {
    let simulator = simulator("kind = \"half-open\"\nevery_trades = 1").await;
    let mut client = subscribed(&simulator).await;
    client.send(r#"{"jsonrpc":"2.0","id":9,"method":"public/get_time"}"#.into()).await;
    let silence =
        tokio::time::timeout(Duration::from_secs(2), async { while client.next().await.is_ok() {} });
    assert!(silence.await.is_err(), "it was closed");
    assert_eq!(simulator.connections(), 1);
    simulator.stop().await;
}

#[tokio::test]
async fn a_stalled_connection_has_everything_later() {
    let simulator = simulator("kind = \"stall\"\none_in = 5\ntimes = 2\nlasts = \"500ms\"").await;
    let mut client = subscribed(&simulator).await;
    let mut all = SequenceNumbers::new();
    while simulator.faults()[&FaultKind::Stall] < 2 {
        for (name, more) in heard(&mut client, 1).await {
            all.entry(name).or_default().extend(more);
        }
    }
    assert!(steps(&all).iter().all(|step| *step == 1), "{all:?}");
    simulator.stop().await;
}

#[tokio::test]
async fn maintenance_stops_trades_answers_and_new_connections() {
    let simulator = simulator("kind = \"maintenance\"\nevery_trades = 100\ntimes = 1\nlasts = \"15s\"").await;
    let mut client = subscribed(&simulator).await;
    let news = |message: &Value| message["params"]["data"]["maintenance"].as_bool();
    while news(&client.notification().await) != Some(true) {}
    assert_eq!(client.error("public/get_time", json!({})).await, 11051);
    assert!(connect_async(format!("ws://{}/ws/api/v2", simulator.addr())).await.is_err());
    assert_eq!(news(&client.notification().await), Some(false));
    client.result("public/get_time", json!({})).await;
    simulator.stop().await;
}

#[tokio::test]
async fn connections_are_refused_for_a_while() {
    let simulator = simulator("kind = \"refuse\"\nat = \"0s\"\nlasts = \"500ms\"").await;
    let url = format!("ws://{}/ws/api/v2", simulator.addr());
    assert!(connect_async(&url).await.is_err());
    while connect_async(&url).await.is_err() {}
    assert_eq!(simulator.faults()[&FaultKind::Refuse], 1);
    simulator.stop().await;
}

async fn history(client: &mut SimClient, from: MarketTime, to: MarketTime) -> (SequenceNumbers, bool) {
    let params = json!({ "currency": "BTC", "kind": "any", "start_timestamp": from.0, "end_timestamp": to.0,
        "count": 1_000, "sorting": "asc" });
    let page = client.result("public/get_last_trades_by_currency_and_time", params).await;
    let mut found = SequenceNumbers::new();
    numbers(page["trades"].as_array().unwrap(), &mut found);
    (found, page["has_more"].as_bool().unwrap())
}

fn count(numbers: &SequenceNumbers) -> usize {
    numbers.values().map(Vec::len).sum()
}

#[tokio::test]
async fn truncated_history_has_more_and_lagging_history_lacks_the_newest() {
    let simulator = simulator("kind = \"truncate\"\none_in = 1\ntimes = 1").await;
    let mut client = SimClient::connect(&simulator).await;
    let now = simulator.clock().now();
    let (half, has_more) = history(&mut client, now.minus(3_000), now.minus(1)).await;
    let (all, _) = history(&mut client, now.minus(3_000), now.minus(1)).await;
    assert!(has_more && count(&half) > 0 && count(&half) < count(&all));
    simulator.stop().await;

    let simulator = self::simulator("kind = \"lag\"\none_in = 1\nlasts = \"1h\"").await;
    let mut client = SimClient::connect(&simulator).await;
    let (none, _) = history(&mut client, now.minus(3_000), now.minus(1)).await;
    assert_eq!(none, SequenceNumbers::new());
    simulator.stop().await;
}

#[tokio::test]
async fn a_hole_is_one_in_stream_and_history_and_truth() {
    let simulator = simulator("kind = \"hole\"\none_in = 5").await;
    let begun = simulator.clock().now().minus(1_000);
    let mut client = subscribed(&simulator).await;
    let live = heard(&mut client, 20).await;
    assert!(steps(&live).len() > 1, "no holes");
    let (history, _) = history(&mut client, begun, simulator.clock().now()).await;
    let mut truth = SequenceNumbers::new();
    for trade in simulator.market().trades(begun..simulator.clock().now()) {
        truth.entry(trade.instrument_name.to_string()).or_default().push(trade.trade_seq);
    }
    for (name, live) in &live {
        assert!(truth[name].iter().filter(|seq| live.contains(seq)).eq(live), "{name}");
    }
    for (name, found) in &history {
        assert!(truth[name].starts_with(found), "{name}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn garbage_is_unparsable_and_oversize_ends_the_connection_of_a_bounded_client() {
    let simulator = simulator("kind = \"garbage\"\none_in = 1").await;
    let (mut socket, _) = connect_async(format!("ws://{}/ws/api/v2", simulator.addr())).await.unwrap();
    subscribe(&mut socket).await;
    for _ in 0..10 {
        let text = frame(&mut socket).await.unwrap();
        let read: Result<Value, _> = serde_json::from_str(&text);
        assert!(read.is_err() || read.unwrap()["params"]["data"][0]["price"].is_string(), "{text}");
    }
    simulator.stop().await;

    let simulator = self::simulator("kind = \"oversize\"\none_in = 1").await;
    let limit =
        tokio_tungstenite::tungstenite::protocol::WebSocketConfig::default().max_message_size(Some(16 << 20));
    let url = format!("ws://{}/ws/api/v2", simulator.addr());
    let (mut socket, _) =
        tokio_tungstenite::connect_async_with_config(url, Some(limit), false).await.unwrap();
    subscribe(&mut socket).await;
    assert!(frame(&mut socket).await.is_none());
    simulator.stop().await;
}

type WsSocket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn subscribe(socket: &mut WsSocket) {
    use futures_util::SinkExt as _;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": { "channels": [CHANNEL] } });
    socket.send(request.to_string().into()).await.unwrap();
    frame(socket).await.unwrap();
}

/// The next text frame; `None` after the end of the connection.
async fn frame(socket: &mut WsSocket) -> Option<String> {
    use futures_util::StreamExt as _;
    let next = tokio::time::timeout(support::TIMEOUT, socket.next()).await.unwrap();
    Some(next?.ok()?.to_text().unwrap().to_owned())
}
