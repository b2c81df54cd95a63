//! Partitions that begin, begin again, or cannot.
//!
//! One begins in three steps: the coordinator tells where, its candles are read back, and it is sought and resumed.

use std::time::Instant;

use common::Failure;
use common::failpoint::failpoint;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::task::{DOUBT, RunningTask, Task};
use super::{Identity, StreamThread, WAIT_TO_SEEK};
use crate::group::rebalance::{Change, assign_paused};
use crate::restore::RestoreError;

/// So often in a row a partition is sought in vain before it is assigned anew: for a second.
const MOST_REFUSALS: u32 = 100;

impl StreamThread {
    /// Follows changes of the assignment.
    pub(super) fn apply_changes(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        for change in changes {
            self.joined = true;
            match change {
                Change::Assigned(partitions) => {
                    if !partitions.is_empty() {
                        tracing::info!(member = self.identity.member, ?partitions, "partitions assigned");
                    }
                    self.slots
                        .extend(partitions.into_iter().map(|partition| (partition, Task::new_starting())));
                    self.next_start = Instant::now();
                }
                Change::Revoked(partitions) => {
                    failpoint("revoked");
                    tracing::info!(member = self.identity.member, ?partitions, "revoked");
                    for partition in partitions {
                        self.slots.remove(&partition);
                        self.metrics.gone(partition);
                        self.candles.unassign(partition);
                        self.watermarks.iter_mut().for_each(|watermarks| watermarks.unassign(partition));
                    }
                }
                Change::Failed(why) => {
                    return Err(Failure::Other(anyhow::anyhow!(
                        "cannot apply the group's assignment: {why}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Leaves the group and joins it again, so that it rebalances.
    pub(super) fn rejoin(&mut self) -> Result<(), Failure> {
        self.commit()?;
        self.metrics.rejoined();
        self.consumer.unsubscribe();
        Ok(self.consumer.subscribe(&[&self.restore.topic]).map_err(anyhow::Error::from)?)
    }

    pub(super) fn starting(&self) -> impl Iterator<Item = i32> {
        self.slots.iter().filter(|(_, slot)| slot.running().is_none()).map(|(partition, _)| *partition)
    }

    /// Takes what has been assigned a step further, to where the group left it.
    pub(super) fn start_partitions(&mut self) -> Result<(), Failure> {
        if self.starting().next().is_none() {
            return Ok(());
        }
        self.next_start = Instant::now() + WAIT_TO_SEEK;
        self.bound_starts()?;
        self.fetch_start_offsets()?;
        let whole: Vec<i32> = self
            .slots
            .iter_mut()
            .filter_map(|(partition, slot)| slot.starting_mut()?.is_whole().then_some(*partition))
            .collect();
        whole.into_iter().try_for_each(|partition| self.begin(partition))
    }

    /// Ends the process when a partition has not come a step further for longer than Kafka can excuse.
    fn bound_starts(&self) -> Result<(), Failure> {
        let starting = self.slots.iter().filter_map(|(partition, slot)| Some((partition, slot.starting()?)));
        let Some((partition, starting)) = starting.min_by_key(|(_, starting)| starting.progress_at) else {
            return Ok(());
        };
        self.give_up_if_overdue(starting.progress_at, || {
            format!("partition {partition} of {} cannot start", self.restore.topic)
        })
    }

    /// Asks where those begin of which that is not known yet.
    fn fetch_start_offsets(&mut self) -> Result<(), Failure> {
        let unknown = |slot: &Task| matches!(slot, Task::StartingTask(starting) if starting.start.is_none());
        let asked: Vec<i32> =
            self.slots.iter().filter(|(_, slot)| unknown(slot)).map(|(partition, _)| *partition).collect();
        if asked.is_empty() {
            return Ok(());
        }
        match self.restore.starts(&self.consumer, asked.iter().copied()) {
            Ok(starts) => {
                for start in starts {
                    let slot = self.slots.get_mut(&start.number);
                    let Some(starting) = slot.and_then(Task::starting_mut) else { continue };
                    if let Some((_, ends_from)) = start.partition.missing() {
                        self.candles.assign(start.number, ends_from)?;
                        starting.recalling = true;
                        starting.next_doubt = Instant::now() + DOUBT;
                    }
                    starting.start = Some(start);
                    starting.progress_at = Instant::now();
                }
                Ok(())
            }
            Err(RestoreError::NotAnswered(error)) => {
                let retry_in = self.retry.next_delay();
                tracing::warn!(%error, ?retry_in, "cannot fetch committed offsets; retrying");
                self.next_start = Instant::now() + retry_in;
                Ok(())
            }
            Err(refused @ RestoreError::Refused { .. }) => Err(self.refused(&refused)),
        }
    }

    /// Why the group cannot go on, and the way out.
    pub(super) fn refused(&self, refused: &RestoreError) -> Failure {
        let Identity { group_id, how_to_reset, .. } = &self.identity;
        Failure::Config(format!("group {group_id}: {refused}; {how_to_reset}"))
    }

    /// Lets a partition flow if it can be sought by now. One that never can has been given up by librdkafka, as it is after an offset
    /// that is out of range: only another assignment makes it seekable again.
    fn begin(&mut self, number: i32) -> Result<(), Failure> {
        let Self { slots, restore, consumer, records, watermarks, .. } = self;
        let Some(slot) = slots.get_mut(&number) else { return Ok(()) };
        let Some(starting) = slot.starting_mut() else { return Ok(()) };
        let Some(start) = starting.start.take() else { return Ok(()) };
        let Err(error) = restore.begin(consumer, records, &start) else {
            watermarks.iter_mut().for_each(|watermarks| watermarks.assign(number));
            *slot = Task::RunningTask(Box::new(RunningTask::new(start, starting.since)));
            return Ok(());
        };
        tracing::debug!(partition = number, %error, "cannot seek yet");
        starting.start = Some(start);
        starting.refused += 1;
        if starting.refused < MOST_REFUSALS {
            return Ok(());
        }
        starting.refused = 0;
        tracing::warn!(partition = number, %error, "seek failed; reassigning the partition");
        let mut partition = self.list(&[number]);
        let unassigned = self.consumer.incremental_unassign(&partition);
        let assigned = unassigned.and_then(|()| assign_paused(&self.consumer, &mut partition));
        Ok(assigned.map_err(anyhow::Error::from)?)
    }

    /// Takes partitions back to what is committed: their state is not what belongs to it.
    pub(super) fn restart(&mut self, partitions: &[i32]) -> Result<(), Failure> {
        self.consumer.pause(&self.list(partitions)).map_err(anyhow::Error::from)?;
        partitions.iter().for_each(|partition| self.candles.unassign(*partition));
        self.slots.extend(partitions.iter().map(|partition| (*partition, Task::new_starting())));
        self.next_start = Instant::now() + self.retry.next_delay();
        Ok(())
    }

    pub(super) fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.restore.topic, *partition);
        }
        list
    }

    /// What an error of the consumer means.
    pub(super) fn handle_client_error(&mut self, error: &KafkaError) -> Result<(), Failure> {
        let Identity { group_id, member, .. } = &self.identity;
        if let Some((code, why)) = self.consumer.client().fatal_error() {
            return Err(match code {
                RDKafkaErrorCode::FencedInstanceId => Failure::Other(anyhow::anyhow!(
                    "fenced: another process has joined group {group_id} as {member}; give each process an `instance` of its own"
                )),
                _ => Failure::Other(anyhow::anyhow!("fatal consumer error: {code}: {why}")),
            });
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.check_positions()?;
                // Librdkafka does not read on. If it was in error, or the question was not answered, the next start shows.
                let all: Vec<i32> = self.slots.keys().copied().collect();
                self.restart(&all)
            }
            Some(RDKafkaErrorCode::LogTruncation) => Err(self.records_gone("a partition")),
            Some(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::InvalidGroupId),
            ) => Err(Failure::Config(format!(
                "kafka refuses group {group_id} to read {}: {code}",
                self.restore.topic
            ))),
            // Brokers away and the like: librdkafka goes on trying, and has said so.
            _ => Ok(()),
        }
    }

    /// Something was out of range: is it a partition's position, or one that does not matter any more?
    fn check_positions(&self) -> Result<(), Failure> {
        for (partition, running) in
            self.slots.iter().filter_map(|(number, slot)| Some((number, slot.running()?)))
        {
            match self.restore.readable(&self.consumer, *partition) {
                Ok(readable) if !readable.contains(&running.position()) => {
                    return Err(self.records_gone(&format!("partition {partition}")));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(partition, %error, "cannot fetch end offsets"),
            }
        }
        Ok(())
    }

    fn records_gone(&self, whose: &str) -> Failure {
        let (Identity { group_id, how_to_reset, .. }, topic) = (&self.identity, &self.restore.topic);
        Failure::Config(format!(
            "group {group_id}: {whose} of {topic} no longer has the records behind the committed offset; {how_to_reset}"
        ))
    }
}
