//! Reading history: all of it before anything is published, and again now and then to find what the stream has lost.

use std::collections::HashSet;
use std::time::Instant;

use super::{FeedHandler, Phase, RequestKind};
use crate::backfill::by_instrument::InstrumentBackfill;
use crate::backfill::by_time::TimeBackfill;
use crate::clock::Millis;
use crate::deribit::history::{ListedInstrument, PAGE, Query, TradePage};
use crate::deribit::requests::AT_ONCE;
use crate::publish::OutboundRecord;
use crate::publish::snapshot_records::TopicState;
use crate::sequencer::{GATE_OPEN, TradeSource};

/// History by currency reaches back a day; a little less is sure.
const REACH: Millis = 24 * 3_600_000 - 120_000;
/// What is read instrument by instrument ends this long after that: by then history by time begins later, too.
const AHEAD: Millis = 2 * 3_600_000;
/// What was compared is compared once more for this long: history can lag the stream.
const OVERLAP: Millis = 10_000;
/// A scan that follows another goes back this far.
const LAG: Millis = 3_000;
/// What happened in maintenance is in history this long after it.
const NEAR: Millis = 2_000;
/// A scan that ended further from now is followed by another, even if everything since has been kept.
const FAR: Millis = 60_000;
/// An expired instrument is remembered for so long; at least as long as history by time reaches, and the listing of expired ones is late.
const KEPT_AFTER_EXPIRY: Millis = 3 * 24 * 3_600_000;
/// The stream brings a trade within this time.
const STREAM_DELAY: Millis = 1_000;
/// Scans for the first trades of instruments come no closer than this.
const SCAN_PAUSE: Millis = 250;
/// A stream that is silent for this long, while history has trades, is dead.
const SILENT_SECONDS: u64 = 30;

impl FeedHandler {
    /// Nothing comes: what comes later waits until history has been read up to it.
    pub(super) fn wait_for(&mut self, what: &str, now: Instant) {
        // What was being read goes on where it was; a comparison begins anew.
        if self.phase == Phase::Live {
            self.scan = None;
        }
        self.phase = Phase::Disconnected;
        self.tools.part.waiting(what);
        if let (Some(topic), Some(clock)) = (self.topic, self.clock) {
            let from = self.read_from(topic);
            self.sequencer.move_gate(from, from, clock.now(now));
        }
    }

    /// Connections may live, and yet bring no trades: history has to be read beyond its end.
    pub(super) fn maintenance(&mut self, now: Instant) {
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        self.maintained_until = clock + NEAR;
        if self.phase == Phase::Live {
            tracing::warn!("the exchange is in maintenance");
            self.wait_for("the exchange's maintenance", now);
        }
    }

    /// Whatever comes next, if what was done last is done.
    pub(super) fn advance(&mut self, now: Instant) {
        let (Some(clock), false) = (self.clock.map(|clock| clock.now(now)), self.lines.is_empty()) else {
            return;
        };
        let overrun = self.phase == Phase::Live && self.is_overloaded();
        match self.phase {
            Phase::Disconnected => self.begin(clock),
            Phase::BackfillByInstrument if self.deep.is_done() => self.deep_ended(clock),
            Phase::CatchingUp if self.scan.as_ref().is_some_and(TimeBackfill::is_done) => {
                self.on_catch_up_done(clock);
            }
            Phase::Live if overrun => self.restart_backfill(clock),
            Phase::Live if self.scan.as_ref().is_some_and(TimeBackfill::is_done) => {
                self.on_reconcile_done(clock, now);
            }
            Phase::Live if self.scan.is_none() => self.compare(clock),
            Phase::BackfillByInstrument | Phase::CatchingUp | Phase::Live => {}
        }
        self.publish_progress();
    }

    /// A connection is there, and its clock.
    fn begin(&mut self, clock: Millis) {
        let fresh = || {
            let start = self.settings.start_from.unwrap_or(clock).min(clock);
            TopicState { start, reconciled_through: start }
        };
        let topic = self.topic.unwrap_or_else(fresh);
        if self.topic.is_none() {
            self.topic = Some(topic);
            self.items.push(OutboundRecord::TopicState(topic));
        }
        self.sequencer.set_start(topic.start);
        self.sequencer.set_read_through(topic.reconciled_through);
        let reach = clock - REACH;
        if let Some(scan) = self.scan.as_mut().filter(|scan| scan.reached() >= reach) {
            scan.resume(clock, OVERLAP);
            let reached = scan.reached();
            self.sequencer.move_gate(reached, reached, clock);
            self.phase = Phase::CatchingUp;
            return;
        }
        if !self.deep.is_done() {
            // It goes on where it was.
            self.phase = Phase::BackfillByInstrument;
            return;
        }
        let from = self.read_from(topic);
        if from >= reach {
            return self.begin_scan(from, clock);
        }
        tracing::warn!(
            hours = (clock - from) / 3_600_000,
            "more was missed than history has by time: older trades come in order for each instrument only"
        );
        self.begin_deep(topic.start, from, clock);
    }

    fn begin_deep(&mut self, start: Millis, from: Millis, clock: Millis) {
        let until = clock - REACH + AHEAD;
        self.sequencer.move_gate(from, until, clock);
        self.deep = InstrumentBackfill::new(&self.settings.scopes, (start, from, until));
        let known = self
            .sequencer
            .last_published()
            .map(|(name, last, timestamp)| (name.to_string(), last, timestamp));
        self.deep.know(known.collect());
        self.begun = Instant::now();
        self.phase = Phase::BackfillByInstrument;
    }

    /// It took its time; what happened meanwhile is read by time, if history still reaches back to where this ended.
    fn deep_ended(&mut self, clock: Millis) {
        let (start, from) =
            (self.topic.map_or(Millis::MIN, |topic| topic.start), self.deep.until() - OVERLAP);
        if from >= clock - REACH {
            self.begin_scan(from, clock);
        } else {
            self.begin_deep(start, from, clock);
        }
    }

    fn begin_scan(&mut self, from: Millis, until: Millis) {
        self.sequencer.move_gate(from, from, until);
        self.scan = Some(self.new_scan(from, until));
        self.phase = Phase::CatchingUp;
        self.pursued_from = None;
    }

    fn new_scan(&mut self, from: Millis, until: Millis) -> TimeBackfill {
        self.scans = self.scans.wrapping_add(1);
        self.begun = Instant::now();
        TimeBackfill::new(&self.settings.scopes, self.scans, (from, until))
    }

    /// The scan of that number, if it is the one that is running.
    pub(super) fn scan_of(&mut self, number: u32) -> Option<&mut TimeBackfill> {
        self.scan.as_mut().filter(|scan| scan.number == number)
    }

    /// Whether trades of more instruments are missing than can be asked about one by one: then that never ends, because meanwhile more
    /// are dropped than are found.
    fn is_overloaded(&mut self) -> bool {
        self.sequencer.dropped_after(self.last_scan_until) > AT_ONCE
    }

    /// What comes is more than there is room for while gaps are filled: history by time has it all, and a thousand trades for each call.
    fn restart_backfill(&mut self, clock: Millis) {
        let read = self.compared_through;
        let from = self.sequencer.oldest_unpublished().map_or(read, |oldest| oldest.max(read));
        let from = self.pursued_from.map_or(from, |pursued| from.min(pursued)) - LAG;
        tracing::warn!(
            held = self.sequencer.held(),
            "too much waits for what is missing; reading history instead"
        );
        self.tools.metrics.backfill_restarts.inc();
        self.sequencer.drop_buffered();
        self.begin_scan(from, clock);
    }

    /// The reading has come to where it was to end; but meanwhile time went on, and what the stream brought may not have had room.
    fn on_catch_up_done(&mut self, clock: Millis) {
        let Some(scan) = self.scan.take() else { return };
        let (_, until) = scan.times();
        let (behind, maintained) = (clock - until, until < self.maintained_until);
        if behind > FAR || maintained || self.sequencer.dropped_after(until) > AT_ONCE {
            let from = if behind > LAG || maintained {
                until - LAG
            } else {
                // A fast stream is caught only by a reading that does not begin seconds back each time. Its trades are known by their
                // numbers, dropped or not; what was traded before it began, and history did not have yet, is found by the comparison.
                self.pursued_from.get_or_insert(until);
                until
            };
            self.sequencer.move_gate(from, from, clock);
            self.scan = Some(self.new_scan(from, clock));
            return;
        }
        tracing::info!(trades = scan.trades, "history has been read; live from now on");
        self.phase = Phase::Live;
        self.confirmed = false;
        self.sequencer.move_gate(until + 1, GATE_OPEN, clock);
        self.publish_released();
        self.reading_ended(until, clock);
        self.tools.part.ready();
    }

    /// Begins to compare what was published with history, when it is time.
    fn compare(&mut self, clock: Millis) {
        let Some(topic) = self.topic else { return };
        let from = self.read_from(topic);
        let since = clock - self.last_scan_at;
        if since >= self.settings.reconcile_interval || (!self.confirmed && since >= LAG) {
            self.scan = Some(self.new_scan(from, clock - STREAM_DELAY));
        } else if self.sequencer.needs_history() && clock - self.last_scan_at >= SCAN_PAUSE {
            let oldest = self.sequencer.oldest_without_first_trade().unwrap_or(clock);
            let from = from.max(self.last_scan_until.min(oldest) - LAG);
            self.scan = Some(self.new_scan(from, clock));
        } else {
            return;
        }
        self.found_by_scan = 0;
    }

    fn on_reconcile_done(&mut self, clock: Millis, now: Instant) {
        let Some(scan) = self.scan.take() else { return };
        self.pursued_from = self.pursued_from.filter(|pursued| *pursued < scan.times().0);
        self.confirmed = self.pursued_from.is_none();
        self.sequencer.move_gate(scan.times().1 + 1, GATE_OPEN, clock);
        self.publish_released();
        self.reading_ended(scan.times().1, clock);
        if self.found_by_scan == 0 {
            return;
        }
        tracing::debug!(trades = self.found_by_scan, "history has trades that the stream did not bring");
        // Dropping a connection's questions ends it.
        let silent: Vec<usize> = self
            .lines
            .iter()
            .filter(|(_, line)| now.saturating_duration_since(line.heard_at).as_secs() >= SILENT_SECONDS)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in silent {
            self.down(connection, now);
        }
    }

    /// A reading of history up to `until` has ended.
    fn reading_ended(&mut self, until: Millis, clock: Millis) {
        self.last_scan_until = self.last_scan_until.max(until);
        self.last_scan_at = clock;
        self.compared(until);
        self.update_reconciled_through();
    }

    /// From where this process reads history again.
    fn read_from(&self, topic: TopicState) -> Millis {
        let read = self.compared_through.max(topic.reconciled_through);
        self.pursued_from.map_or(read, |pursued| read.min(pursued)) - OVERLAP
    }

    /// History was read up to then: this process need not read it again, whatever becomes of the connection. It knows of everything
    /// that waits, and asks about each gap by itself; only the first trade of an instrument is to be had by no other way.
    fn compared(&mut self, through: Millis) {
        let first =
            self.sequencer.oldest_without_first_trade().map_or(through, |oldest| through.min(oldest - 1));
        self.compared_through = self.compared_through.max(first);
        self.sequencer.set_read_through(first);
    }

    /// Notes for the process after this one up to when the topic is whole: what waits now is known to this one only.
    fn update_reconciled_through(&mut self) {
        let oldest = self.sequencer.oldest_unpublished();
        let through = oldest.map_or(self.compared_through, |oldest| self.compared_through.min(oldest - 1));
        let Some(topic) = self.topic.as_mut() else { return };
        if through > topic.reconciled_through {
            topic.reconciled_through = through;
            let topic = *topic;
            self.items.push(OutboundRecord::TopicState(topic));
            self.forget_expired(through);
        }
    }

    /// Nothing can come any more of an instrument that expired long before what was compared.
    fn forget_expired(&mut self, through: Millis) {
        for id in self.sequencer.expired(through - KEPT_AFTER_EXPIRY) {
            let of = self.instrument(id);
            tracing::debug!(name = %of.name, "expired and compared: forgotten");
            self.sequencer.remove(id);
            self.items.push(OutboundRecord::RemoveInstrument(of.name));
        }
    }

    /// A page of the scan.
    pub(super) fn scan_page(&mut self, (number, part): (u32, usize), page: TradePage<'_>, now: Instant) {
        // What another scan asked for says nothing about how far this one has come.
        if self.scan_of(number).is_none() {
            return;
        }
        let (count, has_more) = (page.trades.len(), page.has_more);
        let (_, newest) = self.page(page, (TradeSource::History, now));
        let Some(scan) = self.scan.as_mut() else { return };
        scan.answered(part, (count, newest), has_more);
        let reached = scan.reached();
        if let (Phase::CatchingUp, Some(clock)) = (self.phase, self.clock) {
            self.sequencer.move_gate(reached, reached, clock.now(now));
            self.publish_released();
            self.compared(reached - 1);
            if self.topic.is_some_and(|topic| reached - topic.reconciled_through > OVERLAP) {
                self.update_reconciled_through();
            }
        }
    }

    /// What to read next.
    pub(super) fn next_reading(&mut self) -> Option<(Query, RequestKind)> {
        // What was read fits in, but for one page if the room is full: only reading on makes room, unless a gap holds a partition back.
        let reading = self.calls.reading();
        let full = self.sequencer.held() + (reading + 1) * PAGE > self.settings.limits.max_buffered;
        if full && (reading > 0 || self.sequencer.is_holding()) {
            return None;
        }
        match self.phase {
            Phase::Disconnected => None,
            Phase::BackfillByInstrument => self.deep.next_call(),
            Phase::CatchingUp | Phase::Live => {
                let scan = self.scan.as_mut()?;
                let (part, call) = scan.next_call()?;
                Some((call, RequestKind::TimeBackfill(scan.number, part)))
            }
        }
    }

    /// The exchange says what time it is, and what it sent before has arrived: so the partitions that miss nothing are complete. Not before
    /// history has been read once more: what the first reading was too early for came before the stream, and only history has it. Nor
    /// while no connection has every channel.
    pub(super) fn complete_through(&mut self, time: Millis) {
        let through = time - STREAM_DELAY;
        let all_channels = self.lines.values().any(|line| line.missing == 0);
        if self.phase != Phase::Live || !self.confirmed || !all_channels || through <= self.complete_through {
            return;
        }
        self.complete_through = through;
        self.publish_released();
        for partition in
            (0..self.settings.partitions).filter(|partition| self.sequencer.has_no_gaps(*partition))
        {
            let partition = i32::try_from(partition).unwrap_or(0);
            self.items.push(OutboundRecord::Watermark { partition, time: through });
        }
    }

    fn publish_progress(&self) {
        let (what, part) = match (self.phase, &self.scan) {
            (Phase::BackfillByInstrument, _) => self.deep.progress(),
            (Phase::CatchingUp, Some(scan)) => {
                let (part, (from, until)) = (scan.progress(), scan.times());
                let seconds = (until - from) / 1000;
                let percent = part * 100.0;
                let trades = scan.trades;
                (format!("backfilling: {percent:.0} % of {seconds} s of history, {trades} trades"), part)
            }
            _ => return,
        };
        let left = self.begun.elapsed().as_secs_f64() * (1.0 - part) / part;
        let left = if part > 0.0 { format!(", about {left:.0} s left") } else { String::new() };
        self.tools.part.waiting(format!("{what}{left}"));
    }

    /// Which instruments there are.
    pub(super) fn listed(&mut self, listed: Vec<ListedInstrument>) {
        let known: HashSet<String> =
            self.sequencer.last_published().map(|(name, ..)| name.to_string()).collect();
        self.deep.listed(listed.into_iter().filter(|one| !known.contains(&one.instrument_name)).collect());
    }

    /// A page of an instrument's older trades.
    pub(super) fn deep_page(&mut self, name: &str, page: TradePage<'_>, now: Instant) {
        let has_more = page.has_more;
        let (seqs, newest) = self.page(page, (TradeSource::History, now));
        self.deep.answered(name, (seqs.into_iter().max(), newest), has_more);
        if let (Phase::BackfillByInstrument, Some(clock)) = (self.phase, self.clock) {
            let reach = self.deep.until();
            self.sequencer.move_gate(reach, reach, clock.now(now));
        }
    }
}
