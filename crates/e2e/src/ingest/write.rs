//! What others than the producer write: its records once more, and records that are none.

use anyhow::Context as _;
use common::avro::trade_encoder::TradeEncoder;
use common::config::KafkaConfig;
use common::kafka::client::{Role, config};
use common::kafka::hanging_transactions::TransactionGuard;
use common::kafka::transaction::TransactionalProducer;
use raw_producer::deribit::message::{Frame, ParsedTrade, parse};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::{ATTEMPT, Ingest};
use crate::produce::send;

/// Records as the producer writes them, for another to write.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Kafka.
    pub kafka: KafkaConfig,
    /// Where they belong.
    pub topic: String,
    /// Keys and values.
    pub records: Vec<(String, Vec<u8>)>,
}

impl Ingest {
    /// Some records of the topic as they are written.
    pub fn samples(&self) -> anyhow::Result<Samples> {
        let (now, encoder) = (self.now()?, TradeEncoder::new(1));
        let trades =
            self.exchange.as_ref().context("the exchange is away")?.market().trades(now.minus(1_000)..now);
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
        Ok(Samples { kafka: self.stack.kafka()?, topic: self.topic.clone(), records })
    }

    /// Somebody else who writes in transactions, which may stay open for long.
    pub fn stranger(&self) -> anyhow::Result<TransactionalProducer> {
        let role = Role::TransactionalProducer { transactional_id: format!("{}.stranger", self.topic) };
        let mut settings = config(&self.stack.kafka()?, "stranger", &role);
        settings.set("transaction.timeout.ms", "600000");
        Ok(TransactionalProducer::fence(
            &settings,
            DefaultProducerContext,
            TransactionGuard::disabled(),
            ATTEMPT,
        )?)
    }

    /// Somebody else writes these values into the trades' topic, each into every partition. Tells how many records it has by now that are no trades.
    pub fn write_foreign(&mut self, values: &[&[u8]]) -> anyhow::Result<usize> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            config(&self.stack.kafka()?, "stranger", &Role::Producer).create()?;
        let metadata = producer.client().fetch_metadata(Some(&self.topic), ATTEMPT)?;
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
        producer.flush(ATTEMPT)?;
        Ok(self.foreign)
    }
}
