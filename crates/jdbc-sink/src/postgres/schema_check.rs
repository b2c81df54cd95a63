//! Compares the tables with the migrations. Without this check, a change by hand would show only as a connector that fails at every
//! record.

use serde_json::Value;
use tokio_postgres::{Client, Error};

use crate::table::Table;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// As Postgres formats it.
    pub(super) kind: String,
    pub(super) nullable: bool,
}

/// A table in the database.
#[derive(Debug, Default)]
struct TableSchema {
    columns: Vec<FoundColumn>,
    key: Vec<String>,
}

#[derive(Debug)]
struct FoundColumn {
    column: Column,
    /// A default or an identity: an insert need not give a value.
    has_default: bool,
}

const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod), NOT attnotnull, atthasdef OR attidentity <> '' \
     FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";

const KEY: &str = "SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, place) \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
     WHERE i.indrelid = to_regclass($1::text) AND i.indisprimary ORDER BY k.place";

/// Describes each difference between the table and the migrations.
pub(crate) async fn changes(client: &Client, table: &Table) -> Result<Vec<String>, Error> {
    let mut found = TableSchema::default();
    for row in client.query(COLUMNS, &[&table.name]).await? {
        let column = Column { name: row.try_get(0)?, kind: row.try_get(1)?, nullable: row.try_get(2)? };
        found.columns.push(FoundColumn { column, has_default: row.try_get(3)? });
    }
    for row in client.query(KEY, &[&table.name]).await? {
        found.key.push(row.try_get(0)?);
    }
    Ok(found.changes(table, &expected(table)))
}

/// The columns that hold exactly what the table's Avro fields hold.
pub(super) fn expected(table: &Table) -> Vec<Column> {
    let schema: Value = serde_json::from_str(table.contract.text).expect("the contract's schemas are JSON");
    schema.get("fields").and_then(Value::as_array).into_iter().flatten().map(Column::from_avro).collect()
}

impl Column {
    fn from_avro(field: &Value) -> Self {
        let nullable = field["type"].is_array();
        let avro = match &field["type"] {
            Value::Array(union) => union.iter().find(|branch| *branch != "null").unwrap_or(&Value::Null),
            other => other,
        };
        let base = avro.as_str().or(avro["type"].as_str());
        let kind = match (avro["logicalType"].as_str(), base) {
            (Some("timestamp-millis"), _) => "timestamp(3) with time zone",
            (Some("timestamp-micros"), _) => "timestamp(6) with time zone",
            (_, Some("long")) => "bigint",
            (_, Some("int")) => "integer",
            (_, Some("double")) => "double precision",
            _ => "text",
        };
        let name = field["name"].as_str().unwrap_or_default().to_owned();
        Self { name, kind: kind.to_owned(), nullable }
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.kind, if self.nullable { "" } else { " NOT NULL" })
    }
}

impl TableSchema {
    fn changes(&self, table: &Table, expected: &[Column]) -> Vec<String> {
        if self.columns.is_empty() {
            return vec!["it does not exist".into()];
        }
        let mut changes = Vec::new();
        for wanted in expected {
            match self.columns.iter().map(|found| &found.column).find(|column| column.name == wanted.name) {
                None => changes.push(format!("column {} is missing", wanted.name)),
                Some(column) if column != wanted => {
                    changes.push(format!("column {} is {column}, expected {wanted}", wanted.name));
                }
                Some(_) => {}
            }
        }
        let is_expected = |name: &str| expected.iter().any(|column| column.name == name);
        let unfilled = self.columns.iter().filter(|FoundColumn { column, has_default }| {
            !is_expected(&column.name) && !column.nullable && !has_default
        });
        changes.extend(unfilled.map(|FoundColumn { column, .. }| {
            format!("column {} is NOT NULL without a default, and no record fills it", column.name)
        }));
        if self.key != table.key {
            changes.push(format!(
                "its primary key is ({}), expected ({})",
                self.key.join(", "),
                table.key.join(", ")
            ));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{MOVING_AVERAGES, TRADES};

    fn found(column: Column) -> FoundColumn {
        FoundColumn { column, has_default: false }
    }

    fn migrated(table: &Table) -> TableSchema {
        let columns = expected(table).into_iter().map(found).collect();
        TableSchema { columns, key: table.key.iter().map(|column| (*column).to_owned()).collect() }
    }

    fn changes(found: &TableSchema) -> Vec<String> {
        found.changes(&TRADES, &expected(&TRADES))
    }

    #[test]
    fn a_migrated_table_has_no_changes() {
        for table in [&TRADES, &MOVING_AVERAGES] {
            assert_eq!(migrated(table).changes(table, &expected(table)), Vec::<String>::new());
        }
    }

    #[test]
    fn a_change_by_hand_is_named_with_what_is_expected() {
        let mut table = migrated(&TRADES);
        table.columns.retain(|found| found.column.name != "iv");
        let price = table.columns.iter_mut().find(|found| found.column.name == "price").unwrap();
        price.column.kind = "numeric(10,2)".into();
        table.key.clear();
        assert_eq!(
            changes(&table),
            [
                "column price is numeric(10,2) NOT NULL, expected double precision NOT NULL",
                "column iv is missing",
                "its primary key is (), expected (instrument_name, trade_seq)",
            ]
        );
        assert_eq!(changes(&TableSchema::default()), ["it does not exist"]);
    }

    #[test]
    fn an_added_column_is_accepted_unless_it_prevents_every_insert() {
        let added = |nullable| found(Column { name: "note".into(), kind: "text".into(), nullable });
        let mut table = migrated(&TRADES);
        table.columns.push(added(true));
        assert_eq!(changes(&table), Vec::<String>::new());
        table.columns.push(added(false));
        assert_eq!(changes(&table), ["column note is NOT NULL without a default, and no record fills it"]);
    }
}
