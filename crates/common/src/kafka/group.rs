//! The members of a consumer group and their partitions, as its coordinator reports them.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::groups::{GroupInfo, GroupMemberInfo};

/// A consumer group between two rebalances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StableGroup {
    /// The members in the order of their ids.
    pub members: Vec<GroupMember>,
}

/// A member with its partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMember {
    /// Assigned by the broker. The id of a static member begins with its `group.instance.id`.
    pub id: String,
    /// The partitions that the group's leader has assigned to it.
    pub partitions: BTreeSet<i32>,
}

impl StableGroup {
    /// The members of `group` with their partitions of `topic`; `None` while the group is empty or rebalances. Blocks.
    ///
    /// # Errors
    /// If the coordinator does not answer within `within`.
    pub fn describe<C: ConsumerContext, T: Consumer<C>>(
        client: &T,
        group: &str,
        topic: &str,
        within: Duration,
    ) -> KafkaResult<Option<Self>> {
        let answer = client.fetch_group_list(Some(group), within)?;
        let stable = |info: &&GroupInfo| info.name() == group && info.state() == "Stable";
        Ok(answer.groups().iter().find(stable).map(|info| Self::of(info.members(), topic)))
    }

    fn of(members: &[GroupMemberInfo], topic: &str) -> Self {
        let member = |info: &GroupMemberInfo| GroupMember {
            id: info.id().to_owned(),
            partitions: info
                .assignment()
                .and_then(|bytes| assigned(bytes, topic))
                .unwrap_or_default()
                .into_iter()
                .collect(),
        };
        let mut members: Vec<GroupMember> = members.iter().map(member).collect();
        members.sort();
        Self { members }
    }

    /// The partitions below `count` that no member has.
    #[must_use]
    pub fn unassigned(&self, count: i32) -> Vec<i32> {
        let owned = |partition: &i32| self.members.iter().any(|member| member.partitions.contains(partition));
        (0..count).filter(|partition| !owned(partition)).collect()
    }
}

/// The partitions of `topic` in an assignment of Kafka's consumer protocol: a version, then each topic's name with its partitions, then
/// what is the assignor's own. `None` where the bytes are something else.
fn assigned(mut bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let bytes = &mut bytes;
    take::<2>(bytes)?;
    let mut found = Vec::new();
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            let partition = i32::from_be_bytes(take(bytes)?);
            found.extend((name == topic.as_bytes()).then_some(partition));
        }
    }
    Some(found)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
        for (topic, partitions) in topics {
            bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
            partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
        }
        // No bytes of the assignor's.
        bytes.extend((-1i32).to_be_bytes());
        bytes
    }

    fn group(partitions: &[&[i32]]) -> StableGroup {
        let member = |(at, partitions): (usize, &&[i32])| GroupMember {
            id: at.to_string(),
            partitions: partitions.iter().copied().collect(),
        };
        StableGroup { members: partitions.iter().enumerate().map(member).collect() }
    }

    #[test]
    fn partitions_of_other_topics_do_not_count() {
        let bytes = assignment(&[("other", &[0, 1, 2]), ("trades", &[4, 1])]);
        assert_eq!(assigned(&bytes, "trades"), Some(vec![4, 1]));
        assert_eq!(assigned(&bytes, "none"), Some(vec![]));
    }

    #[test]
    fn an_assignment_that_is_cut_anywhere_before_its_end_is_none() {
        let bytes = assignment(&[("trades", &[4, 1])]);
        for length in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..length], "trades"), None, "{length}");
        }
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 1, 0xff, 0xff], "trades"), None, "a negative length");
    }

    #[test]
    fn a_partition_that_no_member_has_is_unassigned() {
        assert_eq!(group(&[&[1, 2], &[4, 5], &[]]).unassigned(6), [0, 3]);
        assert_eq!(group(&[&[1, 2], &[0, 3]]).unassigned(4), [0; 0]);
        assert_eq!(group(&[]).unassigned(2), [0, 1]);
    }
}
