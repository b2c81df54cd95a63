//! Metrics of a sink's records: lag, dead letters, and the last verification.

use std::collections::BTreeMap;

use common::metrics::{Gauge, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use strum::VariantArray as _;

use super::decision::REQUEUED;
use super::store::LastVerification;
use crate::kafka::progress::Lag;
use crate::labels::{ConnectorLabel, TableLabel};
use crate::record::NoRowReason;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeadLetterLabels {
    connector: &'static str,
    reason: String,
}

#[derive(Debug, Clone)]
pub(crate) struct DeadLetterMetrics {
    lag_records: Family<ConnectorLabel, Gauge>,
    lag_seconds: Family<ConnectorLabel, Gauge>,
    dead_letters: Family<DeadLetterLabels, Gauge>,
    requeued: Family<ConnectorLabel, Gauge>,
    verified_at: Family<TableLabel, Gauge>,
    verify_success: Family<TableLabel, Gauge>,
}

impl DeadLetterMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            lag_records: metrics.family("lag_records", "Records that the connector has not written yet"),
            lag_seconds: metrics
                .family("lag_seconds", "Age of the oldest record not written yet, by the exchange's clock"),
            dead_letters: metrics.family("dead_letters", "Dead letters without a row, by reason"),
            requeued: metrics
                .family("dead_letters_requeued", "Dead letters that were requeued and have their row"),
            verified_at: metrics
                .family("last_verify_timestamp_seconds", "Time of the last `verify`, in seconds since 1970"),
            verify_success: metrics
                .family("last_verify_success", "1 if the table matched its topic at the last `verify`"),
        }
    }

    pub(super) fn show_lag(&self, connector: &'static str, Lag { records, seconds }: Lag) {
        self.lag_records.get_or_create(&ConnectorLabel { connector }).set(records);
        self.lag_seconds.get_or_create(&ConnectorLabel { connector }).set(seconds);
    }

    /// Takes the number of dead letters by reason, since the database was created.
    pub(super) fn show_dead_letters(&self, connector: &'static str, by_reason: &BTreeMap<String, i64>) {
        let requeued = by_reason.get(REQUEUED).copied().unwrap_or_default();
        self.requeued.get_or_create(&ConnectorLabel { connector }).set(requeued);
        // A letter that is decided again may have been the last one of its reason.
        for reason in NoRowReason::VARIANTS {
            let labels = DeadLetterLabels { connector, reason: reason.name().into() };
            self.dead_letters.get_or_create(&labels).set(0);
        }
        for (reason, count) in by_reason.iter().filter(|(reason, _)| *reason != REQUEUED) {
            let labels = DeadLetterLabels { connector, reason: reason.clone() };
            self.dead_letters.get_or_create(&labels).set(*count);
        }
    }

    pub(super) fn show_verification(&self, table: &'static str, last: &LastVerification) {
        self.verified_at.get_or_create(&TableLabel { table }).set(last.finished_at);
        self.verify_success.get_or_create(&TableLabel { table }).set(i64::from(last.success));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requeued_dead_letters_have_a_metric_of_their_own() {
        let registry = Metrics::new("jdbc_sink");
        let metrics = DeadLetterMetrics::new(&registry);
        metrics.show_lag("a", Lag { records: 7, seconds: 2 });
        metrics
            .show_dead_letters("a", &BTreeMap::from([("brought_back".into(), 5), ("malformed".into(), 2)]));
        let last = LastVerification { finished_at: 1_700_000_000, success: true };
        metrics.show_verification("trades", &last);
        let text = registry.render();
        for line in [
            "jdbc_sink_last_verify_timestamp_seconds{table=\"trades\"} 1700000000",
            "jdbc_sink_last_verify_success{table=\"trades\"} 1",
            "jdbc_sink_lag_records{connector=\"a\"} 7",
            "jdbc_sink_lag_seconds{connector=\"a\"} 2",
            "jdbc_sink_dead_letters{connector=\"a\",reason=\"malformed\"} 2",
            "jdbc_sink_dead_letters_requeued{connector=\"a\"} 5",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("reason=\"brought_back\""), "{text}");
    }
}
