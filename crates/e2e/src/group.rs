//! How far a consumer group has come.

use std::collections::BTreeMap;
use std::time::Duration;

use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use crate::Stack;
use crate::topic::Record;

/// Whether the group has committed everything of these records of the topic.
pub fn has_read<T>(
    stack: &Stack,
    group: &str,
    (topic, records): (&str, &[Record<T>]),
) -> anyhow::Result<bool> {
    let role = Role::GroupObserver { group_id: group.to_owned() };
    let observer: BaseConsumer = config(&stack.kafka()?, "e2e", &role).create()?;
    let ends: BTreeMap<i32, i64> =
        records.iter().map(|record| (record.partition, record.offset + 1)).collect();
    let mut asked = TopicPartitionList::new();
    for partition in ends.keys() {
        asked.add_partition(topic, *partition);
    }
    let committed = observer.committed_offsets(asked, Duration::from_secs(30))?;
    let reached = |found: &TopicPartitionListElem<'_>| match found.offset() {
        Offset::Offset(next) => ends.get(&found.partition()).is_some_and(|end| next >= *end),
        _ => false,
    };
    Ok(committed.elements().iter().all(reached))
}
