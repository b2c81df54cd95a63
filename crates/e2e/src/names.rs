//! The metrics that tests read, by the names under which the services show them.

/// How often a partition became live, which is how many restores were timed.
pub const PARTITIONS_LIVE: &str = "agg_producer_restore_seconds_count";
/// How often a partition became live after records of it were read again.
pub const PARTITIONS_RESTORED: &str = "agg_producer_partitions_restored_total";
/// How often partitions came or went, by kind.
pub const REBALANCES: &str = "agg_producer_rebalances_total";
/// How often the group was joined again, as partitions had no owner.
pub const REJOINS: &str = "agg_producer_rejoins_total";
/// The age of the oldest transaction that holds up read-committed readers, behind the service's name.
pub const OPEN_TRANSACTION_AGE: &str = "_open_transaction_age_seconds";
/// Connections to the exchange that were lost, by reason.
pub const RECONNECTS: &str = "raw_producer_reconnects_total";
/// 1 while Kafka Connect answers.
pub const CONNECT_UP: &str = "jdbc_sink_connect_up";
/// 1 for the state that a connector is in.
pub const CONNECTOR_STATE: &str = "jdbc_sink_connector_state";
/// 1 for the state that a task is in.
pub const TASK_STATE: &str = "jdbc_sink_task_state";
