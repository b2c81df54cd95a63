use super::*;
use crate::connect::responses::TaskState;

fn instance(state: RunState) -> InstanceState {
    InstanceState { state, trace: None }
}

fn info(connector: RunState, tasks: &[RunState]) -> Observation {
    let tasks = (0..).zip(tasks).map(|(id, state)| TaskState { id, instance: instance(*state) }).collect();
    Observation::Found(ConnectorStateInfo { connector: instance(connector), tasks })
}

fn running() -> Observation {
    info(RunState::Running, &[RunState::Running])
}

fn failed() -> Observation {
    info(RunState::Running, &[RunState::Failed])
}

/// The seconds in which the policy acts on a connector that stays so.
fn actions(policy: &mut RestartPolicy, start: Instant, observation: &Observation, seconds: u64) -> Vec<u64> {
    (0..seconds)
        .filter(|second| {
            policy.observe(observation.clone(), start + Duration::from_secs(*second)).action.is_some()
        })
        .collect()
}

#[test]
fn a_failed_task_is_restarted_at_once_and_so_is_a_failed_connector() {
    for observation in [failed(), info(RunState::Failed, &[RunState::Running]), info(RunState::Failed, &[])] {
        let decision = RestartPolicy::default().observe(observation, Instant::now());
        assert_eq!(decision, RestartDecision { changed: true, action: Some(RestartAction::Restart) });
    }
}

#[test]
fn a_missing_or_changed_connector_is_applied_at_once() {
    for observation in [Observation::Missing, Observation::Changed(vec!["topics".into()])] {
        let decision = RestartPolicy::default().observe(observation, Instant::now());
        assert_eq!(decision, RestartDecision { changed: true, action: Some(RestartAction::Apply) });
    }
}

#[test]
fn a_connector_that_runs_starts_or_was_stopped_by_a_user_is_left_alone() {
    for observation in [
        running(),
        info(RunState::Running, &[]),
        info(RunState::Paused, &[RunState::Paused]),
        info(RunState::Stopped, &[]),
        info(RunState::Unassigned, &[RunState::Unassigned]),
        info(RunState::Restarting, &[RunState::Restarting]),
        info(RunState::Unknown, &[RunState::Running]),
        Observation::ConnectUnavailable,
    ] {
        assert_eq!(
            RestartPolicy::default().observe(observation.clone(), Instant::now()).action,
            None,
            "{observation:?}"
        );
    }
}

#[test]
fn a_connector_that_keeps_failing_is_restarted_at_least_twice_a_minute() {
    fastrand::seed(7);
    let times = actions(&mut RestartPolicy::default(), Instant::now(), &failed(), 3600);
    // Full jitter: a quarter of a minute on average, never over half of one.
    assert!((120..=360).contains(&times.len()), "{} restarts in an hour", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 31), "{times:?}");
}

#[test]
fn running_for_some_seconds_does_not_reset_the_backoff() {
    fastrand::seed(7);
    let (mut policy, start) = (RestartPolicy::default(), Instant::now());
    let mut restarts = 0;
    for second in 0..3600 {
        let observation = if second % 12 < 8 { running() } else { failed() };
        restarts +=
            u32::from(policy.observe(observation, start + Duration::from_secs(second)).action.is_some());
    }
    assert!(restarts <= 360, "{restarts} restarts in an hour");
}

#[test]
fn a_connector_that_stayed_healthy_is_restarted_at_once_when_it_fails() {
    fastrand::seed(7);
    let (mut policy, mut now) = (RestartPolicy::default(), Instant::now());
    actions(&mut policy, now, &failed(), 600);
    now += Duration::from_secs(600);
    assert!(actions(&mut policy, now, &running(), 61).is_empty());
    now += Duration::from_secs(61);
    assert_eq!(policy.observe(failed(), now).action, Some(RestartAction::Restart));
}

#[test]
fn a_change_is_logged_once_and_an_unavailable_connect_is_no_change() {
    let (mut policy, now) = (RestartPolicy::default(), Instant::now());
    let mut changed = |observation: Observation| policy.observe(observation, now).changed;
    assert!(changed(running()));
    assert!(!changed(running()));
    assert!(!changed(Observation::ConnectUnavailable));
    assert!(!changed(running()));
    assert!(changed(failed()));
    assert!(!changed(failed()));
    assert!(changed(running()));
}

#[test]
fn everything_but_a_running_connector_with_running_tasks_is_a_problem() {
    assert_eq!(running().problem(), None);
    let cases = [
        (info(RunState::Running, &[]), "RUNNING, no task"),
        (
            info(RunState::Running, &[RunState::Running, RunState::Failed]),
            "RUNNING, task 0 RUNNING, task 1 FAILED",
        ),
        (info(RunState::Paused, &[RunState::Paused]), "PAUSED, task 0 PAUSED"),
        (Observation::Missing, "missing"),
        (
            Observation::Changed(vec!["batch.size".into(), "topics".into()]),
            "changed by hand: batch.size, topics",
        ),
        (Observation::ConnectUnavailable, "kafka connect does not answer"),
    ];
    for (observation, expected) in cases {
        assert_eq!(observation.problem().as_deref(), Some(expected));
    }
}

#[test]
fn only_a_failed_connector_has_a_failure() {
    let trace = Some("java.net.ConnectException: Connection refused".to_owned());
    let task = TaskState { id: 0, instance: InstanceState { state: RunState::Failed, trace } };
    let observation =
        Observation::Found(ConnectorStateInfo { connector: instance(RunState::Running), tasks: vec![task] });
    assert_eq!(observation.failure().unwrap().to_string(), "java.net.ConnectException: Connection refused");
    assert_eq!(running().failure(), None);
}
