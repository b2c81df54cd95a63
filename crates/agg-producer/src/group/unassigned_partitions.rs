//! Sees to it that every partition of the trades has an owner in the group.
//!
//! A cooperative rebalance takes two rounds: in the first a member gives a partition up, in the second somebody else gets it, and it is
//! the member that gave it up who asks for the second. A static member that ends in between, or whose session ends, comes back by its
//! name, which moves nothing: nobody asks, and the partition stays without an owner until the group changes for another reason. That
//! reason is made here (docs/adr/0036).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Failure;
use common::admin::{Component, Health};
use common::config::ServiceConfig as _;
use common::kafka::admin::client_refused;
use common::kafka::client::{self, Role};
use common::kafka::group::{GroupMember, StableGroup};
use common::shutdown::Shutdown;
use rdkafka::consumer::BaseConsumer;
use tokio::runtime::Handle;

use crate::Config;
use crate::metrics::AggregatorMetrics;

/// From one look at the group to the next. A rebalance's second round follows the first within moments.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the coordinator may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The request that a member leave its group and join it again; clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct RejoinRequest(Arc<AtomicBool>);

impl RejoinRequest {
    fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked for since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Observes the group for as long as the service runs.
pub struct UnassignedPartitions {
    client: BaseConsumer,
    group_id: String,
    topic: String,
    partitions: i32,
    /// Of this process, by `group.instance.id`.
    members: Vec<(String, RejoinRequest)>,
    looks: Observations,
    part: Component,
    metrics: AggregatorMetrics,
}

impl UnassignedPartitions {
    /// Has not looked yet; asks `members`, this process's, to join again when it is their turn.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(
        config: &Config,
        members: Vec<(String, RejoinRequest)>,
        health: &Health,
        metrics: &AggregatorMetrics,
    ) -> Result<Self, Failure> {
        let role = Role::GroupObserver { group_id: config.group_id.clone() };
        let settings = client::config(&config.kafka, Config::SERVICE.name(), &role);
        let part = health.component("group");
        // As long as nobody knows better.
        part.ready();
        Ok(Self {
            client: settings.create().map_err(|error| client_refused(&error))?,
            group_id: config.group_id.clone(),
            topic: config.topics.trades.clone(),
            partitions: config.topics.partitions,
            members,
            looks: Observations::default(),
            part,
            metrics: metrics.clone(),
        })
    }

    /// Observes until asked to stop. Blocks.
    ///
    /// # Errors
    /// None: a coordinator that does not answer is asked again.
    pub fn run(mut self, runtime: &Handle, shutdown: &Shutdown) -> Result<(), Failure> {
        let stopped = async || tokio::time::timeout(LOOK_EVERY, shutdown.requested()).await.is_ok();
        while !runtime.block_on(stopped()) {
            match StableGroup::describe(&self.client, &self.group_id, &self.topic, ANSWER_WITHIN) {
                Ok(group) => self.look(group),
                Err(error) => tracing::debug!(%error, "cannot describe the consumer group"),
            }
        }
        Ok(())
    }

    fn look(&mut self, group: Option<StableGroup>) {
        let Decision { ownerless, asked } = self.looks.handle_client_error(group, self.partitions);
        self.metrics.unassigned(ownerless.len());
        if ownerless.is_empty() {
            self.part.ready();
            return;
        }
        let (group, topic) = (&self.group_id, &self.topic);
        self.part.waiting(format!("partitions {ownerless:?} of {topic} are unassigned in group {group}"));
        let mine = asked.and_then(|asked| self.members.iter().find(|(member, _)| is_of(&asked.id, member)));
        if let Some((member, rejoin)) = mine {
            tracing::warn!(member, partitions = ?ownerless, "partitions unassigned; rejoining the group");
            rejoin.ask();
        }
    }
}

/// Whether a member's id is that of the static member of this name: the broker puts a UUID behind it.
fn is_of(id: &str, member: &str) -> bool {
    const UUID: usize = 36;
    let behind = id.strip_prefix(member).and_then(|behind| behind.strip_prefix('-'));
    behind.is_some_and(|behind| behind.len() == UUID)
}

/// A group that is looked at again and again.
#[derive(Debug, Default)]
struct Observations {
    last: Option<StableGroup>,
    /// How often it was what it had been at the look before.
    alike: usize,
}

/// What there is to do about a group.
#[derive(Debug, PartialEq, Eq)]
struct Decision<'l> {
    ownerless: Vec<i32>,
    /// Who is to leave and join again.
    asked: Option<&'l GroupMember>,
}

impl Observations {
    /// Nobody is asked at the first look, as a rebalance's second round may be under way. Then, as long as nothing changes, one at each
    /// look: first the idlest, since leaving costs it least.
    fn handle_client_error(&mut self, group: Option<StableGroup>, partitions: i32) -> Decision<'_> {
        self.alike = if group == self.last { self.alike + 1 } else { 0 };
        self.last = group;
        let Some(group) = &self.last else { return Decision { ownerless: Vec::new(), asked: None } };
        let ownerless = group.unassigned(partitions);
        let mut idlest: Vec<&GroupMember> = group.members.iter().collect();
        idlest.sort_by_key(|member| member.partitions.len());
        let turn = self.alike.checked_sub(1).filter(|_| !ownerless.is_empty());
        Decision { asked: turn.and_then(|turn| idlest.into_iter().cycle().nth(turn)), ownerless }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: &[(&str, &[i32])]) -> Option<StableGroup> {
        let member = |(id, partitions): &(&str, &[i32])| GroupMember {
            id: (*id).to_owned(),
            partitions: partitions.iter().copied().collect(),
        };
        Some(StableGroup { members: members.iter().map(member).collect() })
    }

    /// Whom each of so many looks at the same group asks.
    fn asked(looks: &mut Observations, group: &Option<StableGroup>, times: usize) -> Vec<Option<String>> {
        (0..times)
            .map(|_| looks.handle_client_error(group.clone(), 4).asked.map(|member| member.id.clone()))
            .collect()
    }

    #[test]
    fn the_idlest_is_asked_once_the_group_has_not_changed_between_two_looks_and_then_the_others_in_turn() {
        let mut looks = Observations::default();
        let group = group(&[("a", &[1, 2]), ("b", &[]), ("c", &[3])]);
        let names = [None, Some("b"), Some("c"), Some("a"), Some("b")];
        assert_eq!(asked(&mut looks, &group, 5), names.map(|name| name.map(str::to_owned)));
        assert_eq!(looks.handle_client_error(group, 4).ownerless, [0]);
    }

    #[test]
    fn a_group_that_has_changed_is_given_the_time_to_settle() {
        let mut looks = Observations::default();
        assert_eq!(asked(&mut looks, &group(&[("a", &[1, 2])]), 1), [None]);
        assert_eq!(asked(&mut looks, &group(&[("a", &[1, 2]), ("b", &[])]), 1), [None]);
        assert_eq!(asked(&mut looks, &None, 3), [None, None, None], "it rebalances");
        assert_eq!(asked(&mut looks, &group(&[("a", &[1, 2]), ("b", &[])]), 1), [None]);
    }

    #[test]
    fn nobody_is_asked_where_every_partition_has_an_owner() {
        let mut looks = Observations::default();
        let group = group(&[("a", &[0, 1, 2]), ("b", &[3]), ("c", &[])]);
        assert_eq!(asked(&mut looks, &group, 3), [None, None, None]);
        assert_eq!(looks.handle_client_error(group, 4), Decision { ownerless: vec![], asked: None });
    }

    #[test]
    fn a_member_knows_its_id_from_that_of_another_whose_name_begins_alike() {
        let uuid = "0123abcd-0123-0123-0123-0123456789ab";
        assert!(is_of(&format!("0-1-{uuid}"), "0-1"));
        assert!(!is_of(&format!("0-1-0-{uuid}"), "0-1"));
        assert!(!is_of(&format!("0-11-{uuid}"), "0-1"));
        assert!(!is_of("0-1", "0-1"));
    }
}
