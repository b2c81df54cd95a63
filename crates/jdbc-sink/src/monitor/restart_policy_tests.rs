use super::*;
use crate::connect::responses::Task;

fn instance(state: State) -> Instance {
    Instance { state, trace: None }
}

fn status(connector: State, tasks: &[State]) -> Seen {
    let tasks = (0..).zip(tasks).map(|(id, state)| Task { id, instance: instance(*state) }).collect();
    Seen::There(Status { connector: instance(connector), tasks })
}

fn running() -> Seen {
    status(State::Running, &[State::Running])
}

fn failed() -> Seen {
    status(State::Running, &[State::Failed])
}

/// The moments, in seconds, at which a connector that looks like this from second 0 on is acted upon.
fn actions(track: &mut Track, start: Instant, seen: &Seen, seconds: u64) -> Vec<u64> {
    (0..seconds)
        .filter(|second| track.observe(seen.clone(), start + Duration::from_secs(*second)).action.is_some())
        .collect()
}

#[test]
fn a_failed_task_is_restarted_at_once_and_so_is_a_failed_connector() {
    for seen in [failed(), status(State::Failed, &[State::Running]), status(State::Failed, &[])] {
        let verdict = Track::default().observe(seen, Instant::now());
        assert_eq!(verdict, Verdict { changed: true, action: Some(Action::Restart) });
    }
}

#[test]
fn a_connector_that_is_missing_or_was_changed_is_made_what_it_ought_to_be() {
    for seen in [Seen::Missing, Seen::Changed(vec!["topics".into()])] {
        let verdict = Track::default().observe(seen, Instant::now());
        assert_eq!(verdict, Verdict { changed: true, action: Some(Action::Make) });
    }
}

#[test]
fn what_runs_or_was_stopped_by_somebody_or_is_on_its_way_is_left_alone() {
    for seen in [
        running(),
        status(State::Running, &[]),
        status(State::Paused, &[State::Paused]),
        status(State::Stopped, &[]),
        status(State::Unassigned, &[State::Unassigned]),
        status(State::Restarting, &[State::Restarting]),
        status(State::Unknown, &[State::Running]),
        Seen::Nothing,
    ] {
        assert_eq!(Track::default().observe(seen.clone(), Instant::now()).action, None, "{seen:?}");
    }
}

#[test]
fn what_keeps_failing_is_restarted_ever_more_seldom_but_at_least_twice_a_minute() {
    fastrand::seed(7);
    let times = actions(&mut Track::default(), Instant::now(), &failed(), 3600);
    // Full jitter: a quarter of a minute on average, never over half of one.
    assert!((120..=360).contains(&times.len()), "{} restarts in an hour", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 31), "{times:?}");
}

#[test]
fn running_for_some_seconds_between_failures_does_not_shorten_the_distance() {
    fastrand::seed(7);
    let (mut track, start) = (Track::default(), Instant::now());
    let mut restarts = 0;
    for second in 0..3600 {
        let seen = if second % 12 < 8 { running() } else { failed() };
        restarts += u32::from(track.observe(seen, start + Duration::from_secs(second)).action.is_some());
    }
    assert!(restarts <= 360, "{restarts} restarts in an hour");
}

#[test]
fn a_connector_that_has_stayed_well_is_restarted_at_once_when_it_fails_again() {
    fastrand::seed(7);
    let (mut track, mut now) = (Track::default(), Instant::now());
    actions(&mut track, now, &failed(), 600);
    now += Duration::from_secs(600);
    assert!(actions(&mut track, now, &running(), 61).is_empty());
    now += Duration::from_secs(61);
    assert_eq!(track.observe(failed(), now).action, Some(Action::Restart));
}

#[test]
fn a_change_is_told_once_and_connect_being_away_is_none() {
    let (mut track, now) = (Track::default(), Instant::now());
    let mut changed = |seen: Seen| track.observe(seen, now).changed;
    assert!(changed(running()));
    assert!(!changed(running()));
    assert!(!changed(Seen::Nothing));
    assert!(!changed(running()));
    assert!(changed(failed()));
    assert!(!changed(failed()));
    assert!(changed(running()));
}

#[test]
fn trouble_is_everything_but_a_running_connector_with_running_tasks() {
    assert_eq!(running().trouble(), None);
    let cases = [
        (status(State::Running, &[]), "RUNNING, no task"),
        (status(State::Running, &[State::Running, State::Failed]), "RUNNING, task 0 RUNNING, task 1 FAILED"),
        (status(State::Paused, &[State::Paused]), "PAUSED, task 0 PAUSED"),
        (Seen::Missing, "missing"),
        (Seen::Changed(vec!["batch.size".into(), "topics".into()]), "changed by hand: batch.size, topics"),
        (Seen::Nothing, "kafka connect does not answer"),
    ];
    for (seen, expected) in cases {
        assert_eq!(seen.trouble().as_deref(), Some(expected));
    }
}

#[test]
fn only_what_has_failed_has_a_cause() {
    let trace = Some("java.net.ConnectException: Connection refused".to_owned());
    let task = Task { id: 0, instance: Instance { state: State::Failed, trace } };
    let seen = Seen::There(Status { connector: instance(State::Running), tasks: vec![task] });
    assert_eq!(seen.cause().unwrap().to_string(), "java.net.ConnectException: Connection refused");
    assert_eq!(running().cause(), None);
}
