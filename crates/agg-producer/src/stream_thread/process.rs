//! One record's way through the aggregator.

use std::ffi::CStr;
use std::time::Instant;

use common::Failure;
use common::kafka::batch_consumer::ConsumerRecord;
use common::telemetry::trace::{self, SpanKind};
use rdkafka::consumer::Consumer as _;

use super::task::{Added, Delivery, RunningTask, Task};
use super::{CommitDeadline, StreamThread};
use crate::records::decode::{DecodedTrade, TradeDecodeOutcome};
use crate::records::encode::SideOutput;
use crate::store::aggregator::{Offset, Placement};

/// The header of a sampled trade, as librdkafka takes names.
const TRACEPARENT: &CStr = c"traceparent";
/// Records set aside in memory before they are written: what one transaction holds of them.
const MOST_ASIDES: usize = 1000;

impl StreamThread {
    /// Processes the next record of its partition.
    pub(super) fn process(&mut self, record: &ConsumerRecord) -> Result<(), Failure> {
        let offset = Offset(record.offset());
        let slot = self.slots.get_mut(&record.partition());
        // Not ours any more, or to be read again from elsewhere.
        let Some(running) = slot.and_then(Task::running_mut) else { return Ok(()) };
        match running.on_record(offset) {
            Delivery::Next => running.advance_to(offset),
            Delivery::Again => return Ok(()),
            Delivery::InsteadOf(first) => {
                let (partition, first) = (record.partition(), first.0);
                tracing::error!(
                    partition,
                    offset = offset.0,
                    first,
                    "cannot rebuild state from this record; restarting the partition"
                );
                return self.restart(&[partition]);
            }
        }
        match self.decoder.decode(record.value(), record.timestamp()) {
            TradeDecodeOutcome::Trade(trade) => match running.add(offset, &trade) {
                Added::Restored => self.metrics.restored(),
                Added::Placed(Placement::Late(late)) => {
                    running.asides.push((record.copied(&self.restore.topic), SideOutput::Late(late)));
                }
                Added::Placed(Placement::InTime(slice)) => {
                    self.metrics.trade();
                    if let Some(context) = traced(record, &trade, &self.process_span) {
                        running.partition.aggregator_mut().remember_trace(slice, &trade.instrument, context);
                    }
                }
            },
            TradeDecodeOutcome::Undecodable(_) if !running.is_live() => self.metrics.restored(),
            TradeDecodeOutcome::Undecodable(why) => {
                // One line for each transaction; each record has its reason beside it in the dead-letter topic.
                if running.asides.is_empty() {
                    tracing::warn!(partition = record.partition(), offset = offset.0, why, "undecodable");
                }
                running.asides.push((record.copied(&self.restore.topic), SideOutput::Undecodable(why)));
            }
            TradeDecodeOutcome::Refused(why) => return Err(Failure::Config(why)),
            TradeDecodeOutcome::RegistryAway(why) => return self.wait_for_registry(record, &why),
        }
        running.advance_to(Offset(offset.0 + 1));
        if running.asides.len() >= MOST_ASIDES {
            self.urgency = CommitDeadline::Now;
        } else if running.partition.is_due() {
            self.due();
        }
        Ok(())
    }

    /// Pauses the record's partition, to read the record again later.
    fn wait_for_registry(&mut self, record: &ConsumerRecord, why: &str) -> Result<(), Failure> {
        let (partition, offset) = (record.partition(), record.offset());
        let retry_in = self.retry.next_delay();
        tracing::warn!(partition, offset, why, ?retry_in, "paused");
        let paused = self
            .consumer
            .pause(&self.list(&[partition]))
            .and_then(|()| self.restore.seek(&self.consumer, partition, Offset(offset)));
        match (paused, self.slots.get_mut(&partition)) {
            (Ok(()), Some(Task::RunningTask(running))) => {
                running.paused_until = Some(Instant::now() + retry_in);
            }
            (_, Some(slot)) => *slot = Task::new_starting(),
            (_, None) => {}
        }
        Ok(())
    }

    /// Lets partitions go on that have waited for the registry long enough.
    pub(super) fn resume_paused(&mut self, now: Instant) {
        let due = |running: &RunningTask| running.paused_until.is_some_and(|until| until <= now);
        let partitions: Vec<i32> =
            self.running().filter(|(_, running)| due(running)).map(|(partition, _)| partition).collect();
        if partitions.is_empty() {
            return;
        }
        match self.consumer.resume(&self.list(&partitions)) {
            Ok(()) => {
                self.running().filter(|(_, r)| due(r)).for_each(|(_, running)| running.paused_until = None);
            }
            Err(error) => tracing::warn!(%error, "cannot resume"),
        }
    }
}

/// The span of processing a sampled trade; gives the context for what comes of it.
fn traced(record: &ConsumerRecord, trade: &DecodedTrade<'_>, name: &str) -> Option<String> {
    let parent = record.header(TRACEPARENT).and_then(trace::extract)?;
    let span = trace::child(&parent, name, SpanKind::Consumer);
    trace::tag(&span, "instrument_name", trade.instrument.to_string());
    trace::tag(&span, "partition", i64::from(record.partition()));
    trace::tag(&span, "offset", record.offset());
    trace::inject(&span)
}
