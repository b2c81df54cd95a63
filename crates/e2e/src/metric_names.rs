//! The metrics that tests read, by the names under which the services show them.

/// Partitions that became live; each restore is timed.
pub const PARTITIONS_LIVE: &str = "agg_producer_restore_seconds_count";
/// Partitions that became live after records of them were read again.
pub const PARTITIONS_RESTORED: &str = "agg_producer_partitions_restored_total";
/// Rebalances, by kind.
pub const REBALANCES: &str = "agg_producer_rebalances_total";
/// Times that a member rejoined the group because partitions had no owner.
pub const REJOINS: &str = "agg_producer_rejoins_total";
/// The age of the oldest transaction that holds up read-committed readers, as an aggregator sees it.
pub const AGGREGATOR_OPEN_TRANSACTION_AGE: &str = "agg_producer_open_transaction_age_seconds";

/// The same, as a producer sees it.
pub const PRODUCER_OPEN_TRANSACTION_AGE: &str = "raw_producer_open_transaction_age_seconds";
/// Trades that Kafka acknowledged.
pub const TRADES_PUBLISHED: &str = "raw_producer_trades_published_total";
/// Reception to acknowledgement, a histogram.
pub const PUBLISH_DELAY: &str = "raw_producer_publish_delay_seconds";
/// Trades dropped because a buffer was full.
pub const TRADES_DROPPED: &str = "raw_producer_trades_dropped_total";
/// The time up to which the topic was compared with history, in seconds since 1970.
pub const RECONCILED_THROUGH: &str = "raw_producer_reconciled_through_timestamp_seconds";
/// Requests to history about gaps.
pub const GAP_REQUESTS: &str = "raw_producer_gap_requests_total";
/// Sequence numbers that the exchange has no trade of.
pub const CONFIRMED_HOLES: &str = "raw_producer_confirmed_holes_total";
/// Records of the trades' topic that are no trades.
pub const UNRECOGNIZED_RECORDS: &str = "raw_producer_unrecognized_records_total";
/// Connections to the exchange that were lost, by reason.
pub const DISCONNECTS: &str = "raw_producer_disconnects_total";

/// 1 while Kafka Connect answers.
pub const CONNECT_UP: &str = "jdbc_sink_connect_up";
/// 1 for the state that a connector is in.
pub const CONNECTOR_STATE: &str = "jdbc_sink_connector_state";
/// 1 for the state that a task is in.
pub const TASK_STATE: &str = "jdbc_sink_task_state";
/// Times that a connector was created or changed.
pub const CONNECTOR_CONFIG_UPDATES: &str = "jdbc_sink_connector_config_updates_total";
/// 1 while a record or the table blocks the connector.
pub const CONNECTOR_BLOCKED: &str = "jdbc_sink_connector_blocked";
/// Restarts of a connector's failed parts.
pub const CONNECTOR_RESTARTS: &str = "jdbc_sink_restarts_total";
/// Dead letters, by reason.
pub const DEAD_LETTERS: &str = "jdbc_sink_dead_letters";
/// Dead letters that were written to the table after all.
pub const DEAD_LETTERS_REQUEUED: &str = "jdbc_sink_dead_letters_requeued";
/// 1 if the last `verify` found the table to match its topic.
pub const LAST_VERIFY_SUCCESS: &str = "jdbc_sink_last_verify_success";
