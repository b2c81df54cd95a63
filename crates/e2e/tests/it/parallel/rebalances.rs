//! Processes come and go, or the feed is away for ten minutes: no number changes.

use std::time::Duration;

use e2e::load::LoadProfile;
use e2e::metric_names::{PARTITIONS_LIVE, REBALANCES};

use crate::aggregators::{Aggregators, wait_until_published};

const PARTITIONS: i32 = 6;

async fn group(test: &str) -> Aggregators {
    Aggregators::create(test, PARTITIONS, 60, LoadProfile::REGULAR).await.unwrap()
}

/// How often a partition became live in each member.
async fn live(group: &Aggregators) -> anyhow::Result<Vec<u64>> {
    let mut all = Vec::new();
    for member in group.members.keys() {
        all.push(group.count(*member, PARTITIONS_LIVE).await?);
    }
    Ok(all)
}

/// Starts a member and writes trades until it is live in a partition.
async fn start_and_wait_until_live(group: &mut Aggregators, member: usize) {
    group.start(member).unwrap();
    let is_live = async |group: &Aggregators| Ok(group.count(member, PARTITIONS_LIVE).await? > 0);
    group.produce_until("the new member is live", is_live).await.unwrap();
}

async fn wait_until_all_live_in_one(group: &mut Aggregators) {
    group.start(0).unwrap();
    let all = async |group: &Aggregators| Ok(group.count(0, PARTITIONS_LIVE).await? >= 6);
    group.produce_until("all partitions are live", all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_restarts_at_once_keeps_its_partitions_and_nobody_else_notices() {
    let mut group = group("rebalance-restart").await;
    // The test is not about being back within the session, and a busy machine may take its time.
    group.session_timeout = Some(Duration::from_secs(120));
    group.start(0).unwrap();
    group.start(1).unwrap();
    // Both have partitions, and those that moved from one to the other have become live there.
    let both = async |group: &Aggregators| Ok(live(group).await?.iter().all(|live| *live >= 3));
    group.produce_until("both are live", both).await.unwrap();
    let moves = async |group: &Aggregators| {
        [group.count(1, REBALANCES).await.unwrap(), group.count(1, PARTITIONS_LIVE).await.unwrap()]
    };
    let before = moves(&group).await;
    group.kill(0).unwrap();
    start_and_wait_until_live(&mut group, 0).await;
    group.stop(0).await.unwrap();
    start_and_wait_until_live(&mut group, 0).await;
    assert_eq!(moves(&group).await, before, "rebalances and live partitions of the other member");
    println!("{:?}", group.compare().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_process_to_four_and_back_under_load_no_number_changes() {
    let mut group = group("rebalance-scale").await;
    wait_until_all_live_in_one(&mut group).await;
    for member in 1..4 {
        start_and_wait_until_live(&mut group, member).await;
    }
    for member in (1..4).rev() {
        group.stop(member).await.unwrap();
        let before: u64 = live(&group).await.unwrap().iter().sum();
        // Its partitions become live at others once its session is over.
        let moved = async |group: &Aggregators| Ok(live(group).await?.iter().sum::<u64>() > before);
        group.produce_until("its partitions are live elsewhere", moved).await.unwrap();
    }
    println!("{:?}", group.compare().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_was_away_for_ten_minutes_and_is_filled_in_has_no_late_trade_and_whole_windows() {
    const AWAY: u32 = 600_000;
    let mut group = group("feed-away").await;
    wait_until_all_live_in_one(&mut group).await;
    let observed = group.pipeline.group().unwrap();
    let read = observed.committed().unwrap();
    group.load.write(1_000, 30_000).unwrap();
    group.load.watermarks().unwrap();
    let more = async |_: &Aggregators| Ok(observed.committed()? > read);
    group.produce_until("the group reads on", more).await.unwrap();
    // The producer publishes no watermark past a gap that it has not filled, however late it is by the clock. Then all trades come in order of time.
    group.load.write(6_000, AWAY).unwrap();
    group.load.watermarks().unwrap();
    let all = async |_: &Aggregators| Ok(observed.committed()? > read + 6_000);
    group.produce_until("the group has caught up", all).await.unwrap();
    let published = wait_until_published(&group.pipeline, &group.windows).await.unwrap();
    assert_eq!(published.late(), 0);
    println!("{:?}", group.compare().await.unwrap());
}
