//! Questions to the exchange that are on their way, and what each is about.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::deribit::connection::FIRST_QUESTION;
use crate::deribit::history::Query;
use crate::deribit::rate_limit::Credits;
use crate::sequencer::InstrumentId;

/// An answer takes at most this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests that are never spent on reading: the time is asked whatever is left, and one call too many costs the connection.
const RESERVE: usize = 5;
/// Questions on their way at the same time.
pub(crate) const AT_ONCE: usize = 10;

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// The exchange's clock.
    Time,
    /// A part of the scan of that number.
    TimeBackfill(u32, usize),
    /// A gap of an instrument.
    Gap(InstrumentId),
    /// What an instrument traded more than a day ago.
    InstrumentBackfill(String),
    /// Which instruments there are.
    Listing,
}

struct InFlight {
    purpose: RequestKind,
    connection: usize,
    asked_at: Instant,
}

/// The questions that are on their way.
pub(crate) struct Requests {
    credits: Credits,
    on_their_way: HashMap<u64, InFlight>,
    next: u64,
}

impl Requests {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { credits: Credits::new(per_second, now), on_their_way: HashMap::new(), next: FIRST_QUESTION }
    }

    /// How many more can be asked now.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        let left = self.credits.left(now).saturating_sub(RESERVE);
        AT_ONCE.saturating_sub(self.on_their_way.len()).min(left)
    }

    /// Pages of history on their way, besides those that fill gaps.
    pub(crate) fn reading(&self) -> usize {
        let purposes = self.on_their_way.values().map(|on_its_way| &on_its_way.purpose);
        purposes
            .filter(|purpose| {
                matches!(purpose, RequestKind::TimeBackfill(..) | RequestKind::InstrumentBackfill(_))
            })
            .count()
    }

    /// A connection has called by itself: it logs in, subscribes, answers heartbeats.
    pub(crate) fn called(&mut self) {
        self.credits.spend();
    }

    /// Credits, for the metric.
    pub(crate) fn credits(&mut self, now: Instant) -> usize {
        self.credits.left(now)
    }

    /// Asks by that connection; `false` if it takes no question now.
    pub(crate) fn ask(
        &mut self,
        (connection, questions): (usize, &mpsc::Sender<String>),
        (call, purpose): (&Query, RequestKind),
        now: Instant,
    ) -> bool {
        let id = self.next;
        if questions.try_send(call.request(id)).is_err() {
            return false;
        }
        self.next += 1;
        self.credits.spend();
        self.on_their_way.insert(id, InFlight { purpose, connection, asked_at: now });
        true
    }

    /// What that answer is for; `None` if nobody waits for it any more.
    pub(crate) fn answered(&mut self, id: u64) -> Option<RequestKind> {
        self.on_their_way.remove(&id).map(|on_its_way| on_its_way.purpose)
    }

    /// The exchange wants no more for a while.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.credits.exhausted(now, Duration::from_secs(2));
    }

    /// Those that will not be answered, because their connection is lost.
    pub(crate) fn lost(&mut self, connection: usize) -> Vec<RequestKind> {
        self.remove(|on_its_way| on_its_way.connection == connection).into_iter().map(|(_, p)| p).collect()
    }

    /// Those that were not answered in time, and by which connection.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<(usize, RequestKind)> {
        self.remove(|on_its_way| now.saturating_duration_since(on_its_way.asked_at) > ANSWER_WITHIN)
    }

    fn remove(&mut self, which: impl Fn(&InFlight) -> bool) -> Vec<(usize, RequestKind)> {
        let gone: Vec<u64> =
            self.on_their_way.iter().filter(|(_, found)| which(found)).map(|(id, _)| *id).collect();
        let gone = gone.iter().filter_map(|id| self.on_their_way.remove(id));
        gone.map(|found| (found.connection, found.purpose)).collect()
    }
}
