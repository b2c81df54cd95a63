//! What an error of the database's means: whose fault it is, in which column, in which words.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// Whether the values are not to Postgres's liking, whenever they come.
#[must_use]
pub fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| ["22", "23"].contains(&code.code().get(..2).unwrap_or_default()))
}

/// Its words, without those around them.
#[must_use]
pub fn said(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

/// The column that it is about, of those that a statement's parameters fill in their order; `None` if it does not tell.
#[must_use]
pub fn column(error: &Error, columns: &[&str]) -> Option<String> {
    let said = error.as_db_error()?;
    said.column().map(str::to_owned).or_else(|| said.where_().and_then(|place| of_parameter(place, columns)))
}

/// The column of `… parameter $3`, as the server says of a value that it cannot even take in.
fn of_parameter(place: &str, columns: &[&str]) -> Option<String> {
    let (_, behind) = place.split_once("parameter $")?;
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    let at: usize = digits.parse().ok()?;
    columns.get(at.checked_sub(1)?).map(|column| (*column).to_owned())
}

/// The database's own error behind another library's.
#[must_use]
pub fn database_error<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DbError> {
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
    fn a_value_that_cannot_be_taken_in_is_told_by_its_parameter() {
        let columns = ["instrument_name", "trade_seq", "trade_id"];
        let column = |place| of_parameter(place, &columns);
        assert_eq!(column("unnamed portal parameter $3").as_deref(), Some("trade_id"));
        assert_eq!(column("portal \"p1\" parameter $1 = '...'").as_deref(), Some("instrument_name"));
        for place in ["unnamed portal parameter $0", "parameter $9", "COPY trades, line 1"] {
            assert_eq!(column(place), None, "{place}");
        }
    }
}
