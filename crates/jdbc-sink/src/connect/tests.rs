use common::Failure;
use common::backoff::Retryable as _;

use super::api::ConnectError;
use super::apply::{Applied, apply};
use super::fake::{FakeConnect, connector};

#[tokio::test]
async fn a_connector_is_made_once_and_then_left_alone() {
    let (fake, ours) = (FakeConnect::start().await, connector());
    assert_eq!(apply(&fake.api(), &ours).await.unwrap(), Applied::Made);
    assert_eq!(fake.content().connectors["kstream-trades"], ours.config);
    assert_eq!(apply(&fake.api(), &ours).await.unwrap(), Applied::Unchanged);
    assert_eq!(fake.content().changes, ["PUT kstream-trades"]);
}

#[tokio::test]
async fn a_connector_changed_by_hand_is_put_back_and_the_keys_are_named() {
    let (fake, ours) = (FakeConnect::start().await, connector());
    let mut theirs = ours.config.clone();
    theirs.insert("topics".into(), "other".into());
    theirs.insert("batch.size".into(), "1".into());
    fake.content().connectors.insert(ours.name.into(), theirs);
    let applied = apply(&fake.api(), &ours).await.unwrap();
    assert_eq!(applied, Applied::Changed(vec!["batch.size".into(), "topics".into()]));
    assert_eq!(fake.content().connectors[ours.name], ours.config);
}

#[tokio::test]
async fn what_connect_finds_wrong_is_a_mistake_that_names_the_key_and_changes_nothing() {
    let fake = FakeConnect::start().await;
    fake.content().complaints = vec![("topics", "Invalid value t for configuration topics")];
    let error = apply(&fake.api(), &connector()).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(
        error.to_string(),
        "connector kstream-trades: kafka connect refuses its configuration: topics: Invalid value t for configuration topics"
    );
    assert_eq!(Failure::from(error).code(), 78);
    assert!(fake.content().changes.is_empty());
}

#[tokio::test]
async fn a_plugin_that_connect_lacks_is_named_beside_those_it_has() {
    let fake = FakeConnect::start().await;
    fake.content().plugins = vec!["org.example.Other"];
    let failure = Failure::from(apply(&fake.api(), &connector()).await.unwrap_err());
    assert_eq!(failure.code(), 78);
    let message = failure.to_string();
    assert!(
        message.contains("has no plugin io.debezium") && message.contains("it has org.example.Other"),
        "{message}"
    );
}

#[tokio::test]
async fn a_refusal_is_told_from_what_passes() {
    let fake = FakeConnect::start().await;
    for (status, retryable) in
        [(409, true), (429, true), (500, true), (503, true), (400, false), (401, false)]
    {
        fake.content().outage = Some((status, r#"{"error_code": 1, "message": "why"}"#));
        let error = fake.api().restart_failed("x").await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{status}");
        assert!(error.to_string().ends_with(": why"), "{error}");
    }
}

#[tokio::test]
async fn another_server_on_the_port_is_recognised() {
    let fake = FakeConnect::start().await;
    for (status, body) in [(200, "<html>"), (404, "nothing here")] {
        fake.content().outage = Some((status, body));
        let error = fake.api().plugins().await.unwrap_err();
        assert!(matches!(error, ConnectError::Away { .. }));
        assert!(error.to_string().contains("is not Kafka Connect"), "{error}");
    }
}
