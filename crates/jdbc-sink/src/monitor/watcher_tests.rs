use common::admin::Health;
use common::metrics::Metrics;

use super::*;
use crate::connect::fake::{FakeConnect, connector};

struct Scene {
    fake: FakeConnect,
    health: Health,
    registry: Metrics,
    watcher: Watcher,
}

async fn scene() -> Scene {
    let (fake, health, registry) = (FakeConnect::start().await, Health::new(), Metrics::new("jdbc_sink"));
    let metrics = SinkMetrics::new(&registry);
    let mut watcher = Watcher::new(fake.api(), Duration::from_secs(3), metrics);
    let ours = connector();
    fake.content().connectors.insert(ours.name.into(), ours.config.clone());
    watcher.watch(ours, health.part("kstream-trades"), None);
    Scene { fake, health, registry, watcher }
}

#[tokio::test]
async fn ready_when_connector_and_tasks_run() {
    let Scene { fake, health, registry, mut watcher } = scene().await;
    assert_eq!(health.waiting(), [("kstream-trades", "starting".into())]);
    watcher.look().await;
    assert!(health.waiting().is_empty());
    let text = registry.render();
    assert!(
        text.contains("jdbc_sink_task_state{connector=\"kstream-trades\",task=\"0\",state=\"RUNNING\"} 1"),
        "{text}"
    );
    assert!(text.contains("jdbc_sink_connect_up 1"), "{text}");
    assert!(fake.content().changes.is_empty());
}

#[tokio::test]
async fn a_failed_task_is_restarted_and_only_what_failed() {
    let Scene { fake, health, registry, mut watcher } = scene().await;
    fake.content().tasks.insert("kstream-trades".into(), "FAILED");
    watcher.look().await;
    assert_eq!(health.waiting(), [("kstream-trades", "RUNNING, task 0 FAILED".into())]);
    assert_eq!(fake.content().changes, ["POST kstream-trades includeTasks=true&onlyFailed=true"]);
    assert!(registry.render().contains("jdbc_sink_restarts_total{connector=\"kstream-trades\"} 1"));
    watcher.look().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_connector_that_somebody_deleted_is_made_anew() {
    let Scene { fake, health, registry, mut watcher } = scene().await;
    fake.content().connectors.clear();
    watcher.look().await;
    assert_eq!(health.waiting(), [("kstream-trades", "missing".into())]);
    assert_eq!(fake.content().changes, ["PUT kstream-trades"]);
    assert!(registry.render().contains("jdbc_sink_connector_applied_total{connector=\"kstream-trades\"} 1"));
    watcher.look().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_connector_that_somebody_changed_is_put_back_while_we_run() {
    let Scene { fake, health, registry, mut watcher } = scene().await;
    fake.content().connectors.get_mut("kstream-trades").unwrap().insert("topics".into(), "other".into());
    watcher.look().await;
    assert_eq!(health.waiting(), [("kstream-trades", "changed by hand: topics".into())]);
    assert_eq!(fake.content().connectors["kstream-trades"], connector().config);
    assert!(registry.render().contains("jdbc_sink_connector_applied_total{connector=\"kstream-trades\"} 1"));
    watcher.look().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_connector_that_no_worker_has_taken_yet_is_not_missing() {
    let Scene { fake, health, mut watcher, .. } = scene().await;
    fake.content().unstarted = true;
    watcher.look().await;
    assert_eq!(health.waiting(), [("kstream-trades", "UNASSIGNED, no task".into())]);
    assert!(fake.content().changes.is_empty());
}

#[tokio::test]
async fn a_connector_that_somebody_paused_stays_paused_and_is_not_ready() {
    let Scene { fake, health, mut watcher, .. } = scene().await;
    fake.content().tasks.insert("kstream-trades".into(), "PAUSED");
    watcher.look().await;
    assert_eq!(health.waiting(), [("kstream-trades", "RUNNING, task 0 PAUSED".into())]);
    assert!(fake.content().changes.is_empty());
}

#[tokio::test]
async fn connect_being_away_is_shown_and_borne() {
    let Scene { fake, health, registry, mut watcher } = scene().await;
    watcher.look().await;
    for outage in [(503, "starting"), (404, "<html>its web server is up, its API is not</html>")] {
        fake.content().outage = Some(outage);
        watcher.look().await;
        assert_eq!(health.waiting(), [("kstream-trades", "kafka connect does not answer".into())]);
    }
    let text = registry.render();
    assert!(text.contains("jdbc_sink_connect_up 0"), "{text}");
    assert!(
        text.contains("jdbc_sink_connector_state{connector=\"kstream-trades\",state=\"RUNNING\"} 0"),
        "{text}"
    );
    fake.content().outage = None;
    watcher.look().await;
    assert!(health.waiting().is_empty());
    assert!(fake.content().changes.is_empty());
}
