use super::*;

pub(super) const LIMITS: Limits = Limits {
    hold_max: 5_000,
    max_buffered: 1_000,
    max_ahead: 60_000,
    confirm_after: 1_000,
    patience: 300_000,
};

fn trade(seq: i64, timestamp: Millis) -> IncomingTrade<()> {
    IncomingTrade { seq, timestamp, dead_lettered: false, body: () }
}

/// A sequencer of one partition, and what has come out of it.
struct SequencerBench {
    sequencer: Sequencer<()>,
    now: Millis,
}

impl SequencerBench {
    /// Instruments of which number 10 was the last.
    fn after_ten(names: &[&str]) -> Self {
        let mut sequencer = Sequencer::new(1, LIMITS);
        for name in names {
            sequencer.restore(name, &LastPublished { last: 10, timestamp: 10, ..LastPublished::default() });
        }
        Self { sequencer, now: 1_000 }
    }

    fn live(&mut self, name: &str, seq: i64) -> Disposition {
        self.take(name, seq, TradeSource::Live)
    }

    fn take_trade(&mut self, name: &str, trade: IncomingTrade<()>, source: TradeSource) -> Disposition {
        let id = self.sequencer.id(name);
        self.sequencer.take(id, trade, (source, self.now))
    }

    /// Trades happen at their number.
    fn take(&mut self, name: &str, seq: i64, source: TradeSource) -> Disposition {
        self.take_trade(name, trade(seq, seq), source)
    }

    fn tick(&mut self, by: Millis) {
        self.now += by;
        self.sequencer.tick(self.now);
    }

    fn ask(&mut self) -> Option<GapRequest> {
        self.sequencer.questions(1, self.now).pop()
    }

    fn answer(&mut self, id: InstrumentId, name: &str, seqs: &[i64]) {
        for seq in seqs {
            self.take(name, *seq, TradeSource::GapRequest);
        }
        self.sequencer.answered(id, seqs, self.now);
    }

    /// Name and number of each that was published since last asked.
    fn published(&mut self) -> Vec<(String, i64)> {
        let out = self.sequencer.publish_released();
        let published = out.iter().filter_map(|out| match out {
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
fn the_next_number_goes_out_and_an_old_one_is_a_duplicate() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    assert_eq!(bench.live("A", 11), Disposition::Published);
    assert_eq!(bench.live("A", 11), Disposition::Duplicate);
    assert_eq!(bench.live("A", 3), Disposition::Duplicate);
    assert_eq!(bench.published(), pairs(&[("A", 11)]));
}

#[test]
fn when_a_gap_is_filled_nothing_overtakes_another_one_behind_it() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    for (name, seq) in [("A", 12), ("B", 11), ("A", 14), ("B", 12)] {
        bench.live(name, seq);
    }
    bench.take_trade("B", trade(13, 20), TradeSource::Live);
    let gap = bench.ask().unwrap();
    bench.answer(gap.id, "A", &[11, 12]);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11), ("A", 12), ("B", 12)]));
    bench.tick(300);
    let gap = bench.ask().unwrap();
    assert_eq!(gap.seqs.0, 13);
    bench.answer(gap.id, "A", &[13, 14]);
    assert_eq!(bench.published(), pairs(&[("A", 13), ("A", 14), ("B", 13)]));
}

#[test]
fn a_gap_holds_the_whole_partition_until_it_is_filled_and_then_time_order_holds() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.live("A", 13);
    bench.live("B", 11);
    assert_eq!(bench.published(), []);
    let question = bench.ask().unwrap();
    assert_eq!((question.seqs, question.by_time), ((11, 13), false));
    bench.answer(question.id, "A", &[11, 12, 13]);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11), ("A", 12), ("A", 13)]));
    assert_eq!((bench.sequencer.held(), bench.sequencer.gaps()), (0, 0));
    assert_eq!(bench.live("B", 12), Disposition::Published);
}

/// Whoever starts after a crash reads history from there. By the time at which the gap was found, B's first trade would be lost; and what A
/// lacks came after its last one, nobody knows when.
#[test]
fn what_waits_behind_a_gap_found_in_old_history_is_as_old_as_it_is() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    assert_eq!(bench.sequencer.oldest_buffered(), None);
    bench.sequencer.advance(0, 0, bench.now);
    for (name, seq) in [("A", 13), ("B", 11), ("A", 14)] {
        bench.take(name, seq, TradeSource::History);
    }
    bench.sequencer.advance(500, OPEN, bench.now);
    assert_eq!((bench.published(), bench.sequencer.oldest_buffered()), (vec![], Some(10)));
    let gap = bench.ask().unwrap();
    bench.answer(gap.id, "A", &[11, 12]);
    assert_eq!(bench.published().len(), 5);
    assert_eq!(bench.sequencer.oldest_buffered(), None);
}

/// An instrument of which something waits all the time, now this and now that, does not keep history from being whole behind it.
#[test]
fn what_waits_is_as_old_as_it_is_whatever_waited_before_it() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.advance(0, 0, bench.now);
    bench.take("A", 11, TradeSource::History);
    bench.take("B", 11, TradeSource::History);
    for seq in 12..15 {
        bench.take("A", seq, TradeSource::History);
        bench.take("B", seq, TradeSource::Live);
        bench.sequencer.advance(seq, seq, bench.now);
        assert_eq!(bench.sequencer.oldest_buffered(), Some(seq));
    }
}

/// What the stream brought of it since is newer, and says nothing of what was let go.
#[test]
fn what_was_let_go_or_had_no_room_waits_as_if_it_were_here() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.live("A", 12);
    bench.live("B", 300);
    bench.tick(LIMITS.hold_max);
    assert_eq!(bench.sequencer.oldest_buffered(), Some(10), "number 11 of each is missing");
    bench.sequencer.drop_buffered();
    bench.sequencer.advance(11, 11, bench.now);
    bench.live("A", 800);
    assert_eq!((bench.sequencer.held(), bench.sequencer.oldest_buffered()), (1, Some(11)));
    bench.take("A", 11, TradeSource::History);
    bench.sequencer.advance(20, 20, bench.now);
    assert_eq!(bench.published(), pairs(&[("A", 11)]));
    assert_eq!(bench.sequencer.oldest_buffered(), Some(11), "number 12 was let go, and has not come again");
}

#[test]
fn what_is_read_of_history_always_fits_unless_a_gap_is_in_front_of_it() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.sequencer.advance(0, 0, bench.now);
    let most = i64::try_from(LIMITS.max_buffered).unwrap();
    for seq in 12..=most + 12 {
        assert_eq!(bench.take("A", seq, TradeSource::History), Disposition::Held);
    }
    assert_eq!(bench.live("B", 2_000), Disposition::Dropped);
    bench.sequencer.advance(13, 13, bench.now);
    assert_eq!(bench.take("B", 12, TradeSource::History), Disposition::Held);
    assert_eq!(
        bench.take("A", most + 13, TradeSource::History),
        Disposition::Dropped,
        "its number 11 has to come first"
    );
    assert_eq!(bench.ask().unwrap().seqs, (11, 12));
}

#[test]
fn after_hold_max_the_others_go_on_and_the_one_with_the_gap_stays() {
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
fn a_hole_takes_two_answers_a_second_apart_that_have_a_later_trade() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let id = bench.ask().unwrap().id;
    // History lags: it has nothing at all, and that proves nothing.
    bench.answer(id, "A", &[]);
    bench.tick(400);
    bench.ask().unwrap();
    bench.answer(id, "A", &[13]);
    assert_eq!(bench.ask(), None, "not before a second is over");
    bench.tick(1_000);
    bench.ask().unwrap();
    bench.answer(id, "A", &[13]);
    assert_eq!(bench.sequencer.out[0], Released::ConfirmedHole(id, 11, 12));
    assert_eq!(bench.published(), pairs(&[("A", 13)]));
    assert_eq!(bench.live("A", 12), Disposition::TooLate);
}

#[test]
fn what_history_shows_the_second_time_is_no_hole() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let id = bench.ask().unwrap().id;
    bench.answer(id, "A", &[13]);
    bench.tick(1_000);
    bench.ask().unwrap();
    bench.answer(id, "A", &[12, 13]);
    assert_eq!(bench.sequencer.out[0], Released::ConfirmedHole(id, 11, 11));
    assert_eq!(bench.published(), pairs(&[("A", 12), ("A", 13)]));
}

#[test]
fn while_history_is_read_trades_wait_for_it_and_come_out_in_order_of_time() {
    let mut bench = SequencerBench::after_ten(&["A", "B"]);
    bench.sequencer.advance(11, 11, 1_000);
    bench.live("A", 14);
    bench.take("B", 11, TradeSource::History);
    bench.take("B", 12, TradeSource::History);
    bench.take("A", 11, TradeSource::History);
    assert_eq!(bench.published(), []);
    assert_eq!(bench.ask(), None, "the reading will bring what is missing");
    bench.sequencer.advance(12, 12, 1_000);
    assert_eq!(bench.published(), pairs(&[("A", 11), ("B", 11)]));
    bench.take("A", 12, TradeSource::History);
    bench.take("A", 13, TradeSource::History);
    bench.sequencer.advance(14, OPEN, 1_000);
    assert_eq!(bench.published(), pairs(&[("A", 12), ("B", 12), ("A", 13), ("A", 14)]));
}

#[test]
fn what_reading_did_not_bring_is_asked_for() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.advance(11, 11, 1_000);
    bench.take("A", 12, TradeSource::History);
    bench.sequencer.advance(13, 13, 1_000);
    assert_eq!(bench.ask().unwrap().seqs, (11, 12));
}

#[test]
fn a_new_instrument_begins_with_one_and_any_other_with_what_a_scan_shows_first() {
    let mut bench = SequencerBench::after_ten(&[]);
    assert_eq!(bench.live("NEW", 1), Disposition::Published);
    bench.live("OLD", 700);
    assert!(bench.sequencer.needs_history());
    assert_eq!(bench.ask(), None, "there is no number to ask from");
    bench.take("OLD", 699, TradeSource::History);
    bench.take("OLD", 698, TradeSource::History);
    bench.take("OLD", 700, TradeSource::History);
    bench.sequencer.advance(800, OPEN, 1_000);
    assert_eq!(bench.published(), pairs(&[("NEW", 1), ("OLD", 698), ("OLD", 699), ("OLD", 700)]));
    assert!(!bench.sequencer.needs_history());
}

#[test]
fn a_first_trade_that_had_no_room_is_known_all_the_same() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.sequencer.advance(0, 0, bench.now);
    for seq in 12..512 {
        assert_eq!(bench.live("A", seq), Disposition::Held);
    }
    assert_eq!(bench.live("OLD", 700), Disposition::Dropped);
    assert_eq!(bench.sequencer.dropped_after(699), 1);
    bench.take("OLD", 701, TradeSource::History);
    bench.sequencer.advance(800, 800, bench.now);
    assert!(bench.sequencer.needs_history(), "history lags: it does not have the first one yet");
    bench.take("OLD", 700, TradeSource::History);
    bench.sequencer.advance(800, 800, bench.now);
    assert!(!bench.sequencer.needs_history());
    assert_eq!(bench.sequencer.dropped_after(700), 0);
}

#[test]
fn what_happened_before_the_topics_start_is_not_in_it() {
    let mut bench = SequencerBench::after_ten(&[]);
    bench.sequencer.start = 500;
    assert_eq!(bench.take("A", 498, TradeSource::History), Disposition::BeforeStart);
    assert_eq!(bench.take("A", 499, TradeSource::History), Disposition::BeforeStart);
    assert_eq!(bench.live("A", 500), Disposition::Published);
}

#[test]
fn a_trade_of_the_far_future_is_set_aside_and_the_next_goes_on() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    let far = bench.now + LIMITS.max_ahead + 1;
    assert!(bench.sequencer.is_ahead(far, bench.now) && !bench.sequencer.is_ahead(far - 1, bench.now));
    let far = IncomingTrade { dead_lettered: true, ..trade(11, far) };
    bench.take_trade("A", far, TradeSource::Live);
    assert!(matches!(bench.sequencer.out[0], Released::DeadLettered(..)));
    assert_eq!(bench.live("A", 12), Disposition::Published);
    assert_eq!(bench.live("A", 11), Disposition::TooLate);
}

#[test]
fn what_does_not_fit_is_dropped_and_asked_for() {
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
    let question = bench.ask().unwrap();
    assert_eq!(question.seqs, (12, 12));
    bench.answer(question.id, "B", &[12]);
    bench.tick(1);
    assert_eq!(bench.ask().unwrap().seqs, (12 + most, 12 + most));
}

#[test]
fn a_loss_is_told_when_history_never_says_anything() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    bench.live("A", 13);
    let mut ways = [0, 0];
    while bench.sequencer.out.is_empty() {
        if let Some(question) = bench.ask() {
            ways[usize::from(question.by_time)] += 1;
            bench.answer(question.id, "A", &[]);
        }
        bench.tick(500);
        assert!(bench.now < 2 * LIMITS.patience);
    }
    assert!(ways[0] > 2 && ways[1] > 2, "asked both ways: {ways:?}");
    assert!(matches!(bench.sequencer.out[0], Released::Lost(_, 11, 12)));
    assert_eq!(bench.published(), pairs(&[("A", 13)]));
}

#[test]
fn what_was_given_up_is_remembered_across_restarts() {
    let mut bench = SequencerBench::after_ten(&["A"]);
    let mut holes = Holes::default();
    holes.add(8, 9);
    bench.sequencer.restore("A", &LastPublished { last: 10, timestamp: 10, holes: holes.clone() });
    assert_eq!(bench.live("A", 9), Disposition::TooLate);
    assert_eq!(bench.live("A", 7), Disposition::Duplicate);
    assert_eq!(bench.sequencer.holes(InstrumentId(0)), holes);
}
