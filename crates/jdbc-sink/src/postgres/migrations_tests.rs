use std::collections::BTreeSet;

use super::*;
use crate::postgres::connection::PostgresConfig;
use crate::postgres::schema_check::{Column, expected};
use crate::postgres::url::PostgresUrl;

fn database() -> Database {
    let password_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&password_file, "hunter2").unwrap();
    let url = PostgresUrl::parse("postgresql://kstream@h/db").unwrap();
    Database::new(&PostgresConfig { url, password_file: password_file.path().to_owned() }).unwrap()
}

fn migration(name: &str) -> Migration {
    Migration::unapplied(name, "SELECT 1").unwrap()
}

#[test]
fn every_file_of_the_folder_is_a_migration_and_they_count_up_from_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../connect/migrations");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap().trim_end_matches(".sql").to_owned())
        .collect();
    assert_eq!(files, MIGRATIONS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let versions: Vec<_> = runner().get_migrations().iter().map(Migration::version).collect();
    assert_eq!(versions, (1..=i32::try_from(MIGRATIONS.len()).unwrap()).collect::<Vec<_>>());
}

/// The columns that the migrations give the table, in order.
fn columns(table: &str) -> Vec<Column> {
    let sql: String = MIGRATIONS.iter().map(|(_, sql)| *sql).collect();
    let (_, behind) = sql.split_once(&format!("CREATE TABLE {table} (\n")).unwrap();
    let (body, _) = behind.split_once("\n);").unwrap();
    let lines =
        body.lines().map(str::trim).filter(|line| !line.starts_with("--") && !line.starts_with("PRIMARY"));
    lines
        .map(|line| {
            let words: Vec<_> = line.trim_end_matches(',').split_whitespace().collect();
            let words: Vec<_> =
                words.into_iter().filter(|word| !["COLLATE", "\"C\""].contains(word)).collect();
            let (kind, nullable) = match words[1..].join(" ") {
                kind if kind.ends_with(" NOT NULL") => (kind.trim_end_matches(" NOT NULL").to_owned(), false),
                kind => (kind, true),
            };
            // As Postgres itself writes it.
            let kind = match kind.strip_prefix("timestamptz") {
                Some(precision) => format!("timestamp{precision} with time zone"),
                None => kind,
            };
            Column { name: words[0].trim_matches('"').to_owned(), kind, nullable }
        })
        .collect()
}

#[test]
fn each_column_is_named_and_typed_as_its_avro_field_and_has_a_comment() {
    let sql: String = MIGRATIONS.iter().map(|(_, sql)| *sql).collect();
    for table in [&TRADES, &MOVING_AVERAGES] {
        let (name, expected) = (table.name, expected(table));
        assert_eq!(columns(name), expected);
        assert!(sql.contains(&format!("COMMENT ON TABLE {name} IS '")));
        for column in expected {
            let column = if column.name == "timestamp" { "\"timestamp\"" } else { &column.name };
            assert!(sql.contains(&format!("COMMENT ON COLUMN {name}.{column} IS '")), "{name}.{column}");
        }
    }
}

#[test]
fn a_newer_database_is_rejected_with_its_migration_and_the_version_to_start() {
    let mut newer = migration("V7__views");
    newer.set_applied();
    let failure = explain(&database(), &Kind::MissingVersion(newer));
    assert_eq!(failure.code(), 78);
    let message = failure.to_string();
    assert!(
        message.contains(
            "postgresql://kstream@h:5432/db is newer than this version: it has migration V7__views"
        ),
        "{message}"
    );
}

#[test]
fn a_history_with_a_gap_has_a_message_of_its_own() {
    let failure = explain(&database(), &Kind::MissingVersion(migration("V1__x")));
    assert_eq!(failure.code(), 78);
    assert!(failure.to_string().contains("lacks migration V1__x"), "{failure}");
}

#[test]
fn a_migration_changed_by_hand_is_rejected_with_both_checksums() {
    let (ours, applied) = (migration("V1__x"), Migration::unapplied("V1__x", "SELECT 2").unwrap());
    let sums = [ours.checksum().to_string(), applied.checksum().to_string()];
    let failure = explain(&database(), &Kind::DivergentVersion(applied, ours));
    assert_eq!(failure.code(), 78);
    let message = failure.to_string();
    assert!(sums.iter().all(|sum| message.contains(sum)), "{message}");
    assert!(message.contains("changed by hand"), "{message}");
}

#[test]
fn a_connection_lost_midway_is_not_a_configuration_error() {
    let lost = std::io::Error::other("connection reset");
    let failure = explain(&database(), &Kind::Connection("error applying migration".into(), Box::new(lost)));
    assert_eq!(failure.code(), 1);
    assert!(failure.to_string().contains("postgres at h:5432: error applying migration"), "{failure}");
}
