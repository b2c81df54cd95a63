//! The two tables as this service knows them: their columns, and the row of each record.

mod value;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;

use common::avro::schema::{Contract, MOVING_AVERAGE, TRADE};
use common::model::{MovingAverage, Trade};
use tokio_postgres::types::ToSql;

pub(crate) use value::SqlValue;

/// A table that a connector fills.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// In the order of a [`Row`]'s values; the first is the instrument's name.
    pub(crate) columns: &'static [&'static str],
    /// The columns of the primary key.
    pub(crate) key: &'static [&'static str],
    /// The column that rises from record to record of an instrument.
    pub(crate) sequence: ColumnRef,
    /// The column by which retention measures a row's age.
    pub(crate) time: ColumnRef,
    /// The Avro type of its records.
    pub(crate) contract: &'static LazyLock<Contract>,
}

/// A column, and its index in a [`Row`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnRef {
    pub(crate) name: &'static str,
    pub(crate) index: usize,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Table {}

pub(crate) static TRADES: Table = Table {
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
    sequence: ColumnRef { name: "trade_seq", index: 1 },
    time: ColumnRef { name: "timestamp", index: 3 },
    contract: &TRADE,
};

pub(crate) static MOVING_AVERAGES: Table = Table {
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
    sequence: ColumnRef { name: "window_end", index: 2 },
    time: ColumnRef { name: "window_end", index: 2 },
    contract: &MOVING_AVERAGE,
};

impl Table {
    /// The columns, quoted, for a statement.
    pub(crate) fn column_list(&self) -> String {
        list(self.columns.iter().map(|column| quoted(column)))
    }

    /// The connector's own upsert; its parameters are [`Row::params`].
    pub(crate) fn upsert(&self) -> String {
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

/// One value for each column of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) values: Vec<SqlValue<'a>>,
}

impl<'a> Row<'a> {
    /// From a row of the database, selected by [`Table::column_list`].
    ///
    /// # Errors
    /// If a column has another type than in the migrations.
    pub(crate) fn from_sql(row: &'a tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let values: Result<_, _> = (0..row.len()).map(|index| row.try_get(index)).collect();
        Ok(Self { values: values? })
    }

    /// The parameters of [`Table::upsert`].
    pub(crate) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value as _).collect()
    }

    /// Empty if there is none, which the tables do not allow.
    pub(crate) fn instrument(&self) -> &str {
        match self.values.first() {
            Some(SqlValue::Text(name)) => name,
            _ => "",
        }
    }

    /// The sequence number of a trade; the end of a window in microseconds since 1970.
    pub(crate) fn sequence(&self, table: &Table) -> i64 {
        self.number(table.sequence)
    }

    /// The time of a trade, the end of a window, in microseconds since 1970.
    pub(crate) fn time(&self, table: &Table) -> i64 {
        self.number(table.time)
    }

    /// 0 if there is none: both columns are part of the contract, and neither may be null.
    fn number(&self, column: ColumnRef) -> i64 {
        self.values.get(column.index).and_then(SqlValue::as_i64).unwrap_or_default()
    }

    /// A hash of every bit of the row.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.values.hash(&mut hasher);
        hasher.finish()
    }
}

impl<'a> From<&'a Trade<'_>> for Row<'a> {
    fn from(trade: &'a Trade<'_>) -> Self {
        let values = vec![
            SqlValue::text(&trade.instrument_name),
            SqlValue::Integer(trade.trade_seq),
            SqlValue::text(&trade.trade_id),
            SqlValue::millis(trade.timestamp),
            SqlValue::Double(trade.price),
            SqlValue::Double(trade.amount),
            SqlValue::Double(trade.index_price),
            SqlValue::text(&trade.direction),
            SqlValue::Integer(trade.tick_direction.into()),
            SqlValue::Timestamp(trade.received_at),
            SqlValue::optional_double(trade.mark_price),
            SqlValue::optional_double(trade.contracts),
            SqlValue::optional_double(trade.iv),
            SqlValue::optional_text(trade.liquidation.as_deref()),
            SqlValue::optional_text(trade.block_trade_id.as_deref()),
            SqlValue::optional_text(trade.combo_id.as_deref()),
            SqlValue::optional_text(trade.combo_trade_id.as_deref()),
            SqlValue::optional_integer(trade.block_trade_leg_count),
            SqlValue::optional_integer(trade.block_rfq_id),
        ];
        Self { values }
    }
}

impl<'a> From<&'a MovingAverage<'_>> for Row<'a> {
    fn from(average: &'a MovingAverage<'_>) -> Self {
        let values = vec![
            SqlValue::text(&average.instrument_name),
            SqlValue::millis(average.window_start),
            SqlValue::millis(average.window_end),
            SqlValue::Integer(average.trade_count),
            SqlValue::Double(average.sma),
            SqlValue::Double(average.ema),
            SqlValue::Double(average.vwap),
            SqlValue::Double(average.open),
            SqlValue::Double(average.high),
            SqlValue::Double(average.low),
            SqlValue::Double(average.close),
            SqlValue::Double(average.volume),
        ];
        Self { values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_columns_are_the_fields_of_the_contract_and_include_the_key() {
        for table in [&TRADES, &MOVING_AVERAGES] {
            let schema: serde_json::Value = serde_json::from_str(table.contract.text).unwrap();
            let fields: Vec<_> =
                schema["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
            assert_eq!(table.columns, fields);
            assert!(table.key.iter().all(|column| table.columns.contains(column)));
            assert_eq!(table.columns[table.sequence.index], table.sequence.name);
            assert_eq!(table.columns[table.time.index], table.time.name);
        }
    }

    #[test]
    fn a_row_has_one_value_for_each_column_in_order() {
        let average = average();
        let row = Row::from(&average);
        assert_eq!(row.values.len(), MOVING_AVERAGES.columns.len());
        assert_eq!((row.instrument(), row.sequence(&MOVING_AVERAGES)), ("A", 2_000));
        assert_eq!(row.values[4], SqlValue::Double(4.0));
        assert_eq!(row.values[11], SqlValue::Double(11.0));
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
