//! Numbers that are easily altered on the way: through the real converter and the real connector, and back from Postgres.

use anyhow::ensure;
use common::model::Trade;
use e2e::fixtures::{FixtureWriter, now_millis, trade};
use e2e::sink::SinkFixture;

const PRICES: [f64; 12] = [
    8.0e-8,
    2.2e3,
    0.0005,
    62999.5,
    0.1 + 0.2,
    -0.0,
    1e21,
    123_456_789.123_456_79,
    f64::MIN_POSITIVE,
    5e-324,
    f64::MAX,
    9_007_199_254_740_993.0,
];
const IDS: [&str; 4] = ["9007199254740993", "18446744073709551617", "ETH-9223372036854775807", "007"];
const BEYOND: i64 = (1 << 53) + 1;

fn exact(at: usize) -> Trade<'static> {
    Trade {
        instrument_name: "EXACT".into(),
        trade_seq: BEYOND + i64::try_from(at).unwrap_or_default(),
        trade_id: IDS[at % IDS.len()].into(),
        price: PRICES[at],
        mark_price: Some(-PRICES[at]),
        block_trade_id: Some(IDS[(at + 1) % IDS.len()].into()),
        block_rfq_id: Some(i64::MAX - 1),
        ..trade(at as u64, now_millis())
    }
}

/// Writes a trade for each price.
pub(super) fn publish(writer: &mut FixtureWriter) -> anyhow::Result<()> {
    (0..PRICES.len()).try_for_each(|at| writer.trade(&exact(at)))
}

/// Compares the rows with the trades, doubles by their bits and ids digit by digit.
pub(super) async fn read_back(sink: &SinkFixture) -> anyhow::Result<()> {
    let sql = "SELECT trade_seq, trade_id, price, mark_price, block_trade_id, block_rfq_id FROM trades \
         WHERE instrument_name = 'EXACT' ORDER BY trade_seq";
    let rows = sink.database().await?.query(sql, &[]).await?;
    ensure!(rows.len() == PRICES.len(), "{} rows of {}", rows.len(), PRICES.len());
    for (at, row) in rows.iter().enumerate() {
        let sent = exact(at);
        assert_eq!(row.try_get::<_, i64>(0)?, sent.trade_seq);
        assert_eq!(row.try_get::<_, String>(1)?, sent.trade_id);
        assert_eq!(row.try_get::<_, f64>(2)?.to_bits(), sent.price.to_bits(), "{}", sent.price);
        let mark = row.try_get::<_, Option<f64>>(3)?.map(f64::to_bits);
        assert_eq!(mark, sent.mark_price.map(f64::to_bits), "{}", sent.price);
        assert_eq!(row.try_get::<_, Option<String>>(4)?.as_deref(), sent.block_trade_id.as_deref());
        assert_eq!(row.try_get::<_, Option<i64>>(5)?, sent.block_rfq_id);
    }
    println!("numbers: {} prices read back bit for bit, ids digit by digit", rows.len());
    Ok(())
}
