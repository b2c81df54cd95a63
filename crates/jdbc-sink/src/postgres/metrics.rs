//! Metrics of the tables.

use common::metrics::{Counter, Gauge, Metrics};
use prometheus_client::metrics::family::Family;

use crate::labels::TableLabel;

#[derive(Debug, Clone)]
pub(crate) struct TableMetrics {
    /// 1 once the migrations have been applied.
    pub(crate) ready: Gauge,
    rows_deleted: Family<TableLabel, Counter>,
}

impl TableMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            ready: metrics.gauge("tables_ready", "1 once all migrations have been applied"),
            rows_deleted: metrics.family("retention_rows_deleted", "Rows deleted by retention"),
        }
    }

    /// Also called with 0, so that the counter exists before the first deletion.
    pub(crate) fn add_deleted(&self, table: &'static str, rows: u64) {
        self.rows_deleted.get_or_create(&TableLabel { table }).inc_by(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_rows_are_counted_for_each_table() {
        let registry = Metrics::new("jdbc_sink");
        let metrics = TableMetrics::new(&registry);
        metrics.add_deleted("trades", 5);
        let text = registry.render();
        assert!(text.contains("jdbc_sink_retention_rows_deleted_total{table=\"trades\"} 5"), "{text}");
    }
}
