//! Closed slices put back from their candles, between records of the partitions that flow.

use std::time::{Duration, Instant};

use common::Failure;
use common::model::Candle;

use super::StreamThread;
use super::task::Task;
use crate::restore::candles::Unreadable;
use crate::restore::{Refusal, RestoreError};

/// How long the others wait for it at most in one turn.
const TURN: Duration = Duration::from_millis(5);
/// How soon it is asked again whether candles exist that do not come.
const DOUBT_AGAIN: Duration = Duration::from_secs(5);

impl StreamThread {
    /// Puts back what there is of candles by now.
    pub(super) fn restore_candles(&mut self) -> Result<(), Failure> {
        if !self.candles.is_reading() {
            return Ok(());
        }
        let end = Instant::now() + TURN;
        while let Some((partition, candle)) = self.candles.take() {
            match candle {
                Ok(candle) => self.restore_candle(partition, &candle)?,
                Err(Unreadable::Away(why)) => {
                    tracing::warn!(partition, why, "re-reading candles");
                    self.restart(&[partition])?;
                }
                Err(Unreadable::Damaged(why)) => return Err(self.refuse(partition, Refusal::Candle(why))),
            }
            if Instant::now() >= end {
                break;
            }
        }
        self.finish()
    }

    fn restore_candle(&mut self, partition: i32, candle: &Candle<'_>) -> Result<(), Failure> {
        let starting = self.slots.get_mut(&partition).and_then(Task::starting_mut);
        let Some(starting) = starting else { return Ok(()) };
        starting.progress_at = Instant::now();
        let Some(start) = starting.start.as_mut() else { return Ok(()) };
        if let Err(unfit) = start.partition.restore_candle(candle) {
            return Err(self.refuse(partition, Refusal::Candle(unfit.to_string())));
        }
        self.metrics.restored();
        Ok(())
    }

    /// Lets those be sought whose candles have all been read: as many as were committed, and none besides.
    fn finish(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut doubtful = None;
        for (partition, slot) in &mut self.slots {
            let Some(starting) = slot.starting_mut().filter(|starting| starting.recalling) else { continue };
            match starting.missing() {
                0 if self.candles.has_read(*partition).map_err(anyhow::Error::from)? => {
                    starting.recalling = false;
                    self.candles.unassign(*partition);
                    self.next_start = now;
                }
                0 => {}
                missing if now >= starting.next_doubt => {
                    starting.next_doubt = now + DOUBT_AGAIN;
                    doubtful = Some((*partition, missing));
                }
                _ => {}
            }
        }
        doubtful.map_or(Ok(()), |(partition, missing)| self.check_missing_candles(partition, missing))
    }

    /// Candles that do not come are hidden by a transaction that has not ended, or do not exist any more.
    fn check_missing_candles(&self, partition: i32, missing: u64) -> Result<(), Failure> {
        match self.candles.has_read_all(partition) {
            Ok(true) => {
                let topic = self.restore.candles.clone();
                return Err(self.refuse(partition, Refusal::CandlesGone { topic, missing }));
            }
            Ok(false) => tracing::warn!(partition, missing, "waiting for candles to become readable"),
            Err(error) => {
                tracing::warn!(partition, missing, %error, "cannot fetch the end offset of the candles");
            }
        }
        Ok(())
    }

    fn refuse(&self, partition: i32, why: Refusal) -> Failure {
        self.refused(&RestoreError::Refused { topic: self.restore.topic.clone(), partition, why })
    }
}
