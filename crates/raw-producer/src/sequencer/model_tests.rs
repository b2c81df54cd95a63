//! Property test: whatever arrives in whatever order, the output is the exchange's sequence.

use proptest::prelude::*;

use super::tests::LIMITS;
use super::*;
use crate::clock::Millis;

const STEP: Millis = 50;
const INSTRUMENTS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The exchange's trades by instrument: number and timestamp. Numbers start at 1 and have holes.
#[derive(Debug, Clone)]
struct ModelExchange {
    trades: Vec<Vec<(i64, ExchangeTime)>>,
    counts: Vec<i64>,
}

impl ModelExchange {
    fn new(counts: &[i64], holes: &[(usize, i64)], step: Millis) -> Self {
        let is_hole = |at: usize, seq: i64| holes.contains(&(at, seq));
        let of = |(at, count): (usize, &i64)| -> Vec<_> {
            (1..=*count).filter(|seq| !is_hole(at, *seq)).map(|seq| (seq, 10_000 + seq * step)).collect()
        };
        Self { trades: counts.iter().enumerate().map(of).collect(), counts: counts.to_vec() }
    }

    /// The trades that history has at `now`; it lags by `lag`.
    fn history(
        &self,
        instrument: usize,
        now: ExchangeTime,
        lag: Millis,
    ) -> impl Iterator<Item = (i64, ExchangeTime)> {
        self.trades[instrument].iter().copied().filter(move |(_, at)| at + lag <= now)
    }
}

#[derive(Debug, Clone, Copy)]
enum TradeFate {
    Arrives,
    Twice,
    Lost,
    Delayed(Millis),
}

fn fate() -> impl Strategy<Value = TradeFate> {
    prop_oneof![
        6 => Just(TradeFate::Arrives),
        1 => Just(TradeFate::Twice),
        2 => Just(TradeFate::Lost),
        1 => (0..8_000_i64).prop_map(TradeFate::Delayed),
    ]
}

struct ModelRun {
    exchange: ModelExchange,
    sequencer: Sequencer<()>,
    out: Vec<Released<()>>,
    lag: Millis,
    /// History was read up to here.
    compared: ExchangeTime,
}

impl ModelRun {
    fn accept(
        &mut self,
        instrument: usize,
        trade: (i64, ExchangeTime),
        source: TradeSource,
        now: ExchangeTime,
    ) {
        let (seq, timestamp) = trade;
        let trade = IncomingTrade { seq, timestamp, unpublishable: false, payload: () };
        let id = self.sequencer.id(INSTRUMENTS[instrument]);
        self.sequencer.accept(id, trade, source, now);
    }

    /// Answers gap requests, or lets them fail.
    fn ask(&mut self, now: ExchangeTime, answers: bool) {
        for request in self.sequencer.gap_requests(3, now) {
            if !answers {
                self.sequencer.on_gap_request_failed(request.id, now);
                continue;
            }
            let name = self.sequencer.name(request.id);
            let at = INSTRUMENTS.iter().position(|other| **other == *name).unwrap();
            let wanted = |(seq, time): &(i64, ExchangeTime)| match request.by {
                SearchBy::Time => request.times.contains(time),
                SearchBy::Sequence => request.seqs.contains(seq),
            };
            let found: Vec<_> = self.exchange.history(at, now, self.lag).filter(wanted).take(7).collect();
            for trade in &found {
                self.accept(at, *trade, TradeSource::GapRequest, now);
            }
            let seqs: Vec<_> = found.iter().map(|(seq, _)| *seq).collect();
            self.sequencer.on_gap_response(request.id, &seqs, now);
        }
    }

    /// Reads all history page by page, as after a lost connection.
    fn read_history(&mut self, now: ExchangeTime) -> Result<(), TestCaseError> {
        let of = |at| self.exchange.history(at, now, self.lag).map(move |trade| (at, trade));
        let mut history: Vec<_> = (0..self.exchange.trades.len()).flat_map(of).collect();
        history.sort_by_key(|(_, (_, time))| *time);
        self.sequencer.move_gate(0, 0, now);
        for page in history.chunks(5) {
            for (at, trade) in page {
                self.accept(*at, *trade, TradeSource::History, now);
            }
            let reached = page.last().map_or(0, |(_, (_, time))| *time);
            self.sequencer.move_gate(reached, reached, now);
            self.sequencer.set_read_through(reached - 1);
            self.check_whole(reached)?;
        }
        self.sequencer.move_gate(now - self.lag + 1, GATE_OPEN, now);
        self.sequencer.set_read_through(now - self.lag);
        self.compared = now - self.lag + 1;
        self.check_whole(self.compared)
    }

    /// Every trade older than `compared` and than all unpublished ones was released.
    fn check_whole(&mut self, compared: ExchangeTime) -> Result<(), TestCaseError> {
        self.out.extend(self.sequencer.take_released());
        let whole = self.sequencer.oldest_unpublished().map_or(compared, |oldest| oldest.min(compared));
        for (at, name) in INSTRUMENTS.iter().enumerate().take(self.exchange.trades.len()) {
            let last =
                self.sequencer.last_published().find_map(|(of, last, _)| (**of == **name).then_some(last));
            let missing =
                self.exchange.trades[at].iter().find(|(seq, _)| last.is_none_or(|last| last < *seq));
            prop_assert!(
                missing.is_none_or(|(_, time)| *time >= whole),
                "{name} lacks {missing:?} before {whole}"
            );
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (at, name) in INSTRUMENTS.iter().enumerate().take(self.exchange.trades.len()) {
            let mut next = 1;
            for out in &self.out {
                let (id, first, last) = match out {
                    Released::Publish(id, arrival) => (*id, arrival.seq, arrival.seq),
                    Released::ConfirmedHole(id, seqs) => (*id, *seqs.start(), *seqs.end()),
                    Released::DeadLetter(..) | Released::Lost(..) => {
                        return Err(TestCaseError::fail(format!("unexpected {out:?}")));
                    }
                };
                if *self.sequencer.name(id) != **name {
                    continue;
                }
                prop_assert_eq!(first, next, "{} goes up by one", name);
                next = last + 1;
                if let Released::ConfirmedHole(..) = out {
                    let really =
                        !self.exchange.trades[at].iter().any(|(seq, _)| (first..=last).contains(seq));
                    prop_assert!(really, "{name}: {first}..={last} is no hole");
                }
            }
            let last = self.exchange.trades[at].last().map_or(0, |(seq, _)| *seq);
            prop_assert_eq!(next, last + 1, "{} is whole", name);
        }
        prop_assert_eq!(self.sequencer.held(), 0);
        prop_assert_eq!(self.sequencer.gaps(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_arrives_in_whatever_order_the_exchanges_sequence_comes_out(
        counts in prop::collection::vec(0..40_i64, 1..5),
        holes in prop::collection::vec((0..5_usize, 2..40_i64), 0..12),
        fates in prop::collection::vec(fate(), 200),
        answered in prop::collection::vec(prop::bool::weighted(0.7), 64),
        (lag, step, room, partitions) in (0..2_000_i64, 1..400_i64, 3..60_usize, 1..3_u32),
    ) {
        let exchange = ModelExchange::new(&counts, &holes, step);
        let limits = Limits { max_buffered: room, ..LIMITS };
        let sequencer = Sequencer::new(partitions, limits);
        let mut run = ModelRun { exchange: exchange.clone(), sequencer, out: Vec::new(), lag, compared: 0 };
        let mut arrivals = Vec::new();
        for (n, (at, trade)) in exchange.trades.iter().enumerate()
            .flat_map(|(at, trades)| trades.iter().map(move |trade| (at, *trade))).enumerate()
        {
            match fates[n % fates.len()] {
                TradeFate::Arrives => arrivals.push((trade.1, at, trade)),
                TradeFate::Twice => arrivals.extend([(trade.1, at, trade), (trade.1 + 70, at, trade)]),
                TradeFate::Delayed(by) => arrivals.push((trade.1 + by, at, trade)),
                TradeFate::Lost => {}
            }
        }
        arrivals.sort_by_key(|(when, ..)| *when);
        let last = 10_000 + exchange.counts.iter().max().copied().unwrap_or(0) * step;
        let (mut now, mut arrivals, mut turn) = (10_000, arrivals.into_iter().peekable(), 0);
        // The stream ends; what it lost at the end is found by reading history once more.
        while now < last + 60_000 {
            while let Some((_, at, trade)) = arrivals.next_if(|(when, ..)| *when <= now) {
                run.accept(at, trade, TradeSource::Live, now);
            }
            run.ask(now, answered[turn % answered.len()]);
            run.sequencer.tick(now);
            if turn % 400 == 300 {
                run.sequencer.drop_buffered();
                run.read_history(now)?;
            }
            if run.sequencer.needs_history() || turn % 150 == 149 {
                run.read_history(now)?;
            }
            if turn % 10 == 0 {
                run.check_whole(run.compared)?;
            }
            now += STEP;
            turn += 1;
        }
        run.check_whole(run.compared)?;
        run.check()?;
    }
}
