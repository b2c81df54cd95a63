//! The usual queries of the trades' table, and their plans on a table full of trades.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio_postgres::Client;

/// A query, and the index that answers it.
#[derive(Debug, Clone, Copy)]
pub struct TableQuery {
    /// Its description.
    pub description: &'static str,
    /// Its SQL.
    pub sql: &'static str,
    /// The only index that its plan may read.
    pub index: &'static str,
}

/// The three usual queries.
pub const QUERIES: [TableQuery; 3] = [
    TableQuery {
        description: "an instrument's hour",
        sql: "SELECT * FROM trades WHERE instrument_name = 'FILL-7' \
              AND \"timestamp\" >= TIMESTAMPTZ '2025-01-01 00:30:00+00' AND \"timestamp\" < TIMESTAMPTZ '2025-01-01 01:30:00+00'",
        index: "trades_by_instrument_and_time",
    },
    TableQuery {
        description: "an instrument's last 100",
        sql: "SELECT * FROM trades WHERE instrument_name = 'FILL-7' ORDER BY trade_seq DESC LIMIT 100",
        index: "trades_pkey",
    },
    TableQuery {
        description: "all instruments' minute",
        sql: "SELECT * FROM trades WHERE \"timestamp\" >= TIMESTAMPTZ '2025-01-01 00:45:00+00' \
              AND \"timestamp\" < TIMESTAMPTZ '2025-01-01 00:46:00+00'",
        index: "trades_by_time",
    },
];

/// 100 trades a second on 1,000 instruments, in order of time.
const FILL: &str = "INSERT INTO trades SELECT 'FILL-' || (n * 7919) % 1000, n, 'ETH-' || (n + 300000000), \
     TIMESTAMPTZ '2025-01-01 00:00:00+00' + make_interval(secs => n * 0.01), 60000 + (n % 1000) * 0.5, (n % 100) * 10, 60000.25, \
     CASE WHEN n % 2 = 0 THEN 'buy' ELSE 'sell' END, n % 4, \
     TIMESTAMPTZ '2025-01-01 00:00:00.05+00' + make_interval(secs => n * 0.01), 60001.25, n % 100, \
     CASE WHEN n % 2 = 0 THEN 55.5 END, NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series($1::bigint, $2::bigint) n";

/// Replaces the table's rows by that many trades.
pub async fn fill(client: &Client, rows: i64) -> anyhow::Result<()> {
    const AT_ONCE: i64 = 500_000;
    client.batch_execute("TRUNCATE trades").await?;
    let mut from = 1;
    while from <= rows {
        let to = rows.min(from + AT_ONCE - 1);
        client.execute(FILL, &[&from, &to]).await?;
        from = to + 1;
    }
    Ok(client.batch_execute("VACUUM ANALYZE trades").await?)
}

impl TableQuery {
    /// Fails if the plan reads the table by anything but the query's index.
    pub async fn check_plan(&self, client: &Client) -> anyhow::Result<()> {
        let row = client.query_one(&format!("EXPLAIN (FORMAT JSON) {}", self.sql), &[]).await?;
        let text: String = row.try_get::<_, RawJson>(0)?.0;
        let plan: Value = serde_json::from_str(&text)?;
        let mut scans = Vec::new();
        collect(plan.pointer("/0/Plan").context("no plan")?, &mut scans);
        let of_index = |(_, index): &(String, Option<String>)| index.as_deref() == Some(self.index);
        ensure!(!scans.is_empty() && scans.iter().all(of_index), "{}: {plan:#}", self.description);
        Ok(())
    }

    /// Runs it many times. Returns the rows of one run, and the median time.
    pub async fn time(&self, client: &Client) -> anyhow::Result<(usize, Duration)> {
        const TIMES: usize = 21;
        let (mut rows, mut times) = (0, Vec::new());
        for _ in 0..TIMES {
            let began = Instant::now();
            rows = client.query(self.sql, &[]).await?.len();
            times.push(began.elapsed());
        }
        times.sort();
        Ok((rows, times.get(TIMES / 2).copied().unwrap_or_default()))
    }
}

/// Collects the scans of a plan with their indexes. A bitmap heap scan reads by the index of its bitmap.
fn collect(node: &Value, scans: &mut Vec<(String, Option<String>)>) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    if kind.ends_with("Scan") && kind != "Bitmap Heap Scan" {
        scans.push((kind.to_owned(), node["Index Name"].as_str().map(str::to_owned)));
    }
    for inner in node["Plans"].as_array().into_iter().flatten() {
        collect(inner, scans);
    }
}

/// The text of a JSON value, which the driver would parse.
struct RawJson(String);

impl<'a> tokio_postgres::types::FromSql<'a> for RawJson {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        *ty == tokio_postgres::types::Type::JSON
    }
}
