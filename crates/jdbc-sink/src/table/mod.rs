//! The two tables as this service sees them: their columns, and what a record's row in them is.

mod value;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use common::model::{MovingAverage, Trade};

pub use value::Cell;

/// A table that a connector fills.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order of a [`Row`]'s cells; the first is the instrument's name.
    pub columns: &'static [&'static str],
    /// The columns of its primary key.
    pub key: &'static [&'static str],
    /// The column that rises from record to record of an instrument, and where it stands in a row.
    pub rising: (&'static str, usize),
    /// The column by which a row is old, and where it stands in a row.
    pub time: (&'static str, usize),
}

/// `trades`
pub static TRADES: Table = Table {
    name: "trades",
    columns: &[
        "instrument_name",
        "trade_seq",
        "trade_id",
        "timestamp",
        "price",
        "amount",
        "index_price",
        "direction",
        "tick_direction",
        "received_at",
        "mark_price",
        "contracts",
        "iv",
        "liquidation",
        "block_trade_id",
        "combo_id",
        "combo_trade_id",
        "block_trade_leg_count",
        "block_rfq_id",
    ],
    key: &["instrument_name", "trade_seq"],
    rising: ("trade_seq", 1),
    time: ("timestamp", 3),
};

/// `moving_averages`
pub static MOVING_AVERAGES: Table = Table {
    name: "moving_averages",
    columns: &[
        "instrument_name",
        "window_start",
        "window_end",
        "trade_count",
        "sma",
        "ema",
        "vwap",
        "open",
        "high",
        "low",
        "close",
        "volume",
    ],
    key: &["instrument_name", "window_start", "window_end"],
    rising: ("window_end", 2),
    time: ("window_end", 2),
};

impl Table {
    /// Its columns for a statement.
    #[must_use]
    pub fn column_list(&self) -> String {
        list(self.columns.iter().map(|column| quoted(column)))
    }

    /// The statement that makes a row or makes it anew, as the connector does it; its parameters are a [`Row`]'s cells.
    #[must_use]
    pub fn upsert(&self) -> String {
        let values = list((1..=self.columns.len()).map(|number| format!("${number}")));
        let rest =
            self.columns.iter().filter(|column| !self.key.contains(column)).map(|column| quoted(column));
        let changes = list(rest.map(|column| format!("{column} = EXCLUDED.{column}")));
        format!(
            "INSERT INTO {} ({}) VALUES ({values}) ON CONFLICT ({}) DO UPDATE SET {changes}",
            self.name,
            self.column_list(),
            self.key.join(", ")
        )
    }
}

fn quoted(column: &str) -> String {
    format!("\"{column}\"")
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// One for each column of the table.
    pub cells: Vec<Cell<'a>>,
}

impl<'a> Row<'a> {
    /// Of a row of the database, whose columns are the table's.
    ///
    /// # Errors
    /// If a column is of another type than the migrations made it.
    pub fn of(row: &'a tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let cells: Result<_, _> = (0..row.len()).map(|at| row.try_get(at)).collect();
        Ok(Self { cells: cells? })
    }

    /// The instrument's name; empty if it has none, which the tables do not allow.
    #[must_use]
    pub fn instrument(&self) -> &str {
        match self.cells.first() {
            Some(Cell::Text(name)) => name,
            _ => "",
        }
    }

    /// Sequence number of a trade, end of a window in microseconds.
    #[must_use]
    pub fn rank(&self, table: &Table) -> i64 {
        self.cells.get(table.rising.1).and_then(Cell::rank).unwrap_or_default()
    }

    /// When it was traded, when its window ended, in microseconds since 1970.
    #[must_use]
    pub fn time(&self, table: &Table) -> i64 {
        self.cells.get(table.time.1).and_then(Cell::rank).unwrap_or_default()
    }

    /// A number that differs if any bit of the row does, but for chance.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.cells.hash(&mut hasher);
        hasher.finish()
    }
}

impl<'a> From<&'a Trade<'_>> for Row<'a> {
    fn from(trade: &'a Trade<'_>) -> Self {
        let cells = vec![
            Cell::text(&trade.instrument_name),
            Cell::Whole(trade.trade_seq),
            Cell::text(&trade.trade_id),
            Cell::millis(trade.timestamp),
            Cell::Double(trade.price),
            Cell::Double(trade.amount),
            Cell::Double(trade.index_price),
            Cell::text(&trade.direction),
            Cell::Whole(trade.tick_direction.into()),
            Cell::Time(trade.received_at),
            Cell::maybe_double(trade.mark_price),
            Cell::maybe_double(trade.contracts),
            Cell::maybe_double(trade.iv),
            Cell::maybe_text(trade.liquidation.as_deref()),
            Cell::maybe_text(trade.block_trade_id.as_deref()),
            Cell::maybe_text(trade.combo_id.as_deref()),
            Cell::maybe_text(trade.combo_trade_id.as_deref()),
            Cell::maybe_whole(trade.block_trade_leg_count),
            Cell::maybe_whole(trade.block_rfq_id),
        ];
        Self { cells }
    }
}

impl<'a> From<&'a MovingAverage<'_>> for Row<'a> {
    fn from(average: &'a MovingAverage<'_>) -> Self {
        let cells = vec![
            Cell::text(&average.instrument_name),
            Cell::millis(average.window_start),
            Cell::millis(average.window_end),
            Cell::Whole(average.trade_count),
            Cell::Double(average.sma),
            Cell::Double(average.ema),
            Cell::Double(average.vwap),
            Cell::Double(average.open),
            Cell::Double(average.high),
            Cell::Double(average.low),
            Cell::Double(average.close),
            Cell::Double(average.volume),
        ];
        Self { cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::avro::schema::{Contract, MOVING_AVERAGE, TRADE};

    fn average() -> MovingAverage<'static> {
        MovingAverage {
            instrument_name: "A".into(),
            window_start: 1,
            window_end: 2,
            trade_count: 3,
            sma: 4.0,
            ema: 5.0,
            vwap: 6.0,
            open: 7.0,
            high: 8.0,
            low: 9.0,
            close: 10.0,
            volume: 11.0,
        }
    }

    #[test]
    fn the_columns_are_the_contracts_fields_and_the_key_is_among_them() {
        for (table, contract) in [(&TRADES, &TRADE), (&MOVING_AVERAGES, &MOVING_AVERAGE)] {
            let contract: &Contract = contract;
            let schema: serde_json::Value = serde_json::from_str(contract.text).unwrap();
            let fields: Vec<_> =
                schema["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
            assert_eq!(table.columns, fields);
            assert!(table.key.iter().all(|column| table.columns.contains(column)));
            assert_eq!(table.columns[table.rising.1], table.rising.0);
            assert_eq!(table.columns[table.time.1], table.time.0);
        }
    }

    #[test]
    fn a_row_has_a_cell_for_each_column_in_its_order() {
        let average = average();
        let row = Row::from(&average);
        assert_eq!(row.cells.len(), MOVING_AVERAGES.columns.len());
        assert_eq!((row.instrument(), row.rank(&MOVING_AVERAGES)), ("A", 2_000));
        assert_eq!(row.cells[4], Cell::Double(4.0));
        assert_eq!(row.cells[11], Cell::Double(11.0));
    }

    #[test]
    fn an_upsert_names_every_column_and_leaves_the_key_alone() {
        let sql = MOVING_AVERAGES.upsert();
        assert!(sql.starts_with("INSERT INTO moving_averages (\"instrument_name\", "), "{sql}");
        assert!(sql.contains(
            "$12) ON CONFLICT (instrument_name, window_start, window_end) DO UPDATE SET \"trade_count\" = "
        ));
        assert!(!sql.contains("\"window_end\" = EXCLUDED"), "{sql}");
        assert!(sql.ends_with("\"volume\" = EXCLUDED.\"volume\""), "{sql}");
    }

    #[test]
    fn one_bit_changes_the_fingerprint() {
        let (one, mut other) = (average(), average());
        assert_eq!(Row::from(&one).fingerprint(), Row::from(&other).fingerprint());
        other.ema = f64::from_bits(other.ema.to_bits() + 1);
        assert_ne!(Row::from(&one).fingerprint(), Row::from(&other).fingerprint());
    }
}
