//! The pipeline runs on the simulated exchange: its topics are compared with the exchange's own account.
//!
//! Needs `make run FEED=sim`; `make test` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::avro::schema::{MOVING_AVERAGE, TRADE, WATERMARK};
use common::model::{MovingAverage, Trade, Watermark};
use e2e::exchange::{contract_fields, topic_fields};
use e2e::topic::{DecodedTopic, TopicRecord};
use e2e::zipkin::{self, ZipkinSpan, ancestors};
use e2e::{Servers, eventually, exchange};

/// Partitions of `deribit.trades`.
const PARTITIONS: usize = 6;

type TradeRecord = TopicRecord<Trade<'static>>;

/// Windows close every ten seconds, watermarks and spans come every second.
const WITHIN: Duration = Duration::from_secs(120);

fn by_instrument<'a>(trades: &'a [TradeRecord]) -> BTreeMap<&'a str, Vec<&'a TradeRecord>> {
    let mut by: BTreeMap<&str, Vec<&'a TradeRecord>> = BTreeMap::new();
    for record in trades {
        by.entry(&record.value.instrument_name).or_default().push(record);
    }
    by
}

/// The time up to which every partition is complete by the producer's own watermarks, once it is past `enough`. The newest trades do not show
/// it: an instrument's first trades may wait for history while others of its partition go on.
async fn complete_through(servers: &Servers, enough: i64) -> anyhow::Result<i64> {
    let topic = DecodedTopic::<Watermark>::new(servers, "deribit.trades.watermarks", &WATERMARK);
    let mut slowest = i64::MIN;
    let complete = async || {
        let marks = topic.read().await?;
        let newest: BTreeMap<_, _> =
            marks.iter().map(|mark| (mark.value.partition, mark.value.complete_through)).collect();
        slowest = newest.values().copied().min().unwrap_or(i64::MIN);
        ensure!(newest.len() == PARTITIONS && slowest >= enough, "{newest:?}");
        Ok(true)
    };
    eventually(WITHIN, &format!("all partitions are complete through {enough}"), complete).await?;
    Ok(slowest)
}

fn oldest(trades: &[TradeRecord]) -> Option<i64> {
    trades.iter().map(|record| record.value.timestamp).min()
}

fn millis(comparable: &serde_json::Value) -> i64 {
    let number =
        comparable.as_str().and_then(|text| text.split(' ').nth(1)).and_then(|text| text.parse::<i64>().ok());
    number.unwrap_or_else(|| panic!("not a number: {comparable}"))
}

#[tokio::test]
async fn the_topic_has_every_trade_of_the_exchange_once_and_in_order() {
    let servers = Servers::find().unwrap();
    let topic = DecodedTopic::<Trade<'static>>::new(&servers, "deribit.trades", &TRADE);
    let enough = oldest(&topic.read().await.unwrap()).unwrap() + 5_000;
    let complete_through = complete_through(&servers, enough).await.unwrap();
    // Read after the watermarks: the trades that they cover are there by now.
    let trades = topic.read().await.unwrap();
    assert!(trades.len() > 100, "only {} trades", trades.len());
    let first = oldest(&trades).unwrap();
    let last = trades.iter().map(|record| record.value.timestamp).max().unwrap();

    let mut there: BTreeMap<(String, i64), exchange::Fields> = BTreeMap::new();
    for fields in exchange::trades(&servers, first, last).await.unwrap() {
        let key =
            (fields["instrument_name"].as_str().unwrap().to_owned(), fields["trade_seq"].as_i64().unwrap());
        there.insert(key, contract_fields(fields));
    }
    let by_instrument = by_instrument(&trades);
    for (instrument, records) in &by_instrument {
        let partition = records[0].partition;
        for pair in records.windows(2) {
            assert_eq!(pair[1].value.trade_seq, pair[0].value.trade_seq + 1, "{instrument} in offset order");
        }
        for record in records {
            assert_eq!((record.key.as_str(), record.partition), (*instrument, partition));
            assert_eq!(record.timestamp, record.value.timestamp);
            let key = ((*instrument).to_owned(), record.value.trade_seq);
            let exchanged = there.get(&key).unwrap_or_else(|| panic!("the exchange has no {key:?}"));
            assert_eq!(&topic_fields(&record.value), exchanged);
        }
    }
    // The topic begins at a time, and the first trade that is there is at that time or later.
    let expected: Vec<_> = there
        .iter()
        .filter(|(_, fields)| (first..=complete_through).contains(&millis(&fields["timestamp"])))
        .map(|(key, _)| key)
        .collect();
    assert!(!expected.is_empty(), "nothing to expect between {first} and {complete_through}");
    for (instrument, seq) in expected {
        let found = by_instrument
            .get(instrument.as_str())
            .is_some_and(|records| records.iter().any(|record| record.value.trade_seq == *seq));
        assert!(
            found,
            "{instrument} {seq} of the exchange is not in the topic, which is complete through {complete_through}"
        );
    }
}

/// The spans from an average of the aggregator up to the socket, if the trace has them.
fn average_to_socket(trace: &[ZipkinSpan]) -> Option<Vec<&ZipkinSpan>> {
    let average = trace
        .iter()
        .find(|span| span.service() == "agg-producer" && span.name.contains("moving-averages"))?;
    let spans = ancestors(trace, average);
    let is_root = |span: &&ZipkinSpan| span.service() == "raw-producer" && span.parent_id.is_none();
    spans.last().is_some_and(is_root).then_some(spans)
}

#[tokio::test]
async fn zipkin_leads_from_the_socket_through_both_services_to_the_average() {
    let servers = Servers::find().unwrap();
    let leads = async || {
        let traces = zipkin::traces(&servers, "agg-producer").await?;
        let spans = traces.iter().find_map(|trace| average_to_socket(trace));
        let spans = spans.with_context(|| format!("none of {} traces", traces.len()))?;
        let services: Vec<_> = spans.iter().map(|span| span.service()).collect();
        assert!(services.contains(&"agg-producer") && services.contains(&"raw-producer"), "{spans:?}");
        assert_eq!(spans.last().unwrap().name, "websocket receive");
        assert!(spans.iter().all(|span| span.kind.is_some() && span.duration.is_some()), "{spans:?}");
        Ok(true)
    };
    eventually(WITHIN, "a trace leads to an average", leads).await.unwrap();
}

/// The tests of the paused pipeline compare whatever is there by then: that must be more than the one window that `make run` waits for.
#[tokio::test]
async fn one_window_after_the_other_is_published() {
    let servers = Servers::find().unwrap();
    let topic =
        DecodedTopic::<MovingAverage<'static>>::new(&servers, "deribit.moving-averages", &MOVING_AVERAGE);
    let published = async || {
        let records = topic.read().await?;
        let ends: BTreeSet<i64> = records.iter().map(|record| record.value.window_end).collect();
        ensure!(ends.len() >= 3, "{} averages, of the windows that end at {ends:?}", records.len());
        Ok(true)
    };
    eventually(WITHIN, "three windows are published", published).await.unwrap();
}

#[tokio::test]
async fn every_service_is_live_ready_and_shows_its_metrics() {
    let servers = Servers::find().unwrap();
    for (port, metric) in [
        ("RAW_PRODUCER_PORT", "raw_producer_trades_published_total"),
        ("AGG_PRODUCER_PORT", "agg_producer_"),
        ("JDBC_SINK_PORT", "jdbc_sink_"),
        ("DERIBIT_SIM_ADMIN_PORT", "deribit_sim_"),
    ] {
        for path in ["/live", "/ready"] {
            let answers = async || {
                let answer = e2e::get(servers.url(port, path)?).await?;
                let status = answer.status();
                ensure!(status == 200, "{status}: {}", answer.text().await?);
                Ok(true)
            };
            eventually(WITHIN, &format!("{port} {path}"), answers).await.unwrap();
        }
        let metrics = e2e::get(servers.url(port, "/metrics").unwrap()).await.unwrap().text().await.unwrap();
        assert!(metrics.contains(metric), "{port}: {metrics}");
    }
}
