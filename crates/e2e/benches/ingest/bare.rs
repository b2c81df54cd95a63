//! A bare producer: librdkafka with the settings of our transactional producers, the same records, and nothing around them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::kafka::client::{Role, config};
use common::kafka::hanging_transactions::TransactionGuard;
use common::kafka::transaction::TransactionalProducer;
use e2e::ingest::Samples;
use e2e::metrics::HistogramSnapshot;
use e2e::service::ProcessUsage;
use raw_producer::BATCH_MAX;
use rdkafka::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext};

/// What the exchange collects in 100 ms at 20,000 trades a second, which is what the producer writes in one transaction.
const TRANSACTION: usize = 2_000;
/// The same at 1,000 trades a second.
const BUNDLE: usize = 100;
/// Bundles that do not count: connecting and the like is in them.
const FIRST: usize = 50;

/// Remembers how long each record took.
#[derive(Clone, Default)]
struct Delays(Arc<Mutex<Vec<f64>>>);

impl ClientContext for Delays {}

impl ProducerContext for Delays {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, _: &DeliveryResult<'_>, sent: Box<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sent.elapsed().as_secs_f64());
    }
}

fn producer(samples: &Samples, delays: &Delays) -> anyhow::Result<TransactionalProducer<Delays>> {
    let role = Role::TransactionalProducer { transactional_id: format!("{}.bare", samples.topic) };
    let settings = config(&samples.kafka, "bare", &role);
    Ok(TransactionalProducer::fence(
        &settings,
        delays.clone(),
        TransactionGuard::disabled(),
        Duration::from_secs(15),
    )?)
}

fn transaction(
    producer: &mut TransactionalProducer<Delays>,
    samples: &Samples,
    records: impl Iterator<Item = usize>,
) -> anyhow::Result<()> {
    let transaction = producer.begin()?;
    for number in records {
        let Some((key, value)) = samples.records.get(number % samples.records.len()) else { continue };
        let record = BaseRecord::with_opaque_to(&samples.topic, Box::new(Instant::now()));
        transaction.send(record.key(key.as_bytes()).payload(value.as_slice()))?;
    }
    Ok(transaction.commit()?)
}

/// Records a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// By the clock.
    pub(crate) wall: f64,
    /// By the CPU time of the process that wrote them.
    pub(crate) cpu: f64,
}

/// How fast records are written that come `a_second`, in bundles. A process that is woken for each bundle finds its caches cold, and zstd
/// little to compress at once: who is compared with it is to have the same pace.
pub(crate) fn at_pace(samples: &Samples, count: usize, a_second: f64) -> anyhow::Result<Rate> {
    let due = |first: usize| Some(Duration::from_secs_f64(first as f64 / a_second));
    rate(samples, count, TRANSACTION, due)
}

/// How fast records are written that are all there.
pub(crate) fn flat_out(samples: &Samples, count: usize) -> anyhow::Result<Rate> {
    rate(samples, count, BATCH_MAX, |_| None)
}

fn rate(
    samples: &Samples,
    count: usize,
    size: usize,
    due: impl Fn(usize) -> Option<Duration>,
) -> anyhow::Result<Rate> {
    let mut producer = producer(samples, &Delays::default())?;
    let (before, begun) = (ProcessUsage::of(std::process::id())?, Instant::now());
    for first in (0..count).step_by(size) {
        if let Some(due) = due(first) {
            std::thread::park_timeout((begun + due).saturating_duration_since(Instant::now()));
        }
        transaction(&mut producer, samples, first..count.min(first + size))?;
    }
    let wall = begun.elapsed();
    let cpu = ProcessUsage::of(std::process::id())?.cpu.saturating_sub(before.cpu);
    Ok(Rate { wall: count as f64 / wall.as_secs_f64(), cpu: count as f64 / cpu.as_secs_f64() })
}

/// How long records took that come as the exchange's bundles do.
pub(crate) fn delays(samples: &Samples, bundles: usize) -> anyhow::Result<HistogramSnapshot> {
    let delays = Delays::default();
    let mut producer = producer(samples, &delays)?;
    for bundle in 0..FIRST + bundles {
        transaction(&mut producer, samples, bundle * BUNDLE..(bundle + 1) * BUNDLE)?;
        std::thread::park_timeout(Duration::from_millis(90));
    }
    let all = delays.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(HistogramSnapshot::of(all.get(FIRST * BUNDLE..).unwrap_or_default()))
}
