//! Compares the topic with the exchange.

use std::collections::{BTreeMap, HashSet};

use anyhow::{bail, ensure};
use common::avro::schema::{TRADE, WATERMARK};
use common::model::{Trade, Watermark};
use deribit_sim::market::MarketTime;

use super::IngestFixture;
use crate::exchange::{Fields, contract_fields, topic_fields};
use crate::topic::{DecodedTopic, TopicRecord};

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, Default)]
pub struct TradeComparison {
    /// Trades in the topic.
    pub trades: usize,
    /// Trades that the exchange has and the topic lacks.
    pub lost: usize,
    /// Records whose trade the topic has already.
    pub doubled: usize,
}

impl IngestFixture {
    /// Compares as [`Self::tally`] does, and fails at any difference.
    pub async fn compare(&self, through: MarketTime) -> anyhow::Result<TradeComparison> {
        let (compared, wrong) = self.tally(through).await?;
        let same = wrong.is_empty() && compared.lost == 0 && compared.doubled == 0;
        ensure!(same, "{} through {through:?}: {compared:?}: {}", self.topic, wrong.join("; "));
        Ok(compared)
    }

    /// Compares the topic with the exchange: of every instrument, the topic has the exchange's trades from the start on, field by field,
    /// in order, once, at least up to that time. Returns the differences by instrument.
    pub async fn tally(&self, through: MarketTime) -> anyhow::Result<(TradeComparison, Vec<String>)> {
        let records = self.records().await?;
        ensure!(!records.is_empty(), "{} is empty", self.topic);
        let mut compared = TradeComparison { trades: records.len(), ..TradeComparison::default() };
        for record in &records {
            let Trade { instrument_name, timestamp, .. } = &record.value;
            let agree = record.key == *instrument_name && record.timestamp == *timestamp;
            ensure!(agree, "key and timestamp are the trade's: {record:?}");
        }
        let newest = records.iter().map(|record| record.timestamp).max().unwrap_or(0);
        let mut expected = self.expected(MarketTime(u64::try_from(newest)?).max(through).plus(1))?;
        let mut wrong = Vec::new();
        for (name, found) in by_instrument(&records) {
            let of = expected.remove(&name).unwrap_or_default();
            if let Err(error) = compare_instrument(&found, &of, through, &mut compared) {
                wrong.push(format!("{name}: {error}"));
            }
        }
        for (name, of) in expected {
            if let Err(error) = compare_instrument(&[], &of, through, &mut compared) {
                wrong.push(format!("{name}: {error}"));
            }
        }
        Ok((compared, wrong))
    }

    /// The topic's trades. It must have exactly as many other records as others wrote.
    async fn records(&self) -> anyhow::Result<Vec<TopicRecord<Trade<'static>>>> {
        let topic = DecodedTopic::<Trade<'static>>::new(&self.harness.servers, &self.topic, &TRADE);
        let (records, undecodable) = topic.read_decodable().await?;
        ensure!(
            undecodable.len() == self.foreign,
            "{} has records that do not decode: {undecodable:?}",
            self.topic
        );
        Ok(records)
    }

    /// Compares every watermark with the topic: no trade up to that time has a higher offset. Returns how many there are.
    pub async fn check_watermarks(&self) -> anyhow::Result<usize> {
        let records = self.records().await?;
        let name = format!("{}.watermarks", self.topic);
        let marks = DecodedTopic::<Watermark>::new(&self.harness.servers, name, &WATERMARK).read().await?;
        let offsets: HashSet<_> = records.iter().map(|record| (record.partition, record.offset)).collect();
        for mark in &marks {
            let Watermark { partition, complete_through, offset } = mark.value;
            ensure!(mark.partition == partition, "{mark:?} lies in another partition");
            let directly = offset == 0 || offsets.contains(&(partition, offset - 1));
            ensure!(directly, "{mark:?} is not directly behind a trade");
            let behind = records.iter().find(|record| {
                record.partition == partition
                    && record.timestamp <= complete_through
                    && record.offset >= offset
            });
            if let Some(behind) = behind {
                bail!("{mark:?}, and yet {behind:?}");
            }
        }
        Ok(marks.len())
    }

    /// The exchange's trades from the topic's start to that time, by instrument and in order of their sequence numbers.
    pub fn expected(&self, until: MarketTime) -> anyhow::Result<BTreeMap<String, Vec<(MarketTime, Fields)>>> {
        let exchange = self.exchange()?;
        let mut trades = exchange.market().trades(self.start..until);
        trades.sort_by_key(|trade| trade.trade_seq);
        let mut expected: BTreeMap<String, Vec<(MarketTime, Fields)>> = BTreeMap::new();
        for trade in trades {
            let fields = contract_fields(serde_json::from_str(&trade.to_json())?);
            expected.entry(trade.instrument_name.to_string()).or_default().push((trade.timestamp, fields));
        }
        Ok(expected)
    }
}

fn by_instrument<'r>(
    records: &'r [TopicRecord<Trade<'static>>],
) -> BTreeMap<String, Vec<&'r Trade<'static>>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in records {
        all.entry(record.value.instrument_name.to_string()).or_default().push(&record.value);
    }
    all
}

/// The topic's trades of an instrument are the exchange's first ones, and none before `through` is missing.
fn compare_instrument(
    found: &[&Trade<'static>],
    expected: &[(MarketTime, Fields)],
    through: MarketTime,
    compared: &mut TradeComparison,
) -> anyhow::Result<()> {
    let mut seqs: Vec<i64> = found.iter().map(|trade| trade.trade_seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    compared.doubled += found.len() - seqs.len();
    let due = expected.iter().filter(|(time, _)| *time < through).count();
    let lost = due.saturating_sub(seqs.len());
    compared.lost += lost;
    for (found, (_, expected)) in found.iter().zip(expected) {
        let found = topic_fields(found);
        ensure!(found == *expected, "the topic has {found:?} where the exchange has {expected:?}");
    }
    ensure!(found.len() <= expected.len(), "{} more than the exchange has", found.len() - expected.len());
    ensure!(
        lost == 0,
        "{lost} are missing behind number {:?}, {:?} there and {due} due",
        seqs.last(),
        seqs.len()
    );
    Ok(())
}
