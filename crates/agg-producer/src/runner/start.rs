//! Partitions that begin, begin again, or cannot.

use std::time::Instant;

use common::Failure;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::slot::{Running, Slot};
use super::{Identity, Runner, WAIT_TO_SEEK};
use crate::rebalance::Change;
use crate::restore::RestoreError;

impl Runner {
    /// Follows changes of the assignment.
    pub(super) fn follow(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        for change in changes {
            self.joined = true;
            match change {
                Change::Assigned(partitions) => {
                    if !partitions.is_empty() {
                        tracing::info!(member = self.identity.member, ?partitions, "assigned");
                    }
                    self.slots.extend(partitions.into_iter().map(|partition| (partition, Slot::starting())));
                    self.next_start = Instant::now();
                }
                Change::Revoked(partitions) => {
                    tracing::info!(member = self.identity.member, ?partitions, "revoked");
                    for partition in partitions {
                        self.slots.remove(&partition);
                        self.metrics.gone(partition);
                        self.watermarks.iter_mut().for_each(|watermarks| watermarks.leave(partition));
                    }
                }
                Change::Failed(why) => {
                    return Err(Failure::Other(anyhow::anyhow!(
                        "the group's assignment cannot be followed: {why}"
                    )));
                }
            }
        }
        Ok(())
    }

    pub(super) fn starting(&self) -> impl Iterator<Item = i32> {
        self.slots.iter().filter(|(_, slot)| slot.running().is_none()).map(|(partition, _)| *partition)
    }

    /// Begins what has been assigned, where the group left it.
    pub(super) fn start_partitions(&mut self) -> Result<(), Failure> {
        let starting: Vec<i32> = self.starting().collect();
        if starting.is_empty() {
            return Ok(());
        }
        match self.restore.starts(&self.consumer, starting) {
            Ok(starts) => {
                self.next_start = Instant::now() + WAIT_TO_SEEK;
                for start in starts {
                    let begun = self.restore.begin((&self.consumer, &mut self.records), &start);
                    let Some(slot) = self.slots.get_mut(&start.number) else { continue };
                    match (begun, &slot) {
                        (Ok(()), Slot::Starting { since }) => {
                            self.watermarks.iter_mut().for_each(|watermarks| watermarks.follow(start.number));
                            *slot = Slot::Running(Box::new(Running::new(start, *since)));
                        }
                        (Ok(()), Slot::Running(_)) => {}
                        (Err(error), _) => {
                            tracing::debug!(partition = start.number, %error, "not to be sought yet");
                        }
                    }
                }
                Ok(())
            }
            Err(RestoreError::NotAnswered(error)) => {
                let retry_in = self.retry.next_delay();
                tracing::warn!(%error, ?retry_in, "the group's offsets are not to be had");
                self.next_start = Instant::now() + retry_in;
                Ok(())
            }
            Err(refused @ RestoreError::Refused { .. }) => {
                let Identity { group_id, how_to_reset, .. } = &self.identity;
                Err(Failure::Config(format!("group {group_id}: {refused}; {how_to_reset}")))
            }
        }
    }

    /// Takes partitions back to what is committed: their state is not what belongs to it.
    pub(super) fn restart(&mut self, partitions: &[i32]) -> Result<(), Failure> {
        self.consumer.pause(&self.list(partitions)).map_err(anyhow::Error::from)?;
        self.slots.extend(partitions.iter().map(|partition| (*partition, Slot::starting())));
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
    pub(super) fn judge(&self, error: &KafkaError) -> Result<(), Failure> {
        let Identity { group_id, member, .. } = &self.identity;
        if let Some((code, why)) = self.consumer.client().fatal_error() {
            return Err(match code {
                RDKafkaErrorCode::FencedInstanceId => Failure::Other(anyhow::anyhow!(
                    "fenced: another process has joined group {group_id} as {member}; give each process an `instance` of its own"
                )),
                _ => Failure::Other(anyhow::anyhow!("the consumer is of no use any more: {code}: {why}")),
            });
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.check_positions()
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
                Err(error) => tracing::warn!(partition, %error, "the ends of the log are not to be had"),
            }
        }
        Ok(())
    }

    fn records_gone(&self, whose: &str) -> Failure {
        let (Identity { group_id, how_to_reset, .. }, topic) = (&self.identity, &self.restore.topic);
        Failure::Config(format!(
            "group {group_id}: {whose} of {topic} does not have the records any more that follow on what is committed; {how_to_reset}"
        ))
    }
}
