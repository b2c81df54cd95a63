//! The producer ends at every point around a step that lasts, or freezes there while another takes over: nothing is lost or doubled. Without
//! the fence it is.
//!
//! Needs binaries with failpoints.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::ensure;
use e2e::ingest::IngestFixture;
use e2e::{PATIENCE, Service, Signal, eventually};

/// Passed once at a start.
const AT_START: [&str; 6] =
    ["before-fence", "fenced", "owner-sent", "owner-committed", "snapshots-read", "tail-read"];
/// Passed by each transaction, or by each that has snapshots.
const REPEATEDLY: [&str; 6] =
    ["begun", "snapshot-sent", "produced", "acknowledged", "committed", "snapshot-committed"];
/// The signal of `abort`.
const SIGABRT: i32 = 6;

/// One freezes between two transactions, with trades in its queues and sockets; another takes over, and publishes them all; then the first
/// one wakes up.
async fn a_frozen_producer_wakes_up(ingest: &mut IngestFixture) -> anyhow::Result<(Service, Service)> {
    ingest.arm(Some("committed:20:stop".to_owned()));
    let frozen = ingest.produce()?;
    eventually(PATIENCE, "it freezes", async || frozen.is_stopped()).await?;
    ingest.arm(None);
    let heir = ingest.produce()?;
    ingest.wait_until_reconciled(&heir).await?;
    frozen.signal(Signal::SIGCONT)?;
    Ok((frozen, heir))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_wakes_up_after_another_took_over_writes_nothing_more() {
    let mut ingest = IngestFixture::open("frozen", "", &[]).await.unwrap();
    let (frozen, heir) = a_frozen_producer_wakes_up(&mut ingest).await.unwrap();
    assert_eq!(frozen.exit(PATIENCE).await.unwrap().code(), Some(1));
    let through = ingest.wait_until_reconciled(&heir).await.unwrap();
    heir.stop().await.unwrap();
    println!("{:?}", ingest.compare(through).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_it_writes_trades_once_more() {
    let mut ingest = IngestFixture::open("unfenced", "", &[]).await.unwrap();
    ingest.disable_guarantee("fence");
    let (_frozen, heir) = a_frozen_producer_wakes_up(&mut ingest).await.unwrap();
    // An open transaction of one of them hides the trades of the other for a moment.
    let doubled = async || {
        let through = ingest.wait_until_reconciled(&heir).await?;
        let (compared, _) = ingest.tally(through).await?;
        ensure!(compared.doubled > 0, "nothing shows that there is no fence: {compared:?}");
        println!("{compared:?}");
        Ok(true)
    };
    eventually(PATIENCE, "trades are doubled", doubled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_ends_at_any_point_around_a_lasting_step_leaves_nothing_out_and_nothing_twice() {
    // Skipped numbers bring snapshots more often than twice a minute.
    let mut ingest =
        IngestFixture::open("crash", "[[fault]]\nkind = \"hole\"\none_in = 200", &[]).await.unwrap();
    let once = AT_START.iter().map(|point| (*point, 1));
    let more = REPEATEDLY.iter().flat_map(|point| [(*point, 1), (*point, 4)]);
    let mut crashes = 0;
    for (point, times) in once.chain(more) {
        ingest.arm(Some(format!("{point}:{times}")));
        let exit = ingest.produce().unwrap().exit(PATIENCE).await.unwrap();
        assert_eq!(exit.status.signal(), Some(SIGABRT), "{point}:{times}: {exit:?}");
        crashes += 1;
    }
    ingest.arm(None);
    let producer = ingest.produce().unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    let compared = ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
    println!("{crashes} crashes at 12 points: {compared:?}");
}
