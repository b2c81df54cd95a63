//! Decides which history is read: all of it before anything is published, and some of it regularly, to find what the stream has lost.

use std::time::Instant;

use super::{FeedHandler, Phase, kafka_partition};
use crate::backfill::BackfillRequest;
use crate::backfill::by_instrument::{InstrumentBackfill, KnownInstrument};
use crate::backfill::by_time::TimeBackfill;
use crate::clock::{ExchangeTime, Millis};
use crate::deribit::history::{PAGE_SIZE, Query, TradePage};
use crate::deribit::requests::MAX_IN_FLIGHT;
use crate::publish::OutboundRecord;
use crate::publish::snapshot_records::TopicState;
use crate::sequencer::{GATE_OPEN, TradeSource};

/// Queries by time reach back one day. This is a little less, to be safe.
const HISTORY_DEPTH: Millis = 24 * 3_600_000 - 120_000;
/// Reading by instrument ends this long after the start of [`HISTORY_DEPTH`], which moves on meanwhile.
const BY_INSTRUMENT_MARGIN: Millis = 2 * 3_600_000;
/// History can lag the stream: the end of what was compared is compared again.
const RECONCILE_OVERLAP: Millis = 10_000;
/// A time backfill that follows another goes back this far, for the same reason.
const HISTORY_LAG: Millis = 3_000;
/// History has the trades of a maintenance this long after its end.
const MAINTENANCE_MARGIN: Millis = 2_000;
/// A time backfill that ended further in the past than this is followed by another, even if no trade was dropped.
const CATCH_UP_TOLERANCE: Millis = 60_000;
/// The snapshot of an expired instrument is kept for longer than history by time reaches; the list of expired instruments lags.
const FORGET_EXPIRED_AFTER: Millis = 3 * 24 * 3_600_000;
/// The stream brings a trade within this time.
const STREAM_DELAY_MAX: Millis = 1_000;
/// Pause between the time backfills that look for first trades.
const SCAN_INTERVAL_MIN: Millis = 250;
/// A stream without trades for this long, while history has some, is dead.
const STREAM_SILENCE_MAX_SECONDS: u64 = 30;

impl FeedHandler {
    /// Nothing arrives: later trades are held until history was read up to them.
    pub(super) fn suspend(&mut self, waiting_for: &str, now: Instant) {
        // A backfill continues where it was. A comparison starts again.
        if self.phase == Phase::Live {
            self.time_backfill = None;
        }
        self.phase = Phase::Disconnected;
        self.deps.health.waiting(waiting_for);
        if let (Some(topic), Some(clock)) = (self.topic, self.clock) {
            let from = self.read_from(topic);
            self.sequencer.move_gate(from, from, clock.now(now));
        }
    }

    /// Connections may stay up and yet bring no trades: history must be read past the end of the maintenance.
    pub(super) fn on_maintenance(&mut self, now: Instant) {
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        self.maintenance_until = clock + MAINTENANCE_MARGIN;
        if self.phase == Phase::Live {
            tracing::warn!("the exchange is in maintenance");
            self.suspend("the exchange's maintenance", now);
        }
    }

    /// The stream may have lost trades: nothing counts as complete before history was read again.
    pub(super) fn invalidate_coverage(&mut self) {
        if self.phase == Phase::Live {
            self.time_backfill = None;
            self.confirmed = false;
        }
    }

    /// Moves on to the next phase or comparison, if the last one is done.
    pub(super) fn advance_backfill(&mut self, now: Instant) {
        let (Some(clock), false) = (self.clock.map(|clock| clock.now(now)), self.connections.is_empty())
        else {
            return;
        };
        let overloaded = self.phase == Phase::Live && self.is_overloaded();
        let is_read = self.time_backfill.as_ref().is_some_and(TimeBackfill::is_done);
        match self.phase {
            Phase::Disconnected => self.start(clock),
            Phase::BackfillByInstrument if self.instrument_backfill.is_done() => {
                self.on_instruments_done(clock);
            }
            Phase::CatchUp if is_read => self.on_catch_up_done(clock),
            Phase::Live if overloaded => self.restart_backfill(clock),
            Phase::Live if is_read => self.on_reconcile_done(clock, now),
            Phase::Live if self.time_backfill.is_none() => self.reconcile(clock),
            Phase::BackfillByInstrument | Phase::CatchUp | Phase::Live => {}
        }
        self.publish_progress();
    }

    /// There is a connection, and its clock is known.
    fn start(&mut self, clock: ExchangeTime) {
        let topic = self.topic.unwrap_or_else(|| {
            let start = self.settings.start_from.unwrap_or(clock).min(clock);
            TopicState { start, reconciled_through: start }
        });
        if self.topic.is_none() {
            self.topic = Some(topic);
            self.records.push(OutboundRecord::TopicState(topic));
        }
        self.sequencer.set_start(topic.start);
        self.sequencer.set_read_through(topic.reconciled_through);
        let oldest = clock - HISTORY_DEPTH;
        if let Some(backfill) = self.time_backfill.as_mut().filter(|backfill| backfill.reached() >= oldest) {
            backfill.resume(clock, RECONCILE_OVERLAP);
            let reached = backfill.reached();
            self.sequencer.move_gate(reached, reached, clock);
            self.phase = Phase::CatchUp;
            return;
        }
        if !self.instrument_backfill.is_done() {
            // It continues where it was.
            self.phase = Phase::BackfillByInstrument;
            return;
        }
        let from = self.read_from(topic);
        if from >= oldest {
            return self.start_catch_up(from, clock);
        }
        tracing::warn!(
            hours = (clock - from) / 3_600_000,
            "history by time does not reach back far enough: older trades are in order for each instrument only"
        );
        self.start_by_instrument(topic.start, from, clock);
    }

    fn start_by_instrument(&mut self, start: ExchangeTime, from: ExchangeTime, clock: ExchangeTime) {
        let until = clock - HISTORY_DEPTH + BY_INSTRUMENT_MARGIN;
        self.sequencer.move_gate(from, until, clock);
        let known = self.sequencer.last_published().map(|(name, last, timestamp)| {
            let name = name.to_string();
            KnownInstrument { name, last, timestamp }
        });
        self.instrument_backfill =
            InstrumentBackfill::new(&self.settings.scopes, known.collect(), start, from, until);
        self.backfill_started_at = Instant::now();
        self.phase = Phase::BackfillByInstrument;
    }

    /// Trades since then are read by time, if history by time still reaches back that far.
    fn on_instruments_done(&mut self, clock: ExchangeTime) {
        let start = self.topic.map_or(ExchangeTime::MIN, |topic| topic.start);
        let from = self.instrument_backfill.until() - RECONCILE_OVERLAP;
        if from >= clock - HISTORY_DEPTH {
            self.start_catch_up(from, clock);
        } else {
            self.start_by_instrument(start, from, clock);
        }
    }

    fn start_catch_up(&mut self, from: ExchangeTime, until: ExchangeTime) {
        self.sequencer.move_gate(from, from, until);
        self.start_time_backfill(from, until);
        self.phase = Phase::CatchUp;
        self.pursued_from = None;
    }

    fn start_time_backfill(&mut self, from: ExchangeTime, until: ExchangeTime) {
        self.time_backfills = self.time_backfills.wrapping_add(1);
        self.backfill_started_at = Instant::now();
        let backfill = TimeBackfill::new(&self.settings.scopes, self.time_backfills, from..=until);
        self.time_backfill = Some(backfill);
    }

    /// The time backfill with that number, if it is the running one.
    pub(super) fn running_time_backfill(&mut self, number: u32) -> Option<&mut TimeBackfill> {
        self.time_backfill.as_mut().filter(|backfill| backfill.number == number)
    }

    /// Whether more instruments lack trades than can be requested one by one. That would never end, because meanwhile more trades are
    /// dropped than found.
    fn is_overloaded(&mut self) -> bool {
        self.sequencer.dropped_after(self.last_read_until) > MAX_IN_FLIGHT
    }

    /// Reads history by time instead of filling gaps: one request brings a thousand trades.
    fn restart_backfill(&mut self, clock: ExchangeTime) {
        let read = self.compared_through;
        let from = self.sequencer.oldest_unpublished().map_or(read, |oldest| oldest.max(read));
        let from = self.pursued_from.map_or(from, |pursued| from.min(pursued)) - HISTORY_LAG;
        let held = self.sequencer.held();
        tracing::warn!(held, "too many gaps to fill one by one; reading history instead");
        self.deps.metrics.backfill_restarts.inc();
        self.sequencer.drop_buffered();
        self.start_catch_up(from, clock);
    }

    /// The backfill has reached its end. Time went on meanwhile, and trades of the stream may have been dropped.
    fn on_catch_up_done(&mut self, clock: ExchangeTime) {
        let Some(backfill) = self.time_backfill.take() else { return };
        let until = backfill.until();
        let (behind, in_maintenance) = (clock - until, until < self.maintenance_until);
        if behind > CATCH_UP_TOLERANCE
            || in_maintenance
            || self.sequencer.dropped_after(until) > MAX_IN_FLIGHT
        {
            let from = if behind > HISTORY_LAG || in_maintenance {
                until - HISTORY_LAG
            } else {
                // A fast stream is caught only without going back each time. Its trades are known by their numbers, dropped or not. Trades
                // before it that history did not have yet are found by the next comparison.
                self.pursued_from.get_or_insert(until);
                until
            };
            self.sequencer.move_gate(from, from, clock);
            self.start_time_backfill(from, clock);
            return;
        }
        tracing::info!(trades = backfill.trades, "backfill complete; live");
        self.phase = Phase::Live;
        self.confirmed = false;
        self.sequencer.move_gate(until + 1, GATE_OPEN, clock);
        self.publish_released();
        self.on_history_read(until, clock);
        self.deps.health.ready();
    }

    /// Starts to compare the published trades with history, if that is due.
    fn reconcile(&mut self, clock: ExchangeTime) {
        let Some(topic) = self.topic else { return };
        let from = self.read_from(topic);
        let since = clock - self.last_read_at;
        if since >= self.settings.reconcile_interval || (!self.confirmed && since >= HISTORY_LAG) {
            self.start_time_backfill(from, clock - STREAM_DELAY_MAX);
        } else if self.sequencer.needs_history() && since >= SCAN_INTERVAL_MIN {
            let oldest = self.sequencer.oldest_without_first_trade().unwrap_or(clock);
            let from = from.max(self.last_read_until.min(oldest) - HISTORY_LAG);
            self.start_time_backfill(from, clock);
        } else {
            return;
        }
        self.found_in_history = 0;
    }

    fn on_reconcile_done(&mut self, clock: ExchangeTime, now: Instant) {
        let Some(backfill) = self.time_backfill.take() else { return };
        let until = backfill.until();
        self.pursued_from = self.pursued_from.filter(|pursued| *pursued < backfill.from());
        self.confirmed = self.pursued_from.is_none();
        self.sequencer.move_gate(until + 1, GATE_OPEN, clock);
        self.publish_released();
        self.on_history_read(until, clock);
        if self.found_in_history == 0 {
            return;
        }
        tracing::debug!(trades = self.found_in_history, "history has trades that the stream did not bring");
        let silence = |since: Instant| now.saturating_duration_since(since).as_secs();
        let silent = self
            .connections
            .iter()
            .filter(|(_, state)| silence(state.active_at) >= STREAM_SILENCE_MAX_SECONDS);
        // Without its sender of requests, a connection ends.
        for connection in silent.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            self.on_disconnect(connection, now);
        }
    }

    /// History was read up to `until`.
    fn on_history_read(&mut self, until: ExchangeTime, clock: ExchangeTime) {
        self.last_read_until = self.last_read_until.max(until);
        self.last_read_at = clock;
        self.update_compared_through(until);
        self.update_reconciled_through();
    }

    /// This process reads history again from here.
    fn read_from(&self, topic: TopicState) -> ExchangeTime {
        let read = self.compared_through.max(topic.reconciled_through);
        self.pursued_from.map_or(read, |pursued| read.min(pursued)) - RECONCILE_OVERLAP
    }

    /// This process need not read history up to `through` again, even after a lost connection. It knows every held and missing trade, and
    /// requests each gap. Only first trades of instruments cannot be found otherwise.
    fn update_compared_through(&mut self, through: ExchangeTime) {
        let first = self.sequencer.oldest_without_first_trade();
        let through = first.map_or(through, |oldest| through.min(oldest - 1));
        self.compared_through = self.compared_through.max(through);
        self.sequencer.set_read_through(through);
    }

    /// Records for the next process up to which time the topic is complete. It does not know what is held here.
    fn update_reconciled_through(&mut self) {
        let oldest = self.sequencer.oldest_unpublished();
        let through = oldest.map_or(self.compared_through, |oldest| self.compared_through.min(oldest - 1));
        let Some(topic) = self.topic.as_mut() else { return };
        if through > topic.reconciled_through {
            topic.reconciled_through = through;
            let topic = *topic;
            self.records.push(OutboundRecord::TopicState(topic));
            self.remove_expired(through);
        }
    }

    /// Removes instruments that expired long ago: no trade of them can arrive any more.
    fn remove_expired(&mut self, through: ExchangeTime) {
        for id in self.sequencer.expired(through - FORGET_EXPIRED_AFTER) {
            let name = self.sequencer.name(id);
            tracing::debug!(%name, "removed expired instrument");
            self.sequencer.remove(id);
            self.records.push(OutboundRecord::RemoveInstrument(name));
        }
    }

    pub(super) fn on_history_page(&mut self, backfill: u32, scope: usize, page: TradePage<'_>, now: Instant) {
        // A page of an older backfill says nothing about the progress of this one.
        if self.running_time_backfill(backfill).is_none() {
            return;
        }
        let (trades, has_more) = (page.trades.len(), page.has_more);
        let accepted = self.accept_page(page, TradeSource::History, now);
        let Some(running) = self.time_backfill.as_mut() else { return };
        running.on_page(scope, trades, accepted.newest, has_more);
        let reached = running.reached();
        if let (Phase::CatchUp, Some(clock)) = (self.phase, self.clock) {
            self.sequencer.move_gate(reached, reached, clock.now(now));
            self.publish_released();
            self.update_compared_through(reached - 1);
            if self.topic.is_some_and(|topic| reached - topic.reconciled_through > RECONCILE_OVERLAP) {
                self.update_reconciled_through();
            }
        }
    }

    /// The next query for history, if there is room for its page. When the buffer is full, one page at a time is read all the same: only
    /// reading on makes room, unless a gap holds a partition.
    pub(super) fn next_history_query(&mut self) -> Option<(Query, BackfillRequest)> {
        let is_page = |kind: &super::RequestKind| {
            use super::RequestKind::Backfill;
            matches!(kind, Backfill(BackfillRequest::Page { .. } | BackfillRequest::Instrument(_)))
        };
        let pages = self.requests.count(is_page);
        let needed = self.sequencer.held() + (pages + 1) * usize::from(PAGE_SIZE);
        let is_full = needed > self.settings.limits.max_buffered;
        if is_full && (pages > 0 || self.sequencer.is_holding()) {
            return None;
        }
        match self.phase {
            Phase::Disconnected => None,
            Phase::BackfillByInstrument => self.instrument_backfill.next_query(),
            Phase::CatchUp | Phase::Live => {
                let backfill = self.time_backfill.as_mut()?;
                let (scope, query) = backfill.next_query()?;
                Some((query, BackfillRequest::Page { backfill: backfill.number, scope }))
            }
        }
    }

    /// The exchange's clock shows `time`, so everything sent before has arrived: partitions without gaps are complete. This does not hold
    /// before history was read again, because only history has trades that the first reading was too early for. Nor does it hold while no
    /// connection has every channel.
    pub(super) fn publish_watermarks(&mut self, time: ExchangeTime) {
        let complete_through = time - STREAM_DELAY_MAX;
        let has_all_channels = self.connections.values().any(|state| state.unsubscribed_channels == 0);
        if self.phase != Phase::Live
            || !self.confirmed
            || !has_all_channels
            || complete_through <= self.watermark
        {
            return;
        }
        self.watermark = complete_through;
        self.publish_released();
        for partition in 0..self.settings.partitions {
            if self.sequencer.has_no_gaps(partition) {
                let partition = kafka_partition(partition);
                self.records.push(OutboundRecord::Watermark { partition, complete_through });
            }
        }
    }

    /// Shows the progress in `/ready`.
    fn publish_progress(&self) {
        let (text, share) = match (self.phase, &self.time_backfill) {
            (Phase::BackfillByInstrument, _) => self.instrument_backfill.progress(),
            (Phase::CatchUp, Some(backfill)) => {
                let share = backfill.progress();
                let seconds = (backfill.until() - backfill.from()) / 1000;
                let (percent, trades) = (share * 100.0, backfill.trades);
                (format!("backfilling: {percent:.0} % of {seconds} s of history, {trades} trades"), share)
            }
            _ => return,
        };
        let left = self.backfill_started_at.elapsed().as_secs_f64() * (1.0 - share) / share;
        let left = if share > 0.0 { format!(", about {left:.0} s left") } else { String::new() };
        self.deps.health.waiting(format!("{text}{left}"));
    }
}
