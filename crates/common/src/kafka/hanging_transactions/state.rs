//! What a partition and a coordinator say of a transaction, and what follows. Pure.

use std::fmt;

/// A transaction that a partition holds open: its leader has records of it and no marker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpenTransaction {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Kafka's id of the producer.
    pub producer_id: i64,
    /// The producer's epoch when it wrote.
    pub producer_epoch: i16,
    /// Epoch of the coordinator that wrote the partition's last marker of this producer; -1 if none did.
    pub coordinator_epoch: i32,
    /// The transaction's first offset. Read-committed readers stop before it.
    pub first_offset: i64,
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, producer_id, producer_epoch, first_offset, .. } = self;
        write!(
            f,
            "transaction of producer {producer_id} (epoch {producer_epoch}) in {topic}-{partition} from offset {first_offset}"
        )
    }
}

impl OpenTransaction {
    /// The command that aborts it by hand.
    #[must_use]
    pub fn abort_command(&self, bootstrap_servers: &str) -> String {
        let Self { topic, partition, first_offset, .. } = self;
        format!(
            "kafka-transactions.sh --bootstrap-server {bootstrap_servers} abort --topic {topic} --partition {partition} --start-offset {first_offset}"
        )
    }
}

/// What the transaction coordinator says of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CoordinatorState {
    /// The id that the producer fences with.
    pub(super) transactional_id: String,
    /// Kafka's id of the producer.
    pub(super) producer_id: i64,
    /// Its current epoch.
    pub(super) producer_epoch: i16,
    /// Kafka's name of the state, such as `Ongoing` or `CompleteCommit`.
    pub(super) state: String,
}

/// How a hanging transaction is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// Its records become readable.
    Commit,
    /// Its records are skipped by readers.
    Abort,
}

impl Outcome {
    /// The metric's label.
    #[must_use]
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}

/// What follows for an open transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Assessment {
    /// The coordinator will end it; wait for that.
    Live {
        /// The coordinator's state.
        state: String,
    },
    /// Nobody will end it.
    Hanging(Outcome),
    /// No coordinator that may be asked knows its producer. The coordinator has forgotten it, or hides it from this principal: so it
    /// may be alive, for as long as Kafka lets any transaction be open.
    OwnerUnknown,
}

/// Judges an open transaction by its coordinator's word: `None` if no coordinator shows its producer.
///
/// The partition has to be asked before the coordinator and again after it, with the same answer: a coordinator completes a
/// transaction only after its markers, so one that was open throughout and complete in between hangs.
///
/// The coordinator knows a producer's last decision only. That one is right for every partition, since the guard lets nothing
/// begin behind a missing marker, and since each transaction carries the offsets: they follow the last marker as well. A decision
/// of another epoch is another producer's life and says nothing; then the records are given up, which their writer had to expect.
#[must_use]
pub(super) fn assess(open: &OpenTransaction, coordinator: Option<&CoordinatorState>) -> Assessment {
    let Some(coordinator) = coordinator else { return Assessment::OwnerUnknown };
    // Clients of Kafka 4 raise the epoch with each end; librdkafka keeps it.
    let decided_it = coordinator.producer_epoch == open.producer_epoch
        || Some(coordinator.producer_epoch) == open.producer_epoch.checked_add(1);
    match coordinator.state.as_str() {
        "CompleteCommit" if decided_it => Assessment::Hanging(Outcome::Commit),
        "CompleteCommit" | "CompleteAbort" | "Empty" | "Dead" => Assessment::Hanging(Outcome::Abort),
        active => Assessment::Live { state: active.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> OpenTransaction {
        OpenTransaction {
            topic: "t".into(),
            partition: 3,
            producer_id: 7,
            producer_epoch: 5,
            coordinator_epoch: 2,
            first_offset: 99,
        }
    }

    fn said(state: &str, producer_epoch: i16) -> Assessment {
        let coordinator = CoordinatorState {
            transactional_id: "id".into(),
            producer_id: 7,
            producer_epoch,
            state: state.into(),
        };
        assess(&open(), Some(&coordinator))
    }

    #[test]
    fn what_the_coordinator_still_works_on_is_waited_for() {
        for state in ["Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence", "a state of tomorrow"]
        {
            assert_eq!(said(state, 5), Assessment::Live { state: state.into() });
        }
    }

    #[test]
    fn a_missing_marker_is_the_coordinators_last_decision() {
        assert_eq!(said("CompleteCommit", 5), Assessment::Hanging(Outcome::Commit));
        assert_eq!(
            said("CompleteCommit", 6),
            Assessment::Hanging(Outcome::Commit),
            "epoch raised by the end"
        );
        assert_eq!(said("CompleteAbort", 5), Assessment::Hanging(Outcome::Abort));
        assert_eq!(said("CompleteAbort", 6), Assessment::Hanging(Outcome::Abort));
    }

    #[test]
    fn without_a_decision_of_its_epoch_the_records_are_given_up() {
        assert_eq!(said("CompleteCommit", 9), Assessment::Hanging(Outcome::Abort));
        assert_eq!(said("Empty", 6), Assessment::Hanging(Outcome::Abort));
    }

    #[test]
    fn a_producer_that_no_coordinator_shows_may_be_alive() {
        assert_eq!(assess(&open(), None), Assessment::OwnerUnknown);
    }

    #[test]
    fn a_message_names_topic_partition_producer_and_the_command() {
        assert_eq!(open().to_string(), "transaction of producer 7 (epoch 5) in t-3 from offset 99");
        assert_eq!(
            open().abort_command("k:9092"),
            "kafka-transactions.sh --bootstrap-server k:9092 abort --topic t --partition 3 --start-offset 99"
        );
    }
}
