use common::admin::Health;
use common::metrics::Metrics;

use super::*;
use crate::connect::fake::{FakeConnect, connector};

struct Fixture {
    fake: FakeConnect,
    health: Health,
    registry: Metrics,
    watcher: Watcher,
}

async fn fixture() -> Fixture {
    let (fake, health, registry) = (FakeConnect::start().await, Health::new(), Metrics::new("jdbc_sink"));
    let (connect_metrics, metrics) = (ConnectMetrics::new(&registry), MonitorMetrics::new(&registry));
    let mut watcher = Watcher::new(fake.api(), Duration::from_secs(3), connect_metrics, metrics);
    let ours = connector();
    fake.state().connectors.insert(ours.name.into(), ours.config.clone());
    watcher.watch(ours, health.component("kstream-trades"), None);
    Fixture { fake, health, registry, watcher }
}

#[tokio::test]
async fn ready_when_connector_and_tasks_run() {
    let Fixture { fake, health, registry, mut watcher } = fixture().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "starting".into())]);
    watcher.poll().await;
    assert!(health.waiting().is_empty());
    let text = registry.render();
    assert!(
        text.contains("jdbc_sink_task_state{connector=\"kstream-trades\",task=\"0\",state=\"RUNNING\"} 1"),
        "{text}"
    );
    assert!(text.contains("jdbc_sink_connect_up 1"), "{text}");
    assert!(fake.state().changes.is_empty());
}

#[tokio::test]
async fn only_a_failed_task_is_restarted() {
    let Fixture { fake, health, registry, mut watcher } = fixture().await;
    fake.state().tasks.insert("kstream-trades".into(), "FAILED");
    watcher.poll().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "RUNNING, task 0 FAILED".into())]);
    assert_eq!(fake.state().changes, ["POST kstream-trades includeTasks=true&onlyFailed=true"]);
    assert!(registry.render().contains("jdbc_sink_restarts_total{connector=\"kstream-trades\"} 1"));
    watcher.poll().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_deleted_connector_is_recreated() {
    let Fixture { fake, health, registry, mut watcher } = fixture().await;
    fake.state().connectors.clear();
    watcher.poll().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "missing".into())]);
    assert_eq!(fake.state().changes, ["PUT kstream-trades"]);
    assert!(
        registry
            .render()
            .contains("jdbc_sink_connector_config_updates_total{connector=\"kstream-trades\"} 1")
    );
    watcher.poll().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_changed_connector_is_corrected_while_the_service_runs() {
    let Fixture { fake, health, registry, mut watcher } = fixture().await;
    fake.state().connectors.get_mut("kstream-trades").unwrap().insert("topics".into(), "other".into());
    watcher.poll().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "changed by hand: topics".into())]);
    assert_eq!(fake.state().connectors["kstream-trades"], connector().config);
    assert!(
        registry
            .render()
            .contains("jdbc_sink_connector_config_updates_total{connector=\"kstream-trades\"} 1")
    );
    watcher.poll().await;
    assert!(health.waiting().is_empty());
}

#[tokio::test]
async fn a_connector_without_a_worker_is_not_missing() {
    let Fixture { fake, health, mut watcher, .. } = fixture().await;
    fake.state().unstarted = true;
    watcher.poll().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "UNASSIGNED, no task".into())]);
    assert!(fake.state().changes.is_empty());
}

#[tokio::test]
async fn a_paused_connector_stays_paused_and_is_not_ready() {
    let Fixture { fake, health, mut watcher, .. } = fixture().await;
    fake.state().tasks.insert("kstream-trades".into(), "PAUSED");
    watcher.poll().await;
    assert_eq!(health.waiting(), [("kstream-trades".into(), "RUNNING, task 0 PAUSED".into())]);
    assert!(fake.state().changes.is_empty());
}

#[tokio::test]
async fn an_unavailable_connect_is_shown_and_then_watched_again() {
    let Fixture { fake, health, registry, mut watcher } = fixture().await;
    watcher.poll().await;
    for outage in [(503, "starting"), (404, "<html>its web server is up, its API is not</html>")] {
        fake.state().outage = Some(outage);
        watcher.poll().await;
        assert_eq!(health.waiting(), [("kstream-trades".into(), "kafka connect does not answer".into())]);
    }
    let text = registry.render();
    assert!(text.contains("jdbc_sink_connect_up 0"), "{text}");
    assert!(
        text.contains("jdbc_sink_connector_state{connector=\"kstream-trades\",state=\"RUNNING\"} 0"),
        "{text}"
    );
    fake.state().outage = None;
    watcher.poll().await;
    assert!(health.waiting().is_empty());
    assert!(fake.state().changes.is_empty());
}
