//! The instruments of a sequencer, by id and by name.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::buffer::Buffer;
use super::partitioner::partition_of;
use super::{Holes, IncomingTrade, InstrumentId, Released};
use crate::clock::ExchangeTime;

/// The sequence of one instrument.
#[derive(Debug)]
pub(super) struct InstrumentState<T> {
    pub(super) name: Arc<str>,
    pub(super) partition: u32,
    /// The number to be published next; `None` while nothing was ever published.
    pub(super) next: Option<i64>,
    /// The highest timestamp of the published trades.
    pub(super) timestamp: ExchangeTime,
    pub(super) holes: Option<Box<Holes>>,
    /// `None` while nothing is held or known to be missing.
    pub(super) buffer: Option<Box<Buffer<T>>>,
}

impl<T> InstrumentState<T> {
    fn new(name: Arc<str>, partition: u32) -> Self {
        Self { name, partition, next: None, timestamp: 0, holes: None, buffer: None }
    }

    /// No trade of the instrument that is held or missing is older. The time of a missing trade is unknown. It is later than the last
    /// published trade, and later than what was read of history before anything was held. If a reading is still to show it, it is not
    /// older than the gate.
    pub(super) fn oldest_unpublished(&self, start: ExchangeTime, gate: ExchangeTime) -> Option<ExchangeTime> {
        let buffer = self.buffer.as_deref()?;
        let missing = buffer.first_known_after_gap(self.next).map(|known| match self.next {
            None => buffer.lowest.timestamp.min(gate),
            Some(next)
                if known.timestamp < gate || buffer.dropped.is_some_and(|dropped| dropped.seq < next) =>
            {
                self.timestamp.max(start).max(buffer.read_through.saturating_add(1))
            }
            Some(_) => self.timestamp.max(gate),
        });
        buffer.oldest().into_iter().chain(missing).min()
    }

    pub(super) fn publish(
        &mut self,
        id: InstrumentId,
        trade: IncomingTrade<T>,
        released: &mut Vec<Released<T>>,
    ) {
        if trade.unpublishable {
            self.holes.get_or_insert_default().add(trade.seq, trade.seq);
            released.push(Released::DeadLetter(id, trade));
        } else {
            self.timestamp = self.timestamp.max(trade.timestamp);
            released.push(Released::Publish(id, trade));
        }
    }
}

/// All instruments. Their ids are positions, handed out by this struct only and never reused.
#[derive(Debug)]
pub(super) struct Instruments<T> {
    states: Vec<InstrumentState<T>>,
    ids: HashMap<Arc<str>, InstrumentId, RandomState>,
}

impl<T> Default for Instruments<T> {
    fn default() -> Self {
        Self { states: Vec::new(), ids: HashMap::default() }
    }
}

impl<T> Instruments<T> {
    /// The id of that name; an unknown name is added to its partition, one of `partitions`.
    pub(super) fn id(&mut self, name: &str, partitions: u32) -> InstrumentId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.states.len()).expect("memory has no room for four billion instruments");
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), InstrumentId(id));
        let partition = partition_of(name.as_bytes(), partitions);
        self.states.push(InstrumentState::new(name, partition));
        InstrumentId(id)
    }

    /// Leaves an empty state without a name in its place.
    pub(super) fn remove(&mut self, id: InstrumentId) {
        let state = &mut self[id];
        let name = std::mem::replace(state, InstrumentState::new("".into(), 0)).name;
        self.ids.remove(&name);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (InstrumentId, &InstrumentState<T>)> {
        (0..).map(InstrumentId).zip(&self.states)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InstrumentState<T>> {
        self.states.iter_mut()
    }
}

#[expect(clippy::indexing_slicing, reason = "ids are handed out by this struct and stay valid")]
impl<T> Index<InstrumentId> for Instruments<T> {
    type Output = InstrumentState<T>;

    fn index(&self, InstrumentId(id): InstrumentId) -> &InstrumentState<T> {
        &self.states[id as usize]
    }
}

#[expect(clippy::indexing_slicing, reason = "ids are handed out by this struct and stay valid")]
impl<T> IndexMut<InstrumentId> for Instruments<T> {
    fn index_mut(&mut self, InstrumentId(id): InstrumentId) -> &mut InstrumentState<T> {
        &mut self.states[id as usize]
    }
}
