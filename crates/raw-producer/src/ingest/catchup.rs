//! Reading history: all of it before anything is published, and again now and then to find what the stream has lost.

use std::collections::HashSet;
use std::time::Instant;

use super::deep::Deep;
use super::{Ingest, Phase, Purpose};
use crate::deribit::history::{Call, Listed, Page};
use crate::publish::Item;
use crate::publish::state::Topic;
use crate::scan::Scan;
use crate::sequence::{Millis, OPEN, Source};

/// History by currency reaches back a day; a little less is sure.
const REACH: Millis = 24 * 3_600_000 - 120_000;
/// What was compared is compared once more for this long: history can lag the stream.
const OVERLAP: Millis = 10_000;
/// A scan that follows another closely goes back this far.
const LAG: Millis = 3_000;
/// Behind a scan that ended closer to now than this there is nothing left to read.
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

impl Ingest {
    /// Nothing comes: what comes later waits until history has been read up to it.
    pub(super) fn wait_for(&mut self, what: &str, now: Instant) {
        self.phase = Phase::Waiting;
        self.scan = None;
        self.deep = Deep::default();
        self.tools.part.waiting(what);
        if let (Some(topic), Some(clock)) = (self.topic, self.clock) {
            let from = self.read_from(topic);
            self.sequencer.advance(from, from, clock.now(now));
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
    pub(super) fn go_on(&mut self, now: Instant) {
        let (Some(clock), false) = (self.clock.map(|clock| clock.now(now)), self.lines.is_empty()) else {
            return;
        };
        match self.phase {
            Phase::Waiting => self.begin(clock),
            Phase::Deep if self.deep.is_done() => self.begin_scan(clock - REACH, clock),
            Phase::CatchingUp if self.scan.as_ref().is_some_and(Scan::is_done) => self.caught_up(clock),
            Phase::Live if self.scan.as_ref().is_some_and(Scan::is_done) => self.compared(clock, now),
            Phase::Live if self.scan.is_none() => self.compare(clock),
            Phase::Deep | Phase::CatchingUp | Phase::Live => {}
        }
        self.say_how_far();
    }

    /// A connection is there, and its clock.
    fn begin(&mut self, clock: Millis) {
        let fresh = || {
            let start = self.settings.start_from.unwrap_or(clock).min(clock);
            Topic { start, reconciled_through: start }
        };
        let topic = self.topic.unwrap_or_else(fresh);
        if self.topic.is_none() {
            self.topic = Some(topic);
            self.items.push(Item::Topic(topic));
        }
        self.sequencer.begin(topic.start);
        let from = self.read_from(topic);
        let reach = clock - REACH;
        if from >= reach {
            return self.begin_scan(from, clock);
        }
        tracing::warn!(
            hours = (clock - from) / 3_600_000,
            "more was missed than history has by time: older trades come in order for each instrument only"
        );
        self.sequencer.advance(from, reach, clock);
        self.deep = Deep::new(&self.settings.scopes, (topic.start, from, reach));
        let known = self.sequencer.lasts().map(|(name, last, timestamp)| (name.to_string(), last, timestamp));
        self.deep.know(known.collect());
        self.phase = Phase::Deep;
    }

    fn begin_scan(&mut self, from: Millis, until: Millis) {
        self.sequencer.advance(from, from, until);
        self.scan = Some(Scan::new(&self.settings.scopes, from, until));
        self.phase = Phase::CatchingUp;
        self.dropped = false;
    }

    /// The reading has come to where it was to end; but meanwhile time went on, and what the stream brought may not have had room.
    fn caught_up(&mut self, clock: Millis) {
        let Some(scan) = self.scan.take() else { return };
        let (_, until) = scan.times();
        let behind = clock - until;
        let maintained = until < self.maintained_until;
        if behind > FAR || maintained || (behind > NEAR && std::mem::take(&mut self.dropped)) {
            let next = Scan::new(&self.settings.scopes, until - LAG, clock);
            self.sequencer.advance(until - LAG, until - LAG, clock);
            self.scan = Some(next);
            return;
        }
        tracing::info!(trades = scan.trades, "history has been read; live from now on");
        self.phase = Phase::Live;
        self.confirmed = false;
        self.sequencer.advance(until + 1, OPEN, clock);
        self.put_out();
        self.scan_ended(until, clock);
        self.tools.part.ready();
    }

    /// Begins to compare what was published with history, when it is time.
    fn compare(&mut self, clock: Millis) {
        let Some(topic) = self.topic else { return };
        let from = self.read_from(topic);
        let since = clock - self.scan_ended;
        if since >= self.settings.reconcile_interval || (!self.confirmed && since >= LAG) {
            self.scan = Some(Scan::new(&self.settings.scopes, from, clock - STREAM_DELAY));
        } else if self.sequencer.wants_scan() && clock - self.scan_ended >= SCAN_PAUSE {
            let oldest = self.sequencer.oldest_gap().unwrap_or(clock);
            let from = from.max(self.scanned.min(oldest) - LAG);
            self.scan = Some(Scan::new(&self.settings.scopes, from, clock));
        } else {
            return;
        }
        self.found_by_scan = 0;
    }

    fn compared(&mut self, clock: Millis, now: Instant) {
        let Some(scan) = self.scan.take() else { return };
        self.confirmed = true;
        self.sequencer.advance(scan.times().1 + 1, OPEN, clock);
        self.put_out();
        self.scan_ended(scan.times().1, clock);
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

    /// Everything up to `until` was compared, except where a gap is still open.
    fn scan_ended(&mut self, until: Millis, clock: Millis) {
        self.scanned = self.scanned.max(until);
        self.scan_ended = clock;
        let open = self.sequencer.oldest_gap().map_or(until, |since| since - OVERLAP);
        self.read_through(until.min(open));
    }

    /// From where history is to be read again: this process knows of what waits, and asks about it.
    fn read_from(&self, topic: Topic) -> Millis {
        self.read_through.max(topic.reconciled_through) - OVERLAP
    }

    /// What there is up to then was compared: this process need not read it again, and the next one not what was published. What still
    /// waits is known to this process only.
    fn read_through(&mut self, through: Millis) {
        self.read_through = self.read_through.max(through);
        let oldest = self.sequencer.oldest_waiting();
        let through = oldest.map_or(self.read_through, |oldest| self.read_through.min(oldest - 1));
        let Some(topic) = self.topic.as_mut() else { return };
        if through > topic.reconciled_through {
            topic.reconciled_through = through;
            let topic = *topic;
            self.items.push(Item::Topic(topic));
            self.forget_expired(through);
        }
    }

    /// Nothing can come any more of an instrument that expired long before what was compared.
    fn forget_expired(&mut self, through: Millis) {
        for id in self.sequencer.expired(through - KEPT_AFTER_EXPIRY) {
            let of = self.instrument(id);
            tracing::debug!(name = %of.name, "expired and compared: forgotten");
            self.sequencer.forget(id);
            self.items.push(Item::Forget(of.name));
        }
    }

    /// A page of the scan.
    pub(super) fn scanned(&mut self, part: usize, page: Page<'_>, now: Instant) {
        if self.scan.is_none() {
            return;
        }
        let (count, has_more) = (page.trades.len(), page.has_more);
        let (_, newest) = self.page(page, (Source::Scan, now));
        let Some(scan) = self.scan.as_mut() else { return };
        scan.answered(part, (count, newest), has_more);
        let reached = scan.reached();
        if let (Phase::CatchingUp, Some(clock)) = (self.phase, self.clock) {
            self.sequencer.advance(reached, reached, clock.now(now));
            let known = self.topic.map_or(reached, |topic| self.read_through.max(topic.reconciled_through));
            if self.sequencer.gaps() == 0 && reached - known > OVERLAP {
                self.put_out();
                self.read_through(reached - 1);
            }
        }
    }

    /// What to read next.
    pub(super) fn next_reading(&mut self) -> Option<(Call, Purpose)> {
        match self.phase {
            Phase::Waiting => None,
            Phase::Deep => self.deep.next_call(),
            Phase::CatchingUp | Phase::Live => {
                let (part, call) = self.scan.as_mut()?.next_call()?;
                Some((call, Purpose::Scan(part)))
            }
        }
    }

    /// The exchange says what time it is, and what it sent before has arrived: so the partitions that miss nothing are complete. Not before
    /// history has been read once more: what the first reading was too early for came before the stream, and only history has it.
    pub(super) fn complete_through(&mut self, time: Millis) {
        let through = time - STREAM_DELAY;
        if self.phase != Phase::Live || !self.confirmed || through <= self.complete_through {
            return;
        }
        self.complete_through = through;
        self.put_out();
        for partition in (0..self.settings.partitions).filter(|partition| self.sequencer.is_whole(*partition))
        {
            let partition = i32::try_from(partition).unwrap_or(0);
            self.items.push(Item::CompleteThrough { partition, time: through });
        }
    }

    fn say_how_far(&self) {
        let what = match (self.phase, &self.scan) {
            (Phase::Deep, _) => self.deep.progress(),
            (Phase::CatchingUp, Some(scan)) => {
                let seconds = self.begun.elapsed().as_secs_f64();
                let (part, (from, until)) = (scan.progress(), scan.times());
                let left = if part > 0.0 { seconds * (1.0 - part) / part } else { f64::NAN };
                format!(
                    "backfilling: {:.0} % of {} s of history, {} trades, about {left:.0} s left",
                    part * 100.0,
                    (until - from) / 1000,
                    scan.trades
                )
            }
            _ => return,
        };
        self.tools.part.waiting(what);
    }

    /// Which instruments there are.
    pub(super) fn listed(&mut self, listed: Vec<Listed>) {
        let known: HashSet<String> = self.sequencer.lasts().map(|(name, ..)| name.to_string()).collect();
        self.deep.listed(listed.into_iter().filter(|one| !known.contains(&one.instrument_name)).collect());
    }

    /// A page of an instrument's older trades.
    pub(super) fn deep_page(&mut self, name: &str, page: Page<'_>, now: Instant) {
        let has_more = page.has_more;
        let (seqs, newest) = self.page(page, (Source::Scan, now));
        self.deep.answered(name, (seqs.into_iter().max(), newest), has_more);
        if let (Phase::Deep, Some(clock)) = (self.phase, self.clock) {
            let reach = self.deep.until();
            self.sequencer.advance(reach, reach, clock.now(now));
        }
    }
}
