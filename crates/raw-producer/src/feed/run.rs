//! The feed's loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::admin::Heartbeat;
use common::shutdown::Shutdown;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::FeedHandler;
use crate::deribit::events::EventReceiver;
use crate::metrics::{QueueMetrics, gauged};
use crate::publish::{DeadLetter, OutboundRecord};

/// Pause between two ticks.
const TICK: Duration = Duration::from_millis(50);

impl FeedHandler {
    /// Runs until the shutdown is requested, the writer has ended, or all connections have.
    pub(crate) async fn run(
        mut self,
        events: &mut EventReceiver,
        records: mpsc::Sender<OutboundRecord>,
        heartbeat: &Heartbeat,
        metrics: &QueueMetrics,
        shutdown: &Shutdown,
    ) {
        self.run_until_end(events, &records, heartbeat, metrics, shutdown).await;
        // A connection whose request queue is dropped must see that this is a shutdown.
        events.close();
    }

    async fn run_until_end(
        &mut self,
        events: &mut EventReceiver,
        records: &mpsc::Sender<OutboundRecord>,
        heartbeat: &Heartbeat,
        metrics: &QueueMetrics,
        shutdown: &Shutdown,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        metrics.publish_capacity.set(gauged(records.max_capacity()));
        let dead_letter_bytes = Arc::new(Semaphore::new(DeadLetter::MAX_QUEUED_BYTES));
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = tick.tick() => self.on_tick(Instant::now()),
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.on_event(event, Instant::now());
                }
            }
            heartbeat.beat();
            for record in self.take_records() {
                let record = match record {
                    letter @ OutboundRecord::DeadLetter(_) => letter,
                    other => match records.try_send(other) {
                        Err(TrySendError::Full(back)) => back,
                        _ => continue,
                    },
                };
                // While Kafka is slower than the exchange, no events are received.
                tokio::select! {
                    biased;
                    sent = send_with_permit(record, records, &dead_letter_bytes) => if sent.is_err() {
                        return;
                    },
                    () = shutdown.requested() => return,
                }
            }
            metrics.publish_length.set(gauged(records.max_capacity() - records.capacity()));
        }
    }
}

/// Waits until there is room for the record, and for the bytes of a dead letter.
async fn send_with_permit(
    record: OutboundRecord,
    records: &mpsc::Sender<OutboundRecord>,
    dead_letter_bytes: &Arc<Semaphore>,
) -> Result<(), SendError<OutboundRecord>> {
    let record = match record {
        OutboundRecord::DeadLetter(letter) => {
            OutboundRecord::DeadLetter(letter.with_permit(dead_letter_bytes).await)
        }
        other => other,
    };
    records.send(record).await
}
