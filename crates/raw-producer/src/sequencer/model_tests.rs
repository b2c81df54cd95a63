//! Whatever arrives in whatever order: what comes out is the exchange's sequence.

use proptest::prelude::*;

use super::tests::LIMITS;
use super::*;

const STEP: Millis = 50;
const INSTRUMENTS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The exchange: of each instrument, the numbers from 1 on, some of which never were, at a time each.
#[derive(Debug, Clone)]
struct ModelExchange {
    trades: Vec<Vec<(i64, Millis)>>,
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

    /// What history has at a time, `lag` after the fact.
    fn history(&self, instrument: usize, now: Millis, lag: Millis) -> impl Iterator<Item = (i64, Millis)> {
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
    /// Up to where history has been read.
    compared: Millis,
}

impl ModelRun {
    fn take(&mut self, instrument: usize, (seq, timestamp): (i64, Millis), at: (TradeSource, Millis)) {
        let arrival = IncomingTrade { seq, timestamp, dead_lettered: false, body: () };
        let id = self.sequencer.id(INSTRUMENTS[instrument]);
        self.sequencer.take(id, arrival, at);
    }

    /// Answers some of what is asked, leaves the rest without an answer.
    fn ask(&mut self, now: Millis, answers: bool) {
        for question in self.sequencer.questions(3, now) {
            if !answers {
                self.sequencer.failed(question.id, now);
                continue;
            }
            let name = self.sequencer.name(question.id);
            let at = INSTRUMENTS.iter().position(|other| **other == *name).unwrap();
            let wanted = |(seq, time): &(i64, Millis)| match question.by_time {
                true => (question.times.0..=question.times.1).contains(time),
                false => (question.seqs.0..=question.seqs.1).contains(seq),
            };
            let found: Vec<_> = self.exchange.history(at, now, self.lag).filter(wanted).take(7).collect();
            for trade in &found {
                self.take(at, *trade, (TradeSource::GapRequest, now));
            }
            let seqs: Vec<_> = found.iter().map(|(seq, _)| *seq).collect();
            self.sequencer.answered(question.id, &seqs, now);
        }
    }

    /// Reads all history page by page, as after a connection was lost.
    fn scan(&mut self, now: Millis) -> Result<(), TestCaseError> {
        let of = |at| self.exchange.history(at, now, self.lag).map(move |trade| (at, trade));
        let mut history: Vec<_> = (0..self.exchange.trades.len()).flat_map(of).collect();
        history.sort_by_key(|(_, (_, time))| *time);
        self.sequencer.advance(0, 0, now);
        for page in history.chunks(5) {
            for (at, trade) in page {
                self.take(*at, *trade, (TradeSource::History, now));
            }
            let reached = page.last().map_or(0, |(_, (_, time))| *time);
            self.sequencer.advance(reached, reached, now);
            self.sequencer.has_read(reached - 1);
            self.check_whole(reached)?;
        }
        self.sequencer.advance(now - self.lag + 1, OPEN, now);
        self.sequencer.has_read(now - self.lag);
        self.compared = now - self.lag + 1;
        self.check_whole(self.compared)
    }

    /// What history was compared with up to there has been put out, if it is older than all that waits.
    fn check_whole(&mut self, compared: Millis) -> Result<(), TestCaseError> {
        self.out.extend(self.sequencer.publish_released());
        let whole = self.sequencer.oldest_buffered().map_or(compared, |oldest| oldest.min(compared));
        for (at, name) in INSTRUMENTS.iter().enumerate().take(self.exchange.trades.len()) {
            let last = self.sequencer.lasts().find_map(|(of, last, _)| (**of == **name).then_some(last));
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
                    Released::ConfirmedHole(id, first, last) => (*id, *first, *last),
                    Released::DeadLettered(..) | Released::Lost(..) => {
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
    fn whatever_arrives_in_whatever_order_the_output_is_the_exchanges_sequence(
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
                run.take(at, trade, (TradeSource::Live, now));
            }
            run.ask(now, answered[turn % answered.len()]);
            run.sequencer.tick(now);
            if turn % 400 == 300 {
                run.sequencer.drop_buffered();
                run.scan(now)?;
            }
            if run.sequencer.needs_history() || turn % 150 == 149 {
                run.scan(now)?;
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
