//! What an error of the database means: whether the values are at fault, which column, and the message.

use common::Failure;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::table::Table;

/// Whether Postgres rejects the values themselves: SQLSTATE class 22 (data exception) or 23 (integrity constraint violation).
pub(crate) fn is_rejection(error: &Error) -> bool {
    error.code().is_some_and(|code| ["22", "23"].contains(&code.code().get(..2).unwrap_or_default()))
}

/// The message of the server, without the client library's own words.
pub(crate) fn sql_message(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// A statement failed for a reason that lies outside the values.
pub(crate) fn connection_error(error: &Error) -> Failure {
    Failure::Other(anyhow::anyhow!("postgres: {}", sql_message(error)))
}

/// The column that an upsert into `table` failed at; `None` if the server does not name it.
pub(crate) fn rejected_column(error: &Error, table: &Table) -> Option<String> {
    let error = error.as_db_error()?;
    let column = error.column().map(str::to_owned);
    column.or_else(|| error.where_().and_then(|context| column_of_parameter(context, table.columns)))
}

/// The column of `… parameter $3`: the server names the parameter if it cannot even parse the value.
fn column_of_parameter(context: &str, columns: &[&str]) -> Option<String> {
    let (_, number) = context.split_once("parameter $")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    columns.get(number.checked_sub(1)?).map(|column| (*column).to_owned())
}

/// The server's error among the sources of another library's error.
pub(crate) fn find_db_error<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DbError> {
    loop {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => error = error.source()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_parsed_is_reported_with_the_column_of_its_parameter() {
        let columns = ["instrument_name", "trade_seq", "trade_id"];
        let column = |context| column_of_parameter(context, &columns);
        assert_eq!(column("unnamed portal parameter $3").as_deref(), Some("trade_id"));
        assert_eq!(column("portal \"p1\" parameter $1 = '...'").as_deref(), Some("instrument_name"));
        for context in ["unnamed portal parameter $0", "parameter $9", "COPY trades, line 1"] {
            assert_eq!(column(context), None, "{context}");
        }
    }
}
