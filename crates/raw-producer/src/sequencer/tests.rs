use super::*;
use crate::clock::Millis;

pub(super) const LIMITS: Limits = Limits {
    hold_max: 5_000,
    max_buffered: 1_000,
    max_ahead: 60_000,
    confirm_after: 1_000,
    give_up_after: 300_000,
};

fn trade(seq: i64, timestamp: ExchangeTime) -> IncomingTrade<()> {
    IncomingTrade { seq, timestamp, unpublishable: false, payload: () }
}

/// A sequencer with one partition, and its clock.
struct SequencerBench {
    sequencer: Sequencer<()>,
    now: ExchangeTime,
}

impl SequencerBench {
    /// Instruments whose last published number is 10.
    fn after_ten(names: &[&str]) -> Self {
        let mut sequencer = Sequencer::new(1, LIMITS);
        for name in names {
            sequencer.restore(name, &LastPublished { seq: 10, timestamp: 10, ..LastPublished::default() });
        }
        Self { sequencer, now: 1_000 }
    }

    fn live(&mut self, name: &str, seq: i64) -> Disposition {
        self.accept(name, seq, TradeSource::Live)
    }

    fn accept_trade(&mut self, name: &str, trade: IncomingTrade<()>, source: TradeSource) -> Disposition {
        let id = self.sequencer.id(name);
        self.sequencer.accept(id, trade, source, self.now)
    }

    /// The trade's timestamp equals its number.
    fn accept(&mut self, name: &str, seq: i64, source: TradeSource) -> Disposition {
        self.accept_trade(name, trade(seq, seq), source)
    }

    fn tick(&mut self, by: Millis) {
        self.now += by;
        self.sequencer.tick(self.now);
    }

    fn request(&mut self) -> Option<GapRequest> {
        self.sequencer.gap_requests(1, self.now).pop()
    }

    fn respond(&mut self, id: InstrumentId, name: &str, seqs: &[i64]) {
        for seq in seqs {
            self.accept(name, *seq, TradeSource::GapRequest);
        }
        self.sequencer.on_gap_response(id, seqs, self.now);
    }

    /// Name and number of each trade published since the last call.
    fn published(&mut self) -> Vec<(String, i64)> {
        let released = self.sequencer.take_released();
        let published = released.iter().filter_map(|output| match output {
            Released::Publish(id, arrival) => Some((self.sequencer.name(*id).to_string(), arrival.seq)),
            _ => None,
        });
        published.collect()
    }
}

fn pairs(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(name, seq)| ((*name).to_owned(), *seq)).collect()
}

#[test]
fn the_next_number_is_published_and_an_old_one_is_a_duplicate() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    assert_eq!(bench.live("A", 11), Disposition::Published);
    assert_eq!(bench.live("A", 11), Disposition::Duplicate);
    assert_eq!(bench.live("A", 3), Disposition::Duplicate);
    assert_eq!(bench.published(), pairs(&[("A", 11)]));
}

#[test]
fn when_a_gap_is_filled_nothing_overtakes_the_next_gap() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    for (name, seq) in [("A", 12), ("B", 11), ("A", 14), ("B", 12)] {
        bench.live(name, seq);
    }
    bench.accept_trade("B", trade(13, 20), TradeSource::Live);
    let gap = bench.request().unwrap();
    bench.respond(gap.id, "A", &[11, 12]);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11), ("A", 12), ("B", 12)]));
    bench.tick(300);
    let gap = bench.request().unwrap();
    assert_eq!(*gap.seqs.start(), 13);
    bench.respond(gap.id, "A", &[13, 14]);
    assert_eq!(bench.published(), pairs(&[("A", 13), ("A", 14), ("B", 13)]));
}

#[test]
fn a_gap_holds_its_partition_until_it_is_filled_then_time_order_holds() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.live("A", 13);
    bench.live("B", 11);
    assert_eq!(bench.published(), []);
    let request = bench.request().unwrap();
    assert_eq!((request.seqs, request.by), (11..=13, SearchBy::Sequence));
    bench.respond(request.id, "A", &[11, 12, 13]);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11), ("A", 12), ("A", 13)]));
    assert_eq!((bench.sequencer.held(), bench.sequencer.gaps()), (0, 0));
    assert_eq!(bench.live("B", 12), Disposition::Published);
}

/// After a crash, history is read from here. A start at the time the gap was found would lose B's first trade. A's missing trades are later
/// than its last one, but nobody knows when.
#[test]
fn trades_behind_a_gap_in_old_history_count_by_their_own_time() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    assert_eq!(bench.sequencer.oldest_unpublished(), None);
    bench.sequencer.move_gate(0, 0, bench.now);
    for (name, seq) in [("A", 13), ("B", 11), ("A", 14)] {
        bench.accept(name, seq, TradeSource::History);
    }
    bench.sequencer.move_gate(500, GATE_OPEN, bench.now);
    assert_eq!((bench.published(), bench.sequencer.oldest_unpublished()), (vec![], Some(10)));
    let gap = bench.request().unwrap();
    bench.respond(gap.id, "A", &[11, 12]);
    assert_eq!(bench.published().len(), 5);
    assert_eq!(bench.sequencer.oldest_unpublished(), None);
}

/// An instrument with ever new held trades must not keep `reconciled_through` from advancing.
#[test]
fn oldest_unpublished_forgets_what_was_released() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.move_gate(0, 0, bench.now);
    bench.accept("A", 11, TradeSource::History);
    bench.accept("B", 11, TradeSource::History);
    for seq in 12..15 {
        bench.accept("A", seq, TradeSource::History);
        bench.accept("B", seq, TradeSource::Live);
        bench.sequencer.move_gate(seq, seq, bench.now);
        assert_eq!(bench.sequencer.oldest_unpublished(), Some(seq));
    }
}

/// Newer trades from the stream say nothing about the dropped ones.
#[test]
fn dropped_trades_count_as_unpublished() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.live("A", 12);
    bench.live("B", 300);
    bench.tick(LIMITS.hold_max);
    assert_eq!(bench.sequencer.oldest_unpublished(), Some(10), "number 11 of each is missing");
    bench.sequencer.drop_buffered();
    bench.sequencer.move_gate(11, 11, bench.now);
    bench.live("A", 800);
    assert_eq!((bench.sequencer.held(), bench.sequencer.oldest_unpublished()), (1, Some(11)));
    bench.accept("A", 11, TradeSource::History);
    bench.sequencer.move_gate(20, 20, bench.now);
    assert_eq!(bench.published(), pairs(&[("A", 11)]));
    assert_eq!(
        bench.sequencer.oldest_unpublished(),
        Some(11),
        "number 12 was dropped, and has not come again"
    );
}

#[test]
fn history_always_fits_unless_it_lies_behind_a_gap() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.sequencer.move_gate(0, 0, bench.now);
    let most = i64::try_from(LIMITS.max_buffered).unwrap();
    for seq in 12..=most + 12 {
        assert_eq!(bench.accept("A", seq, TradeSource::History), Disposition::Held);
    }
    assert_eq!(bench.live("B", 2_000), Disposition::Dropped);
    bench.sequencer.move_gate(13, 13, bench.now);
    assert_eq!(bench.accept("B", 12, TradeSource::History), Disposition::Held);
    assert_eq!(
        bench.accept("A", most + 13, TradeSource::History),
        Disposition::Dropped,
        "its number 11 has to come first"
    );
    assert_eq!(bench.request().unwrap().seqs, 11..=12);
}

#[test]
fn after_hold_max_all_instruments_go_on_but_the_one_with_the_gap() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.live("A", 12);
    bench.live("B", 11);
    bench.tick(LIMITS.hold_max - 1);
    assert_eq!(bench.published(), []);
    bench.tick(1);
    assert_eq!(bench.published(), pairs(&[("B", 11)]));
    assert_eq!(bench.live("B", 12), Disposition::Published);
    bench.live("A", 13);
    assert!(!bench.sequencer.has_no_gaps(0));
    bench.live("A", 11);
    assert_eq!(bench.published(), pairs(&[("B", 12), ("A", 11), ("A", 12), ("A", 13)]));
    assert!(bench.sequencer.has_no_gaps(0));
}

#[test]
fn a_hole_takes_two_answers_with_a_later_trade_a_second_apart() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let id = bench.request().unwrap().id;
    // History lags: it has nothing at all, and that proves nothing.
    bench.respond(id, "A", &[]);
    bench.tick(400);
    bench.request().unwrap();
    bench.respond(id, "A", &[13]);
    assert_eq!(bench.request(), None, "not before a second is over");
    bench.tick(1_000);
    bench.request().unwrap();
    bench.respond(id, "A", &[13]);
    assert_eq!(bench.sequencer.released[0], Released::ConfirmedHole(id, 11..=12));
    assert_eq!(bench.published(), pairs(&[("A", 13)]));
    assert_eq!(bench.live("A", 12), Disposition::AfterGivenUp);
}

#[test]
fn a_trade_that_history_shows_the_second_time_is_no_hole() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let id = bench.request().unwrap().id;
    bench.respond(id, "A", &[13]);
    bench.tick(1_000);
    bench.request().unwrap();
    bench.respond(id, "A", &[12, 13]);
    assert_eq!(bench.sequencer.released[0], Released::ConfirmedHole(id, 11..=11));
    assert_eq!(bench.published(), pairs(&[("A", 12), ("A", 13)]));
}

#[test]
fn while_history_is_read_trades_are_held_and_released_in_order_of_time() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.sequencer.move_gate(11, 11, 1_000);
    bench.live("A", 14);
    bench.accept("B", 11, TradeSource::History);
    bench.accept("B", 12, TradeSource::History);
    bench.accept("A", 11, TradeSource::History);
    assert_eq!(bench.published(), []);
    assert_eq!(bench.request(), None, "the reading will bring what is missing");
    bench.sequencer.move_gate(12, 12, 1_000);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11)]));
    bench.accept("A", 12, TradeSource::History);
    bench.accept("A", 13, TradeSource::History);
    bench.sequencer.move_gate(14, GATE_OPEN, 1_000);
    assert_eq!(bench.published(), pairs(&[("A", 12), ("B", 12), ("A", 13), ("A", 14)]));
}

#[test]
fn what_history_did_not_bring_is_requested() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.move_gate(11, 11, 1_000);
    bench.accept("A", 12, TradeSource::History);
    bench.sequencer.move_gate(13, 13, 1_000);
    assert_eq!(bench.request().unwrap().seqs, 11..=12);
}

#[test]
fn an_instrument_starts_with_number_one_or_with_what_history_shows_first() {
    let mut bench = SequencerBench::after_ten(&[]);
    assert_eq!(bench.live("NEW", 1), Disposition::Published);
    bench.live("OLD", 700);
    assert!(bench.sequencer.needs_history());
    assert_eq!(bench.request(), None, "there is no number to start a request from");
    bench.accept("OLD", 699, TradeSource::History);
    bench.accept("OLD", 698, TradeSource::History);
    bench.accept("OLD", 700, TradeSource::History);
    bench.sequencer.move_gate(800, GATE_OPEN, 1_000);
    assert_eq!(bench.published(), pairs(&[("NEW", 1), ("OLD", 698), ("OLD", 699), ("OLD", 700)]));
    assert!(!bench.sequencer.needs_history());
}

#[test]
fn a_dropped_first_trade_is_still_known() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.move_gate(0, 0, bench.now);
    for seq in 12..512 {
        assert_eq!(bench.live("A", seq), Disposition::Held);
    }
    assert_eq!(bench.live("OLD", 700), Disposition::Dropped);
    assert_eq!(bench.sequencer.dropped_after(699), 1);
    bench.accept("OLD", 701, TradeSource::History);
    bench.sequencer.move_gate(800, 800, bench.now);
    assert!(bench.sequencer.needs_history(), "history lags: it does not have the first one yet");
    bench.accept("OLD", 700, TradeSource::History);
    bench.sequencer.move_gate(800, 800, bench.now);
    assert!(!bench.sequencer.needs_history());
    assert_eq!(bench.sequencer.dropped_after(700), 0);
}

#[test]
fn trades_before_the_topics_start_are_not_published() {
    let mut bench = SequencerBench::after_ten(&[]);
    bench.sequencer.start = 500;
    assert_eq!(bench.accept("A", 498, TradeSource::History), Disposition::BeforeStart);
    assert_eq!(bench.accept("A", 499, TradeSource::History), Disposition::BeforeStart);
    assert_eq!(bench.live("A", 500), Disposition::Published);
}

#[test]
fn a_trade_far_in_the_future_is_dead_lettered_and_the_next_is_published() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    let far = bench.now + LIMITS.max_ahead + 1;
    assert!(
        bench.sequencer.is_too_far_ahead(far, bench.now)
            && !bench.sequencer.is_too_far_ahead(far - 1, bench.now)
    );
    let far = IncomingTrade { unpublishable: true, ..trade(11, far) };
    bench.accept_trade("A", far, TradeSource::Live);
    assert!(matches!(bench.sequencer.released[0], Released::DeadLetter(..)));
    assert_eq!(bench.live("A", 12), Disposition::Published);
    assert_eq!(bench.live("A", 11), Disposition::AfterGivenUp);
}

#[test]
fn what_does_not_fit_is_dropped_and_requested() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    let most = i64::try_from(LIMITS.max_buffered).unwrap();
    for seq in 12..12 + most {
        assert_eq!(bench.live("A", seq), Disposition::Held);
    }
    assert_eq!(bench.live("A", 12 + most), Disposition::Dropped);
    assert_eq!(bench.live("B", 11), Disposition::Held, "what comes next always fits");
    assert_eq!(bench.live("B", 12), Disposition::Dropped);
    assert_eq!(bench.live("A", 11), Disposition::Held);
    let lasts: Vec<_> = bench.published().into_iter().filter(|(name, _)| name == "B").collect();
    assert_eq!(lasts, pairs(&[("B", 11)]));
    bench.tick(1);
    let request = bench.request().unwrap();
    assert_eq!(request.seqs, 12..=12);
    bench.respond(request.id, "B", &[12]);
    bench.tick(1);
    assert_eq!(bench.request().unwrap().seqs, 12 + most..=12 + most);
}

#[test]
fn a_trade_is_lost_if_history_never_returns_it_nor_a_later_one() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let mut ways = [0, 0];
    while bench.sequencer.released.is_empty() {
        if let Some(request) = bench.request() {
            ways[usize::from(request.by == SearchBy::Time)] += 1;
            bench.respond(request.id, "A", &[]);
        }
        bench.tick(500);
        assert!(bench.now < 2 * LIMITS.give_up_after);
    }
    assert!(ways[0] > 2 && ways[1] > 2, "requested both ways: {ways:?}");
    assert!(matches!(&bench.sequencer.released[0], Released::Lost(_, seqs) if *seqs == (11..=12)));
    assert_eq!(bench.published(), pairs(&[("A", 13)]));
}

#[test]
fn given_up_numbers_are_restored() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    let mut holes = Holes::default();
    holes.add(8, 9);
    bench.sequencer.restore("A", &LastPublished { seq: 10, timestamp: 10, holes: holes.clone() });
    assert_eq!(bench.live("A", 9), Disposition::AfterGivenUp);
    assert_eq!(bench.live("A", 7), Disposition::Duplicate);
    assert_eq!(bench.sequencer.holes(InstrumentId(0)), holes);
}
