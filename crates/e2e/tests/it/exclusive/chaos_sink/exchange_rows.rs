//! Compares the table of trades with the exchange: all the way from its market to Postgres.

use anyhow::ensure;
use deribit_sim::market::MarketTime;
use e2e::exchange::{Fields, row_fields};
use e2e::ingest::IngestFixture;
use e2e::sink::SinkFixture;

/// An instrument's rows in order, as JSON with times in milliseconds.
const ROWS: &str = "SELECT (to_jsonb(t) || jsonb_build_object('timestamp', (extract(epoch FROM \"timestamp\") * 1000)::bigint))::text \
     FROM trades t WHERE instrument_name = $1 ORDER BY trade_seq";

/// Each instrument's rows are the exchange's trades, field by field, from the first at least to `through`. Returns the number of rows.
pub(super) async fn compare(
    sink: &SinkFixture,
    ingest: &IngestFixture,
    through: MarketTime,
) -> anyhow::Result<usize> {
    let (client, mut compared) = (sink.database().await?, 0);
    for (name, trades) in ingest.expected(ingest.now()?)? {
        let rows = client.query(ROWS, &[&name]).await?;
        let due = trades.iter().filter(|(time, _)| *time < through).count();
        ensure!(
            (due..=trades.len()).contains(&rows.len()),
            "{name} has {} rows, and {due} trades of {} were due",
            rows.len(),
            trades.len()
        );
        for (row, (_, trade)) in rows.iter().zip(&trades) {
            let row: Fields = serde_json::from_str(row.try_get(0)?)?;
            let row = row_fields(row);
            ensure!(row == *trade, "the table has {row:?} where the exchange has {trade:?}");
        }
        compared += rows.len();
    }
    Ok(compared)
}
