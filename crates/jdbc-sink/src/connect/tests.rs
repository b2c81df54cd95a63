use common::Failure;
use common::backoff::Retryable as _;

use super::api::ConnectApiError;
use super::apply::{ApplyOutcome, apply};
use super::fake::{FakeConnect, connector};

#[tokio::test]
async fn a_connector_is_created_once() {
    let (fake, ours) = (FakeConnect::start().await, connector());
    assert_eq!(apply(&fake.api(), &ours).await.unwrap(), ApplyOutcome::Created);
    assert_eq!(fake.state().connectors["kstream-trades"], ours.config);
    assert_eq!(apply(&fake.api(), &ours).await.unwrap(), ApplyOutcome::Unchanged);
    assert_eq!(fake.state().changes, ["PUT kstream-trades"]);
}

#[tokio::test]
async fn a_connector_changed_by_hand_is_corrected_and_the_keys_are_named() {
    let (fake, ours) = (FakeConnect::start().await, connector());
    let mut theirs = ours.config.clone();
    theirs.insert("topics".into(), "other".into());
    theirs.insert("batch.size".into(), "1".into());
    fake.state().connectors.insert(ours.name.into(), theirs);
    let outcome = apply(&fake.api(), &ours).await.unwrap();
    assert_eq!(outcome, ApplyOutcome::Updated(vec!["batch.size".into(), "topics".into()]));
    assert_eq!(fake.state().connectors[ours.name], ours.config);
}

#[tokio::test]
async fn a_validation_error_is_final_names_the_key_and_changes_nothing() {
    let fake = FakeConnect::start().await;
    fake.state().problems = vec![("topics", "Invalid value t for configuration topics")];
    let error = apply(&fake.api(), &connector()).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(
        error.to_string(),
        "connector kstream-trades: kafka connect rejects its configuration: topics: Invalid value t for configuration topics"
    );
    assert_eq!(Failure::from(error).code(), 78);
    assert!(fake.state().changes.is_empty());
}

#[tokio::test]
async fn a_missing_plugin_is_named_with_the_installed_ones() {
    let fake = FakeConnect::start().await;
    fake.state().plugins = vec!["org.example.Other"];
    let failure = Failure::from(apply(&fake.api(), &connector()).await.unwrap_err());
    assert_eq!(failure.code(), 78);
    let message = failure.to_string();
    assert!(
        message.contains("has no plugin io.debezium") && message.contains("it has org.example.Other"),
        "{message}"
    );
}

#[tokio::test]
async fn temporary_errors_are_retryable_and_rejections_are_not() {
    let fake = FakeConnect::start().await;
    for (status, retryable) in
        [(409, true), (429, true), (500, true), (503, true), (400, false), (401, false)]
    {
        fake.state().outage = Some((status, r#"{"error_code": 1, "message": "why"}"#));
        let error = fake.api().restart_failed("x").await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{status}");
        assert!(error.to_string().ends_with(": why"), "{error}");
    }
}

#[tokio::test]
async fn another_server_on_the_port_is_recognized() {
    let fake = FakeConnect::start().await;
    for (status, body) in [(200, "<html>"), (404, "nothing here")] {
        fake.state().outage = Some((status, body));
        let error = fake.api().plugins().await.unwrap_err();
        assert!(matches!(error, ConnectApiError::Unavailable { .. }));
        assert!(error.to_string().contains("is not Kafka Connect"), "{error}");
    }
}
