//! The producer ends at every point around a step that lasts, or sleeps there while another takes over, and nothing is lost or doubled by it.
//! With the fence taken out it is.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use e2e::ingest::{Ingest, PATIENCE};
use e2e::process::{Process, Signal, folder_with_points};
use tokio::time::sleep;

/// Passed once at a start.
const AT_START: [&str; 6] =
    ["before-fence", "fenced", "owner-sent", "owner-committed", "snapshots-read", "tail-read"];
/// Passed by each transaction, or by each that has snapshots.
const AGAIN_AND_AGAIN: [&str; 6] =
    ["begun", "snapshot-sent", "produced", "acknowledged", "committed", "snapshot-committed"];
/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

/// One falls asleep between two transactions, with trades in its queues and sockets; another takes over, and has them all; then the first one
/// wakes up.
async fn a_sleeper_wakes_up(ingest: &mut Ingest) -> anyhow::Result<(Process, Process)> {
    ingest.use_binary_in(folder_with_points()?);
    ingest.arm_to_stop("committed", 20);
    let sleeper = ingest.produce()?;
    let end = Instant::now() + PATIENCE;
    while !sleeper.is_stopped()? {
        anyhow::ensure!(Instant::now() < end, "it does not fall asleep");
        sleep(Duration::from_millis(20)).await;
    }
    ingest.disarm();
    ingest.watch_another()?;
    let heir = ingest.produce()?;
    ingest.until_whole().await?;
    sleeper.signal(Signal::SIGCONT)?;
    Ok((sleeper, heir))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_wakes_up_after_another_took_over_writes_nothing_more() {
    let mut ingest = Ingest::open("sleeper", "", &[]).await.unwrap();
    let (sleeper, heir) = a_sleeper_wakes_up(&mut ingest).await.unwrap();
    assert_eq!(sleeper.end(PATIENCE).unwrap().status.code(), Some(1));
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(heir).unwrap();
    println!("{:?}", ingest.compare(through).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_it_writes_trades_once_more() {
    let mut ingest = Ingest::open("unfenced", "", &[]).await.unwrap();
    ingest.take_out("fence");
    let (_sleeper, _heir) = a_sleeper_wakes_up(&mut ingest).await.unwrap();
    let end = Instant::now() + PATIENCE;
    let differs = loop {
        let through = ingest.until_whole().await.unwrap();
        let compared = format!("{:?}", ingest.compare(through).await);
        // What one of them has not committed yet hides what the other has; what is there twice, stays.
        if compared.contains("doubled: ") && !compared.contains("doubled: 0 }") {
            break compared;
        }
        assert!(Instant::now() < end, "the fence is not missed: {compared:.400}");
    };
    println!("{differs:.200}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_ends_at_any_point_around_a_lasting_step_leaves_nothing_out_and_nothing_twice() {
    // Given up numbers bring snapshots more often than once in half a minute.
    let mut ingest = Ingest::open("crash", "[[fault]]\nkind = \"hole\"\none_in = 200", &[]).await.unwrap();
    ingest.use_binary_in(folder_with_points().unwrap());
    let once = AT_START.iter().map(|point| (*point, 1));
    let more = AGAIN_AND_AGAIN.iter().flat_map(|point| [(*point, 1), (*point, 4)]);
    let mut ends = 0;
    for (point, times) in once.chain(more) {
        ingest.arm(point, times);
        let status = ingest.produce().unwrap().end(PATIENCE).unwrap().status;
        assert_eq!(status.signal(), Some(SIGABRT), "{point}:{times} ended with {status}");
        ends += 1;
    }
    ingest.disarm();
    let producer = ingest.produce().unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    let compared = ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
    println!(
        "{ends} ends at 12 points: {} trades compared, {} lost, {} doubled",
        compared.trades, compared.lost, compared.doubled
    );
}
