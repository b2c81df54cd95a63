//! Why a task failed, by what its Java stack trace says.

/// The innermost exception of a failed connector or task, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(String);

impl Failed {
    /// Of a stack trace; the frames are of no use to anybody here.
    #[must_use]
    pub fn of(trace: &str) -> Self {
        const LONGEST_LINE: usize = 500;
        let mut lines = trace.lines().map(str::trim);
        let first = lines.next().unwrap_or_default();
        let innermost =
            lines.filter_map(|line| line.strip_prefix("Caused by: ")).next_back().unwrap_or(first);
        Self(innermost.chars().take(LONGEST_LINE).collect())
    }

    /// Whether it is a statement that went wrong, or a table that is not there: then a record or the table may be the cause. Everything
    /// else, such as a connection that is lost, comes from outside.
    #[must_use]
    pub fn blames_content(&self) -> bool {
        ["PSQLException: ERROR: ", "Cannot alter table", "Could not find table"]
            .iter()
            .any(|sign| self.0.contains(sign))
    }

    /// The column in which Postgres found a null that it may not have.
    #[must_use]
    pub fn null_column(&self) -> Option<String> {
        let (_, behind) = self.0.split_once("ERROR: null value in column \"")?;
        behind.split_once('"').map(|(column, _)| column.to_owned())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Connect gives it, less the frames between.
    fn failed(innermost: &str) -> Failed {
        Failed::of(&format!(
            "org.apache.kafka.connect.errors.ConnectException: Exiting WorkerSinkTask\n\tat org.apache.A.b(A.java:1)\n\
             Caused by: org.apache.kafka.connect.errors.ConnectException: Failed to flush records for table 'trades'\n\t... 11 more\n\
             Caused by: {innermost}\n\tat java.base/sun.nio.ch\n"
        ))
    }

    #[test]
    fn the_cause_is_the_innermost_exception_in_one_line() {
        let refused = "java.net.ConnectException: Connection refused";
        assert_eq!(failed(refused).to_string(), refused);
        assert_eq!(Failed::of("no trace").to_string(), "no trace");
    }

    #[test]
    fn statements_that_went_wrong_and_missing_tables_are_told_from_what_comes_from_outside() {
        for content in [
            "org.postgresql.util.PSQLException: ERROR: new row for relation \"trades\" violates check constraint \"x\"",
            "org.postgresql.util.PSQLException: ERROR: invalid byte sequence for encoding \"UTF8\": 0x00",
            "java.sql.SQLException: Cannot alter table trades because schema evolution is disabled",
            "java.sql.SQLException: Could not find table: trades",
        ] {
            assert!(failed(content).blames_content(), "{content}");
        }
        for outside in [
            "java.net.ConnectException: Connection refused",
            "org.postgresql.util.PSQLException: FATAL: terminating connection due to administrator command",
            "org.postgresql.util.PSQLException: An I/O error occurred while sending to the backend.",
            "java.io.EOFException",
        ] {
            assert!(!failed(outside).blames_content(), "{outside}");
        }
    }

    #[test]
    fn a_null_names_its_column() {
        let said = "org.postgresql.util.PSQLException: ERROR: null value in column \"price\" of relation \"trades\" violates not-null constraint";
        assert_eq!(failed(said).null_column().as_deref(), Some("price"));
        assert_eq!(failed("java.io.EOFException").null_column(), None);
    }
}
