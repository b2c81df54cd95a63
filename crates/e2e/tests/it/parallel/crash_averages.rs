//! The aggregator ends or freezes at its most delicate points, and still publishes the batch program's answer. Without the transaction, the
//! fence or the restore it does not: the comparison shows what each of them is for.
//!
//! Needs binaries with failpoints.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::Context as _;
use e2e::load::LoadProfile;
use e2e::metric_names::{PARTITIONS_LIVE, REJOINS};
use e2e::{PATIENCE, Service, Signal};

use crate::aggregators::Aggregators;
use crate::reference::{AverageComparison, PublishedTopics, TWICE};

/// The signal of `abort`.
const SIGABRT: i32 = 6;
/// The exit code of a member that another process has replaced.
const FENCED: i32 = 1;
/// The exit code where going on would publish wrong numbers.
const CONFIG: i32 = 78;

/// Of each transaction: its records are written; they are acknowledged and offsets are sent; it is committed.
const POINTS: [&str; 3] = ["filled", "acknowledged", "published"];

/// Windows are longer than the time between two crashes, so that each restart has slices to rebuild; each batch closes a window.
async fn group(test: &str, disabled: Option<&'static str>) -> Aggregators {
    let profile = LoadProfile { disordered: 10, old: 5, garbage: 2, foreign: 20 };
    let test = format!("crash-averages-{test}-{}", disabled.unwrap_or("whole"));
    let mut group = Aggregators::create(&test, 2, 20, profile).await.unwrap();
    (group.disabled_guarantee, group.batch_millis, group.with_watermarks) = (disabled, 6_000, false);
    group.produce().unwrap();
    group
}

/// Ends at that point, with windows open and others just closed.
async fn crash_at(group: &mut Aggregators, point: &str) {
    let process = group.spawn(0, Some(&format!("{point}:4"))).unwrap();
    produce_until_aborted(group, process).await;
}

async fn produce_until_aborted(group: &mut Aggregators, mut process: Service) {
    let mut exit = None;
    let ended = async |_: &Aggregators| {
        exit = process.try_exit()?;
        Ok(exit.is_some())
    };
    group.produce_until("it crashes", ended).await.unwrap();
    assert_eq!(exit.as_ref().and_then(|exit| exit.status.signal()), Some(SIGABRT), "{exit:?}");
}

/// Runs until everything is read.
async fn read_all_by(group: &Aggregators, process: Service) {
    group.pipeline.group().unwrap().wait_until_all_read().await.unwrap();
    process.stop().await.unwrap();
}

async fn read_all(group: &Aggregators) {
    read_all_by(group, group.spawn(0, None).unwrap()).await;
}

/// Freezes with its records written but not committed; another process of its name replaces it and goes on; then it wakes up.
async fn a_zombie_wakes_up(group: &mut Aggregators) -> Service {
    let zombie = group.spawn(0, Some("filled:4:stop")).unwrap();
    group.produce_until("it freezes", async |_: &Aggregators| zombie.is_stopped()).await.unwrap();
    let heir = group.spawn(0, None).unwrap();
    produce_until_committed(group).await;
    zombie.signal(Signal::SIGCONT).unwrap();
    assert_eq!(zombie.exit(PATIENCE).await.unwrap().code(), Some(FENCED));
    heir
}

/// Writes trades until the group has committed more than now.
async fn produce_until_committed(group: &mut Aggregators) {
    let observed = group.pipeline.group().unwrap();
    let before = observed.committed().unwrap();
    let more = async |_: &Aggregators| Ok(observed.committed()? > before);
    group.produce_until("the group reads on", more).await.unwrap();
}

/// Lets `process`, or a new one, read all there is, and compares.
async fn outcome(group: &mut Aggregators, process: Option<Service>) -> anyhow::Result<AverageComparison> {
    // Closes everything; the windows of these two stay open.
    let end = group.load.now + 3_600_000;
    for instrument in 0..2 {
        group.load.trade_of(instrument, end)?;
    }
    group.load.flush()?;
    match process {
        Some(process) => read_all_by(group, process).await,
        None => read_all(group).await,
    }
    published(group).await?.compare(&group.windows)
}

async fn published(group: &Aggregators) -> anyhow::Result<PublishedTopics> {
    PublishedTopics::read(&group.pipeline.harness.servers, &group.pipeline.topics).await
}

/// At each of the points.
async fn killed(disabled: Option<&'static str>) -> anyhow::Result<AverageComparison> {
    let mut group = group("killed", disabled).await;
    for point in POINTS {
        crash_at(&mut group, point).await;
    }
    outcome(&mut group, None).await
}

async fn fenced(disabled: Option<&'static str>) -> anyhow::Result<AverageComparison> {
    let mut group = group("fenced", disabled).await;
    let heir = a_zombie_wakes_up(&mut group).await;
    outcome(&mut group, Some(heir)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_that_ends_anywhere_around_a_commit_publishes_each_window_once_and_right() {
    println!("{:?}", killed(None).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wakes_up_after_another_took_its_place_publishes_nothing() {
    println!("{:?}", fenced(None).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lost_its_partitions_while_it_wrote_aborts_that_and_goes_on_with_its_new_ones() {
    let mut group = group("lost", None).await;
    let lost = group.spawn(0, Some("filled:4:stop")).unwrap();
    group.produce_until("it freezes", async |_: &Aggregators| lost.is_stopped()).await.unwrap();
    // Under another name: only the end of its session shows that the first one is gone.
    let heir = group.spawn(1, None).unwrap();
    produce_until_committed(&mut group).await;
    lost.signal(Signal::SIGCONT).unwrap();
    // First it had both partitions; then it is given one, or both.
    let live_again = async |_: &Aggregators| Ok(lost.metrics().await?.count(PARTITIONS_LIVE) > 2);
    group.produce_until("it is live again", live_again).await.unwrap();
    println!("{:?}", outcome(&mut group, Some(lost)).await.unwrap());
    heir.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_member_ends_between_a_rebalances_two_rounds_gets_an_owner() {
    let mut group = group("ownerless", None).await;
    // The test is not about being back within the session, and a busy machine may take its time.
    group.session_timeout = Some(Duration::from_secs(120));
    let gives_up = group.spawn(0, Some("revoked:1")).unwrap();
    let observed = group.pipeline.group().unwrap();
    let committed = async |_: &Aggregators| Ok(observed.committed()? > 0);
    group.produce_until("the first member reads", committed).await.unwrap();
    let newcomer = group.spawn(1, None).unwrap();
    produce_until_aborted(&mut group, gives_up).await;
    // A static member: its return moves nothing.
    let back = group.spawn(0, None).unwrap();
    let rejoined = async |_: &Aggregators| {
        let counts = [back.metrics().await?.count(REJOINS), newcomer.metrics().await?.count(REJOINS)];
        Ok(counts.iter().sum::<u64>() > 0)
    };
    group.produce_until("a member joins the group again", rejoined).await.unwrap();
    // Reads every partition to its end.
    println!("{:?}", outcome(&mut group, Some(back)).await.unwrap());
    newcomer.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_transaction_windows_are_published_twice() {
    let mut group = group("torn", Some("transaction")).await;
    crash_at(&mut group, "filled").await;
    let differs = outcome(&mut group, None).await.unwrap_err().to_string();
    assert!(differs.contains(TWICE), "{differs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_transaction_a_later_start_finds_two_candles_of_a_slice_and_ends() {
    let mut group = group("twice", Some("transaction")).await;
    read_all(&group).await;
    // Within one window.
    (0..5).for_each(|_| group.produce().unwrap());
    let exit = group.spawn(0, Some("filled:1")).unwrap().exit(PATIENCE).await.unwrap();
    assert_eq!(exit.status.signal(), Some(SIGABRT));
    read_all(&group).await;
    let exit = group.spawn(0, None).unwrap().exit(PATIENCE).await.unwrap();
    exit.check(CONFIG, &[]).unwrap();
    let doubled = published(&group).await.unwrap().doubled_candles();
    let named = doubled.iter().find(|(name, end)| exit.names(name) && exit.names(&end.to_string()));
    named.with_context(|| format!("none of {doubled:?} is in: {}", exit.error)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_windows_are_published_twice() {
    let differs = fenced(Some("fence")).await.unwrap_err().to_string();
    assert!(differs.contains(TWICE), "{differs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_restore_windows_lack_the_trades_before_the_restart() {
    let differs = killed(Some("restore")).await.unwrap_err().to_string();
    assert!(differs.contains("candles") || differs.contains("averages"), "{differs}");
}
