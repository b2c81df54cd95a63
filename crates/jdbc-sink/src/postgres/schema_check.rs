//! Whether the tables are still as the migrations made them. What was changed by hand shows here, by name, instead of in a connector that
//! fails at every record.

use common::avro::schema::{MOVING_AVERAGE, TRADE};
use serde_json::Value;
use tokio_postgres::{Client, Error};

use crate::table::{TRADES, Table};

/// A column: its name, its type as Postgres writes it, and whether it may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) nullable: bool,
}

/// What the database says of a table.
#[derive(Debug, Default)]
struct Found {
    /// With each, whether it fills itself where nothing is given.
    columns: Vec<(Column, bool)>,
    key: Vec<String>,
}

const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod), NOT attnotnull, atthasdef OR attidentity <> '' \
     FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";

const KEY: &str = "SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, place) \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
     WHERE i.indrelid = to_regclass($1::text) AND i.indisprimary ORDER BY k.place";

/// What of the table is not as the migrations made it, each in words; nothing if it is.
///
/// # Errors
/// If the database does not answer.
pub async fn changes(client: &Client, table: &Table) -> Result<Vec<String>, Error> {
    let mut found = Found::default();
    for row in client.query(COLUMNS, &[&table.name]).await? {
        let column = Column { name: row.try_get(0)?, kind: row.try_get(1)?, nullable: row.try_get(2)? };
        found.columns.push((column, row.try_get(3)?));
    }
    for row in client.query(KEY, &[&table.name]).await? {
        found.key.push(row.try_get(0)?);
    }
    Ok(found.changes(table, &expected(table)))
}

/// The columns of a table: what gives back exactly what the Avro fields hold.
pub(super) fn expected(table: &Table) -> Vec<Column> {
    let contract = if table == &TRADES { &TRADE } else { &MOVING_AVERAGE };
    let schema: Value = serde_json::from_str(contract.text).expect("the contract's schemas are JSON");
    schema.get("fields").and_then(Value::as_array).into_iter().flatten().map(Column::of).collect()
}

impl Column {
    fn of(field: &Value) -> Self {
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

impl Found {
    fn changes(&self, table: &Table, expected: &[Column]) -> Vec<String> {
        if self.columns.is_empty() {
            return vec!["it is not there".into()];
        }
        let mut changes = Vec::new();
        for wanted in expected {
            match self.columns.iter().find(|(column, _)| column.name == wanted.name) {
                None => changes.push(format!("column {} is not there", wanted.name)),
                Some((column, _)) if column != wanted => {
                    changes.push(format!("column {} is {column}, takes {wanted}", wanted.name));
                }
                Some(_) => {}
            }
        }
        let is_ours = |name: &str| expected.iter().any(|column| column.name == name);
        let surplus = self
            .columns
            .iter()
            .filter(|(column, fills)| !is_ours(&column.name) && !column.nullable && !fills);
        changes.extend(surplus.map(|(column, _)| {
            format!("column {} is NOT NULL without a default, and no record fills it", column.name)
        }));
        if self.key != table.key {
            changes.push(format!(
                "its primary key is ({}), takes ({})",
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
    use crate::table::MOVING_AVERAGES;

    fn as_made(table: &Table) -> Found {
        let columns = expected(table).into_iter().map(|column| (column, false)).collect();
        Found { columns, key: table.key.iter().map(|column| (*column).to_owned()).collect() }
    }

    fn changes(found: &Found) -> Vec<String> {
        found.changes(&TRADES, &expected(&TRADES))
    }

    #[test]
    fn a_table_as_it_was_made_has_no_changes() {
        for table in [&TRADES, &MOVING_AVERAGES] {
            assert_eq!(as_made(table).changes(table, &expected(table)), Vec::<String>::new());
        }
    }

    #[test]
    fn what_was_changed_by_hand_is_named_with_what_it_ought_to_be() {
        let mut found = as_made(&TRADES);
        found.columns.retain(|(column, _)| column.name != "iv");
        let price = found.columns.iter_mut().find(|(column, _)| column.name == "price").unwrap();
        price.0.kind = "numeric(10,2)".into();
        found.key.clear();
        assert_eq!(
            changes(&found),
            [
                "column price is numeric(10,2) NOT NULL, takes double precision NOT NULL",
                "column iv is not there",
                "its primary key is (), takes (instrument_name, trade_seq)",
            ]
        );
        assert_eq!(changes(&Found::default()), ["it is not there"]);
    }

    #[test]
    fn a_column_of_somebodys_own_is_borne_unless_no_row_could_be_written() {
        let own = |nullable| Column { name: "note".into(), kind: "text".into(), nullable };
        let mut found = as_made(&TRADES);
        found.columns.push((own(true), false));
        assert_eq!(changes(&found), Vec::<String>::new());
        found.columns.push((own(false), false));
        assert_eq!(changes(&found), ["column note is NOT NULL without a default, and no record fills it"]);
    }
}
