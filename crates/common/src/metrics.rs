//! Prometheus metrics: one registry for each process; names begin with the service's name.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// A gauge of a floating-point number.
pub type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Buckets of durations, from a millisecond to a minute. They are dense around the time of a write to Kafka, so that its quantiles are exact
/// to 20 %.
pub const SECONDS: [f64; 22] = [
    0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 0.2,
    0.5, 1.0, 2.0, 5.0, 15.0, 60.0,
];

/// The metrics registry of a service; clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    prefix: Arc<str>,
}

impl Metrics {
    /// A registry with the metrics of the process. Other names begin with `prefix` and `_`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        Self { registry: Arc::new(Mutex::new(registry)), prefix: prefix.into() }
    }

    /// Registers a counter; `render` appends `_total` to its name.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Registers a gauge of whole numbers.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Registers a gauge of floating-point numbers.
    #[must_use]
    pub fn float_gauge(&self, name: &str, help: &str) -> FloatGauge {
        self.register(name, help, FloatGauge::default())
    }

    /// Registers a histogram of durations in seconds.
    #[must_use]
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.register(name, help, Histogram::new(SECONDS))
    }

    /// Registers a metric with labels.
    #[must_use]
    pub fn family<L, M>(&self, name: &str, help: &str) -> Family<L, M>
    where
        L: EncodeLabelSet + Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static,
        M: Default + Send + Sync + 'static,
        fn() -> M: MetricConstructor<M>,
        Family<L, M>: Metric,
    {
        self.register(name, help, Family::<L, M>::default())
    }

    fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let name = format!("{}_{name}", self.prefix);
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }

    /// All metrics in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).expect("writing to a string cannot fail");
        text
    }
}

/// `process_resident_memory_bytes`, named as in Prometheus' own clients.
#[derive(Debug)]
struct ProcessCollector;

impl prometheus_client::collector::Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let memory = ConstGauge::new(resident_bytes().unwrap_or(0));
        let described = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            "Resident memory",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        memory.encode(described)
    }
}

/// Resident memory of this process in bytes; `None` where there is no `/proc`.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_under_the_name_of_the_service() {
        let metrics = Metrics::new("raw_producer");
        metrics.counter("trades_published", "Trades acknowledged by Kafka").inc_by(3);
        metrics.float_gauge("feed_delay_seconds", "x").set(0.25);
        metrics
            .family::<[(String, String); 1], Gauge>("lag", "x")
            .get_or_create(&[("partition".into(), "2".into())])
            .set(7);
        let text = metrics.render();
        assert!(text.contains("raw_producer_trades_published_total 3"), "{text}");
        assert!(text.contains("raw_producer_feed_delay_seconds 0.25"), "{text}");
        assert!(text.contains("raw_producer_lag{partition=\"2\"} 7"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_process_shows_its_memory() {
        let bytes = resident_bytes().unwrap();
        assert!(bytes > 1 << 20, "{bytes}");
        assert!(Metrics::new("x").render().contains("process_resident_memory_bytes "));
    }
}
