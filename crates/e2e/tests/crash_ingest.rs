//! The producer ends at every point around a step that lasts, and nothing is lost or doubled by it.

use std::os::unix::process::ExitStatusExt as _;

use e2e::ingest::{Ingest, PATIENCE};

/// Passed once at a start.
const AT_START: [&str; 6] =
    ["before-fence", "fenced", "owner-sent", "owner-committed", "snapshots-read", "tail-read"];
/// Passed by each transaction, or by each that has snapshots.
const AGAIN_AND_AGAIN: [&str; 6] =
    ["begun", "snapshot-sent", "produced", "acknowledged", "committed", "snapshot-committed"];
/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_ends_at_any_point_around_a_lasting_step_leaves_nothing_out_and_nothing_twice() {
    // Given up numbers bring snapshots more often than once in half a minute.
    let mut ingest = Ingest::open("crash", "[[fault]]\nkind = \"hole\"\none_in = 200", &[]).await.unwrap();
    // The test and the binary beside it are built with the points; a released one is not.
    let exe = std::env::current_exe().unwrap();
    ingest.use_binary_in(exe.ancestors().nth(2).unwrap().to_owned());
    let once = AT_START.iter().map(|point| (*point, 1));
    let more = AGAIN_AND_AGAIN.iter().flat_map(|point| [(*point, 1), (*point, 4)]);
    let mut ends = 0;
    for (point, times) in once.chain(more) {
        ingest.arm(point, times);
        let status = ingest.produce().unwrap().end(PATIENCE).unwrap();
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
