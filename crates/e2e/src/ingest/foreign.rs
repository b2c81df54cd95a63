//! Records that others than the producer write: its own once more, and records that are no trades.

use std::time::Duration;

use anyhow::Context as _;
use common::avro::trade_encoder::TradeEncoder;
use common::config::KafkaConfig;
use common::kafka::client::{Role, config};
use common::kafka::hanging_transactions::TransactionGuard;
use common::kafka::transaction::TransactionalProducer;
use raw_producer::deribit::message::{Frame, ParsedTrade, parse};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::IngestFixture;
use crate::produce::send;

/// How long Kafka may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Records as the producer writes them, for another producer.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The topic.
    pub topic: String,
    /// Keys and values.
    pub records: Vec<(String, Vec<u8>)>,
}

impl IngestFixture {
    /// The records of the exchange's last second.
    pub fn samples(&self) -> anyhow::Result<Samples> {
        let (now, encoder) = (self.now()?, TradeEncoder::new(1));
        let trades = self.exchange()?.market().trades(now.minus(1_000)..now);
        let record = |trade: &deribit_sim::market::MarketTrade| {
            let (text, mut value) = (trade.to_json(), Vec::new());
            let text =
                format!(r#"{{"method":"subscription","params":{{"channel":"trades.x","data":[{text}]}}}}"#);
            if let Ok(Frame::Trades(bundle)) = parse(&text, i64::try_from(now.0).unwrap_or(0) * 1000) {
                for trade in &bundle.trades {
                    if let ParsedTrade::Readable(trade) = trade {
                        encoder.encode(trade, &mut value);
                    }
                }
            }
            (trade.instrument_name.to_string(), value)
        };
        let records = trades.iter().map(record).collect();
        Ok(Samples { kafka: self.harness.servers.kafka()?, topic: self.topic.clone(), records })
    }

    /// Another producer, whose transactions may stay open for ten minutes.
    pub fn foreign_producer(&self) -> anyhow::Result<TransactionalProducer> {
        let role = Role::TransactionalProducer { transactional_id: format!("{}.stranger", self.topic) };
        let mut settings = config(&self.harness.servers.kafka()?, "stranger", &role);
        settings.set("transaction.timeout.ms", "600000");
        let (context, guard) = (DefaultProducerContext, TransactionGuard::disabled());
        Ok(TransactionalProducer::fence(&settings, context, guard, ANSWER_TIMEOUT)?)
    }

    /// Writes values that are no trades into every partition. Returns how many such records the topic has now.
    pub fn write_foreign_records(&mut self, values: &[&[u8]]) -> anyhow::Result<usize> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            config(&self.harness.servers.kafka()?, "stranger", &Role::Producer).create()?;
        let metadata = producer.client().fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT)?;
        let partitions = metadata.topics().first().context("no metadata")?.partitions().len();
        for partition in 0..i32::try_from(partitions)? {
            for value in values {
                send(
                    &producer,
                    BaseRecord::to(&self.topic).partition(partition).key("stranger").payload(*value),
                )?;
                self.foreign += 1;
            }
        }
        producer.flush(ANSWER_TIMEOUT)?;
        Ok(self.foreign)
    }
}
