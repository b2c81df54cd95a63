//! Reads the cause of a failure from the Java stack trace.

/// The innermost exception of a failed connector or task, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskFailure(String);

impl TaskFailure {
    /// Drops the stack frames: they say nothing about records or tables.
    pub(super) fn from_trace(trace: &str) -> Self {
        const LONGEST_LINE: usize = 500;
        let mut lines = trace.lines().map(str::trim);
        let first = lines.next().unwrap_or_default();
        let innermost =
            lines.filter_map(|line| line.strip_prefix("Caused by: ")).next_back().unwrap_or(first);
        Self(innermost.chars().take(LONGEST_LINE).collect())
    }

    /// Whether a statement failed or a table is missing: then a record or the table may be the cause. Everything else, such as a lost
    /// connection, has an external cause.
    pub(super) fn may_be_record_or_table(&self) -> bool {
        ["PSQLException: ERROR: ", "Cannot alter table", "Could not find table"]
            .iter()
            .any(|message| self.0.contains(message))
    }

    /// The column of a violated NOT NULL constraint.
    pub(super) fn null_column(&self) -> Option<String> {
        let (_, rest) = self.0.split_once("ERROR: null value in column \"")?;
        rest.split_once('"').map(|(column, _)| column.to_owned())
    }
}

impl std::fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trace of Connect without most of its frames.
    fn failure(innermost: &str) -> TaskFailure {
        TaskFailure::from_trace(&format!(
            "org.apache.kafka.connect.errors.ConnectException: Exiting WorkerSinkTask\n\tat org.apache.A.b(A.java:1)\n\
             Caused by: org.apache.kafka.connect.errors.ConnectException: Failed to flush records for table 'trades'\n\t... 11 more\n\
             Caused by: {innermost}\n\tat java.base/sun.nio.ch\n"
        ))
    }

    #[test]
    fn the_cause_is_the_innermost_exception_on_one_line() {
        let refused = "java.net.ConnectException: Connection refused";
        assert_eq!(failure(refused).to_string(), refused);
        assert_eq!(TaskFailure::from_trace("no trace").to_string(), "no trace");
    }

    #[test]
    fn failed_statements_and_missing_tables_differ_from_external_causes() {
        for content in [
            "org.postgresql.util.PSQLException: ERROR: new row for relation \"trades\" violates check constraint \"x\"",
            "org.postgresql.util.PSQLException: ERROR: invalid byte sequence for encoding \"UTF8\": 0x00",
            "java.sql.SQLException: Cannot alter table trades because schema evolution is disabled",
            "java.sql.SQLException: Could not find table: trades",
        ] {
            assert!(failure(content).may_be_record_or_table(), "{content}");
        }
        for outside in [
            "java.net.ConnectException: Connection refused",
            "org.postgresql.util.PSQLException: FATAL: terminating connection due to administrator command",
            "org.postgresql.util.PSQLException: An I/O error occurred while sending to the backend.",
            "java.io.EOFException",
        ] {
            assert!(!failure(outside).may_be_record_or_table(), "{outside}");
        }
    }

    #[test]
    fn a_null_value_has_its_column() {
        let message = "org.postgresql.util.PSQLException: ERROR: null value in column \"price\" of relation \"trades\" violates not-null constraint";
        assert_eq!(failure(message).null_column().as_deref(), Some("price"));
        assert_eq!(failure("java.io.EOFException").null_column(), None);
    }
}
